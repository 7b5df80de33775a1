//! PCI functions that modules drive, each of which is one module's at a time, and their interrupts. What was found, and what was mapped, stays known: registers
//! are mapped, and vectors taken, for as long as the machine runs, and a module that is loaded again gets the same ones.

use alloc::boxed::Box;
use alloc::vec::Vec;

use unikernel_module::abi::PCI_ANY;
use x86_64::PhysAddr;

use super::Work;
use crate::arch::cpu::this_cpu;
use crate::platform::interrupts::{self, Vector};
use crate::platform::io::Mmio;
use crate::platform::pci::{self, Function, MsixTable};
use crate::registers;
use crate::sync::SpinLock;

/// The number of no module.
const NOBODY: u64 = 0;
/// That of none either: whoever had the function is giving it back.
const LEAVING: u64 = u64::MAX;

/// A function that was found.
struct Known {
    function: Function,
    /// Whose it is.
    owner: u64,
    /// Its interrupts, once somebody has asked for them.
    table: Option<MsixTable>,
}

struct Mapped {
    start: PhysAddr,
    registers: Mmio,
}

struct State {
    functions: Vec<Known>,
    mapped: Vec<Mapped>,
    interrupts: Vec<Place>,
}

/// A vector and who has it.
struct Place {
    interrupt: &'static Interrupt,
    user: Option<User>,
}

struct User {
    module: u64,
    function: usize,
    entry: usize,
    /// The handler is being taken away; until that is done, vector and entry are nobody else's.
    is_leaving: bool,
}

/// Handlers run with their vector's lock held, and may ask for this one: nobody who has this one waits for the lock of a vector that has a
/// handler.
static STATE: SpinLock<State> =
    SpinLock::new(State { functions: Vec::new(), mapped: Vec::new(), interrupts: Vec::new() });

/// What a vector raises. It is for good; who has it changes.
struct Interrupt {
    vector: SpinLock<Option<Vector>>,
    /// Held while the handler runs.
    bound: SpinLock<Option<Bound>>,
}

struct Bound {
    table: MsixTable,
    entry: usize,
    handler: Work,
}

/// The first function of this maker, type and class that nobody drives: a number for it.
pub(super) fn find(module: u64, vendor: u32, device: u32, class: u32) -> Option<usize> {
    let is = |wanted: u32, found: u32| wanted == PCI_ANY || wanted == found;
    let found = pci::find_all();
    let mut state = STATE.lock();
    for function in found {
        let is_meant = is(vendor, function.vendor.into())
            && is(device, function.device.into())
            && is(class, function.read_config(0x08) >> 8);
        if !is_meant || pci::is_driven(function.address()) {
            continue;
        }
        let known = state.functions.iter().position(|known| known.function.address() == function.address());
        let number = match known {
            Some(number) => number,
            None => {
                state.functions.try_reserve(1).ok()?;
                state.functions.push(Known { function, owner: NOBODY, table: None });
                state.functions.len() - 1
            }
        };
        if state.functions[number].owner == NOBODY {
            state.functions[number].owner = module;
            return Some(number);
        }
    }
    None
}

impl State {
    /// A function of a module's.
    fn of(&mut self, module: u64, number: i64) -> Option<&mut Known> {
        let known = self.functions.get_mut(usize::try_from(number).ok()?)?;
        (module != NOBODY && known.owner == module).then_some(known)
    }

    /// Has a handler of a function's leave, if there is one; see [`Place::leave`].
    fn leave(&mut self, function: usize) -> Option<(usize, &'static Interrupt)> {
        let mut places = self.interrupts.iter_mut().enumerate();
        places.find_map(|(number, place)| Some((number, place.leave(|user| user.function == function)?)))
    }
}

impl Place {
    /// Has the handler leave, if it is meant and there: [`Interrupt::clear`] and [`left`] have to follow.
    fn leave(&mut self, is_meant: impl Fn(&User) -> bool) -> Option<&'static Interrupt> {
        let user = self.user.as_mut().filter(|user| !user.is_leaving && is_meant(user))?;
        user.is_leaving = true;
        Some(self.interrupt)
    }
}

/// A handler has left its place.
fn left(place: usize) {
    STATE.lock().interrupts[place].user = None;
}

/// Runs `work` with a function of the module's.
pub(super) fn with<R>(module: u64, number: i64, work: impl FnOnce(&mut Function) -> R) -> Option<R> {
    STATE.lock().of(module, number).map(|known| work(&mut known.function))
}

/// Maps registers that a BAR shows, and lets the function answer there.
pub(super) fn map(module: u64, number: i64, bar: u8, len: usize) -> Option<*mut u8> {
    let mut state = STATE.lock();
    let function = &mut state.of(module, number)?.function;
    let start = function.memory_bar(bar, 0)?;
    function.enable_memory();
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

/// Why there is no interrupt.
pub(super) enum NoInterrupt {
    /// The function has no such entry, or it has a handler.
    NoEntry,
    /// There is no vector left, or no memory.
    NoRoom,
}

/// Has an entry of a function's MSI-X table handled, on this core.
pub(super) fn add_interrupt(
    module: u64,
    number: i64,
    entry: usize,
    handler: Work,
) -> Result<usize, NoInterrupt> {
    let mut state = STATE.lock();
    let known = state.of(module, number).ok_or(NoInterrupt::NoEntry)?;
    let table = known.table.or_else(|| known.function.enable_msix()).ok_or(NoInterrupt::NoEntry)?;
    known.table = Some(table);
    let function = number as usize;
    let is_taken = |place: &Place| {
        place.user.as_ref().is_some_and(|user| (user.function, user.entry) == (function, entry))
    };
    if entry >= table.count() || state.interrupts.iter().any(is_taken) {
        return Err(NoInterrupt::NoEntry);
    }
    let free = state.interrupts.iter().position(|place| place.user.is_none());
    let place = match free {
        Some(place) => place,
        None => {
            state.interrupts.try_reserve(1).map_err(|_| NoInterrupt::NoRoom)?;
            let interrupt = new_interrupt().ok_or(NoInterrupt::NoRoom)?;
            state.interrupts.push(Place { interrupt, user: None });
            state.interrupts.len() - 1
        }
    };
    let Place { interrupt, user } = &mut state.interrupts[place];
    let vector = interrupt.vector.lock().ok_or(NoInterrupt::NoRoom)?;
    *user = Some(User { module, function, entry, is_leaving: false });
    *interrupt.bound.lock() = Some(Bound { table, entry, handler });
    table.set(entry, vector, this_cpu().index());
    Ok(place)
}

/// A vector that nobody has had.
fn new_interrupt() -> Option<&'static Interrupt> {
    let interrupt: &'static Interrupt =
        Box::leak(Box::new(Interrupt { vector: SpinLock::new(None), bound: SpinLock::new(None) }));
    let handler = move || {
        if let Some(bound) = &*interrupt.bound.lock() {
            bound.handler.run();
        }
    };
    *interrupt.vector.lock() = Some(interrupts::register(Box::leak(Box::new(handler)))?);
    Some(interrupt)
}

/// Takes a handler away: it does not run then, and will not.
pub(super) fn remove_interrupt(module: u64, number: i64) {
    let Ok(number) = usize::try_from(number) else { return };
    let of_module = |user: &User| user.module == module;
    // A statement of its own: the lock is let go before the handler is waited for.
    let leaves = STATE.lock().interrupts.get_mut(number).and_then(|place| place.leave(of_module));
    if let Some(interrupt) = leaves {
        interrupt.clear();
        left(number);
    }
}

impl Interrupt {
    /// Takes the handler away, once it does not run.
    fn clear(&self) {
        let bound = self.bound.lock().take();
        if let Some(bound) = bound {
            bound.table.mask(bound.entry);
        }
    }
}

/// Gives a function back: it uses no memory on its own any more, and raises nothing.
pub(super) fn release(module: u64, number: i64) {
    let mut state = STATE.lock();
    let Some(known) = state.of(module, number) else { return };
    known.function.disable_bus_master();
    known.owner = LEAVING;
    drop(state);
    let function = number as usize;
    loop {
        let leaves = STATE.lock().leave(function);
        let Some((place, interrupt)) = leaves else { break };
        interrupt.clear();
        left(place);
    }
    STATE.lock().functions[function].owner = NOBODY;
}

/// The same with all that a module has.
pub(super) fn release_all(module: u64) {
    let count = STATE.lock().functions.len();
    (0..count).for_each(|number| release(module, number as i64));
}
