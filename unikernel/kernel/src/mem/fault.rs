//! Page faults of the app, and of the kernel on the app's behalf (`arch::user_copy`).
//!
//! A page of a file that is not in memory has to be read first, which sleeps. The app's own fault does that at
//! once. A fault of the kernel may come with locks held, so its handler never sleeps: the copy fails with
//! [`Missing`], which names what has to be waited for. A copy that may sleep waits at once, and goes on
//! (`mem::user`). One that is made with a lock held gives [`Missing`] to its caller, who takes back what it has
//! begun, lets go of its locks, waits ([`Pins::page_in`]) and begins again. `docs/decisions/0037` has the reasons.

use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::Once;
use unikernel_hal::per_core;

use super::reclaim;
use super::shared::SharedFrame;
use super::space::{self, FaultError, PageSource};
use super::user::Fault;
use crate::abi::Errno;
use crate::arch::per_core::PerCore;
use crate::kmem::frames;
use crate::kmem::layout::USER_END;
use crate::sync::SpinLock;
use crate::task::scheduler;

/// What the processor tried, from the page fault's error code (SDM Vol. 3, 4.7).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    /// A write.
    pub is_write: bool,
    /// An instruction fetch.
    pub is_execute: bool,
}

impl Access {
    /// Decodes the error code.
    pub(crate) const fn from_error_code(code: u64) -> Self {
        Self { is_write: code & 2 != 0, is_execute: code & 16 != 0 }
    }
}

/// Why an access cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// Nothing is mapped there that the app may know of.
    NotMapped,
    /// The region does not allow the access.
    NotAllowed,
    /// The object that is mapped there has no such page, or no place for what would be written to it.
    NoPage,
    /// Memory is exhausted.
    OutOfMemory,
    /// The file's page is not in memory, and cannot be read.
    NotReadable,
}

/// How often [`handle`] waits for what one access needs. Others may take the memory that was made free, or cut the
/// file meanwhile, but nobody may keep a thread in here for ever.
const MOST_TRIES: usize = 64;

/// Tries to make an access of the app possible: faults in a page of a region that allows it, and waits for it if
/// it has to be read.
pub(crate) fn handle(address: u64, access: Access) -> Result<(), Failure> {
    // What was read stays in memory until it is mapped.
    let mut _loaded = None;
    for _ in 0..MOST_TRIES {
        match fault_in(address, access) {
            Ok(()) => return Ok(()),
            Err(FaultError::Failed(failure)) => wait_after(failure)?,
            Err(FaultError::NotLoaded(source, index)) => match source.load(index) {
                Ok(frame) => _loaded = Some(frame),
                Err(error) => wait_after(failure_of(error, Failure::NotReadable))?,
            },
            Err(FaultError::NoPlace(source, index)) => {
                if let Err(error) = source.reserve(index) {
                    wait_after(failure_of(error, Failure::NoPage))?;
                }
            }
        }
    }
    Err(why_endless())
}

/// Why an object has not given a page, or a place for one. Memory that was short then may be there again, so nobody asks how much
/// there is now.
fn failure_of(error: Errno, otherwise: Failure) -> Failure {
    if error == Errno::ENOMEM { Failure::OutOfMemory } else { otherwise }
}

/// Waits for memory, if that is what was missing.
fn wait_after(failure: Failure) -> Result<(), Failure> {
    if failure == Failure::OutOfMemory && reclaim::wait_for_room(1) { Ok(()) } else { Err(failure) }
}

/// Why so many tries were not enough: others took the memory, or what was loaded went before it was mapped.
fn why_endless() -> Failure {
    if frames::can_app_take(1) { Failure::NotReadable } else { Failure::OutOfMemory }
}

/// The same for an access of the kernel's, which must not sleep: what there is to wait for is left with the core,
/// for the copy that fails now ([`Missing::noted`]).
pub(crate) fn handle_in_kernel(address: u64, access: Access) -> Result<(), Failure> {
    let (failure, pending) = match fault_in(address, access) {
        Ok(()) => return Ok(()),
        Err(FaultError::Failed(Failure::OutOfMemory)) => (Failure::OutOfMemory, Pending::Memory),
        Err(FaultError::Failed(failure)) => return Err(failure),
        Err(FaultError::NotLoaded(source, index)) => (Failure::NotReadable, Pending::Page(source, index)),
        Err(FaultError::NoPlace(source, index)) => (Failure::NoPage, Pending::Place(source, index)),
    };
    let before = PENDING.lock().replace(pending);
    drop(before);
    Err(failure)
}

fn fault_in(address: u64, access: Access) -> Result<(), FaultError> {
    if address >= USER_END {
        return Err(Failure::NotMapped.into());
    }
    space::fault_in(address, access)
}

/// What a copy has to wait for.
pub(crate) enum Pending {
    /// This page of the object.
    Page(Arc<dyn PageSource>, u64),
    /// A place for what is written to this page.
    Place(Arc<dyn PageSource>, u64),
    /// Memory, which may be full of pages that have to be written first.
    Memory,
}

/// What the copy has to wait for that fails on this core just now: from the fault ([`handle_in_kernel`]) to the end of the copy
/// ([`Missing::noted`]). In between nothing else runs here, as the kernel runs with interrupts masked.
static PENDING: PerCore<SpinLock<Option<Pending>>> = per_core!(SpinLock::new(None));

/// A copy that could not sleep did not come to its end. There is no way from here to an error number but through
/// [`Pins::page_in`].
#[must_use = "a page may have to be read in"]
pub(crate) struct Missing(Option<Pending>);

impl Missing {
    /// The app has nothing there: waiting does not help.
    pub(crate) const FAULT: Self = Self(None);

    /// Why the copy failed that this core has tried just now.
    #[cold]
    pub(super) fn noted() -> Self {
        Self(PENDING.lock().take())
    }

    /// True if waiting does not help.
    pub(crate) fn is_fault(&self) -> bool {
        self.0.is_none()
    }
}

/// Waits that one copy needs at most: a packet's in as many buffers as a call may name, each over the edge of a page.
const MOST_WAITS: usize = 2048 + 64;
/// How often one copy waits for memory, which others may take before it comes to that.
const MOST_WAITS_FOR_MEMORY: usize = 64;

/// The pages that were read in for a copy. They stay in memory until it has come to its end, so that each turn gets
/// further than the one before; other threads may still unmap them or cut them off.
#[derive(Default)]
pub(crate) struct Pins {
    frames: Vec<SharedFrame>,
    waits: usize,
    waits_for_memory: usize,
}

impl Pins {
    /// Waits for what a copy has missed. The caller may sleep. Fails if the app has nothing there, if it cannot be
    /// read, or if there is no end to it.
    #[cold]
    pub(crate) fn page_in(&mut self, missing: Missing) -> Result<(), Fault> {
        let pending = missing.0.ok_or(Fault)?;
        if !scheduler::can_block() || self.waits == MOST_WAITS {
            return Err(Fault);
        }
        self.waits += 1;
        match pending {
            Pending::Page(source, index) => match source.load(index) {
                Ok(frame) => {
                    self.frames.try_reserve(1).map_err(|_| Fault)?;
                    self.frames.push(frame);
                    Ok(())
                }
                Err(error) => self.wait_after(failure_of(error, Failure::NotReadable)),
            },
            Pending::Place(source, index) => match source.reserve(index) {
                Ok(()) => Ok(()),
                Err(error) => self.wait_after(failure_of(error, Failure::NoPage)),
            },
            Pending::Memory => self.wait_after(Failure::OutOfMemory),
        }
    }

    /// Waits for memory, if that is what was missing: then the copy is tried again.
    fn wait_after(&mut self, failure: Failure) -> Result<(), Fault> {
        let is_memory = failure == Failure::OutOfMemory;
        self.waits_for_memory += usize::from(is_memory);
        if is_memory && self.waits_for_memory <= MOST_WAITS_FOR_MEMORY && reclaim::wait_for_room(1) {
            return Ok(());
        }
        Err(give_up(if is_memory { why_endless() } else { failure }))
    }
}

/// Who ends the app for want of memory.
static OUT_OF_MEMORY: Once<fn()> = Once::new();

/// Sets who ends the app if the kernel cannot reach the app's memory for want of frames.
pub(crate) fn set_out_of_memory(end_app: fn()) {
    OUT_OF_MEMORY.call_once(|| end_app);
}

/// The copy fails. For want of memory, the app does not live to see it.
fn give_up(failure: Failure) -> Fault {
    if failure == Failure::OutOfMemory
        && let Some(end_app) = OUT_OF_MEMORY.get()
    {
        end_app();
    }
    Fault
}

/// Runs a copy that cannot sleep until it misses nothing any more. The caller may sleep.
#[inline]
pub(crate) fn paging_in<T>(mut copy: impl FnMut() -> Result<T, Missing>) -> Result<T, Fault> {
    // Nearly all miss nothing, and pay for no list of pages.
    copy().or_else(|missing| repeat(missing, copy))
}

/// The rest of [`paging_in`]. There is one for each kind of copy, so it is little more than a call.
#[cold]
#[inline(never)]
fn repeat<T>(missing: Missing, mut copy: impl FnMut() -> Result<T, Missing>) -> Result<T, Fault> {
    let mut copied = None;
    page_in_and_repeat(missing, &mut || {
        copied = Some(copy()?);
        Ok(())
    })?;
    copied.ok_or(Fault)
}

#[cold]
#[inline(never)]
fn page_in_and_repeat(
    mut missing: Missing,
    copy: &mut dyn FnMut() -> Result<(), Missing>,
) -> Result<(), Fault> {
    let mut pins = Pins::default();
    loop {
        pins.page_in(missing)?;
        match copy() {
            Ok(()) => return Ok(()),
            Err(next) => missing = next,
        }
    }
}
