//! Interrupts from outside the processor: vectors, who handles them, and the way from a device's
//! line or message to a vector.
//!
//! A driver calls [`register`] for a vector and then either routes a line to it ([`route`],
//! [`route_isa_irq`]) or gives its MSI-X table the [`message`] for it. Handlers run with interrupts
//! masked, between two instructions of ring 3 or in the idle loop, never inside kernel code; they
//! acknowledge, set a flag, wake a thread, and return.
//!
//! The controllers are the machine's: `apic`, a core's own (end of interrupt, timer); `ioapic`, lines to vectors.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use spin::Once;
use unikernel_machine::line::Line;

use crate::arch::per_core::PerCore;
use crate::arch::{cpu, tlb};
use crate::per_core;
use crate::platform::{acpi, apic, events, ioapic, timer};

/// What an interrupt calls.
pub type Handler = &'static (dyn Fn() + Sync);

/// An entry of the interrupt table that belongs to a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vector(u8);

impl Vector {
    /// The number in the table.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// The first vector for devices; 0 to 31 are exceptions.
const FIRST_DEVICE_VECTOR: u8 = 48;
/// The last vector for devices.
const LAST_DEVICE_VECTOR: u8 = 223;
/// The timer's, above all devices: it is served first.
pub const TIMER_VECTOR: u8 = 224;
/// Another core wants this one to look at its queue and its requested work.
pub const RESCHEDULE_VECTOR: u8 = 225;
/// Another core wants this one to forget translations.
pub const FLUSH_VECTOR: u8 = 226;
/// The machine ends: the core stops where it is.
pub const STOP_VECTOR: u8 = 227;
/// What the APIC raises when a cause went away while it was being signalled. Needs no end of
/// interrupt (SDM Vol. 3, 11.9).
pub const SPURIOUS_VECTOR: u8 = 255;

const SLOTS: usize = (LAST_DEVICE_VECTOR - FIRST_DEVICE_VECTOR + 1) as usize;
static HANDLERS: [Once<Handler>; SLOTS] = [const { Once::new() }; SLOTS];
static TIMER_HANDLER: Once<fn()> = Once::new();
static RESCHEDULE_HANDLER: Once<fn()> = Once::new();
static NEXT: AtomicU8 = AtomicU8::new(FIRST_DEVICE_VECTOR);

/// What an interrupt may be about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A device.
    Device,
    /// The core's own timer.
    Timer,
    /// Another core put a thread on this one's queue.
    Reschedule,
    /// Another core took a page, or a permission, away.
    Flush,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Device, Self::Timer, Self::Reschedule, Self::Flush];
}

/// Interrupts taken since boot, by kind.
static TAKEN: PerCore<[AtomicU64; Kind::ALL.len()]> =
    per_core!([const { AtomicU64::new(0) }; Kind::ALL.len()]);

/// Takes a vector for `handler`; `None` when all are taken.
pub fn register(handler: Handler) -> Option<Vector> {
    let number = NEXT
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            (next <= LAST_DEVICE_VECTOR).then(|| next + 1)
        })
        .ok()?;
    HANDLERS[usize::from(number - FIRST_DEVICE_VECTOR)].call_once(|| handler);
    Some(Vector(number))
}

/// Sets who is told that the timer went off.
pub fn set_timer_handler(handler: fn()) {
    TIMER_HANDLER.call_once(|| handler);
}

/// Sets who is told that another core sent [`RESCHEDULE_VECTOR`].
pub fn set_reschedule_handler(handler: fn()) {
    RESCHEDULE_HANDLER.call_once(|| handler);
}

/// Interrupts core `core`.
#[inline]
pub fn send(core: usize, vector: u8) {
    apic::send(cpu::cpu(core).apic_id(), vector);
}

/// Stops all other cores for good, as soon as they take interrupts.
pub fn stop_others() {
    let here = cpu::this_cpu().index();
    (0..cpu::online()).filter(|&core| core != here).for_each(|core| send(core, STOP_VECTOR));
}

/// Handles one interrupt: the processor's entry stubs call this for vectors from 32 on.
pub fn dispatch(number: u8) {
    events::note(events::Kind::InterruptBegin, u32::from(number), 0, 0);
    handle(number);
    events::note(events::Kind::InterruptEnd, u32::from(number), 0, 0);
}

#[inline]
fn handle(number: u8) {
    let kind = match number {
        TIMER_VECTOR => {
            if timer::on_interrupt()
                && let Some(handler) = TIMER_HANDLER.get()
            {
                handler();
            }
            Kind::Timer
        }
        FIRST_DEVICE_VECTOR..=LAST_DEVICE_VECTOR => {
            if let Some(handler) = HANDLERS[usize::from(number - FIRST_DEVICE_VECTOR)].get() {
                handler();
            }
            Kind::Device
        }
        RESCHEDULE_VECTOR => {
            if let Some(handler) = RESCHEDULE_HANDLER.get() {
                handler();
            }
            Kind::Reschedule
        }
        FLUSH_VECTOR => {
            tlb::serve();
            Kind::Flush
        }
        STOP_VECTOR => cpu::halt_forever(),
        // The masked 8259 still signals spurious interrupts, on 39 and 47; they are not the
        // APIC's and take no end of interrupt, like the APIC's own spurious vector.
        _ => return,
    };
    TAKEN[kind as usize].fetch_add(1, Ordering::Relaxed);
    apic::end_of_interrupt();
}

/// Interrupts that a core has taken since boot, by [`Kind`].
pub fn taken_by(core: usize) -> [u64; Kind::ALL.len()] {
    core::array::from_fn(|kind| TAKEN.of(core)[kind].load(Ordering::Relaxed))
}

/// Interrupts taken since boot.
pub fn taken() -> u64 {
    (0..cpu::online()).flat_map(taken_by).sum()
}

/// Leads a line of the IO-APICs to `vector` and opens it.
pub fn route(line: Line, vector: Vector) {
    ioapic::route(line, vector.0, apic::id());
}

/// Leads a line of the ISA bus to `vector`, as the firmware says that it is wired.
pub fn route_isa_irq(irq: u8, vector: Vector) {
    route(acpi::machine().isa_line(irq), vector);
}

/// What a device writes, and where, to raise `vector` on a core that runs (SDM Vol. 3, 11.11).
pub fn message(vector: Vector, core: usize) -> (u64, u32) {
    (0xfee0_0000 | u64::from(cpu::cpu(core).apic_id() & 0xff) << 12, u32::from(vector.0))
}
