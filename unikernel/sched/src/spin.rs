//! How long an idle core polls before it halts, as Linux's guest `haltpoll` governor does it.
//!
//! Halting and being woken costs an exit to the hypervisor and an interrupt; polling costs the
//! host a core. If work tends to come soon, a short poll saves more than it costs; if it does not,
//! polling is a waste. So the poll grows when a halt turned out to be short, and shrinks when it
//! was long.

/// Longest poll in nanoseconds (Linux: `guest_halt_poll_ns`).
const MAX_SPIN_NS: u64 = 200_000;
/// First poll after none at all (Linux: `guest_halt_poll_grow_start`).
const START_SPIN_NS: u64 = 50_000;

/// The length of the next poll, learned from the last waits.
#[derive(Clone, Copy, Debug)]
pub struct AdaptiveSpin {
    spin_ns: u64,
}

impl AdaptiveSpin {
    /// Starts without polling.
    pub const fn new() -> Self {
        Self { spin_ns: 0 }
    }

    /// How long to poll before halting, in nanoseconds.
    pub const fn spin_ns(&self) -> u64 {
        self.spin_ns
    }

    /// Learns from a wait that took `waited_ns` in all, whether its end was seen by polling or
    /// came as an interrupt.
    pub fn record(&mut self, waited_ns: u64, was_seen_by_polling: bool) {
        if was_seen_by_polling {
            return;
        }
        if waited_ns <= MAX_SPIN_NS {
            self.spin_ns = (self.spin_ns * 2).clamp(START_SPIN_NS, MAX_SPIN_NS);
        } else {
            self.spin_ns /= 2;
            if self.spin_ns < START_SPIN_NS {
                self.spin_ns = 0;
            }
        }
    }
}

impl Default for AdaptiveSpin {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn short_halts_grow_the_poll_to_its_bound() {
        let mut spin = AdaptiveSpin::new();
        (0..10).for_each(|_| spin.record(60_000, false));
        assert_eq!(spin.spin_ns(), MAX_SPIN_NS);
    }

    #[test]
    fn long_halts_end_polling() {
        let mut spin = AdaptiveSpin { spin_ns: MAX_SPIN_NS };
        (0..3).for_each(|_| spin.record(10_000_000, false));
        assert_eq!(spin.spin_ns(), 0);
    }

    #[test]
    fn successful_polls_keep_the_length() {
        let mut spin = AdaptiveSpin { spin_ns: START_SPIN_NS };
        spin.record(10, true);
        assert_eq!(spin.spin_ns(), START_SPIN_NS);
    }
}
