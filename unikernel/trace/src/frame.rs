//! What an event says of a frame: which connection it is of, as far as two words tell that, and what it carries.

/// The connection that a frame is of, and its bytes for a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What it carries behind the headers; all of a frame that is of no connection.
    pub bytes: u32,
    /// Our port above the peer's; 0 for any other than TCP's and UDP's first pieces.
    pub ports: u64,
    /// The peer's address, or its last half.
    pub peer: u64,
}

/// Which connection's a frame of Ethernet is that came in or goes out.
#[inline]
pub fn look(frame: &[u8], is_in: bool) -> Frame {
    match usual(frame) {
        Some(Usual { bytes, ports, ends }) if is_in => {
            Frame { bytes, ports: ports.rotate_left(16).into(), peer: ends >> 32 }
        }
        Some(Usual { bytes, ports, ends }) => Frame { bytes, ports: ports.into(), peer: ends & 0xffff_ffff },
        None => parse(frame, is_in).unwrap_or(Frame { bytes: frame.len() as u32, ports: 0, peer: 0 }),
    }
}

struct Usual {
    bytes: u32,
    /// The source's first.
    ports: u32,
    /// Both addresses, the source's first.
    ends: u64,
}

const ETHERNET_BYTES: usize = 14;

/// TCP in IPv4 without options: nearly all frames of a server, for each of which this is asked while events are recorded.
#[inline]
fn usual(frame: &[u8]) -> Option<Usual> {
    /// An ethertype, and the version and length of a header (RFC 791 section 3.1).
    const IPV4_WITHOUT_OPTIONS: u64 = 0x08_0045;
    /// Where the piece lies that a fragment is, and the protocol.
    const PLACE_AND_PROTOCOL: u64 = 0x1fff_00ff_0000_0000;
    const WHOLE_TCP: u64 = 6 << 32;
    let head: &[u8; 54] = frame.first_chunk()?;
    let word = |at: usize| head[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let is_usual = word(12) >> 40 == IPV4_WITHOUT_OPTIONS && word(20) & PLACE_AND_PROTOCOL == WHOLE_TCP;
    let (length, offset) = (u32::from(head[16]) << 8 | u32::from(head[17]), u32::from(head[46] >> 4) * 4);
    let bytes = carried(frame.len() as u32, length, 20 + offset);
    is_usual.then(|| Usual { bytes, ports: word(30) as u32, ends: word(26) })
}

/// What an IP packet carries behind headers of so many bytes. A frame that is padded to Ethernet's least is longer than its packet; one that a
/// card is to cut may be too long for the packet's length, which is 0 then.
#[inline]
fn carried(frame_bytes: u32, length: u32, headers: u32) -> u32 {
    let whole = frame_bytes.saturating_sub(ETHERNET_BYTES as u32);
    (if length > 0 { length.min(whole) } else { whole }).saturating_sub(headers)
}

#[cold]
fn parse(frame: &[u8], is_in: bool) -> Option<Frame> {
    let half = |at: usize| frame.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    let word = |at: usize| frame.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    // Where the packet's length counts from, and what it is.
    let (protocol, source, destination, header, length) = match half(12)? {
        0x0800 => {
            let header = usize::from(frame.get(ETHERNET_BYTES)? & 15) * 4;
            // A later fragment has no ports (RFC 791 section 3.1).
            if header < 20 || half(20)? & 0x1fff != 0 {
                return None;
            }
            let ends = word(26)?;
            (*frame.get(23)?, ends >> 32, ends & 0xffff_ffff, header, u32::from(half(16)?))
        }
        // With extension headers it is none of a connection's (RFC 8200 section 4).
        0x86dd => {
            let length = u32::from(half(18)?);
            (*frame.get(20)?, word(30)?, word(46)?, 40, if length > 0 { length + 40 } else { 0 })
        }
        _ => return None,
    };
    let transport = ETHERNET_BYTES + header;
    let own_header = match protocol {
        6 => u32::from(*frame.get(transport + 12)? >> 4) * 4,
        17 => 8,
        _ => return None,
    };
    let bytes = carried(frame.len() as u32, length, header as u32 + own_header);
    let (from, to) = (u64::from(half(transport)?), u64::from(half(transport + 2)?));
    let (ports, peer) = if is_in { (to << 16 | from, source) } else { (from << 16 | to, destination) };
    Some(Frame { bytes, ports, peer })
}

/// The same of a connection's ends.
pub fn of_connection(local_port: u16, remote: &core::net::SocketAddr) -> [u64; 2] {
    // A socket of both families has IPv4's within its own (RFC 4291 section 2.5.5.2); frames have them as they are.
    let peer = match remote.ip().to_canonical() {
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

    /// A TCP segment with ten bytes from 10.0.2.2:4000 to 10.0.2.15:8080.
    fn frame() -> Vec<u8> {
        let mut frame = [0; 64];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[17] = 50;
        frame[23] = 6;
        frame[26..34].copy_from_slice(&[10, 0, 2, 2, 10, 0, 2, 15]);
        frame[34..38].copy_from_slice(&[0x0f, 0xa0, 0x1f, 0x90]);
        frame[46] = 0x50;
        frame.to_vec()
    }

    fn ends(frame: &[u8], is_in: bool) -> [u64; 2] {
        let Frame { ports, peer, .. } = look(frame, is_in);
        [ports, peer]
    }

    #[test]
    fn both_directions_are_the_same_connection() {
        let ours = of_connection(8080, &"10.0.2.2:4000".parse().unwrap());
        assert_eq!(ends(&frame(), true), ours);
        assert_eq!(of_connection(8080, &"[::ffff:10.0.2.2]:4000".parse().unwrap()), ours);
        let mut back = frame();
        back[26..34].rotate_left(4);
        back[34..38].rotate_left(2);
        assert_eq!(ends(&back, false), ours);
    }

    #[test]
    fn headers_and_padding_are_not_carried() {
        assert_eq!(look(&frame(), true).bytes, 10);
        let mut short = frame();
        short[17] = 40;
        assert_eq!(look(&short, true).bytes, 0, "the rest fills the frame up");
        short[46] = 0x80;
        assert_eq!(look(&short, true).bytes, 0, "options that do not fit");
        let mut large = frame();
        large[17] = 0;
        large.resize(70_054, 0);
        assert_eq!(look(&large, false).bytes, 70_000, "the card is to cut it");
        let mut datagram = frame();
        datagram[23] = 17;
        assert_eq!(look(&datagram, true).bytes, 22);
        let arp = [0; 42];
        assert_eq!(look(&arp, true), Frame { bytes: 42, ports: 0, peer: 0 });
    }

    #[test]
    fn ipv6_keeps_the_end_of_the_address() {
        let mut frame = [0; 74];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[19] = 20;
        frame[20] = 17;
        frame[37] = 7;
        frame[54..58].copy_from_slice(&[0, 53, 0, 99]);
        let ours = of_connection(99, &"[fe80::7]:53".parse().unwrap());
        assert_eq!(ends(&frame, true), ours);
        assert_eq!(look(&frame, true).bytes, 12);
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
        fn usual_frames_are_no_others(bytes in proptest::collection::vec(any::<u8>(), 54..80), changed in 12_usize..47, is_in: bool) {
            let long = |frame: &[u8]| {
                let whole = Frame { bytes: frame.len() as u32, ports: 0, peer: 0 };
                parse(frame, is_in).unwrap_or(whole)
            };
            let mut frame = frame();
            frame[26..38].copy_from_slice(&bytes[26..38]);
            frame[changed] = bytes[changed];
            prop_assert_eq!(look(&frame, is_in), long(&frame));
            prop_assert_eq!(look(&bytes, is_in), long(&bytes));
        }

        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..80), is_in: bool, cut in 0_usize..64) {
            for frame in [&bytes[..], &frame()[..cut]] {
                prop_assert!(look(frame, is_in).bytes as usize <= frame.len());
            }
        }
    }
}
