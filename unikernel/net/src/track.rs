//! What the front knows of a conversation: its sequence numbers, which smoltcp keeps to itself, and the
//! terms that the two ends agreed on. [`Track`] is what is left of an idle connection, and enough to go on
//! from ([`crate::engine`]).
//!
//! It also lets the window that the peer is told of be larger than the buffer that there is just now:
//! smoltcp announces its buffer, and [`Front::pass`] adds the rest on the way out. When data comes that
//! does not fit, the buffer grows first.

use core::cell::Cell;

use smoltcp::wire::{IpAddress, TcpOption, TcpPacket, TcpSeqNumber};

use crate::sequence::Distance;
use crate::urgent::pointer;
use crate::wire;

/// The scale of the windows that we announce (RFC 7323): up to 8 MiB.
pub(crate) const WINDOW_SHIFT: u8 = 7;

/// The numbers of a conversation, named after RFC 9293 section 3.3.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Track {
    /// The first number that the peer has not acknowledged (SND.UNA).
    pub(crate) una: TcpSeqNumber,
    /// The next number to be sent (SND.NXT).
    pub(crate) next: TcpSeqNumber,
    /// One past the highest number that was ever sent.
    pub(crate) sent: TcpSeqNumber,
    /// The next number expected from the peer, its FIN not counted (RCV.NXT).
    pub(crate) received: TcpSeqNumber,
    /// What we last acknowledged.
    pub(crate) acknowledged: TcpSeqNumber,
    /// The end of the window as smoltcp believes to have announced it.
    pub(crate) edge: TcpSeqNumber,
    /// One past the highest number that has come in within the window.
    pub(crate) seen: TcpSeqNumber,
    /// The window that the peer announced, in bytes (SND.WND).
    pub(crate) window: u32,
    /// The scale of the peer's windows; none if there is no scaling either way.
    pub(crate) peer_scale: Option<u8>,
    /// The payload that the peer takes in one segment.
    pub(crate) mss: u16,
    /// The peer takes selective acknowledgements.
    pub(crate) has_sack: bool,
}

impl Track {
    /// The numbers of a connection whose first number is `iss`, and whose peer's is `irs`.
    pub(crate) fn new(iss: TcpSeqNumber, irs: TcpSeqNumber) -> Self {
        let (una, received) = (iss + 1, irs + 1);
        Self {
            una,
            next: una,
            sent: una,
            received,
            acknowledged: received,
            edge: received,
            seen: received,
            window: 0,
            peer_scale: None,
            mss: 536,
            has_sack: false,
        }
    }

    /// The peer's first number is known.
    pub(crate) fn start(&mut self, irs: TcpSeqNumber) {
        let received = irs + 1;
        (self.received, self.acknowledged, self.seen, self.edge) = (received, irs, received, received);
    }

    /// Bytes sent and not acknowledged.
    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        self.next.since(self.una)
    }

    /// The number of a segment without data that would be `number`: within the window, where the peer has taken that back to
    /// before it. A peer need not look at an acknowledgement beyond (RFC 9293 section 3.10.7.4), and Linux does not.
    #[inline]
    pub(crate) fn acceptable(&self, number: TcpSeqNumber) -> TcpSeqNumber {
        let edge = self.una + self.window as usize;
        // What a window loses when it is scaled has not been taken back: the peer may be there already.
        let rounding = if self.window > 0 { (1 << self.peer_scale.unwrap_or(0)) - 1 } else { 0 };
        if number <= edge + rounding { number } else { edge }
    }

    /// The peer has acknowledged `count` bytes more.
    #[inline]
    pub(crate) fn acknowledge(&mut self, count: usize) {
        self.una += count;
        self.next = self.next.max(self.una);
        self.sent = self.sent.max(self.una);
    }

    /// `count` bytes more have arrived in order.
    #[inline]
    pub(crate) fn receive(&mut self, count: usize) {
        self.received += count;
        self.seen = self.seen.max(self.received);
    }

    /// True if nothing waits to be acknowledged, and nothing has arrived out of order.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.next == self.una && self.acknowledged == self.received && self.seen == self.received
    }

    /// Notes what was sent.
    #[inline]
    pub(crate) fn note(&mut self, sent: &Sent) {
        self.acknowledged = sent.ack.unwrap_or(self.acknowledged);
        self.edge = sent.edge.unwrap_or(self.edge);
        self.next = self.next.max(sent.end);
        self.sent = self.sent.max(sent.end);
    }

    /// smoltcp's timer has expired: what it sends now, it begins anew from the first unacknowledged number.
    pub(crate) fn rewind(&mut self) {
        self.next = self.una;
    }

    /// The terms that a peer's SYN offers.
    pub(crate) fn agree(&mut self, segment: &crate::segment::Segment<'_>, most: usize) {
        (self.peer_scale, self.has_sack) = segment.offers();
        self.mss = segment.mss().min(most).min(usize::from(u16::MAX)) as u16;
        self.window = segment.window().into();
    }
}

/// What was seen of a segment on its way out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Its first number.
    pub(crate) start: TcpSeqNumber,
    /// The number after its payload.
    pub(crate) end: TcpSeqNumber,
    ack: Option<TcpSeqNumber>,
    edge: Option<TcpSeqNumber>,
}

/// What is changed in a flow's segments on their way out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front {
    /// How much wider the window is than the buffer, in bytes.
    pub(crate) extra: u32,
    /// The scale that smoltcp uses.
    pub(crate) engine_shift: u8,
    /// The scale that the peer was told of.
    pub(crate) shift: u8,
    /// The largest payload that the peer is told to send in one segment; 0 for what the link takes.
    pub(crate) largest_mss: u16,
    /// smoltcp has written whole checksums.
    pub(crate) is_summed: bool,
    /// Where urgent data ends that the peer has to be told of.
    pub(crate) urgent_end: Option<TcpSeqNumber>,
    /// The last number that a segment without data may have, if the peer has taken its window back ([`Track::acceptable`]).
    pub(crate) edge: Option<TcpSeqNumber>,
}

/// The last thing seen of a flow on its way out.
pub(crate) type Seen = Cell<Option<Sent>>;

impl Front {
    /// Looks at an IP packet from smoltcp and widens the window in it.
    #[inline]
    pub(crate) fn pass(&self, packet: &mut [u8], seen: &Seen) {
        let offset = wire::tcp_offset(packet);
        let Some(header) = packet.get_mut(offset..) else { return };
        let mut tcp = TcpPacket::new_unchecked(header);
        if tcp.rst() {
            return;
        }
        if tcp.syn() {
            return self.pass_syn(packet, offset, seen);
        }
        let window = tcp.window_len();
        let announced = u32::from(window) << self.engine_shift;
        let (start, ack) = (tcp.seq_number(), tcp.ack_number());
        // A keep-alive probe would be counted for data here; the front makes its own.
        let len = tcp.payload_mut().len();
        let end = start + len;
        seen.set(Some(Sent { start, end, ack: Some(ack), edge: Some(ack + announced as usize) }));
        let wide = u16::try_from((announced + self.extra) >> self.shift).unwrap_or(u16::MAX);
        if wide != window {
            tcp.set_window_len(wide);
            if self.is_summed {
                tcp.set_checksum(adjusted(tcp.checksum(), window, wide));
            }
        }
        if let Some(edge) = self.edge
            && len == 0
            && !tcp.fin()
        {
            self.draw_back(packet, offset, start.min(edge));
        }
        if let Some(urgent_end) = self.urgent_end {
            self.point(packet, offset, pointer(start, urgent_end));
        }
    }

    #[cold]
    fn draw_back(&self, packet: &mut [u8], offset: usize, sequence: TcpSeqNumber) {
        let addresses = ip_addresses(packet);
        let mut tcp = TcpPacket::new_unchecked(&mut packet[offset..]);
        tcp.set_seq_number(sequence);
        if self.is_summed {
            tcp.fill_checksum(&addresses.0, &addresses.1);
        }
    }

    #[cold]
    fn point(&self, packet: &mut [u8], offset: usize, pointer: u16) {
        let addresses = ip_addresses(packet);
        let mut tcp = TcpPacket::new_unchecked(&mut packet[offset..]);
        tcp.set_urg(pointer > 0);
        tcp.set_urgent_at(pointer);
        if self.is_summed {
            tcp.fill_checksum(&addresses.0, &addresses.1);
        }
    }

    #[cold]
    fn pass_syn(&self, packet: &mut [u8], offset: usize, seen: &Seen) {
        let addresses = ip_addresses(packet);
        let mut tcp = TcpPacket::new_unchecked(&mut packet[offset..]);
        let window = tcp.window_len();
        let ack = tcp.ack().then(|| tcp.ack_number());
        let start = tcp.seq_number();
        let edge = ack.map(|ack| ack + usize::from(window));
        seen.set(Some(Sent { start, end: start + 1, ack, edge }));
        tcp.set_window_len(u16::try_from(u32::from(window) + self.extra).unwrap_or(u16::MAX));
        let mut options = tcp.options_mut();
        while let Ok((_, option)) = TcpOption::parse(options) {
            let len = option.buffer_len();
            match option {
                TcpOption::MaxSegmentSize(mss) if self.largest_mss != 0 => {
                    options[2..4].copy_from_slice(&mss.min(self.largest_mss).to_be_bytes());
                }
                TcpOption::WindowScale(_) => options[2] = WINDOW_SHIFT,
                TcpOption::EndOfList => break,
                _ => {}
            }
            options = &mut options[len..];
        }
        if self.is_summed {
            tcp.fill_checksum(&addresses.0, &addresses.1);
        }
    }
}

/// A checksum after one word of what it sums was changed (RFC 1624, equation 3).
fn adjusted(checksum: u16, old: u16, new: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Source and destination of an IP packet that smoltcp has made.
fn ip_addresses(packet: &[u8]) -> (IpAddress, IpAddress) {
    use smoltcp::wire::{Ipv4Packet, Ipv6Packet};
    if packet[0] >> 4 == 4 {
        let ip = Ipv4Packet::new_unchecked(packet);
        (ip.src_addr().into(), ip.dst_addr().into())
    } else {
        let ip = Ipv6Packet::new_unchecked(packet);
        (ip.src_addr().into(), ip.dst_addr().into())
    }
}
