//! The kernel's own end: a report, and the end of the machine. (On a simulated machine a panic is the host's.)

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use unikernel_hal::backtrace;
use unikernel_report::stack::{Frame, View};

use super::backtrace::Addresses;
use super::{FAULT_FRAME, write_registers};
use crate::arch::trap::TrapFrame;
use crate::kmem::layout;
use crate::modules;
use crate::platform::{console, interrupts, power};

/// Exit code of a kernel panic, as Rust programs have it.
const PANIC_CODE: u8 = 101;

/// Writes to the console past its lock.
struct Emergency;

impl Write for Emergency {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        console::write_in_panic(text.as_bytes());
        Ok(())
    }
}

/// The kernel's panic: a report, and the end of the machine.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static IS_PANICKING: AtomicBool = AtomicBool::new(false);
    let mut out = Emergency;
    interrupts::stop_others();
    if IS_PANICKING.swap(true, Ordering::SeqCst) {
        let _ = writeln!(out, "panic while panicking");
    } else {
        let _ = writeln!(out, "\nKERNEL PANIC: {}", info.message());
        if let Some(location) = info.location() {
            let _ = writeln!(out, "  at {location}");
        }
        let _ = write_offset(&mut out);
        let _ = write_module(&mut out);
        let _ = match FAULT_FRAME.get() {
            Some(frame) => {
                let _ = write_registers(&mut out, frame);
                write_backtrace(&mut out, frame)
            }
            None => write_backtrace_here(&mut out),
        };
        let _ = super::events::write_last(&mut out);
        let _ = writeln!(out, "this is a bug in the kernel, whatever the app did");
    }
    power::debug_exit(PANIC_CODE);
    power::halt()
}

/// How far the kernel's addresses are from those in the file, in Linux's words, which tools look for.
fn write_offset(out: &mut impl Write) -> core::fmt::Result {
    match layout::kernel_distance() {
        0 => writeln!(out, "Kernel Offset: disabled"),
        distance => {
            let linked = layout::kernel_start().wrapping_sub(distance);
            writeln!(out, "Kernel Offset: {distance:#x} from {linked:#x}")
        }
    }
}

/// In whose code the processor was, if a module's.
fn write_module(out: &mut impl Write) -> core::fmt::Result {
    let address = FAULT_FRAME.get().map_or(0, |frame| frame.rip);
    let told = modules::find_symbol(address, |module, _| writeln!(out, "in module {module}"));
    told.unwrap_or(Ok(()))
}

/// Writes the kernel's stack from a fault's registers.
fn write_backtrace(out: &mut impl Write, frame: &TrapFrame) -> core::fmt::Result {
    writeln!(out, "kernel backtrace:")?;
    super::backtrace::write_frames(out, &Kernel, super::backtrace::innermost(frame), Addresses::Shown)
}

/// Writes the kernel's stack from here.
fn write_backtrace_here(out: &mut impl Write) -> core::fmt::Result {
    let backtrace::Registers { instruction, stack, frame_pointer } = backtrace::here();
    writeln!(out, "kernel backtrace:")?;
    super::backtrace::write_frames(
        out,
        &Kernel,
        Frame { instruction, stack, frame_pointer },
        Addresses::Shown,
    )
}

struct Kernel;

impl View for Kernel {
    fn word(&self, address: u64) -> Option<u64> {
        backtrace::stack_word(address)
    }

    fn code<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        backtrace::code(address)
    }

    fn function_start(&self, address: u64) -> Option<u64> {
        super::backtrace::function_start(address)
    }
}
