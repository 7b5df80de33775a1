//! Tail loss probes (RFC 8985 section 7). The last segments of a flight have nothing behind them that would show their
//! loss, and its acknowledgement, often one for all of it, may be lost as well. So when the peer has been silent for two
//! round trips, one segment more goes out, long before the time-out: its acknowledgement tells how things stand.

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::TcpSeqNumber;

use super::Congestion;
use crate::track::Track;

/// A probe is not sent sooner: peers wait to acknowledge, and hosts are busy.
const LEAST: Duration = Duration::from_millis(10);

/// Whether a probe is wanted, or under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Probe {
    None,
    /// The connection's timer is for one.
    Due,
    /// It is to be sent.
    Now,
    /// All before `end` was sent, and then nothing but perhaps the last segment of it once more.
    Sent {
        end: TcpSeqNumber,
        is_repeat: bool,
    },
}

impl Probe {
    /// When a probe is sent after something was sent or acknowledged; none while there has not been a round trip, or if
    /// `bytes` under way are one segment: its acknowledgement may be delayed for longer than it is worth while to wait.
    #[inline]
    fn at(now: Instant, smoothed_us: u32, bytes: usize, mss: usize) -> Option<Instant> {
        if bytes <= mss || smoothed_us == 0 {
            return None;
        }
        Some(now + Duration::from_micros(2 * u64::from(smoothed_us)).max(LEAST))
    }

    /// All before `una` is acknowledged. True if that ends the wait for a probe which repeated something.
    #[inline]
    pub(super) fn is_answered(&mut self, una: TcpSeqNumber) -> bool {
        match *self {
            Self::None => false,
            Self::Sent { end, .. } if una < end => false,
            before => {
                *self = Self::None;
                matches!(before, Self::Sent { is_repeat: true, .. })
            }
        }
    }
}

impl Congestion {
    /// Has the timer expire for a probe, if one would go out before the time-out. Without SACK its answer would tell little.
    #[inline]
    pub(super) fn arm_probe(&mut self, now: Instant, under_way: usize, track: &Track) {
        if let Some(at) = Probe::at(now, self.rtt.smoothed_us, under_way, track.mss.into())
            && track.has_sack
            && matches!(self.probe, Probe::None | Probe::Due)
            && self.recover.is_none()
            && self.backoff == 0
            && at < now + self.patience()
        {
            (self.probe, self.due) = (Probe::Due, at);
        }
    }

    /// True if the timer is for a probe.
    pub(crate) fn is_probe_due(&self) -> bool {
        self.probe == Probe::Due
    }

    /// True if a probe is to be sent.
    pub(crate) fn wants_probe(&self) -> bool {
        self.probe == Probe::Now
    }

    /// The time for a probe has come: one is to be sent if `is_possible`; else the timer waits for the time-out.
    pub(crate) fn begin_probe(&mut self, is_possible: bool) {
        if is_possible {
            self.probe = Probe::Now;
        } else {
            self.cancel_probe();
        }
    }

    pub(super) fn cancel_probe(&mut self) {
        if self.probe == Probe::Due {
            self.due = self.progress_at + self.patience();
        }
        self.probe = Probe::None;
    }
}
