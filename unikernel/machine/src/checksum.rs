//! Checksums of TCP and UDP at the edge to the device: which a device that offers to compute them
//! needs the pseudo-header's part of, and which a received frame that the device did not vouch for
//! must be verified by (RFC 1071, RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1).

const ETHERNET_HEADER: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const IPV6_HEADER: usize = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where a frame's TCP or UDP segment lies, and what it is.
#[derive(Clone, Copy)]
struct Segment {
    start: usize,
    len: usize,
    protocol: u8,
    /// Both addresses, as they lie in the frame.
    addresses: (usize, usize),
}

/// Where the device is to begin summing, and where in the segment it puts the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartialChecksum {
    /// Byte of the frame at which the segment begins.
    pub start: u16,
    /// Byte of the segment at which its checksum lies.
    pub offset: u16,
}

/// Puts the sum of the pseudo-header where the checksum of the frame's TCP or UDP segment goes.
/// The device does the rest. `None` if the frame has no such segment.
#[inline]
pub fn begin(frame: &mut [u8]) -> Option<PartialChecksum> {
    begin_usual(frame).or_else(|| begin_any(frame))
}

/// The same for TCP over IPv4 without options, which nearly all frames are.
#[inline]
fn begin_usual(frame: &mut [u8]) -> Option<PartialChecksum> {
    const START: usize = ETHERNET_HEADER + 20;
    const OFFSET: usize = 16;
    let head: &mut [u8; START + OFFSET + 2] = frame.first_chunk_mut()?;
    let is_usual = head[12..15] == [IPV4[0], IPV4[1], 0x45] && head[23] == TCP;
    // Not a piece of something.
    let is_whole = head[20] & 0x3f == 0 && head[21] == 0;
    let len = u16::from_be_bytes([head[16], head[17]]).checked_sub(20)?;
    if !is_usual || !is_whole {
        return None;
    }
    // In the order of bytes that the machine has, in which the sum is the same but for its own (RFC 1071 section 2).
    let word =
        |at: usize| u64::from(u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    let sum = fold(word(26) + word(30) + u64::from(len.to_be()) + u64::from(u16::from(TCP).to_be()));
    head[START + OFFSET..].copy_from_slice(&sum.to_ne_bytes());
    Some(PartialChecksum { start: START as u16, offset: OFFSET as u16 })
}

fn begin_any(frame: &mut [u8]) -> Option<PartialChecksum> {
    let segment = segment(frame)?;
    let offset = checksum_offset(segment.protocol)?;
    let sum = fold(pseudo_header(frame, segment));
    let at = segment.start + offset;
    frame.get_mut(at..at + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some(PartialChecksum { start: segment.start as u16, offset: offset as u16 })
}

/// True unless the frame has a TCP or UDP segment with a wrong checksum. Frames of other kinds,
/// and malformed ones, are for the stack to judge.
pub fn is_plausible(frame: &[u8]) -> bool {
    let Some(segment) = segment(frame) else { return true };
    let Some(offset) = checksum_offset(segment.protocol) else { return true };
    let Some(bytes) = frame.get(segment.start..segment.start + segment.len) else { return true };
    if segment.protocol == UDP && bytes.get(offset..offset + 2) == Some(&[0, 0]) {
        // The sender made none.
        return true;
    }
    fold(pseudo_header(frame, segment) + sum(bytes)) == 0xffff
}

fn checksum_offset(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(16),
        UDP => Some(6),
        _ => None,
    }
}

/// Finds the segment of an unfragmented IPv4 packet, or of an IPv6 packet without extensions.
#[inline]
fn segment(frame: &[u8]) -> Option<Segment> {
    let packet = frame.get(ETHERNET_HEADER..)?;
    let kind = &frame[12..14];
    if kind == IPV4 {
        let header: &[u8; 20] = packet.first_chunk()?;
        let header_len = usize::from(header[0] & 0xf) * 4;
        let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        if is_fragment || header_len < 20 {
            return None;
        }
        Some(Segment {
            start: ETHERNET_HEADER + header_len,
            len: total_len.checked_sub(header_len)?,
            protocol: header[9],
            addresses: (ETHERNET_HEADER + 12, ETHERNET_HEADER + 20),
        })
    } else if kind == IPV6 {
        let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
        Some(Segment {
            start: ETHERNET_HEADER + IPV6_HEADER,
            len: usize::from(u16::from_be_bytes([header[4], header[5]])),
            protocol: header[6],
            addresses: (ETHERNET_HEADER + 8, ETHERNET_HEADER + 40),
        })
    } else {
        None
    }
}

#[inline]
fn pseudo_header(frame: &[u8], segment: Segment) -> u64 {
    let (start, end) = segment.addresses;
    sum(&frame[start..end]) + segment.len as u64 + u64::from(segment.protocol)
}

/// The sum of big-endian 16-bit words, not folded; an odd last byte counts as the high one.
#[inline]
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let mut total: u64 =
        (&mut words).map(|word| u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]))).sum();
    let rest = words.remainder();
    let mut pairs = rest.chunks_exact(2);
    total += (&mut pairs).map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u64>();
    if let [last] = pairs.remainder() {
        total += u64::from(*last) << 8;
    }
    total
}

/// Adds the carries back in until 16 bits are left: the halves are added to each other, where the carry of the lower
/// sum goes into the upper one, which is the answer.
#[inline]
fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

#[cfg(test)]
mod tests;
