//! The clock without a system call (vdso(7)): a small shared object that the C library finds through
//! `AT_SYSINFO_EHDR`, and, on the page before it, the clock's numbers as `platform::time` keeps them.
//!
//! The object is written out below, from its ELF header to its code, because it is one page and a
//! linker would need a script and a second pass for it. It has what musl and glibc look for: a load and
//! a dynamic segment, symbols, strings and a hash table with one bucket; and what Go's runtime reads
//! without asking whether it is there: versions, of which every symbol has `LINUX_2.6`.

use core::arch::global_asm;

use x86_64::{PhysAddr, VirtAddr};

use crate::kmem::virt_to_phys;
use crate::platform::time::{self, shared};

unsafe extern "C" {
    static vdso_image: u8;
}

/// Where the object lies: one page of the kernel's read-only data, mapped into the app as it is.
pub fn image() -> PhysAddr {
    virt_to_phys(VirtAddr::from_ptr(&raw const vdso_image))
}

/// Where the clock's page lies.
pub fn clock() -> PhysAddr {
    virt_to_phys(VirtAddr::new(time::shared_page()))
}

global_asm!(
    r#"
    .macro SYMBOL name, function
    .long \name - vdso_strings
    .byte 0x12                  // a global function
    .byte 0
    .word 1
    .quad \function - vdso_image
    .quad 16
    .endm

    // Nanoseconds on the monotonic clock into rax, on the wall clock with r9 = 1. Keeps rdi, rsi.
    .macro READ_CLOCK
1:  movl {version} + vdso_image - 4096(%rip), %r8d
    testb $1, %r8b
    jnz 1b
    lfence                      // no earlier look at the counter than at the version
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    xorl %ecx, %ecx
    subq {base_tsc} + vdso_image - 4096(%rip), %rax
    cmovbq %rcx, %rax           // this core's counter may be a few steps behind
    mulq {scale} + vdso_image - 4096(%rip)
    shrdq $32, %rdx, %rax
    addq {base_ns} + vdso_image - 4096(%rip), %rax
    testl %r9d, %r9d
    jz 2f
    addq {boot_wall_ns} + vdso_image - 4096(%rip), %rax
2:  cmpl {version} + vdso_image - 4096(%rip), %r8d
    jne 1b
    .endm

    .section .rodata.vdso, "a", @progbits
    .balign 4096
    .global vdso_image
vdso_image:
    .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0
    .quad 0
    .word 3, 62                 // a shared object for x86-64
    .long 1
    .quad 0
    .quad vdso_headers - vdso_image
    .quad 0
    .long 0
    .word 64, 56, 2, 0, 0, 0
vdso_headers:
    .long 1, 5                  // load: readable, executable
    .quad 0, 0, 0, vdso_end - vdso_image, vdso_end - vdso_image, 4096
    .long 2, 4                  // dynamic
    .quad vdso_dynamic - vdso_image, vdso_dynamic - vdso_image, vdso_dynamic - vdso_image
    .quad vdso_dynamic_end - vdso_dynamic, vdso_dynamic_end - vdso_dynamic, 8
vdso_dynamic:
    .quad 4, vdso_hash - vdso_image
    .quad 5, vdso_strings - vdso_image
    .quad 6, vdso_symbols - vdso_image
    .quad 10, vdso_strings_end - vdso_strings
    .quad 11, 24
    .quad 14, vdso_name - vdso_strings
    .quad 0x6ffffff0, vdso_versions - vdso_image
    .quad 0x6ffffffc, vdso_definitions - vdso_image
    .quad 0x6ffffffd, 2
    .quad 0, 0
vdso_dynamic_end:
vdso_symbols:
    .quad 0, 0, 0
    SYMBOL vdso_name_1, vdso_clock_gettime
    SYMBOL vdso_name_2, vdso_gettimeofday
    SYMBOL vdso_name_3, vdso_time
    SYMBOL vdso_name_4, vdso_clock_getres
    SYMBOL vdso_name_5, vdso_getcpu
vdso_hash:
    .long 1, 6, 1
    .long 0, 2, 3, 4, 5, 0
vdso_definitions:               // index 1 is the object itself, 2 the symbols' version
    .word 1, 1, 1, 1
    .long 0xdeebfa1, 20, 28
    .long vdso_name - vdso_strings, 0
    .word 1, 0, 2, 1
    .long 0x3ae75f6, 20, 0
    .long vdso_version - vdso_strings, 0
vdso_versions:
    .word 0, 2, 2, 2, 2, 2
vdso_strings:
    .byte 0
vdso_name:   .asciz "linux-vdso.so.1"
vdso_version: .asciz "LINUX_2.6"
vdso_name_1: .asciz "__vdso_clock_gettime"
vdso_name_2: .asciz "__vdso_gettimeofday"
vdso_name_3: .asciz "__vdso_time"
vdso_name_4: .asciz "__vdso_clock_getres"
vdso_name_5: .asciz "__vdso_getcpu"
vdso_strings_end:

    .balign 16
vdso_clock_gettime:
    xorl %r9d, %r9d
    cmpl $11, %edi
    ja 9f
    movl $0x08f3, %eax          // clocks that are read here: 0, 1, 4 to 7, 11
    btl %edi, %eax
    jnc 9f
    movl $0x0821, %eax          // those of them that show the wall's time: 0, 5, 11
    btl %edi, %eax
    adcl $0, %r9d
    READ_CLOCK
    xorl %edx, %edx
    movl $1000000000, %ecx
    divq %rcx
    movq %rax, (%rsi)
    movq %rdx, 8(%rsi)
    xorl %eax, %eax
    ret
9:  movl $228, %eax             // the call itself knows all clocks
    syscall
    ret

    .balign 16
vdso_gettimeofday:
    testq %rdi, %rdi
    jz 3f
    movl $1, %r9d
    READ_CLOCK
    xorl %edx, %edx
    movl $1000000000, %ecx
    divq %rcx
    movq %rax, (%rdi)
    movl %edx, %eax
    xorl %edx, %edx
    movl $1000, %ecx
    divl %ecx
    movq %rax, 8(%rdi)
3:  testq %rsi, %rsi
    jz 4f
    movq $0, (%rsi)             // the time zone is UTC
4:  xorl %eax, %eax
    ret

    .balign 16
vdso_time:
    movl $1, %r9d
    READ_CLOCK
    xorl %edx, %edx
    movl $1000000000, %ecx
    divq %rcx
    testq %rdi, %rdi
    jz 5f
    movq %rax, (%rdi)
5:  ret

    .balign 16
vdso_clock_getres:
    movl $229, %eax
    syscall
    ret

    .balign 16
vdso_getcpu:
    cmpl $0, {has_core_number} + vdso_image - 4096(%rip)
    je 6f
    rdtscp                      // ecx: what `cpu::enable_features` put there
    testq %rdi, %rdi
    jz 7f
    movl %ecx, (%rdi)
7:  testq %rsi, %rsi
    jz 8f
    movl $0, (%rsi)
8:  xorl %eax, %eax
    ret
6:  movl $309, %eax
    syscall
    ret
vdso_end:
    .balign 4096
    "#,
    version = const shared::VERSION,
    base_tsc = const shared::BASE_TSC,
    base_ns = const shared::BASE_NS,
    scale = const shared::SCALE,
    boot_wall_ns = const shared::BOOT_WALL_NS,
    has_core_number = const shared::HAS_CORE_NUMBER,
    options(att_syntax)
);
