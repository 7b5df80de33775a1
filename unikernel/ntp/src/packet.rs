//! Packets, and which answers are believed.

use core::fmt;

use crate::NS_PER_SECOND;

/// A packet without extensions.
const BYTES: usize = 48;
/// Seconds between 1900, where NTP counts from, and 1970.
const UNIX_EPOCH: i64 = 2_208_988_800;
/// Seconds that a timestamp can count; then it begins again (in 2036).
const ERA: i64 = 1 << 32;
/// What makes a first byte: no warning of a leap second, version 4, a client's.
const FIRST_BYTE: u8 = 4 << 3 | CLIENT;
const CLIENT: u8 = 3;
const SERVER: u8 = 4;
/// The oldest version whose answers have this form.
const OLDEST_VERSION: u8 = 3;
const NEWEST_VERSION: u8 = 4;
/// The leap indicator of a server that knows no time.
const UNSYNCHRONIZED: u8 = 3;
/// From this stratum on a server is not synchronized.
const MAX_STRATUM: u8 = 16;
/// How far from the reference clock a server may be, and how long an answer may take (RFC 5905: `MAXDIST`).
const MAX_DISTANCE_NS: i64 = NS_PER_SECOND;

/// A question. Its only mark is `cookie`, which the answer has to bring back: a random number rather than our time, which is
/// nobody's business (and could be guessed).
pub fn request(cookie: u64) -> [u8; BYTES] {
    let mut packet = [0; BYTES];
    packet[0] = FIRST_BYTE;
    packet[BYTES - 8..].copy_from_slice(&cookie.to_be_bytes());
    packet
}

/// One question and when its answer came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// The mark of the question.
    pub cookie: u64,
    /// When it left, by our clock, in nanoseconds since 1970.
    pub sent_ns: i64,
    /// How long the answer took, by a clock that nobody sets.
    pub elapsed_ns: u64,
}

/// What an answer says of our clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// How far our clock is behind, in nanoseconds.
    pub offset_ns: i64,
    /// How much of the time the packets were on their way.
    pub delay_ns: u64,
    /// What the offset may be off by, as far as the server tells.
    pub error_ns: u64,
}

/// Why an answer is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It is too short.
    Short,
    /// It is not a server's, or of a version with another form.
    NotAServers,
    /// It does not bring back the mark of the question: somebody else's, an old one, or a forgery.
    NotOurs,
    /// The server does not want to be asked (a kiss of death, with its code): so often, or at all.
    Kiss([u8; 4]),
    /// The server knows no time itself.
    Unsynchronized,
    /// A time is missing, or lies before one that it follows.
    BadTimes,
    /// The server is too far from its reference clock.
    TooDispersed,
    /// The answer took too long.
    TooLate,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "the packet is too short",
            Self::NotAServers => "the packet is not a server's",
            Self::NotOurs => "the packet answers no question of ours",
            Self::Kiss(code) => {
                return write!(f, "the server does not want to be asked: {}", code.escape_ascii());
            }
            Self::Unsynchronized => "the server is not synchronized",
            Self::BadTimes => "the server's times contradict each other",
            Self::TooDispersed => "the server is too far from its reference clock",
            Self::TooLate => "the answer took too long",
        })
    }
}

/// A server's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    first: u8,
    stratum: u8,
    root_delay_ns: i64,
    root_dispersion_ns: i64,
    reference_id: [u8; 4],
    reference: u64,
    origin: u64,
    receive: u64,
    transmit: u64,
}

impl Reply {
    /// Reads an answer; extensions and codes of authentication behind it do not count.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let bytes = bytes.first_chunk::<BYTES>().ok_or(Refusal::Short)?;
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        Ok(Self {
            first: bytes[0],
            stratum: bytes[1],
            root_delay_ns: short_ns(word(4)),
            root_dispersion_ns: short_ns(word(8)),
            reference_id: word(12).to_be_bytes(),
            reference: long(16),
            origin: long(24),
            receive: long(32),
            transmit: long(40),
        })
    }

    /// What the answer to a question says, if it can be believed.
    pub fn check(&self, exchange: &Exchange) -> Result<Sample, Refusal> {
        let (leap, version, mode) = (self.first >> 6, self.first >> 3 & 7, self.first & 7);
        if mode != SERVER || !(OLDEST_VERSION..=NEWEST_VERSION).contains(&version) {
            return Err(Refusal::NotAServers);
        }
        // First of all: what somebody else sends must not silence us either.
        if self.origin != exchange.cookie {
            return Err(Refusal::NotOurs);
        }
        if self.stratum == 0 {
            return Err(Refusal::Kiss(self.reference_id));
        }
        if leap == UNSYNCHRONIZED || self.stratum >= MAX_STRATUM {
            return Err(Refusal::Unsynchronized);
        }
        if self.receive == 0 || self.transmit == 0 {
            return Err(Refusal::BadTimes);
        }
        let root_ns = self.root_delay_ns / 2 + self.root_dispersion_ns;
        if root_ns >= MAX_DISTANCE_NS {
            return Err(Refusal::TooDispersed);
        }
        let (receive, transmit) = (unix_ns(self.receive), unix_ns(self.transmit));
        if transmit < receive || self.reference != 0 && unix_ns(self.reference) > transmit {
            return Err(Refusal::BadTimes);
        }
        let elapsed = i64::try_from(exchange.elapsed_ns).map_err(|_| Refusal::TooLate)?;
        // A server that claims to have worked for longer than the answer took is wrong by more than its clock's steps.
        let delay = elapsed - (transmit - receive);
        if delay < 0 {
            return Err(Refusal::BadTimes);
        }
        if delay >= MAX_DISTANCE_NS {
            return Err(Refusal::TooLate);
        }
        let sent = i128::from(exchange.sent_ns);
        let there = i128::from(receive) - sent;
        let back = i128::from(transmit) - (sent + i128::from(elapsed));
        let offset_ns = i64::try_from((there + back) / 2).map_err(|_| Refusal::BadTimes)?;
        Ok(Sample { offset_ns, delay_ns: delay as u64, error_ns: (delay / 2 + root_ns) as u64 })
    }
}

/// A short timestamp: seconds times 2^16.
fn short_ns(value: u32) -> i64 {
    (i64::from(value) * NS_PER_SECOND) >> 16
}

/// A timestamp in nanoseconds since 1970. One without its highest bit is of the era that begins in 2036 (RFC 4330, section 3).
fn unix_ns(timestamp: u64) -> i64 {
    let (seconds, fraction) = ((timestamp >> 32) as i64, timestamp & 0xffff_ffff);
    let era = if timestamp >> 63 == 1 { 0 } else { ERA };
    let fraction_ns = ((fraction * NS_PER_SECOND as u64) >> 32) as i64;
    (seconds + era - UNIX_EPOCH) * NS_PER_SECOND + fraction_ns
}
