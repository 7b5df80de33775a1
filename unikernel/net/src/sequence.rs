//! Arithmetic on sequence numbers that is total. smoltcp's own subtraction panics when the second number is the later one,
//! and which one is later is often for the peer to say. So numbers are only subtracted here.

use smoltcp::wire::TcpSeqNumber;

/// Distances between sequence numbers.
pub(crate) trait Distance {
    /// Bytes from `earlier` to this number; 0 if it is not the earlier one.
    fn since(self, earlier: Self) -> usize;
}

impl Distance for TcpSeqNumber {
    #[inline]
    fn since(self, earlier: Self) -> usize {
        // Numbers are compared modulo 2^32, by the sign of their difference (RFC 9293 section 3.4).
        usize::try_from(self.0.wrapping_sub(earlier.0)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn distance_is_total_and_agrees_with_the_order(a: i32, b: i32) {
            let (first, second) = (TcpSeqNumber(a), TcpSeqNumber(b));
            prop_assert_eq!(first.since(second) > 0, first > second);
            if first >= second {
                prop_assert_eq!(second + first.since(second), first);
            }
        }
    }
}
