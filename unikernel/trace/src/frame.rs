//! What an event says of a frame: which connection it is of, as far as two words tell that.

/// Ports (ours above the peer's) and the peer's address, of a frame of Ethernet that came in or goes out; 0 for any other than TCP's and
/// UDP's first pieces.
#[inline]
pub fn ends(frame: &[u8], is_in: bool) -> [u64; 2] {
    match usual(frame) {
        Some((ports, ends)) if is_in => [ports.rotate_left(16).into(), ends >> 32],
        Some((ports, ends)) => [ports.into(), ends & 0xffff_ffff],
        None => parse(frame, is_in).unwrap_or([0, 0]),
    }
}

/// Both ports and both addresses, the source's first, of TCP in IPv4 without options: nearly all frames of a server, for each of which this
/// is asked while events are recorded.
#[inline]
fn usual(frame: &[u8]) -> Option<(u32, u64)> {
    /// An ethertype, and the version and length of a header (RFC 791 section 3.1).
    const IPV4_WITHOUT_OPTIONS: u64 = 0x08_0045;
    /// Where the piece lies that a fragment is, and the protocol.
    const PLACE_AND_PROTOCOL: u64 = 0x1fff_00ff_0000_0000;
    const WHOLE_TCP: u64 = 6 << 32;
    let head: &[u8; 38] = frame.first_chunk()?;
    let word = |at: usize| head[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let is_usual = word(12) >> 40 == IPV4_WITHOUT_OPTIONS && word(20) & PLACE_AND_PROTOCOL == WHOLE_TCP;
    is_usual.then(|| (word(30) as u32, word(26)))
}

#[cold]
fn parse(frame: &[u8], is_in: bool) -> Option<[u64; 2]> {
    const ETHERNET_BYTES: usize = 14;
    let half = |at: usize| frame.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    let word = |at: usize| frame.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    let (protocol, source, destination, transport) = match half(12)? {
        0x0800 => {
            let header = usize::from(frame.get(ETHERNET_BYTES)? & 15) * 4;
            // A later fragment has no ports (RFC 791 section 3.1).
            if header < 20 || half(20)? & 0x1fff != 0 {
                return None;
            }
            let ends = word(26)?;
            (*frame.get(23)?, ends >> 32, ends & 0xffff_ffff, ETHERNET_BYTES + header)
        }
        // With extension headers it is none of a connection's (RFC 8200 section 4).
        0x86dd => (*frame.get(20)?, word(30)?, word(46)?, ETHERNET_BYTES + 40),
        _ => return None,
    };
    if protocol != 6 && protocol != 17 {
        return None;
    }
    let (from, to) = (u64::from(half(transport)?), u64::from(half(transport + 2)?));
    Some(if is_in { [to << 16 | from, source] } else { [from << 16 | to, destination] })
}

/// The same of a connection's ends.
pub fn of_connection(local_port: u16, remote: &core::net::SocketAddr) -> [u64; 2] {
    let peer = match remote.ip() {
        core::net::IpAddr::V4(address) => u64::from(address.to_bits()),
        core::net::IpAddr::V6(address) => address.to_bits() as u64,
    };
    [u64::from(local_port) << 16 | u64::from(remote.port()), peer]
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// A TCP segment from 10.0.2.2:4000 to 10.0.2.15:8080.
    fn frame() -> Vec<u8> {
        let mut frame = [0; 54];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[23] = 6;
        frame[26..34].copy_from_slice(&[10, 0, 2, 2, 10, 0, 2, 15]);
        frame[34..38].copy_from_slice(&[0x0f, 0xa0, 0x1f, 0x90]);
        frame.to_vec()
    }

    #[test]
    fn both_directions_are_the_same_connection() {
        let ours = of_connection(8080, &"10.0.2.2:4000".parse().unwrap());
        assert_eq!(ends(&frame(), true), ours);
        let mut back = frame();
        back[26..34].rotate_left(4);
        back[34..38].rotate_left(2);
        assert_eq!(ends(&back, false), ours);
    }

    #[test]
    fn ipv6_keeps_the_end_of_the_address() {
        let mut frame = [0; 74];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[20] = 17;
        frame[37] = 7;
        frame[54..58].copy_from_slice(&[0, 53, 0, 99]);
        let ours = of_connection(99, &"[fe80::7]:53".parse().unwrap());
        assert_eq!(ends(&frame, true), ours);
        frame[20] = 58;
        assert_eq!(ends(&frame, true), [0, 0]);
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let mut frame = frame();
        frame[21] = 1;
        assert_eq!(ends(&frame, true), [0, 0]);
    }

    proptest! {
        /// The short way says what the long one does.
        #[test]
        fn usual_frames_are_no_others(bytes in proptest::collection::vec(any::<u8>(), 54), changed in 12_usize..38, is_in: bool) {
            let mut frame = frame();
            frame[26..38].copy_from_slice(&bytes[26..38]);
            frame[changed] = bytes[changed];
            let long = parse(&frame, is_in).unwrap_or([0, 0]);
            prop_assert_eq!(ends(&frame, is_in), long);
            prop_assert_eq!(ends(&bytes, is_in), parse(&bytes, is_in).unwrap_or([0, 0]));
        }

        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..80), is_in: bool, cut in 0_usize..54) {
            ends(&bytes, is_in);
            ends(&frame()[..cut], is_in);
        }
    }
}
