//! The last steps before ring 3, common to system calls, exceptions and interrupts.

use crate::arch::cpu::{exit_work, this_cpu};
use crate::arch::trap::TrapFrame;
use crate::process::signal_delivery;
use crate::task::scheduler;

/// Does the work that was asked for: the network, other threads, signals.
#[inline]
pub(crate) fn to_user(frame: &mut TrapFrame) {
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
