//! How a call goes on that a signal without a handler has cut short, if its arguments alone do not say: a time-out counts
//! from when the call began (restart_syscall(2)).

/// A call, and how far it came.
#[derive(Clone, Copy)]
pub(crate) enum Restart {
    /// A sleep on a futex.
    Futex {
        /// The word.
        address: u64,
        /// What it should be.
        expected: u32,
        /// Which wakes count.
        bits: u32,
        /// The end, as everywhere in nanoseconds since boot.
        deadline_ns: u64,
    },
    /// A sleep.
    Sleep {
        /// The end.
        deadline_ns: u64,
        /// The address at which to tell what was left if a handler ends it after all; 0 for none.
        remaining: u64,
    },
    /// poll(2).
    Poll {
        /// The address of the array of entries.
        entries: u64,
        /// How many there are.
        count: usize,
        /// The end, if there is one.
        deadline_ns: Option<u64>,
    },
}
