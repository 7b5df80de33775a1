//! The way in for Multiboot2 loaders (Multiboot2 specification 2.0): GRUB, and so any disk that BIOS or UEFI boots. The
//! processor is as PVH leaves it, with the loader's number in `eax` and the address of its tags in `ebx`. These
//! may be anywhere below 4 GiB, so the page tables of [`super::boot`] get three GiB more.
//!
//! There is no header of the first Multiboot: QEMU would prefer it to PVH.

use core::arch::global_asm;

use crate::kmem::layout::KERNEL_OFFSET;

global_asm!(
    r#"
    // `image.ld` puts it into the file's first 32 KiB, where loaders look.
    .section .multiboot2, "aR", @progbits
    .balign 8
multiboot2_header:
    .long 0xe85250d6
    .long 0                     // enter in 32-bit protected mode
    .long multiboot2_header_end - multiboot2_header
    .long -(0xe85250d6 + (multiboot2_header_end - multiboot2_header))
    // Where to enter.
    .short 3, 0
    .long 12
    .long _kernel_start_multiboot2 - {offset}
    .balign 8
    // Files begin with a page.
    .short 6, 0
    .long 8
    // The end.
    .short 0, 0
    .long 8
multiboot2_header_end:

    .section .text.boot, "ax", @progbits
    .code32
    .global _kernel_start_multiboot2
    .type _kernel_start_multiboot2, @function
_kernel_start_multiboot2:
    cld
    movl %eax, %esi

    // Three page directories of 512 pages of 2 MiB, behind the first.
    movl $multiboot2_pds - {offset}, %edi
    movl $0x40000083, %eax
    movl $3 * 512, %ecx
1:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $0x200000, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b
    movl $multiboot2_pds - {offset} + 3, boot_pdpt - {offset} + 8
    movl $multiboot2_pds - {offset} + 0x1003, boot_pdpt - {offset} + 16
    movl $multiboot2_pds - {offset} + 0x2003, boot_pdpt - {offset} + 24
    jmp boot_enter32

    // What other files assemble behind this is for the kernel proper.
    .code64

    .section .bss.boot, "aw", @nobits
    .balign 4096
multiboot2_pds: .skip 3 * 4096
    "#,
    offset = const KERNEL_OFFSET,
    options(att_syntax)
);
