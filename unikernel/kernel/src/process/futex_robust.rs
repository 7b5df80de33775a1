//! Futexes that an ending thread still holds (get_robust_list(2)). The list of them is in the app's memory and is believed
//! only as far as it can be read.

use core::sync::atomic::Ordering;

use unikernel_sched::futex::pi::{OWNER, OWNER_DIED, WAITERS};

use super::futex;
use crate::mem::user::{Fault, UserPtr};
use crate::task::thread::Thread;

/// A list longer than this is taken for a loop (Linux: `ROBUST_LIST_LIMIT`).
const ROBUST_LIST_LIMIT: usize = 2048;

/// An entry of the list: the address of its link, and in the lowest bit whether the futex has an owner.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    fn address(self) -> u64 {
        self.0 & !1
    }

    fn has_owner(self) -> bool {
        self.0 & 1 != 0
    }
}

/// Releases the robust futexes that an ending thread still holds.
pub(crate) fn release(thread: &Thread) {
    let head = thread.robust_list.load(Ordering::Relaxed);
    if head != 0 {
        let _ = walk(head, thread.id as u32);
    }
}

fn walk(head: u64, id: u32) -> Result<(), Fault> {
    // `struct robust_list_head`: next, offset of the futex word from an entry, pending entry.
    let [first, offset, pending] = UserPtr::<[u64; 3]>::new(head).read()?;
    let (mut entry, pending) = (Entry(first), Entry(pending));
    for _ in 0..ROBUST_LIST_LIMIT {
        if entry.address() == head {
            break;
        }
        let next = UserPtr::<u64>::new(entry.address()).read();
        if entry.address() != pending.address() {
            mark_owner_died(entry, offset, id)?;
        }
        entry = Entry(next?);
    }
    if pending.address() == 0 {
        return Ok(());
    }
    let address = pending.address().wrapping_add(offset);
    if !pending.has_owner() && UserPtr::<u32>::new(address).read()? == 0 {
        // It was released, but perhaps nobody was woken yet.
        let _ = futex::wake(address, 1, u32::MAX);
    }
    mark_owner_died(pending, offset, id)
}

fn mark_owner_died(entry: Entry, offset: u64, id: u32) -> Result<(), Fault> {
    let address = entry.address().wrapping_add(offset);
    let is_held = |value: u32| value & OWNER == id;
    let before = UserPtr::<u32>::new(address)
        .update(|value| is_held(value).then_some(value & WAITERS | OWNER_DIED))?;
    // Who waits for one with an owner gets it from `futex_pi::inherit`.
    if is_held(before) && !entry.has_owner() && before & WAITERS != 0 {
        // Waiters for a lock with an owner are not there for a plain one.
        let _ = futex::wake(address, 1, u32::MAX);
    }
    Ok(())
}
