//! Who called whom, in the kernel and in the app. The walk itself is `unikernel_report::stack`; here is what it may read of the
//! app: whatever the app can read, through the checked accessors.

use core::fmt::{Result, Write};

use unikernel_report::stack::{self, Frame, View};

use crate::arch::trap::TrapFrame;
use crate::kmem::layout::USER_END;
use crate::kmem::symbols;
use crate::mem::user::UserPtr;
use crate::modules;

/// Innermost frames that are written.
const FIRST_FRAMES: usize = 32;
/// Outermost frames that are written of a deeper stack, as of one that overflowed.
const LAST_FRAMES: usize = 12;

pub(super) fn innermost(frame: &TrapFrame) -> Frame {
    Frame { instruction: frame.rip, stack: frame.rsp, frame_pointer: frame.rbp }
}

/// Writes the app's stack.
pub(crate) fn write_user(out: &mut impl Write, frame: &TrapFrame) -> Result {
    writeln!(out, "backtrace:")?;
    write_frames(out, &App, innermost(frame), Addresses::Shown)
}

/// Whether a stack is written with the addresses in it, or with names alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Addresses {
    Shown,
    /// For who is not to learn where the kernel is.
    Hidden,
}

/// Writes all frames of a short stack, and both ends of a long one.
pub(super) fn write_frames(
    out: &mut impl Write,
    view: &impl View,
    innermost: Frame,
    addresses: Addresses,
) -> Result {
    let mut count = 0;
    let mut result = Ok(());
    let mut outermost = [0; LAST_FRAMES];
    stack::walk(view, innermost, |frame| {
        if count < FIRST_FRAMES {
            result = result.and_then(|()| write_frame(out, count, frame.instruction, addresses));
        }
        outermost[count % LAST_FRAMES] = frame.instruction;
        count += 1;
    });
    result?;
    let last = count.saturating_sub(LAST_FRAMES).max(FIRST_FRAMES);
    if last > FIRST_FRAMES && last < count {
        writeln!(out, "      ... {} frames ...", last - FIRST_FRAMES)?;
    }
    (last..count).try_for_each(|index| write_frame(out, index, outermost[index % LAST_FRAMES], addresses))
}

fn write_frame(out: &mut impl Write, index: usize, address: u64, addresses: Addresses) -> Result {
    match addresses {
        Addresses::Shown => write!(out, "  {index:2}: {address:#014x}")?,
        Addresses::Hidden => write!(out, "  {index:2}:")?,
    }
    // A return address belongs to the call before it, which may be a function's last instruction.
    let looked_up = if index == 0 { address } else { address.saturating_sub(1) };
    match symbols::find(looked_up) {
        Some(symbol) => writeln!(out, " {}+{:#x}", symbol.name, address - symbol.start),
        None => {
            let in_module = modules::find_symbol(looked_up, |module, function| match function {
                Some((start, name)) => writeln!(out, " {}+{:#x} [{module}]", name, address - start),
                None => writeln!(out, " [{module}]"),
            });
            in_module.unwrap_or_else(|| writeln!(out))
        }
    }
}

pub(super) fn function_start(address: u64) -> Option<u64> {
    let found = symbols::find(address).map(|symbol| symbol.start);
    found.or_else(|| modules::function_start(address))
}

/// The app: its memory is the same for all its threads.
pub(super) struct App;

impl View for App {
    fn word(&self, address: u64) -> Option<u64> {
        UserPtr::<u64>::new(address).try_read().ok()
    }

    fn code<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        // Data that looks like code must not look like a caller.
        let is_code = |at: u64| at < USER_END && symbols::find(at).is_some();
        let last = address.checked_add(N.saturating_sub(1) as u64)?;
        if !is_code(address) || !is_code(last) {
            return None;
        }
        UserPtr::<[u8; N]>::new(address).try_read().ok()
    }

    fn function_start(&self, address: u64) -> Option<u64> {
        function_start(address)
    }
}
