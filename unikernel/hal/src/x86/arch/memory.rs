//! `memcpy` and its relatives, which compiled code calls. The toolchain's own are string instructions,
//! right for silicon and several times slower than loops under an emulator, which interprets them
//! element by element; so each asks first which it runs on (`cpu::has_fast_string`).

use core::arch::global_asm;
use core::sync::atomic::AtomicBool;
#[cfg(debug_assertions)]
use core::sync::atomic::Ordering;

/// Memory is refused where there is none, and nowhere else; see the other machine's.
#[inline]
pub(crate) const fn is_refused() -> bool {
    false
}

/// A machine keeps what is in memory that is given back; see the other's.
#[inline]
pub(crate) const fn forget(_: *mut u8, _: usize) {}

/// Set once at boot; read by the routines below.
pub static USES_STRING_INSTRUCTIONS: AtomicBool = AtomicBool::new(false);

/// 32 bytes from `rsi` to `rdi`.
macro_rules! copy_32 {
    () => {
        "
    movq (%rsi), %rcx
    movq 8(%rsi), %r8
    movq 16(%rsi), %r9
    movq 24(%rsi), %r10
    movq %rcx, (%rdi)
    movq %r8, 8(%rdi)
    movq %r9, 16(%rdi)
    movq %r10, 24(%rdi)
    "
    };
}
pub(super) use copy_32;

/// The loop of every copy, as assembly: `rdx` bytes from `rsi` to `rdi`, which do not overlap; changes `rcx` and `r8` to
/// `r10`. What is not a whole number of pieces ends with a piece that overlaps the one before, so nothing is counted.
///
/// - `$many`: instructions for more than 64 bytes, of which `rdx` is then the excess;
/// - `$end`: the last instructions.
macro_rules! copy_up {
    (many: $many:literal, end: $end:literal) => {
        concat!(
            "
    cmpq $8, %rdx
    jb 4f
    cmpq $16, %rdx
    jbe 3f
    cmpq $32, %rdx
    jbe 2f
    subq $64, %rdx
    ja 6f
1:                              // 33 to 64 bytes
    ",
            $crate::arch::memory::copy_32!(),
            "
    movq 32(%rsi, %rdx), %rcx
    movq 40(%rsi, %rdx), %r8
    movq 48(%rsi, %rdx), %r9
    movq 56(%rsi, %rdx), %r10
    movq %rcx, 32(%rdi, %rdx)
    movq %r8, 40(%rdi, %rdx)
    movq %r9, 48(%rdi, %rdx)
    movq %r10, 56(%rdi, %rdx)
    ",
            $end,
            "
2:  movq (%rsi), %rcx           // 17 to 32
    movq 8(%rsi), %r8
    movq -16(%rsi, %rdx), %r9
    movq -8(%rsi, %rdx), %r10
    movq %rcx, (%rdi)
    movq %r8, 8(%rdi)
    movq %r9, -16(%rdi, %rdx)
    movq %r10, -8(%rdi, %rdx)
    ",
            $end,
            "
3:  movq (%rsi), %rcx           // 8 to 16
    movq -8(%rsi, %rdx), %r8
    movq %rcx, (%rdi)
    movq %r8, -8(%rdi, %rdx)
    ",
            $end,
            "
4:  cmpq $4, %rdx
    jb 5f
    movl (%rsi), %ecx           // 4 to 7; four in one piece, for futexes
    movl -4(%rsi, %rdx), %r8d
    movl %ecx, (%rdi)
    movl %r8d, -4(%rdi, %rdx)
    ",
            $end,
            "
5:  movq %rdx, %r9              // 0 to 3: both ends and the middle
    shrq $1, %r9
    testq %rdx, %rdx
    jz 8f
    movb (%rsi), %cl
    movb (%rsi, %r9), %r10b
    movb -1(%rsi, %rdx), %r8b
    movb %cl, (%rdi)
    movb %r10b, (%rdi, %r9)
    movb %r8b, -1(%rdi, %rdx)
8:
    ",
            $end,
            "
6:
    ",
            $many,
            "
7:                              // more than 64
    ",
            $crate::arch::memory::copy_32!(),
            "
    addq $32, %rsi
    addq $32, %rdi
    subq $32, %rdx
    ja 7b
    jmp 1b
    "
        )
    };
}
pub(super) use copy_up;

global_asm!(
    r#"
    .section .text.memory_routines, "ax", @progbits
    .global memcpy, memmove, memset
    // rdi: destination, rsi: source, rdx: bytes; the destination is the result.
memmove:
    movq %rdi, %rcx
    subq %rsi, %rcx
    cmpq %rdx, %rcx             // below, as unsigned: the destination begins inside the source
    jb .Lmove_down
    negq %rcx
    cmpq %rdx, %rcx             // or the source inside the destination
    jb .Lmove_up
memcpy:
    movq %rdi, %rax
    "#,
    copy_up!(
        many: "
    cmpb $0, {string}(%rip)
    je 7f
    leaq 64(%rdx), %rcx
    rep movsb
    ret
    ",
        end: "ret"
    ),
    r#"
.Lmove_up:
    movq %rdi, %rax             // a piece at a time: the next ones may be overwritten
    subq $8, %rdx
    jb 4f
3:  movq (%rsi), %rcx
    movq %rcx, (%rdi)
    addq $8, %rsi
    addq $8, %rdi
    subq $8, %rdx
    jae 3b
4:  addq $8, %rdx
    jz 9f
8:  movb (%rsi), %cl
    movb %cl, (%rdi)
    incq %rsi
    incq %rdi
    decq %rdx
    jnz 8b
9:  ret
.Lmove_down:
    movq %rdi, %rax
7:  cmpq $8, %rdx
    jb 8f
    subq $8, %rdx
    movq (%rsi, %rdx), %rcx
    movq %rcx, (%rdi, %rdx)
    jmp 7b
8:  testq %rdx, %rdx
    jz 9b
    decq %rdx
    movb (%rsi, %rdx), %cl
    movb %cl, (%rdi, %rdx)
    jmp 8b

    // rdi: destination, sil: the byte, rdx: bytes.
memset:
    movq %rdi, %r8
    movzbl %sil, %eax
    cmpb $0, {string}(%rip)
    jne 4f
    movabsq $0x0101010101010101, %rcx
    imulq %rcx, %rax
    subq $8, %rdx
    jb 2f
1:  movq %rax, (%rdi)
    addq $8, %rdi
    subq $8, %rdx
    jae 1b
2:  addq $8, %rdx
    jz 5f
3:  movb %al, (%rdi)
    incq %rdi
    decq %rdx
    jnz 3b
5:  movq %r8, %rax
    ret
4:  movq %rdx, %rcx
    rep stosb
    movq %r8, %rax
    ret
    "#,
    string = sym USES_STRING_INSTRUCTIONS,
    options(att_syntax)
);

/// Tries the copies with every small size and kind of overlap, in both ways: nothing else works if they do not. At
/// boot, on one core.
///
/// # Panics
///
/// If a byte is not what it should be.
#[cfg(debug_assertions)]
pub fn check() {
    let chosen = USES_STRING_INSTRUCTIONS.load(Ordering::Relaxed);
    for way in [!chosen, chosen] {
        USES_STRING_INSTRUCTIONS.store(way, Ordering::Relaxed);
        (0..CHECKED_BYTES).for_each(check_copies);
    }
}

#[cfg(debug_assertions)]
const CHECKED_BYTES: usize = 200;

#[cfg(debug_assertions)]
fn check_copies(len: usize) {
    const MOST: usize = CHECKED_BYTES;
    let pattern: [u8; 3 * MOST] = core::array::from_fn(|index| (index * 7) as u8);
    for to in [0, MOST - 33, MOST - 8, MOST - 1, MOST, MOST + 1, MOST + 8, MOST + 33, 2 * MOST] {
        let mut moved = pattern;
        moved.copy_within(MOST..MOST + len, to);
        let expected =
            |index: usize| pattern[if (to..to + len).contains(&index) { index - to + MOST } else { index }];
        assert!((0..3 * MOST).all(|index| moved[index] == expected(index)), "moving {len} bytes");
    }
    let mut copy = [0; MOST];
    copy[..len].copy_from_slice(&pattern[..len]);
    let expected = |index| if index < len { pattern[index] } else { 0 };
    assert!((0..MOST).all(|index| copy[index] == expected(index)), "copying {len} bytes");
}
