//! The `syscall` instruction: its MSRs, its entry stub, and the way back by `sysret`.

use core::arch::global_asm;

use x86_64::VirtAddr;
use x86_64::registers::model_specific::{LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;

use super::cpu::{KERNEL_STACK_TOP_OFFSET, USER_RSP_OFFSET};
use super::descriptor::{KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA};
use super::exit;
use super::trap::{SYSCALL_VECTOR, TrapFrame};
use crate::debug::stopwatch;

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
    xorl %ebp, %ebp
    movq %rsp, %rdi
    call {handler}
    testl %eax, %eax
    jnz trap_return
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx
    popq %r11; popq %r10; popq %r9;  popq %r8
    popq %rax; popq %rcx; popq %rdx; popq %rsi; popq %rdi
    movq 32(%rsp), %r11
    movq 16(%rsp), %rcx
    movq 40(%rsp), %rsp
    swapgs
    sysretq
    "#,
    user_rsp = const USER_RSP_OFFSET,
    stack_top = const KERNEL_STACK_TOP_OFFSET,
    user_data = const USER_DATA.0,
    user_code = const USER_CODE.0,
    syscall_vector = const SYSCALL_VECTOR,
    handler = sym syscall_handler,
    options(att_syntax)
);

/// Runs one system call. Answers 0 if `sysret` can take the way back, which reloads only what
/// `syscall` saved, and 1 if the whole frame has to be restored by `iretq`.
extern "C" fn syscall_handler(frame: &mut TrapFrame) -> u32 {
    let is_timed = stopwatch::is_on();
    if is_timed {
        stopwatch::called();
    }
    let args = [frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9];
    let result = crate::syscall::enter(frame.rax, &args, frame);
    if let Some(value) = result {
        frame.rax = value;
    }
    exit::to_user(frame);
    if is_timed {
        stopwatch::returns();
    }
    // `sysret` with a non-canonical RCX faults in ring 0 with the app's stack (Intel); TF would
    // trap in the wrong place. Both are rare, so they take the slow way.
    let can_sysret =
        frame.rip < crate::mem::user::USER_END && frame.is_syscall() && frame.rflags & (1 << 8) == 0;
    u32::from(!can_sysret)
}
