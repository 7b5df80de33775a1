//! From the hypervisor to Rust. PVH (Xen's "direct boot" ABI) enters in 32-bit protected mode with
//! paging off, flat segments and the physical address of the start info in `ebx`. This stub builds
//! just enough page tables to reach 64-bit mode: the first GiB, mapped three times (where it is, because this stub
//! runs there; at the direct map, because the memory manager will look there; and at the kernel's own addresses).
//! `kmem::page_table` replaces them with the exact ones.
//!
//! The kernel is linked for the last 2 GiB and loaded `__kernel_offset` below that: until paging is on, symbols are
//! named by their physical addresses. Then `relocate` prepares another place for it, and the first is left for good.

use core::arch::global_asm;

use super::cpu;
use crate::boot_info::{BootInfo, NoStartInfo};
use crate::kmem::layout::{self, KERNEL_OFFSET};
use crate::machine::relocate;
use crate::platform;

/// Size of the stack used until the first thread runs.
const BOOT_STACK_BYTES: usize = 64 * 1024;

global_asm!(
    r#"
    // XEN_ELFNOTE_PHYS32_ENTRY: what makes this ELF bootable by QEMU, Firecracker and others.
    .section .note.Xen, "a", @note
    .balign 4
    .long 4
    .long 4
    .long 18
    .asciz "Xen"
    .long _kernel_start32 - {offset}

    .section .text.boot, "ax", @progbits
    .code32
    .global _kernel_start32
    .type _kernel_start32, @function
_kernel_start32:
    xorl %esi, %esi             // no number of a Multiboot2 loader
    .global boot_enter32
boot_enter32:                   // from here on `ebx` and `esi` are kept, for Rust
    cld
    movl %ebx, %ebp

    // One page directory of 512 pages of 2 MiB (present, writable, large).
    movl $boot_pd - {offset}, %edi
    movl $0x83, %eax
    movl $512, %ecx
1:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $0x200000, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b
    // The kernel's GiB is the last but one.
    movl $boot_pd - {offset} + 3, boot_pdpt - {offset}
    movl $boot_pd - {offset} + 3, boot_kernel_pdpt - {offset} + 510 * 8
    movl $boot_pdpt - {offset} + 3, boot_pml4 - {offset}
    movl $boot_pdpt - {offset} + 3, boot_pml4 - {offset} + 256 * 8
    movl $boot_kernel_pdpt - {offset} + 3, boot_pml4 - {offset} + 511 * 8

    movl $boot_pml4 - {offset}, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x20, %eax             // PAE
    movl %eax, %cr4
    movl $0xc0000080, %ecx      // EFER
    rdmsr
    orl $0x900, %eax            // LME, NXE
    wrmsr
    movl %cr0, %eax
    andl $0xfffffffb, %eax      // not EM
    orl $0x80010023, %eax       // PG, WP, NE, MP, PE
    movl %eax, %cr0
    lgdt boot_gdt_pointer - {offset}
    ljmp $8, $boot_start64 - {offset}

    .code64
boot_start64:
    jmpq *boot_linked(%rip)
boot_start_linked:
    leaq boot_stack_top(%rip), %rsp
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movl %ebp, %ebx
    movl %esi, %r12d
    movl %ebx, %edi
    xorl %ebp, %ebp             // ends the chain of frame pointers
    call {move_kernel}          // answers how far
    testq %rax, %rax
    jz 2f
    addq %rax, %rsp
    leaq 1f(%rip), %rcx
    addq %rax, %rcx
    jmpq *%rcx
1:  movq %cr3, %rax             // makes the processor look at its instructions anew
    movq %rax, %cr3
2:  movl %ebx, %edi
    movl %r12d, %esi
    call {main}
    ud2

    // Where the kernel is linked, while that is where it runs.
    .section .data.rel.ro.boot, "aw", @progbits
    .balign 8
boot_linked: .quad boot_start_linked

    .section .rodata.boot, "a", @progbits
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00209b0000000000    // 64-bit code, ring 0
boot_gdt_pointer:
    .word 15
    .long boot_gdt - {offset}

    .section .bss.boot, "aw", @nobits
    .balign 4096
    .global boot_pml4, boot_pdpt, boot_kernel_pdpt
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_kernel_pdpt: .skip 4096
boot_pd:   .skip 4096
boot_stack: .skip {stack}
boot_stack_top:
    "#,
    offset = const KERNEL_OFFSET,
    move_kernel = sym crate::machine::relocate::move_kernel,
    main = sym main,
    stack = const BOOT_STACK_BYTES,
    options(att_syntax)
);

unsafe extern "Rust" {
    safe fn kernel_main(info: Result<BootInfo, NoStartInfo>) -> !;
}

/// The first Rust code at the kernel's place, on the boot stack, with the boot page tables.
extern "C" fn main(start_info: u32, magic: u32) -> ! {
    cpu::adopt_block(0);
    platform::init_early();
    layout::init();
    // SAFETY: there is one core, on the boot page tables.
    unsafe { relocate::leave_old_place() };
    // SAFETY: the stub passes what the loader left in `ebx`, and in `eax` if it is a Multiboot2 loader.
    kernel_main(unsafe { BootInfo::read(start_info, magic) })
}

/// True if the image is damaged: there is no table of the addresses that the kernel's move changes.
pub fn has_lost_addresses() -> bool {
    relocate::has_failed()
}
