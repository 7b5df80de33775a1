//! Where requests wait. A slot is taken when a request has to wait for the first time, and the pair of its
//! number and its generation is what watches, timers and cancellations know the request by.
//!
//! A request that is being worked on is out of its slot. What happens to it meanwhile, on another core, is
//! noted in the slot, and found when the request is to be put back: so no event is lost, and no lock is held
//! while a request runs.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::request::Request;

/// Requests that wait in one ring at most.
const MAX_WAITING: usize = 65_536;

/// Names a request that waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub(super) index: u32,
    pub(super) generation: u32,
}

enum State {
    Free,
    /// Its request is being worked on.
    Busy {
        has_event: bool,
        is_cancelled: bool,
    },
    Parked(Box<Request>),
}

struct Slot {
    generation: u32,
    state: State,
    user_data: u64,
}

/// A ring's slots.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// What became of an attempt to take a request out.
pub(super) enum Taken {
    Request(Box<Request>),
    /// Somebody works on it, and will see what was noted.
    Noted,
    /// It is complete.
    Gone,
}

/// Why a request is taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// Its file may be ready, or its time has come.
    Event,
    /// It shall end.
    Cancel,
}

impl Slots {
    /// A slot for a request that is being worked on; `None` if too many wait, or there is no memory for more.
    pub(super) fn reserve(&mut self, user_data: u64) -> Option<Key> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() >= MAX_WAITING => return None,
            None => {
                // Room for its release too, which cannot fail.
                self.slots.try_reserve(1).ok()?;
                self.free.try_reserve(self.slots.len() + 1 - self.free.len()).ok()?;
                self.slots.push(Slot { generation: 0, state: State::Free, user_data });
                self.slots.len() as u32 - 1
            }
        };
        let slot = &mut self.slots[index as usize];
        slot.user_data = user_data;
        slot.state = State::Busy { has_event: false, is_cancelled: false };
        Some(Key { index, generation: slot.generation })
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        self.slots.get_mut(key.index as usize).filter(|slot| slot.generation == key.generation)
    }

    /// Puts a request into its slot to wait, unless something has happened to it: then it comes back.
    pub(super) fn park(&mut self, key: Key, mut request: Box<Request>) -> Option<Box<Request>> {
        let slot = self.slot(key)?;
        if let State::Busy { has_event, is_cancelled } = &mut slot.state
            && (*has_event || *is_cancelled)
        {
            request.is_cancelled |= *is_cancelled;
            *has_event = false;
            return Some(request);
        }
        slot.state = State::Parked(request);
        None
    }

    /// Takes a request out of its slot.
    pub(super) fn take(&mut self, key: Key, cause: Cause) -> Taken {
        let Some(slot) = self.slot(key) else { return Taken::Gone };
        match &mut slot.state {
            State::Free => Taken::Gone,
            State::Busy { has_event, is_cancelled } => {
                *has_event |= cause == Cause::Event;
                *is_cancelled |= cause == Cause::Cancel;
                Taken::Noted
            }
            state @ State::Parked(_) => {
                let busy = State::Busy { has_event: false, is_cancelled: false };
                match core::mem::replace(state, busy) {
                    State::Parked(mut request) => {
                        request.is_cancelled |= cause == Cause::Cancel;
                        Taken::Request(request)
                    }
                    _ => Taken::Gone,
                }
            }
        }
    }

    /// Frees the slot of a request that is complete.
    pub(super) fn release(&mut self, key: Key) {
        if let Some(slot) = self.slot(key) {
            slot.generation = slot.generation.wrapping_add(1);
            slot.state = State::Free;
            self.free.push(key.index);
        }
    }

    /// The first waiting request from a slot on that a predicate takes; of those that are being worked on only
    /// the app's word is known.
    pub(super) fn find(&self, from: usize, matches: impl Fn(u64, Option<&Request>) -> bool) -> Option<Key> {
        let mut slots = self.slots.iter().enumerate().skip(from);
        let (index, slot) = slots.find(|(_, slot)| match &slot.state {
            State::Free => false,
            State::Busy { .. } => matches(slot.user_data, None),
            State::Parked(request) => matches(slot.user_data, Some(request)),
        })?;
        Some(Key { index: index as u32, generation: slot.generation })
    }

    /// Changes a request where it waits; `None` if it does not.
    pub(super) fn change<T>(&mut self, key: Key, change: impl FnOnce(&mut Request) -> T) -> Option<T> {
        match &mut self.slot(key)?.state {
            State::Parked(request) => Some(change(request)),
            _ => None,
        }
    }

    /// Changes the app's word for a request.
    pub(super) fn rename(&mut self, key: Key, user_data: u64) {
        if let Some(slot) = self.slot(key) {
            slot.user_data = user_data;
        }
    }

    /// Slots that are or were taken: so many watches there may be.
    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }
}
