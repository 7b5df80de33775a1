//! The stubs through which the processor comes into the kernel, and leaves it: the `syscall` instruction, exceptions and
//! interrupts (behind the vectors of `descriptor`), and the first step of a new thread. What becomes of each is the
//! kernel's: see [`entry_points!`](crate::entry_points).

use core::arch::global_asm;
use core::mem::offset_of;

use x86_64::VirtAddr;
use x86_64::registers::model_specific::{LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;

use super::cpu::{KERNEL_STACK_TOP_OFFSET, USER_RSP_OFFSET};
use super::descriptor::{KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA};
use super::trap::{SYSCALL_VECTOR, TrapFrame};
use crate::kmem::layout::USER_END;
use crate::platform::stopwatch;

unsafe extern "C" {
    fn syscall_entry();
}

/// Points `syscall` at the kernel. Flags that would follow the app into ring 0 are cleared: IF
/// (the kernel is not interrupted), DF (string instructions run upwards), AC (SMAP stays on), TF
/// and NT.
pub fn init() {
    Star::write(USER_CODE, USER_DATA, KERNEL_CODE, KERNEL_DATA)
        .expect("the GDT has the order that STAR wants");
    LStar::write(VirtAddr::new(syscall_entry as *const () as u64));
    SFMask::write(
        RFlags::INTERRUPT_FLAG
            | RFlags::DIRECTION_FLAG
            | RFlags::ALIGNMENT_CHECK
            | RFlags::TRAP_FLAG
            | RFlags::NESTED_TASK,
    );
}

global_asm!(
    r#"
    .section .text.syscall_entry, "ax", @progbits
    .global syscall_entry
syscall_entry:
    swapgs
    movq %rsp, %gs:{user_rsp}
    movq %gs:{stack_top}, %rsp
    pushq ${user_data}
    pushq %gs:{user_rsp}
    pushq %r11                  // RFLAGS, by `syscall`
    pushq ${user_code}
    pushq %rcx                  // RIP, by `syscall`
    pushq %rax
    pushq ${syscall_vector}
    pushq %rdi; pushq %rsi; pushq %rdx; pushq %rcx; pushq %rax
    pushq %r8;  pushq %r9;  pushq %r10; pushq %r11
    pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15
0:  xorl %ebp, %ebp
    movq %rsp, %rdi
    call {handler}
    testl %eax, %eax
1:  jnz trap_return
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx
    popq %r11; popq %r10; popq %r9;  popq %r8
    popq %rax; popq %rcx; popq %rdx; popq %rsi; popq %rdi
    movq 32(%rsp), %r11
    movq 16(%rsp), %rcx
    movq 40(%rsp), %rsp
    swapgs
    sysretq

    // For debuggers: where the app's registers are in the frame, so that its callers follow the kernel's. By hand, since
    // only the augmentation "S" (a signal's frame) lets gdb go on from one stack to another below it, and the
    // assembler's `.cfi_signal_frame` does not write it to this section. DWARF 5, sections 6.4.1 and 6.4.2.
    .section .debug_frame, "", @progbits
2:  .long 4f - 3f               // CIE
3:  .long 0xffffffff
    .byte 1                     // version
    .asciz "S"
    .uleb128 1                  // code alignment
    .sleb128 8                  // data alignment
    .byte 16                    // return address: rip
    .byte 0x0c, 7, 0            // DW_CFA_def_cfa: rsp + 0, the trap frame
    .macro is_in_frame register, offset
    .byte 0x11, \register // DW_CFA_offset_extended_sf
    .sleb128 \offset / 8
    .endm
    is_in_frame 16, {frame_rip}
    is_in_frame 7, {frame_rsp}
    is_in_frame 6, {frame_rbp}
    is_in_frame 3, {frame_rbx}
    is_in_frame 12, {frame_r12}
    is_in_frame 13, {frame_r13}
    is_in_frame 14, {frame_r14}
    is_in_frame 15, {frame_r15}
    .balign 8, 0                // DW_CFA_nop
4:  .long 6f - 5f               // FDE
5:  .long 2b
    .quad 0b, 1b - 0b
    .balign 8, 0
6:
    .text
    "#,
    user_rsp = const USER_RSP_OFFSET,
    stack_top = const KERNEL_STACK_TOP_OFFSET,
    user_data = const USER_DATA.0,
    user_code = const USER_CODE.0,
    syscall_vector = const SYSCALL_VECTOR,
    handler = sym syscall_handler,
    frame_rip = const offset_of!(TrapFrame, rip),
    frame_rsp = const offset_of!(TrapFrame, rsp),
    frame_rbp = const offset_of!(TrapFrame, rbp),
    frame_rbx = const offset_of!(TrapFrame, rbx),
    frame_r12 = const offset_of!(TrapFrame, r12),
    frame_r13 = const offset_of!(TrapFrame, r13),
    frame_r14 = const offset_of!(TrapFrame, r14),
    frame_r15 = const offset_of!(TrapFrame, r15),
    options(att_syntax)
);

unsafe extern "Rust" {
    safe fn kernel_system_call(frame: &mut TrapFrame);
}

/// Runs one system call. Answers 0 if `sysret` can take the way back, which reloads only what
/// `syscall` saved, and 1 if the whole frame has to be restored by `iretq`.
extern "C" fn syscall_handler(frame: &mut TrapFrame) -> u32 {
    let is_timed = stopwatch::is_on();
    if is_timed {
        stopwatch::called();
    }
    kernel_system_call(frame);
    if is_timed {
        stopwatch::returns();
    }
    // `sysret` with a non-canonical RCX faults in ring 0 with the app's stack (Intel); TF would
    // trap in the wrong place. Both are rare, so they take the slow way.
    let can_sysret = frame.rip < USER_END && frame.is_syscall() && frame.rflags & (1 << 8) == 0;
    u32::from(!can_sysret)
}

global_asm!(
    r#"
    .macro SAVE_REGISTERS
    pushq %rdi; pushq %rsi; pushq %rdx; pushq %rcx; pushq %rax
    pushq %r8;  pushq %r9;  pushq %r10; pushq %r11
    pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    .endm
    .macro RESTORE_REGISTERS
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx
    popq %r11; popq %r10; popq %r9;  popq %r8
    popq %rax; popq %rcx; popq %rdx; popq %rsi; popq %rdi
    .endm

    .section .text.trap_entry, "ax", @progbits
    .global trap_entry_common
trap_entry_common:
    testb $3, 24(%rsp)          // the interrupted code's ring, in its CS
    jz 1f
    swapgs
1:  SAVE_REGISTERS
    pushq $2                    // AC, DF, NT and TF of the app mean nothing here
    popfq
    xorl %ebp, %ebp
    movq %rsp, %rdi
    call kernel_trap
    .global trap_return
trap_return:
    testb $3, 144(%rsp)
    jz 2f
    RESTORE_REGISTERS
    swapgs
    addq $16, %rsp
    iretq
2:  RESTORE_REGISTERS
    addq $16, %rsp
    iretq

    // NMI, double fault and machine check may come while GS is still the app's, whatever CS
    // says, and the app may have set its GS base to anything. So the base is not guessed but
    // loaded, from the word at the top of the interrupt stack, and put back afterwards.
    .global trap_entry_paranoid
trap_entry_paranoid:
    SAVE_REGISTERS
    pushq $2
    popfq
    movl $0xc0000101, %ecx      // GS base
    rdmsr
    shlq $32, %rdx
    orq %rdx, %rax
    movq %rax, %r12
    movq {frame_bytes}(%rsp), %rax
    movq %rax, %rdx
    shrq $32, %rdx
    wrmsr
    xorl %ebp, %ebp
    movq %rsp, %rdi
    call kernel_fatal_trap
    movl $0xc0000101, %ecx
    movq %r12, %rax
    movq %r12, %rdx
    shrq $32, %rdx
    wrmsr
    RESTORE_REGISTERS
    addq $16, %rsp
    iretq
    "#,
    frame_bytes = const core::mem::size_of::<TrapFrame>(),
    options(att_syntax)
);

global_asm!(
    r#"
    .section .text.first_return, "ax", @progbits
    .global first_return
    // Where a new thread comes out of its first switch: its trap frame lies on the stack.
first_return:
    call kernel_switched
    movq %rsp, %rdi
    call kernel_first_exit
    jmp trap_return
    "#,
    options(att_syntax)
);
