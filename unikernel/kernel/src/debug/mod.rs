//! What the kernel says when something went wrong; [`backtrace`]: who called whom, in the kernel and in the app; `panic`: the
//! kernel's own end; [`observe`]: what its owner may ask a running machine; [`events`]: what is recorded of it.

mod backtrace;
pub(crate) mod events;
pub(crate) mod observe;
#[cfg(target_os = "none")]
mod panic;

use core::fmt::Write;

use linux_raw_sys::general::SIGSYS;
use spin::Once;

use crate::arch::trap::TrapFrame;
use crate::platform::{records, stopwatch};
use crate::policy::refusals::name_of;
use crate::process::signal_delivery::{self, Cause};
use crate::task::signal;

/// The registers of a kernel fault, so that the panic it leads to shows the right stack.
static FAULT_FRAME: Once<TrapFrame> = Once::new();

/// Turns on what the command line asks for.
pub(crate) fn init(options: &unikernel_cmdline::Options) {
    signal_delivery::set_crash_report(report_crash);
    stopwatch::turn_on(options.traces_time);
}

/// Keeps the registers of a kernel fault for the panic report.
pub(crate) fn set_fault_frame(frame: &TrapFrame) {
    FAULT_FRAME.call_once(|| *frame);
}

/// Reports a fault of the app: signal, address, registers, backtrace.
fn report_crash(frame: &TrapFrame, cause: &Cause) {
    let mut out = records::Report;
    let info = &cause.info;
    let _ = writeln!(out, "\nthe app was killed by {} ({})", signal::name(info.signal), describe(cause));
    let _ = write_registers(&mut out, frame);
    let _ = backtrace::write_user(&mut out, frame);
}

/// What the processor or the app did, for people.
fn describe(cause: &Cause) -> Description<'_> {
    Description(cause)
}

struct Description<'a>(&'a Cause);

impl core::fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Cause { info, trap, error_code, .. } = self.0;
        match trap {
            0 if info.code <= 0 => write!(f, "sent by the app itself"),
            0 if info.signal == SIGSYS => {
                write!(f, "the system call {}, which is not allowed", name_of(info.value as u32))
            }
            0 => write!(f, "divide error"),
            1 | 3 => write!(f, "breakpoint or single step"),
            6 => write!(f, "illegal instruction"),
            13 => write!(f, "general protection fault, error {error_code:#x}"),
            14 => {
                let access = match error_code {
                    code if code & 16 != 0 => "executing",
                    code if code & 2 != 0 => "writing",
                    _ => "reading",
                };
                write!(f, "{access} address {:#x}", info.detail)
            }
            trap => write!(f, "exception {trap}, error {error_code:#x}"),
        }
    }
}

fn write_registers(out: &mut impl Write, frame: &TrapFrame) -> core::fmt::Result {
    let rows = [
        [("rip", frame.rip), ("rsp", frame.rsp), ("rbp", frame.rbp), ("flg", frame.rflags)],
        [("rax", frame.rax), ("rbx", frame.rbx), ("rcx", frame.rcx), ("rdx", frame.rdx)],
        [("rsi", frame.rsi), ("rdi", frame.rdi), (" r8", frame.r8), (" r9", frame.r9)],
        [("r10", frame.r10), ("r11", frame.r11), ("r12", frame.r12), ("r13", frame.r13)],
        [("r14", frame.r14), ("r15", frame.r15), (" cs", frame.cs), (" ss", frame.ss)],
    ];
    for row in rows {
        for (name, value) in row {
            write!(out, "  {name} {value:016x}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}
