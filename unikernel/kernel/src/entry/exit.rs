//! The last steps before ring 3, common to system calls, exceptions and interrupts.

use core::arch::global_asm;

use crate::arch::cpu::{exit_work, this_cpu};
use crate::arch::trap::TrapFrame;
use crate::task::{scheduler, signal_delivery};

global_asm!(
    r#"
    .section .text.first_return, "ax", @progbits
    .global first_return
    // Where a new thread comes out of its first switch: its trap frame lies on the stack.
first_return:
    call {arrived}
    movq %rsp, %rdi
    call {to_user}
    jmp trap_return
    "#,
    arrived = sym scheduler::finish_task_switch,
    to_user = sym first_exit,
    options(att_syntax)
);

extern "C" fn first_exit(frame: &mut TrapFrame) {
    crate::entry::exit::to_user(frame);
}

/// Does the work that was asked for: the network, other threads, signals.
#[inline]
pub(super) fn to_user(frame: &mut TrapFrame) {
    loop {
        let work = this_cpu().take_exit_work();
        if work == 0 {
            break;
        }
        slow_work(work, frame);
    }
    // An address that is not canonical cannot be returned to: `iretq` would fault in ring 0. The
    // app gets what Linux gives it, a segmentation fault at that address.
    while frame.rip.wrapping_add(1 << 47) >> 48 != 0 {
        signal_delivery::force(frame, signal_delivery::Cause::GENERAL_PROTECTION);
    }
}

#[cold]
fn slow_work(work: u32, frame: &mut TrapFrame) {
    if work & exit_work::NETWORK != 0 {
        crate::net::tick();
    }
    crate::uring::run_scheduled();
    crate::service::syslog::wake();
    if work & exit_work::RESCHEDULE != 0 {
        scheduler::preempt();
    }
    if work & exit_work::SIGNAL != 0 {
        signal_delivery::deliver_pending(frame);
    }
}
