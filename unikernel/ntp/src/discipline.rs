//! What an offset does to the clock, and when to ask again.

use crate::NS_PER_SECOND;

/// How much faster or slower the clock goes while it is corrected, in millionths (RFC 5905: `MAXFREQ`).
pub const SLEW_PPM: u32 = 500;
/// A larger offset is not made up for slowly (RFC 5905: `STEPT`).
const MAX_SLEW_NS: u64 = 128_000_000;
/// An offset that no clock gets by itself while it is being corrected (RFC 5905: `PANICT`).
const MAX_STEP_NS: u64 = 1000 * NS_PER_SECOND as u64;
/// How far a clock may be off that the machine came up with: it may have slept in a file, or count another zone's hours.
const MAX_FIRST_STEP_NS: u64 = 24 * 3600 * NS_PER_SECOND as u64;
/// A clock that is before this time (2024) was never set.
const EARLIEST_NS: i64 = 1_704_067_200 * NS_PER_SECOND;
/// What nobody believes (2100).
const LATEST_NS: i64 = 4_102_444_800 * NS_PER_SECOND;

/// What is to be done with the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Correction {
    /// Set it forward, or back, by so many nanoseconds at once.
    Step(i64),
    /// Have it go faster, or slower, by [`SLEW_PPM`], until it has made up for so many nanoseconds.
    Slew(i64),
}

/// An offset that is too large to be believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfBounds(pub i64);

/// Keeps corrections within bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Discipline {
    /// The clock was set once.
    is_set: bool,
}

impl Discipline {
    /// What to do about an offset of the clock, which shows `now_ns`.
    pub fn correct(&mut self, now_ns: i64, offset_ns: i64) -> Result<Correction, OutOfBounds> {
        let true_ns = now_ns.checked_add(offset_ns).ok_or(OutOfBounds(offset_ns))?;
        let most = match self.is_set {
            true => MAX_STEP_NS,
            false if now_ns < EARLIEST_NS => u64::MAX,
            false => MAX_FIRST_STEP_NS,
        };
        if offset_ns.unsigned_abs() > most || !(EARLIEST_NS..LATEST_NS).contains(&true_ns) {
            return Err(OutOfBounds(offset_ns));
        }
        self.is_set = true;
        Ok(match offset_ns.unsigned_abs() <= MAX_SLEW_NS {
            true => Correction::Slew(offset_ns),
            false => Correction::Step(offset_ns),
        })
    }
}

/// When to ask again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schedule {
    seconds: u64,
}

/// How soon servers are asked again that have not answered, at first.
const FIRST_RETRY_S: u64 = 2;
/// The shortest and the longest time between two questions that are answered (RFC 5905: `MINPOLL`, and ten minutes longer).
const SHORTEST_S: u64 = 64;
const LONGEST_S: u64 = 1024;
/// With a smaller offset the clock need not be looked at as often.
const SMALL_NS: u64 = 5_000_000;

impl Default for Schedule {
    fn default() -> Self {
        Self { seconds: FIRST_RETRY_S / 2 }
    }
}

impl Schedule {
    /// Seconds to wait after a round in which the offset was told, or was not.
    pub fn after(&mut self, offset_ns: Option<i64>) -> u64 {
        let twice = self.seconds * 2;
        self.seconds = match offset_ns {
            Some(offset_ns) if offset_ns.unsigned_abs() <= SMALL_NS => twice.clamp(SHORTEST_S, LONGEST_S),
            Some(_) => SHORTEST_S,
            // Nobody is asked more and more often because he does not answer.
            None => twice.min(LONGEST_S),
        };
        self.seconds
    }

    /// A server has asked for patience.
    pub fn slow_down(&mut self) {
        self.seconds = (self.seconds * 2).clamp(SHORTEST_S, LONGEST_S);
    }
}
