//! The event rings: what happens on each core, for who looks on (`/trace`), and after a panic.
//!
//! Nothing is recorded until somebody asks, and a point where something could be costs a load and a branch until then. Kernel code runs with
//! interrupts masked, so nothing comes between the steps of writing an event; an NMI must not write one.

use alloc::collections::TryReserveError;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;
use unikernel_trace::event::Event;
pub use unikernel_trace::event::Kind;

use crate::arch::cpu;
use crate::arch::per_core::PerCore;
use crate::per_core;
use crate::platform::time;

/// Events that a core's ring keeps: a megabyte, and under full load a tenth of a second.
const EVENTS: usize = 32_768;

/// The last events of a core.
pub type Ring = unikernel_trace::ring::Ring<EVENTS>;

static IS_ON: AtomicBool = AtomicBool::new(false);
/// Made for the first who records, and kept.
static RINGS: PerCore<Once<Ring>> = per_core!(Once::new());

/// Notes that something happened; see [`Kind`] for what the fields mean.
#[inline]
pub fn note(kind: Kind, small: u32, first: u64, second: u64) {
    if is_on() {
        write(Event::head(kind as u8, small), first, second);
    }
}

/// True if events are recorded: for points that have to find out what they would note.
#[inline]
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Notes that a core waits for a lock by spinning, or does no more: in one place for all the types of locks.
#[cold]
#[inline(never)]
pub(crate) fn note_spin(kind: Kind) {
    note(kind, 1, 0, 0);
}

#[cold]
#[inline(never)]
fn write(head: u64, first: u64, second: u64) {
    push(head, first, second);
}

/// The same as [`note`] for who knows already that events are recorded. For the points that a request passes several times: the whole of it
/// becomes a part of the caller.
#[inline(always)]
pub fn record(kind: Kind, small: u32, first: u64, second: u64) {
    push(Event::head(kind as u8, small), first, second);
}

#[inline(always)]
fn push(head: u64, first: u64, second: u64) {
    // Cores that came up since have none.
    if let Some(ring) = RINGS.get() {
        ring.push([time::tsc(), head, first, second]);
    }
}

/// Makes the rings of all cores that have come up.
///
/// # Errors
///
/// If there is no memory for them.
pub fn prepare() -> Result<(), TryReserveError> {
    for core in 0..cpu::online() {
        let ring = RINGS.of(core);
        if ring.get().is_none() {
            let new = Ring::new()?;
            // Somebody else may have been faster: then this one goes.
            ring.call_once(|| new);
        }
    }
    Ok(())
}

/// Begins to record, or ends it. The rings stay, with what they hold.
pub fn turn_on(is_on: bool) {
    IS_ON.store(is_on, Ordering::Relaxed);
}

/// A core's ring, if there was ever anything recorded.
pub fn ring(core: usize) -> Option<&'static Ring> {
    RINGS.of(core).get()
}
