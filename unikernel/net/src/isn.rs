//! Initial sequence numbers after RFC 6528: a clock plus a keyed hash of the 4-tuple, so that
//! nobody can predict those of other connections, while those of one 4-tuple keep rising, which
//! lets a peer in TIME-WAIT recognise a new connection.
//!
//! smoltcp takes no number from outside; it draws one from a small generator that belongs to the
//! interface and is seeded once. So each flow is born on an interface of its own, with the seed
//! that makes the generator's next output the number wanted. Were smoltcp to change its generator,
//! the numbers would lose their order but stay unpredictable; a test tells.

use core::hash::Hasher;

use siphasher::sip::SipHasher24;
use smoltcp::time::Instant;

use crate::key::FlowKey;

/// The secret of the keyed hash.
pub(crate) struct Numbers(u64, u64);

impl Numbers {
    pub(crate) fn new(random: &mut dyn FnMut() -> u64) -> Self {
        Self(random(), random())
    }

    /// The initial sequence number of the flow `key`, if it is born now.
    pub(crate) fn number(&self, now: Instant, key: &FlowKey) -> u32 {
        let mut hasher = SipHasher24::new_with_keys(self.0, self.1);
        key.feed(&mut hasher);
        // One tick each 62.5 ns: faster than a connection can use numbers up, and still 4 minutes
        // to come round.
        let clock = (now.total_micros() as u32).wrapping_mul(16);
        clock.wrapping_add(hasher.finish() as u32)
    }
}

// smoltcp's generator (src/rand.rs): s' = s * MULTIPLIER + INCREMENT; its output is the 32 bits
// of s' that lie below the top 3 + s' / 2^61 ones.
const MULTIPLIER: u64 = 0xbb2e_fcec_3c39_611d;
const INCREMENT: u64 = 0x7590_ef39;

/// The seed whose second output is `number`; the first one names IP packets. `random` fills the
/// bits that do not matter.
pub(crate) fn seed_for(number: u32, random: u64) -> u64 {
    const FILLING: u64 = (1 << 29) - 1;
    let mut filling = random >> 35;
    loop {
        // With the top three bits zero, the output is the 32 bits from bit 29 on.
        let first = back(u64::from(number) << 29 | filling);
        if names_packets(first) {
            return back(first);
        }
        filling = filling.wrapping_add(1) & FILLING;
    }
}

/// True if the output at this state names packets. No packet is named 0, and for that smoltcp would draw once more: one
/// number in 65,536 would be another than the one wanted.
fn names_packets(state: u64) -> bool {
    let output = (state >> (29 - (state >> 61))) as u32;
    (output ^ output >> 16) as u16 != 0
}

/// The state before `state`.
fn back(state: u64) -> u64 {
    state.wrapping_sub(INCREMENT).wrapping_mul(inverse(MULTIPLIER))
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration: each step doubles the bits.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Rng;

    /// What smoltcp draws after its packets have a name.
    fn drawn(seed: u64) -> u32 {
        let mut state = seed;
        let mut draw = || {
            state = state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
            (state >> (29 - (state >> 61))) as u32
        };
        while {
            let name = draw();
            (name ^ name >> 16) as u16 == 0
        } {}
        draw()
    }

    #[test]
    fn every_number_can_be_had() {
        let mut rng = Rng(3);
        for _ in 0..500_000 {
            let (number, random) = (rng.next() as u32, rng.next());
            assert_eq!(drawn(seed_for(number, random)), number);
            assert_eq!(drawn(seed_for(number, 0)), number);
        }
    }
}
