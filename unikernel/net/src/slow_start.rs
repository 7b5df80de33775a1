//! When to stop doubling the window (HyStart++, RFC 9406): round trips get longer when a queue builds up somewhere, and
//! then the way takes hardly more. Whether it is a queue or a whim of the network shows if the window grows slowly for a
//! few rounds.

use smoltcp::wire::TcpSeqNumber;

/// A segment's acknowledgement lets the window grow by so many segments at most (`L` for those who do not pace).
const LARGEST_STEP: usize = 8;
/// Samples that a round must have to be judged. RFC 9406 has 8; four are taken in a round here.
const SAMPLES: u8 = 3;
/// So much longer is longer (`MIN_RTT_THRESH`, `MAX_RTT_THRESH`), in microseconds.
const LONGER_US: (u32, u32) = (4000, 16_000);
/// In doubt the window grows by this part of what it would (`CSS_GROWTH_DIVISOR`).
const SHARE_IN_DOUBT: usize = 4;
/// After so many rounds in doubt there is none left (`CSS_ROUNDS`).
const ROUNDS_IN_DOUBT: u8 = 5;

/// What slow start knows of its rounds. Times are in microseconds; `u32::MAX` is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlowStart {
    /// The round ends when this is acknowledged.
    end: Option<TcpSeqNumber>,
    last_least_us: u32,
    least_us: u32,
    samples: u8,
    /// If round trips have become longer than they were: how long, and for how many rounds they have been.
    doubt_us: u32,
    rounds_in_doubt: u8,
}

impl SlowStart {
    pub(crate) const NEW: Self = Self {
        end: None,
        last_least_us: u32::MAX,
        least_us: u32::MAX,
        samples: 0,
        doubt_us: u32::MAX,
        rounds_in_doubt: 0,
    };

    /// Everything before `una` is acknowledged, what lies before `sent` was sent, and a round trip may have been measured. True
    /// if slow start is over.
    #[inline]
    pub(crate) fn is_over(&mut self, una: TcpSeqNumber, sent: TcpSeqNumber, sample_us: Option<u32>) -> bool {
        if let Some(sample_us) = sample_us {
            self.take(sample_us);
        }
        if self.end.is_some_and(|end| una < end) {
            return false;
        }
        (self.end, self.last_least_us) = (Some(sent), self.least_us);
        (self.least_us, self.samples) = (u32::MAX, 0);
        self.rounds_in_doubt += u8::from(self.is_in_doubt());
        self.rounds_in_doubt > ROUNDS_IN_DOUBT
    }

    fn is_in_doubt(&self) -> bool {
        self.doubt_us != u32::MAX
    }

    fn take(&mut self, sample_us: u32) {
        self.least_us = self.least_us.min(sample_us);
        self.samples = self.samples.saturating_add(1);
        if self.samples < SAMPLES {
            return;
        }
        if self.is_in_doubt() {
            if self.least_us < self.doubt_us {
                (self.doubt_us, self.rounds_in_doubt) = (u32::MAX, 0);
            }
        } else if self.last_least_us != u32::MAX {
            let longer_us = (self.last_least_us / 8).clamp(LONGER_US.0, LONGER_US.1);
            if self.least_us >= self.last_least_us + longer_us {
                self.doubt_us = self.least_us;
            }
        }
    }

    /// By how much the window grows when `count` bytes are acknowledged.
    #[inline]
    pub(crate) fn step(&self, count: usize, mss: usize) -> usize {
        let step = count.min(LARGEST_STEP * mss);
        if self.is_in_doubt() { step / SHARE_IN_DOUBT } else { step }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Takes rounds of four samples each. Answers the steps for four segments after each round, until it is over.
    fn steps(rounds: &[u32]) -> Vec<usize> {
        let mut slow_start = SlowStart::NEW;
        let mut una = TcpSeqNumber(i32::MAX - 100);
        let mut steps = Vec::new();
        for sample_us in rounds {
            let sent = una + 100;
            for part in 1..=4 {
                if slow_start.is_over(una + 25 * part, sent + 100, Some(*sample_us)) {
                    return steps;
                }
            }
            una = sent;
            steps.push(slow_start.step(4000, 1000));
        }
        steps
    }

    #[test]
    fn steady_round_trips_never_end_it() {
        assert_eq!(steps(&[20_000; 30]), [4000; 30]);
        assert_eq!(steps(&[20_000, 21_000, 22_000, 23_000, 24_000]), [4000; 5], "each a little longer");
    }

    #[test]
    fn a_queue_ends_it_after_rounds_in_doubt() {
        let steps = steps(&[20_000, 20_000, 25_000, 26_000, 26_000, 26_000, 26_000, 26_000, 26_000, 26_000]);
        assert_eq!(steps[..2], [4000; 2]);
        assert!(steps[3..].iter().all(|step| *step == 1000), "{steps:?}");
        assert!((6..=9).contains(&steps.len()), "{steps:?}");
    }

    #[test]
    fn a_whim_of_the_network_does_not() {
        let steps = steps(&[20_000, 20_000, 26_000, 20_000, 20_000, 20_000, 20_000, 20_000, 20_000, 20_000]);
        assert_eq!(steps.len(), 10);
        assert_eq!(steps[3..], [4000; 7]);
    }

    #[test]
    fn large_acknowledgements_are_cut() {
        assert_eq!(SlowStart::NEW.step(64_000, 1000), 8000);
    }
}
