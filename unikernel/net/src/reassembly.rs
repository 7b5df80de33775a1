//! Datagrams out of fragments (RFC 791 section 3.2, RFC 8200 section 4.5), with bounded memory and time.
//!
//! A fragment that overlaps another spoils its datagram, whatever comes later (RFC 5722; Linux does the same for
//! IPv4): overlaps are an attack on whoever looks at packets on the way. A mere repetition is ignored.

use alloc::vec::Vec;
use core::net::IpAddr;

use smoltcp::time::{Duration, Instant};

/// How long the rest of a datagram may take (RFC 8200 section 4.5; Linux: `ipfrag_time` and `ip6frag_time`).
const TIME_V4: Duration = Duration::from_secs(30);
const TIME_V6: Duration = Duration::from_secs(60);
/// Datagrams in the making at most, and their bytes; the oldest goes first.
const MAX_DATAGRAMS: usize = 32;
const MAX_BYTES: usize = 512 * 1024;
/// Fragments of one datagram at most: the largest datagram over the narrowest link of IPv4 has as many.
const MAX_PIECES: usize = 128;
/// The largest payload that a length field allows.
const MAX_LEN: usize = 65_535;

/// What fragments of one datagram have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    /// IPv6 does without it (RFC 8200 section 4.5).
    pub(crate) protocol: u8,
    pub(crate) ident: u32,
}

/// One fragment.
pub(crate) struct Fragment<'p> {
    pub(crate) key: Key,
    pub(crate) offset: usize,
    pub(crate) has_more: bool,
    /// The IP header without what says that it is a fragment; that of the first one counts.
    pub(crate) header: &'p [u8],
    pub(crate) payload: &'p [u8],
}

/// Header and payload of a datagram that is whole.
pub(crate) type Whole = (Vec<u8>, Vec<u8>);

/// Why a fragment was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rejected {
    /// It makes no sense, alone or beside what is there.
    Nonsense,
    /// It overlaps another, or belongs to a datagram in which one did.
    Overlap,
}

struct Partial {
    key: Key,
    until: Instant,
    header: Vec<u8>,
    data: Vec<u8>,
    /// What is there, as sorted half-open ranges, one a fragment.
    pieces: Vec<(usize, usize)>,
    total: Option<usize>,
    is_spoilt: bool,
}

/// Every datagram in the making, the oldest first.
#[derive(Default)]
pub(crate) struct Reassembly {
    partials: Vec<Partial>,
}

impl Reassembly {
    /// Takes in a fragment; answers header and payload of the datagram that it completes.
    pub(crate) fn push(&mut self, now: Instant, fragment: &Fragment<'_>) -> Result<Option<Whole>, Rejected> {
        let end = fragment.offset + fragment.payload.len();
        let is_odd = fragment.has_more && !fragment.payload.len().is_multiple_of(8);
        if fragment.payload.is_empty() || is_odd || end > MAX_LEN {
            return Err(Rejected::Nonsense);
        }
        let index = match self.partials.iter().position(|partial| partial.key == fragment.key) {
            Some(index) => index,
            None => self.begin(now, fragment.key),
        };
        let partial = &mut self.partials[index];
        let outcome = partial.add(fragment);
        if outcome.is_err() {
            partial.spoil();
        }
        if outcome? {
            let done = self.partials.remove(index);
            return Ok(Some((done.header, done.data)));
        }
        while self.bytes() > MAX_BYTES {
            self.partials.remove(0);
        }
        Ok(None)
    }

    fn begin(&mut self, now: Instant, key: Key) -> usize {
        if self.partials.len() == MAX_DATAGRAMS {
            self.partials.remove(0);
        }
        let until = now + if key.from.is_ipv4() { TIME_V4 } else { TIME_V6 };
        let (header, data, pieces) = (Vec::new(), Vec::new(), Vec::new());
        self.partials.push(Partial { key, until, header, data, pieces, total: None, is_spoilt: false });
        self.partials.len() - 1
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.partials.iter().map(|partial| partial.data.len()).sum()
    }

    /// When the next datagram runs out of time.
    #[inline]
    pub(crate) fn next(&self) -> Option<Instant> {
        self.partials.iter().map(|partial| partial.until).min()
    }

    /// Gives up what has run out of time; answers how many that were.
    pub(crate) fn expire(&mut self, now: Instant) -> u64 {
        let count = self.partials.len();
        self.partials.retain(|partial| partial.until > now);
        (count - self.partials.len()) as u64
    }
}

impl Partial {
    /// True if the datagram is whole now.
    fn add(&mut self, fragment: &Fragment<'_>) -> Result<bool, Rejected> {
        if self.is_spoilt {
            return Err(Rejected::Overlap);
        }
        let (start, end) = (fragment.offset, fragment.offset + fragment.payload.len());
        let at = self.pieces.partition_point(|(other, _)| *other < start);
        if self.pieces.get(at) == Some(&(start, end)) {
            return Ok(false);
        }
        let touches_before = at > 0 && self.pieces[at - 1].1 > start;
        let touches_after = self.pieces.get(at).is_some_and(|(other, _)| *other < end);
        if touches_before || touches_after {
            return Err(Rejected::Overlap);
        }
        let is_beyond = self.total.is_some_and(|total| end > total || !fragment.has_more);
        let is_short = !fragment.has_more && self.data.len() > end;
        if is_beyond || is_short || self.pieces.len() == MAX_PIECES {
            return Err(Rejected::Nonsense);
        }
        if !fragment.has_more {
            self.total = Some(end);
        }
        if start == 0 {
            self.header = fragment.header.to_vec();
        }
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[start..end].copy_from_slice(fragment.payload);
        self.pieces.insert(at, (start, end));
        // No piece overlaps another, so their lengths say whether one is missing.
        let there: usize = self.pieces.iter().map(|(start, end)| end - start).sum();
        Ok(self.total == Some(there))
    }

    fn spoil(&mut self) {
        self.is_spoilt = true;
        (self.data, self.pieces) = (Vec::new(), Vec::new());
    }
}
