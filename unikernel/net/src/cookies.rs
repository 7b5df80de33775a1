//! SYN cookies (RFC 4987 section 3.6): when more handshakes are under way than there is room for, an answer
//! to a SYN leaves nothing behind. What has to be remembered goes into its sequence number, under a keyed
//! hash; whoever answers from the address it claims brings it back.
//!
//! ```text
//!   31 30 | 29 28 | 27 26 25 | 24   | 23 ... 0
//!   epoch | MSS   | scale    | SACK | SipHash of the 4-tuple, the peer's number, the epoch and bits 31-24
//! ```
//!
//! An epoch lasts 64 seconds, has a key of its own, and is honoured until the next one ends. Few values of
//! MSS and scale fit; the next smaller one is always safe. A forger who sees none of the answers hits one
//! in 2^24, and only while cookies are being given out.

use core::hash::Hasher;

use siphasher::sip::SipHasher24;
use smoltcp::time::Instant;
use smoltcp::wire::TcpSeqNumber;

use crate::key::FlowKey;

const EPOCH_SECONDS: i64 = 64;
const HASH_MASK: u32 = 0x00ff_ffff;
/// What peers on Ethernet, behind a tunnel, over IPv6, and without a word about it take.
const SIZES: [u16; 4] = [536, 1220, 1440, 1460];
/// No scaling, and the scales that systems use.
const SCALES: [Option<u8>; 8] = [None, Some(0), Some(2), Some(4), Some(6), Some(7), Some(8), Some(10)];

/// What a cookie remembers of a SYN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Terms {
    pub(crate) mss: u16,
    pub(crate) scale: Option<u8>,
    pub(crate) has_sack: bool,
}

/// The keys of this epoch and the one before.
pub(crate) struct Cookies {
    epoch: i64,
    keys: [(u64, u64); 2],
    /// The last epoch in which a cookie was given out.
    given: Option<i64>,
}

impl Cookies {
    pub(crate) fn new(random: &mut dyn FnMut() -> u64) -> Self {
        Self { epoch: 0, keys: [(random(), random()), (random(), random())], given: None }
    }

    fn turn(&mut self, now: Instant, random: &mut dyn FnMut() -> u64) {
        let epoch = now.secs() / EPOCH_SECONDS;
        if epoch == self.epoch {
            return;
        }
        let before = if epoch == self.epoch + 1 { self.keys[0] } else { (random(), random()) };
        (self.epoch, self.keys) = (epoch, [(random(), random()), before]);
    }

    /// The sequence number to answer a SYN with.
    pub(crate) fn give(
        &mut self,
        now: Instant,
        random: &mut dyn FnMut() -> u64,
        (key, irs): (&FlowKey, TcpSeqNumber),
        terms: Terms,
    ) -> TcpSeqNumber {
        self.turn(now, random);
        self.given = Some(self.epoch);
        let head = (self.epoch as u32 & 3) << 30 | pack(terms) << 24;
        TcpSeqNumber((head | self.hash(0, key, irs, head)) as i32)
    }

    /// True while some peer may go by a cookie that has not come back yet.
    pub(crate) fn are_about(&self, now: Instant) -> bool {
        let epoch = now.secs() / EPOCH_SECONDS;
        self.given.is_some_and(|given| given >= epoch - 1)
    }

    /// What the cookie says that came back; none if it is not ours, or too old.
    pub(crate) fn check(
        &mut self,
        now: Instant,
        random: &mut dyn FnMut() -> u64,
        (key, irs): (&FlowKey, TcpSeqNumber),
        cookie: TcpSeqNumber,
    ) -> Option<Terms> {
        let given = self.given?;
        self.turn(now, random);
        let cookie = cookie.0 as u32;
        let age = (0..2).find(|age| (self.epoch - *age as i64) as u32 & 3 == cookie >> 30)?;
        let head = cookie & !HASH_MASK;
        let is_ours =
            given >= self.epoch - age as i64 && self.hash(age, key, irs, head) == cookie & HASH_MASK;
        is_ours.then(|| unpack(head >> 24 & 0x3f))
    }

    fn hash(&self, age: usize, key: &FlowKey, irs: TcpSeqNumber, head: u32) -> u32 {
        let mut hasher = SipHasher24::new_with_keys(self.keys[age].0, self.keys[age].1);
        key.feed(&mut hasher);
        hasher.write_u64(u64::from(irs.0 as u32) << 32 | u64::from(head));
        hasher.finish() as u32 & HASH_MASK
    }
}

fn pack(terms: Terms) -> u32 {
    let size = SIZES.iter().rposition(|size| *size <= terms.mss).unwrap_or(0);
    let scale = SCALES.iter().rposition(|scale| *scale <= terms.scale).unwrap_or(0);
    (size << 4 | scale << 1) as u32 | u32::from(terms.has_sack)
}

fn unpack(bits: u32) -> Terms {
    let (size, scale) = (bits >> 4 & 3, bits >> 1 & 7);
    Terms { mss: SIZES[size as usize], scale: SCALES[scale as usize], has_sack: bits & 1 != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Rng, at};

    const TERMS: Terms = Terms { mss: 1460, scale: Some(7), has_sack: true };

    fn setup() -> (Cookies, Rng, FlowKey) {
        let mut rng = Rng(5);
        let cookies = Cookies::new(&mut || rng.next());
        (cookies, rng, FlowKey::new(at(15, 80), at(1, 4000)))
    }

    #[test]
    fn terms_survive_and_are_never_overstated() {
        let (mut cookies, mut rng, key) = setup();
        let now = Instant::from_secs(1000);
        for mss in [88, 536, 1000, 1220, 1400, 1440, 1452, 1460, 8960] {
            for scale in core::iter::once(None).chain((0..=14).map(Some)) {
                let terms = Terms { mss, scale, has_sack: mss % 3 == 0 };
                let irs = TcpSeqNumber(rng.next() as i32);
                let cookie = cookies.give(now, &mut || 1, (&key, irs), terms);
                let found = cookies.check(now, &mut || 1, (&key, irs), cookie).unwrap();
                assert!(found.mss <= mss.max(536) && found.scale <= scale);
                assert_eq!(found.has_sack, terms.has_sack);
                assert_eq!(found.scale.is_some(), scale.is_some());
            }
        }
        let cookie = cookies.give(now, &mut || 1, (&key, TcpSeqNumber(9)), TERMS);
        assert_eq!(cookies.check(now, &mut || 1, (&key, TcpSeqNumber(9)), cookie), Some(TERMS));
    }

    #[test]
    fn cookies_grow_old() {
        let (mut cookies, mut rng, key) = setup();
        for start in [0, 63, 640, 6400] {
            let irs = TcpSeqNumber(7);
            let cookie = cookies.give(Instant::from_secs(start), &mut || rng.next(), (&key, irs), TERMS);
            let mut check = |seconds: i64| {
                let now = Instant::from_secs(start + seconds);
                cookies.check(now, &mut || rng.next(), (&key, irs), cookie).is_some()
            };
            assert!(check(0) && check(60));
            assert!(!check(128), "two epochs later at the latest");
            let are_about = |seconds: i64| cookies.are_about(Instant::from_secs(start + seconds));
            assert!(are_about(0) && are_about(60) && !are_about(128));
        }
    }

    #[test]
    fn forged_cookies_are_refused() {
        let (mut cookies, mut rng, key) = setup();
        let now = Instant::from_secs(100);
        let irs = TcpSeqNumber(77);
        assert_eq!(cookies.check(now, &mut || 1, (&key, irs), TcpSeqNumber(0)), None, "none was given");
        let cookie = cookies.give(now, &mut || 1, (&key, irs), TERMS);
        let other = FlowKey::new(at(15, 80), at(1, 4001));
        assert_eq!(cookies.check(now, &mut || 1, (&other, irs), cookie), None);
        assert_eq!(cookies.check(now, &mut || 1, (&key, irs + 1), cookie), None);
        for bit in 0..32 {
            let changed = TcpSeqNumber(cookie.0 ^ 1 << bit);
            assert_eq!(cookies.check(now, &mut || 1, (&key, irs), changed), None, "bit {bit}");
        }
        let forged = (0..200_000).map(|_| TcpSeqNumber(rng.next() as i32));
        let hits = forged.filter(|&cookie| cookies.check(now, &mut || 1, (&key, irs), cookie).is_some());
        assert!(hits.count() <= 2);
    }
}
