//! A pair of queues (base specification, sections 3.3.3 and 3.3.1.2): commands that the controller takes, and its answers, whose phase bit turns with each
//! round.

use alloc::vec::Vec;

use crate::command::{COMMAND_BYTES, Command};
use crate::registers::Capabilities;
use crate::{Machine, Memory, Refused, StartError, Status};

/// Bytes of an answer.
const ANSWER_BYTES: usize = 16;
const PHASE: u32 = 1 << 16;

/// An answer: to which command, how it ended, and its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Completion {
    pub(crate) number: u16,
    pub(crate) status: Status,
    pub(crate) result: u32,
}

/// A pair of queues. A command has a number, and its answer frees it; there is an entry more than numbers, for a full queue looks like an empty one.
pub(crate) struct Queue<M: Machine> {
    machine: M,
    id: u16,
    submissions: M::Memory,
    completions: M::Memory,
    doorbells: [usize; 2],
    entries: u16,
    tail: u16,
    /// The tail that the controller knows.
    told_tail: u16,
    head: u16,
    /// What the phase bit is in entries that are new.
    phase: u32,
    /// Which numbers are in flight.
    pending: Vec<bool>,
    /// Answers to what nobody has asked.
    phantoms: u64,
}

impl<M: Machine> Queue<M> {
    /// Makes one of `entries`, at least two; the controller does not know of it yet.
    pub(crate) fn new(
        machine: &M,
        capabilities: &Capabilities,
        id: u16,
        entries: u16,
    ) -> Result<Self, StartError> {
        let doorbells = capabilities.doorbells(id).ok_or(StartError::NoQueue)?;
        let allocate =
            |bytes: usize| machine.allocate(usize::from(entries) * bytes).ok_or(StartError::OutOfMemory);
        let numbers = usize::from(entries.saturating_sub(1));
        let mut pending = Vec::new();
        pending.try_reserve_exact(numbers).map_err(|_| StartError::OutOfMemory)?;
        pending.resize(numbers, false);
        Ok(Self {
            machine: machine.clone(),
            id,
            submissions: allocate(COMMAND_BYTES)?,
            completions: allocate(ANSWER_BYTES)?,
            doorbells,
            entries,
            tail: 0,
            told_tail: 0,
            head: 0,
            phase: PHASE,
            pending,
            phantoms: 0,
        })
    }

    /// Where its halves are: submissions, completions.
    pub(crate) fn addresses(&self) -> [u64; 2] {
        [self.submissions.address(), self.completions.address()]
    }

    pub(crate) fn entries(&self) -> u16 {
        self.entries
    }

    /// How many commands can be in flight.
    pub(crate) fn numbers(&self) -> u16 {
        self.entries.saturating_sub(1)
    }

    /// How many answers came to what nobody has asked.
    pub(crate) fn phantoms(&self) -> u64 {
        self.phantoms
    }

    /// True if a command may have this number now.
    pub(crate) fn is_free(&self, number: u16) -> bool {
        self.pending.get(usize::from(number)) == Some(&false)
    }

    /// Puts a command into the queue.
    pub(crate) fn submit(&mut self, number: u16, command: &Command) -> Result<(), Refused> {
        match self.pending.get_mut(usize::from(number)) {
            Some(is_pending @ false) => *is_pending = true,
            _ => return Err(Refused::BadTag),
        }
        let at = usize::from(self.tail) * COMMAND_BYTES;
        for (index, word) in command.encode(number).into_iter().enumerate() {
            self.submissions.store(at + 4 * index, word);
        }
        self.tail = self.after(self.tail);
        Ok(())
    }

    /// Tells the controller of what was put there.
    pub(crate) fn ring(&mut self) {
        if self.told_tail != self.tail {
            self.told_tail = self.tail;
            self.machine.write(self.doorbells[0], self.tail.into());
        }
    }

    fn after(&self, index: u16) -> u16 {
        if index + 1 < self.entries { index + 1 } else { 0 }
    }

    /// Takes the next answer, if there is one. [`Self::release`] tells the controller.
    pub(crate) fn take(&mut self) -> Option<Completion> {
        // A round is enough: more answers than commands are none.
        for _ in 0..self.entries {
            let at = usize::from(self.head) * ANSWER_BYTES;
            // The word with the phase comes first: what is read after it is as new.
            let last = self.completions.load(at + 12);
            if last & PHASE != self.phase {
                return None;
            }
            let [result, queue] = [0, 8].map(|word| self.completions.load(at + word));
            self.head = self.after(self.head);
            if self.head == 0 {
                self.phase ^= PHASE;
            }
            let (number, status) = (last as u16, Status((last >> 17) as u16));
            match self.pending.get_mut(usize::from(number)) {
                Some(is_pending @ true) if (queue >> 16) as u16 == self.id => {
                    *is_pending = false;
                    return Some(Completion { number, status, result });
                }
                _ => self.phantoms = self.phantoms.saturating_add(1),
            }
        }
        None
    }

    /// Gives the entries of all answers that were taken back to the controller.
    pub(crate) fn release(&self) {
        self.machine.write(self.doorbells[1], self.head.into());
    }
}
