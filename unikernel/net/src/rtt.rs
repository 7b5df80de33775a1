//! Round-trip times, and the retransmission time-out that follows from them (RFC 6298), whose floor is Linux's 200 ms.

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::TcpSeqNumber;

const FLOOR: Duration = Duration::from_millis(200);
pub(crate) const CEILING: Duration = Duration::from_secs(60);
/// Before the first measurement (RFC 6298 section 2.1).
const INITIAL: Duration = Duration::from_secs(1);
/// The longest round trip that is believed, in microseconds.
const LONGEST_US: u32 = 60_000_000;
/// Segments that are timed at once, at most.
const TIMED: usize = 4;

/// What is known of the time to a peer and back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    /// Smoothed, and its variation, in microseconds; 0 before there is any.
    pub(crate) smoothed_us: u32,
    pub(crate) variation_us: u32,
    /// The least, in microseconds; 0 before there is any.
    pub(crate) least_us: u32,
    /// Numbers whose acknowledgements are timed, and when they were sent (in microseconds, modulo 2^32), oldest first: a
    /// few in each round trip, so that a queue that builds up at the end of one shows.
    timed: [(TcpSeqNumber, u32); TIMED],
    timed_count: u8,
}

impl RoundTrip {
    pub(crate) const UNKNOWN: Self = Self {
        smoothed_us: 0,
        variation_us: 0,
        least_us: 0,
        timed: [(TcpSeqNumber(0), 0); TIMED],
        timed_count: 0,
    };

    pub(crate) fn timeout(&self) -> Duration {
        if self.smoothed_us == 0 {
            return INITIAL;
        }
        let micros = u64::from(self.smoothed_us) + 4 * u64::from(self.variation_us);
        Duration::from_micros(micros).clamp(FLOOR, CEILING)
    }

    /// Data up to `end` was sent for the first time.
    #[inline]
    pub(crate) fn sent(&mut self, now: Instant, end: TcpSeqNumber) {
        let count = usize::from(self.timed_count);
        if count == TIMED {
            return;
        }
        let (now_us, pause_us) = (now.total_micros() as u32, self.smoothed_us / TIMED as u32);
        if count == 0 || now_us.wrapping_sub(self.timed[count - 1].1) >= pause_us {
            self.timed[count] = (end, now_us);
            self.timed_count += 1;
        }
    }

    /// Something was sent again: whose acknowledgement would it be (Karn's algorithm)?
    pub(crate) fn confuse(&mut self) {
        self.timed_count = 0;
    }

    /// Everything before `una` is acknowledged. Answers the shortest of the round trips that end with it, in microseconds.
    #[inline]
    pub(crate) fn acknowledged(&mut self, now: Instant, una: TcpSeqNumber) -> Option<u32> {
        let mut shortest: Option<u32> = None;
        while self.timed_count > 0 && una >= self.timed[0].0 {
            let (_, sent_us) = self.timed[0];
            self.timed_count -= 1;
            if self.timed_count > 0 {
                self.timed.rotate_left(1);
            }
            let sample_us = (now.total_micros() as u32).wrapping_sub(sent_us).clamp(1, LONGEST_US);
            self.measure(sample_us);
            shortest = Some(shortest.map_or(sample_us, |shortest| shortest.min(sample_us)));
        }
        shortest
    }

    /// One step of the estimator (RFC 6298 section 2).
    fn measure(&mut self, sample_us: u32) {
        self.least_us = if self.least_us == 0 { sample_us } else { self.least_us.min(sample_us) };
        if self.smoothed_us == 0 {
            (self.smoothed_us, self.variation_us) = (sample_us, sample_us / 2);
        } else {
            self.variation_us = (3 * self.variation_us + self.smoothed_us.abs_diff(sample_us)) / 4;
            self.smoothed_us = ((7 * u64::from(self.smoothed_us) + u64::from(sample_us)) / 8).max(1) as u32;
        }
    }
}
