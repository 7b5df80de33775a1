//! What a system call comes to first, and last.

use super::exit;
use crate::arch::trap::TrapFrame;

/// Runs one system call; its result goes where the app looks for it.
pub(crate) fn system_call(frame: &mut TrapFrame) {
    let args = [frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9];
    let result = crate::syscall::enter(frame.rax, &args, frame);
    if let Some(value) = result {
        frame.rax = value;
    }
    exit::to_user(frame);
}
