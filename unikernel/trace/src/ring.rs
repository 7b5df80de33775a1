//! The last events of one core. The core writes, whatever it is doing; others read what has not been written over.
//!
//! Neither waits for the other: a reader that was too slow learns how many events it has missed, and one that reads while the core
//! writes throws away what may have been written over meanwhile. (A sequence lock whose number is the count of events.)

use alloc::boxed::Box;
use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use crate::event::Event;

type Slot = [AtomicU64; 4];

/// The last `EVENTS` events of one core, a power of two. (The number is the type's, so that writing is as few instructions as it can be.)
#[derive(Debug)]
pub struct Ring<const EVENTS: usize> {
    slots: Box<[Slot; EVENTS]>,
    /// How many events were ever written: the next one's slot is this modulo the number of slots.
    written: AtomicU64,
}

impl<const EVENTS: usize> Ring<EVENTS> {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn new() -> Result<Self, TryReserveError> {
        const { assert!(EVENTS.is_power_of_two()) };
        let mut slots = Vec::new();
        slots.try_reserve_exact(EVENTS)?;
        slots.resize_with(EVENTS, Slot::default);
        let Ok(slots) = slots.into_boxed_slice().try_into() else {
            unreachable!("there are as many as asked for")
        };
        Ok(Self { slots, written: AtomicU64::new(0) })
    }

    /// Writes an event ([`Event::to_words`]). For the ring's own core only, which nothing that writes may interrupt; anything else loses
    /// events, and does no harm.
    #[inline]
    pub fn push(&self, event: [u64; 4]) {
        let written = self.written.load(Ordering::Relaxed);
        let slot = &self.slots[written as usize % EVENTS];
        // Who sees a word of this event sees that all before it were written, and so that the one which was here is gone.
        fence(Ordering::Release);
        for (word, value) in slot.iter().zip(event) {
            word.store(value, Ordering::Relaxed);
        }
        self.written.store(written + 1, Ordering::Release);
    }

    /// How many events were ever written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Passes the events from number `next` on to `see`, until that answers false, for one that it has not taken. Answers where to go on,
    /// and how many are lost because they were written over.
    pub fn read(&self, next: u64, mut see: impl FnMut(Event) -> bool) -> Progress {
        let size = EVENTS as u64;
        let end = self.written();
        let mut lost = 0;
        let mut at = next.min(end);
        while at < end {
            let slot = &self.slots[at as usize % EVENTS];
            let words = [0, 1, 2, 3].map(|index: usize| slot[index].load(Ordering::Relaxed));
            // Pairs with the fence of the writer: if a word was of a later event, `written` shows that.
            fence(Ordering::Acquire);
            let written = self.written.load(Ordering::Relaxed);
            // The slot of event `written` may be half written, and that was the one of `written - size`.
            if written - at >= size {
                let first_whole = (written - size + 1).min(end);
                lost += first_whole - at;
                at = first_whole;
                continue;
            }
            if !see(Event::from_words(words)) {
                break;
            }
            at += 1;
        }
        Progress { next: at, lost }
    }
}

/// How far a reader has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Where it goes on.
    pub next: u64,
    /// Events that it has not seen.
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;

    fn event(number: u64) -> Event {
        Event { at: number, kind: 1, small: number as u32, wide: [!number, number.wrapping_mul(3)] }
    }

    proptest! {
        /// Whatever was written and read in turn, a reader sees each event once, in order, or counts it as lost.
        #[test]
        fn each_event_is_seen_or_lost(steps in proptest::collection::vec((0_u64..40, any::<bool>()), 1..50)) {
            let ring = Ring::<16>::new().unwrap();
            let (mut number, mut next, mut expected) = (0, 0, 0);
            for (count, reads) in steps {
                (0..count).for_each(|step| ring.push(event(number + step).to_words()));
                number += count;
                if reads {
                    let mut seen = Vec::new();
                    let progress = ring.read(next, |event| {
                        seen.push(event);
                        true
                    });
                    expected += progress.lost;
                    for event_seen in seen {
                        prop_assert_eq!(event_seen, event(expected));
                        expected += 1;
                    }
                    prop_assert_eq!((progress.next, expected), (number, number));
                    next = progress.next;
                }
            }
        }
    }

    #[test]
    fn what_is_read_beside_the_writer_is_whole() {
        let ring = Ring::<64>::new().unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..2_000_000).for_each(|number| ring.push(event(number).to_words()));
                is_over.store(true, Ordering::Release);
            });
            let (mut next, mut expected, mut seen) = (0, 0, 0_u64);
            while !is_over.load(Ordering::Acquire) || next < ring.written() {
                let before = (expected, seen);
                let progress = ring.read(next, |found| {
                    assert_eq!(found, event(found.at), "it is in one piece");
                    assert!(found.at >= expected, "in order");
                    (expected, seen) = (found.at + 1, seen + 1);
                    true
                });
                assert_eq!(progress.next - next, seen - before.1 + progress.lost);
                next = progress.next;
            }
            assert_eq!(next, 2_000_000);
        });
    }

    #[test]
    fn a_reader_stops_where_it_likes() {
        let ring = Ring::<4>::new().unwrap();
        (0..6).for_each(|number| ring.push(event(number).to_words()));
        let progress = ring.read(0, |found| found.at < 4);
        // Of four slots one may be half written.
        assert_eq!(progress, Progress { next: 4, lost: 3 });
    }

    #[test]
    fn a_reader_from_elsewhere_is_led_back() {
        let ring = Ring::<4>::new().unwrap();
        (0..3).for_each(|number| ring.push(event(number).to_words()));
        assert_eq!(ring.read(u64::MAX, |_| panic!("none is new")), Progress { next: 3, lost: 0 });
    }
}
