//! PCI functions that modules drive. What was found, and what was mapped, stays known: registers are mapped for as long as the machine runs, and
//! a module that is loaded again gets the same ones.

use alloc::vec::Vec;

use x86_64::PhysAddr;

use crate::platform::io::Mmio;
use crate::platform::pci::{self, Function};
use crate::registers;
use crate::sync::SpinLock;

struct Mapped {
    start: PhysAddr,
    registers: Mmio,
}

struct State {
    functions: Vec<Function>,
    mapped: Vec<Mapped>,
}

static STATE: SpinLock<State> = SpinLock::new(State { functions: Vec::new(), mapped: Vec::new() });

/// The function number `index` of this maker and type: a number for it.
pub(super) fn find(vendor: u16, device: u16, index: usize) -> Option<usize> {
    let of_type = |function: &Function| (function.vendor, function.device) == (vendor, device);
    let function = pci::find_all().into_iter().filter(of_type).nth(index)?;
    let mut state = STATE.lock();
    let known = state.functions.iter().position(|known| known.address() == function.address());
    known.or_else(|| {
        state.functions.try_reserve(1).ok()?;
        state.functions.push(function);
        Some(state.functions.len() - 1)
    })
}

/// Runs `work` with a function that was found.
pub(super) fn with<R>(number: i64, work: impl FnOnce(&mut Function) -> R) -> Option<R> {
    let mut state = STATE.lock();
    state.functions.get_mut(usize::try_from(number).ok()?).map(work)
}

/// Maps registers that a BAR shows, and lets the function answer there.
pub(super) fn map(number: i64, bar: u8, len: usize) -> Option<*mut u8> {
    let start = with(number, |function| {
        let start = function.memory_bar(bar, 0)?;
        function.enable_memory();
        Some(start)
    })??;
    let mut state = STATE.lock();
    let known =
        state.mapped.iter().find(|mapped| mapped.start == start && mapped.registers.size_bytes() >= len);
    if let Some(known) = known {
        return Some(known.registers.as_ptr());
    }
    state.mapped.try_reserve(1).ok()?;
    let registers = registers::map(start, len)?;
    state.mapped.push(Mapped { start, registers });
    Some(registers.as_ptr())
}
