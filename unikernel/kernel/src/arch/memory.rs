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
    cmpq $8, %rdx
    jb 8f
    cmpq $64, %rdx              // a string instruction takes its time to start
    jb 1f
    cmpb $0, {string}(%rip)
    jne 4f
1:  movq -8(%rsi, %rdx), %r8    // the last eight bytes first: in an overlapping source they may be overwritten
    leaq -8(%rdi, %rdx), %r9
    subq $40, %rdx
    jb 3f
2:  movq (%rsi), %rcx
    movq 8(%rsi), %r10
    movq 16(%rsi), %r11
    movq %rcx, (%rdi)
    movq 24(%rsi), %rcx
    movq %r10, 8(%rdi)
    movq %r11, 16(%rdi)
    movq %rcx, 24(%rdi)
    addq $32, %rsi
    addq $32, %rdi
    subq $32, %rdx
    jae 2b
3:  addq $32, %rdx              // what is left but for the last eight, which may be copied twice
    jle 7f
6:  movq (%rsi), %rcx
    movq %rcx, (%rdi)
    addq $8, %rsi
    addq $8, %rdi
    subq $8, %rdx
    jg 6b
7:  movq %r8, (%r9)
    ret
8:  cmpq $4, %rdx
    jb 9f
    movl (%rsi), %ecx           // from both ends, which may overlap
    movl -4(%rsi, %rdx), %r8d
    movl %ecx, (%rdi)
    movl %r8d, -4(%rdi, %rdx)
    ret
9:  movq %rdx, %r9              // both ends and the middle
    shrq $1, %r9
    testq %rdx, %rdx
    jz 6f
    movb (%rsi), %cl
    movb (%rsi, %r9), %r10b
    movb -1(%rsi, %rdx), %r8b
    movb %cl, (%rdi)
    movb %r10b, (%rdi, %r9)
    movb %r8b, -1(%rdi, %rdx)
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
