//! `memcpy` and its relatives, which compiled code calls. The toolchain's own are string instructions,
//! right for silicon and several times slower than loops under an emulator, which interprets them
//! element by element; so each asks first which it runs on (`cpu::has_fast_string`).

use core::arch::global_asm;
use core::sync::atomic::AtomicBool;

/// Set once at boot; read by the routines below.
pub static USES_STRING_INSTRUCTIONS: AtomicBool = AtomicBool::new(false);

global_asm!(
    r#"
    .section .text.memory_routines, "ax", @progbits
    .global memcpy, memmove, memset
    // rdi: destination, rsi: source, rdx: bytes; the destination is the result.
memmove:
    movq %rdi, %rcx
    subq %rsi, %rcx
    cmpq %rdx, %rcx             // below, as unsigned: the destination begins inside the source
    jb 5f
memcpy:
    movq %rdi, %rax
    cmpb $0, {string}(%rip)
    jne 4f
    subq $8, %rdx
    jb 2f
1:  movq (%rsi), %rcx
    movq %rcx, (%rdi)
    addq $8, %rsi
    addq $8, %rdi
    subq $8, %rdx
    jae 1b
2:  addq $8, %rdx
    jz 6f
3:  movb (%rsi), %cl
    movb %cl, (%rdi)
    incq %rsi
    incq %rdi
    decq %rdx
    jnz 3b
6:  ret
4:  movq %rdx, %rcx
    rep movsb
    ret
5:  movq %rdi, %rax             // from the end downwards
7:  cmpq $8, %rdx
    jb 8f
    subq $8, %rdx
    movq (%rsi, %rdx), %rcx
    movq %rcx, (%rdi, %rdx)
    jmp 7b
8:  testq %rdx, %rdx
    jz 6b
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
