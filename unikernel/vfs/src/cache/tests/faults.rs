//! What goes wrong, and when: every operation of the disk, the filesystem and memory asks here first.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::Error;

/// What an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// A request reads sectors.
    Read,
    /// A request writes sectors.
    Write,
    /// The disk makes durable what it was given.
    Flush,
    /// The filesystem reads or changes its structures.
    Metadata,
    /// The filesystem looks for free blocks.
    Allocation,
    /// Memory is asked for.
    Memory,
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// The operation fails, and those that follow, up to so many.
    Error(usize),
    /// From then on no block is free.
    Full,
    /// No memory, up to so often.
    NoMemory(usize),
    /// The power is cut before the operation.
    PowerCut,
}

/// One plan, and how far it has gone.
pub(super) struct Faults {
    fault: Fault,
    at: usize,
    /// Operations so far.
    count: AtomicUsize,
    is_off: AtomicBool,
    /// The filesystem's structures cannot be written.
    fails_metadata: AtomicBool,
    /// Operations that were made to fail.
    failed: AtomicUsize,
}

impl Faults {
    /// `fault` strikes operation `at`.
    pub(super) fn new(fault: Fault, at: usize) -> Self {
        Self {
            fault,
            at,
            count: AtomicUsize::new(0),
            is_off: AtomicBool::new(false),
            fails_metadata: AtomicBool::new(false),
            failed: AtomicUsize::new(0),
        }
    }

    /// Operations so far.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Operations that failed by the plan.
    pub(super) fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }

    /// True if the power is off.
    pub(super) fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// From now on the filesystem's structures cannot be written.
    pub(super) fn fail_metadata(&self) {
        self.fails_metadata.store(true, Ordering::Relaxed);
    }

    /// From now on nothing goes wrong.
    pub(super) fn restore(&self) {
        self.fails_metadata.store(false, Ordering::Relaxed);
        self.is_off.store(false, Ordering::Relaxed);
        self.count.store(usize::MAX / 2, Ordering::Relaxed);
    }

    /// Counts an operation, and says whether it fails.
    pub(super) fn check(&self, operation: Operation) -> Result<(), Error> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let is_within = |most: usize| (self.at..self.at.saturating_add(most)).contains(&number);
        let is_memory = operation == Operation::Memory;
        let outcome = match self.fault {
            _ if self.is_off.load(Ordering::Relaxed) => Err(Error::Device),
            _ if self.fails_metadata.load(Ordering::Relaxed) && operation == Operation::Metadata => {
                Err(Error::Device)
            }
            Fault::PowerCut if number >= self.at && number < usize::MAX / 2 => {
                self.is_off.store(true, Ordering::Relaxed);
                Err(Error::Device)
            }
            Fault::Error(most) if is_within(most) && !is_memory => Err(Error::Device),
            Fault::NoMemory(most) if is_within(most) && is_memory => Err(Error::NoMemory),
            Fault::Full if is_within(usize::MAX / 4) && operation == Operation::Allocation => {
                Err(Error::NoSpace)
            }
            _ => Ok(()),
        };
        if outcome.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }
}
