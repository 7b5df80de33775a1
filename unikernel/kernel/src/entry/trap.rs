//! Exceptions and interrupts: what each vector means.

use super::exit;
use crate::arch::fault as fault_register;
use crate::arch::fpu;
use crate::arch::trap::TrapFrame;
use crate::arch::user_copy;
use crate::mem::fault::{self, Access, Failure};
use crate::platform::events::{self, Kind};
use crate::process::out_of_memory;
use crate::process::signal_delivery::{self, Cause};

const DIVIDE_ERROR: u64 = 0;
const DEBUG: u64 = 1;
const NMI: u64 = 2;
const BREAKPOINT: u64 = 3;
const OVERFLOW: u64 = 4;
const INVALID_OPCODE: u64 = 6;
const PAGE_FAULT: u64 = 14;
const X87_ERROR: u64 = 16;
const ALIGNMENT_CHECK: u64 = 17;
const SIMD_ERROR: u64 = 19;
const FIRST_INTERRUPT: u64 = 32;
/// RFLAGS.TF: the app steps.
const TRAP_FLAG: u64 = 1 << 8;

/// In a page fault's error code: the access was ring 3's own (SDM Vol. 3, 4.7).
const ERROR_USER: u64 = 1 << 2;

/// Every exception and interrupt but the three below comes here.
pub(crate) fn trap_handler(frame: &mut TrapFrame) {
    if frame.vector >= FIRST_INTERRUPT {
        crate::platform::interrupts::dispatch(frame.vector as u8);
    } else if frame.vector == PAGE_FAULT {
        page_fault(frame);
    } else {
        exception(frame);
    }
    if frame.is_from_user() {
        exit::to_user(frame);
    }
}

/// NMI is counted and ignored; a double fault or machine check is the end.
pub(crate) fn paranoid_handler(frame: &mut TrapFrame) {
    if frame.vector != NMI {
        crate::debug::set_fault_frame(frame);
        panic!(
            "exception {} in ring {} at {:#x}, stack {:#x}",
            frame.vector,
            frame.cs & 3,
            frame.rip,
            frame.rsp
        );
    }
}

fn page_fault(frame: &mut TrapFrame) {
    let address = fault_register::address();
    let landing = user_copy::landing(frame.rip);
    // The kernel touches user pages in one place only; anything else is its own fault.
    if !frame.is_from_user() && landing.is_none() {
        kernel_fault(frame, address);
    }
    // Ring 3 makes the processor itself read memory, as a supervisor: tables on a load of a segment
    // and, in QEMU 7.2 with SMAP, the stack on `retf` and `iret`. No page could be brought in for that.
    let is_implicit = frame.is_from_user() && frame.error_code & ERROR_USER == 0;
    let access = Access::from_error_code(frame.error_code);
    let instruction = if frame.is_from_user() { frame.rip } else { 0 };
    events::note(Kind::FaultBegin, frame.error_code as u32, address, instruction);
    let outcome = match (is_implicit, frame.is_from_user()) {
        (true, _) => Err(Failure::NotAllowed),
        (false, true) => fault::handle(address, access),
        (false, false) => fault::handle_in_kernel(address, access),
    };
    events::note(Kind::FaultEnd, u32::from(outcome.is_err()), address, 0);
    let Err(failure) = outcome else { return };
    match landing {
        Some(landing) if !frame.is_from_user() => frame.rip = landing,
        // No handler could help: it would need a page for its frame.
        _ if failure == Failure::OutOfMemory => out_of_memory::end_app(),
        _ => signal_delivery::force(frame, Cause::page_fault(address, failure, frame.error_code)),
    }
}

fn exception(frame: &mut TrapFrame) {
    if !frame.is_from_user() {
        match user_copy::landing(frame.rip) {
            // A non-canonical address raises #GP rather than #PF.
            Some(landing) => frame.rip = landing,
            None => kernel_fault(frame, 0),
        }
        return;
    }
    let cause = match frame.vector {
        DIVIDE_ERROR => Cause::divide(frame.rip),
        DEBUG => Cause::debug(frame.rip, frame.rflags & TRAP_FLAG != 0),
        BREAKPOINT => Cause::BREAKPOINT,
        OVERFLOW => Cause::GENERAL_PROTECTION,
        INVALID_OPCODE => Cause::illegal_instruction(frame.rip),
        X87_ERROR => Cause::floating_point(frame.rip, fpu::x87_errors()),
        SIMD_ERROR => Cause::floating_point(frame.rip, fpu::simd_errors()),
        ALIGNMENT_CHECK => Cause::ALIGNMENT,
        _ => Cause::GENERAL_PROTECTION,
    };
    signal_delivery::force(frame, cause.with_trap(frame.vector, frame.error_code));
}

/// The kernel broke its own rules: report and stop.
fn kernel_fault(frame: &TrapFrame, address: u64) -> ! {
    crate::debug::set_fault_frame(frame);
    panic!(
        "kernel exception {} (error {:#x}, address {address:#x}) at {:#x}",
        frame.vector, frame.error_code, frame.rip
    );
}
