//! The network card's side of [`Device`]. At the other end of its wire is an honest host that asks the guest's server again
//! and again, so that the guest's driver has work; the card damages some headers and frames on the way in.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use smoltcp::phy::{Checksum, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
};
use unikernel_net::{RecvError, Stack, TcpId};

use super::queue::{HONESTY, Part};
use super::{Address, Device, Memory};
use crate::our_stack;
use crate::random::Random;

/// What it may offer: checksums left to it and by it, long segments in both directions, buffers that are joined, indirect
/// tables (Virtual I/O Device specification 1.2, section 5.1.3).
const FEATURES: [u64; 9] = [0, 1, 7, 8, 11, 12, 13, 15, 28];
const RECEIVE: usize = 0;
/// After so many answers a card that clogs takes no more frames.
const CLOGS_AFTER: usize = 8;
/// Bytes of `struct virtio_net_hdr` with the number of joined buffers, which is the last word (section 5.1.6).
const HEADER_BYTES: usize = 12;
/// Most bytes of a frame, its header apart.
const MOST_FRAME_BYTES: usize = 65_536 + 14;
const HOST_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The guest's server.
pub(crate) const GUEST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15)), 8080);
const CLIENTS: usize = 8;
const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// The wire, as the host's card sees it.
#[derive(Default)]
struct Wire {
    from_guest: VecDeque<Vec<u8>>,
    to_guest: Outgoing,
}

/// A frame that is received.
struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Frames on their way to the guest.
#[derive(Default)]
struct Outgoing(VecDeque<Vec<u8>>);

impl TxToken for &mut Outgoing {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl smoltcp::phy::Device for Wire {
    type RxToken<'a> = Frame;
    type TxToken<'a> = &'a mut Outgoing;

    fn receive(&mut self, _: StackInstant) -> Option<(Frame, &mut Outgoing)> {
        Some((Frame(self.from_guest.pop_front()?), &mut self.to_guest))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<&mut Outgoing> {
        Some(&mut self.to_guest)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ethernet, 1514);
        // The guest leaves checksums to a card that offers to make them.
        (capabilities.checksum.tcp, capabilities.checksum.udp) = (Checksum::Tx, Checksum::Tx);
        capabilities
    }
}

impl unikernel_net::Segmenter for Wire {}

/// A card, its wire and the host at its other end.
pub(crate) struct Card {
    wire: Wire,
    stack: Stack,
    /// Connections, and whether each has been given its request.
    clients: [Option<(TcpId, bool)>; CLIENTS],
    answers: Arc<AtomicUsize>,
    /// At some time it takes no frames from the guest any more, and goes on delivering.
    clogs: bool,
    started: Instant,
}

impl Card {
    /// A card whose host counts the answers that it gets.
    pub(crate) fn new(seed: u64, answers: Arc<AtomicUsize>) -> Self {
        let wire = Wire::default();
        let capabilities = smoltcp::phy::Device::capabilities(&wire);
        let stack = our_stack::new(HOST_MAC, HOST, capabilities, seed);
        Self { wire, stack, clients: [None; CLIENTS], answers, clogs: false, started: Instant::now() }
    }

    /// The same, but it clogs.
    pub(crate) fn clogging(seed: u64, answers: Arc<AtomicUsize>) -> Self {
        Self { clogs: true, ..Self::new(seed, answers) }
    }

    /// Lets the host go on.
    fn poll_host(&mut self) {
        let now = StackInstant::from_micros(self.started.elapsed().as_micros() as i64);
        self.stack.poll(now, &mut self.wire);
        for client in &mut self.clients {
            match *client {
                None => *client = self.stack.tcp_connect(now, None, GUEST).ok().map(|id| (id, false)),
                Some((id, ref mut has_asked)) => {
                    *has_asked = *has_asked || ask(&mut self.stack, id);
                    if is_over(&mut self.stack, id, &self.answers) {
                        self.stack.tcp_close(id);
                        *client = None;
                    }
                }
            }
        }
        self.stack.flush(now, &mut self.wire);
    }
}

/// Sends the request; false if the connection is not there yet.
fn ask(stack: &mut Stack, id: TcpId) -> bool {
    let sent = stack.tcp_send(id, REQUEST.len(), |room| {
        let len = room.len().min(REQUEST.len());
        room[..len].copy_from_slice(&REQUEST[..len]);
        (len, ())
    });
    sent.is_ok()
}

/// Reads what has come; true at the end of a connection.
fn is_over(stack: &mut Stack, id: TcpId, answers: &AtomicUsize) -> bool {
    loop {
        match stack.tcp_recv(id, |bytes| (bytes.len(), bytes.starts_with(b"HTTP/1"))) {
            Ok((is_answer, _)) => {
                answers.fetch_add(usize::from(is_answer), Ordering::Relaxed);
            }
            Err(RecvError::WouldBlock | RecvError::NotConnected) => return false,
            Err(_) => return true,
        }
    }
}

impl Device for Card {
    fn features(&self) -> &'static [u64] {
        &FEATURES
    }

    fn configuration(&self, _: &mut Random) -> Option<[u8; 64]> {
        None
    }

    fn is_ready(&mut self, queue: usize) -> bool {
        self.poll_host();
        let is_clogged = self.clogs && self.answers.load(Ordering::Relaxed) >= CLOGS_AFTER;
        if is_clogged && self.wire.to_guest.0.is_empty() {
            // The guest answers each of these until it has no room for more answers.
            self.wire.to_guest.0.push_back(question());
        }
        match queue {
            RECEIVE => !self.wire.to_guest.0.is_empty(),
            _ => !is_clogged,
        }
    }

    fn perform(&mut self, queue: usize, memory: &Memory, parts: &[Part], random: &mut Random) -> u32 {
        if queue == RECEIVE {
            self.wire.to_guest.0.pop_front().map_or(0, |frame| put(memory, parts, random, frame))
        } else {
            self.wire.from_guest.extend(take(memory, parts));
            0
        }
    }

    /// Changes the headers of some frames while the guest looks at them.
    fn meddle(&mut self, queue: usize, memory: &Memory, parts: &[Part], random: &mut Random) {
        let Some(part) = parts.first().filter(|part| queue == RECEIVE && part.is_written) else { return };
        if random.below(HONESTY / 4) > 0 {
            return;
        }
        let at = part.address + (HEADER_BYTES + random.pick(&TEMPTING)) as u64;
        for change in 0..CHANGES {
            memory.write(Address::Guest(at), &[if change % 2 == 0 { random.below(256) as u8 } else { 0x45 }]);
        }
    }
}

/// Bytes of a frame that a packet's parser looks at more than once: versions, lengths, fragments, protocols.
const TEMPTING: [usize; 10] = [12, 13, 14, 16, 17, 20, 21, 23, 46, 47];
/// How often a frame is changed after it was given back.
const CHANGES: usize = 500;

/// Asks for the guest's hardware address (RFC 826).
fn question() -> Vec<u8> {
    let std::net::IpAddr::V4(guest) = GUEST.ip() else { unreachable!("the guest's address is one of IPv4") };
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: HOST_MAC,
        source_protocol_addr: HOST,
        target_hardware_addr: EthernetAddress::default(),
        target_protocol_addr: guest,
    };
    let header = EthernetRepr {
        src_addr: HOST_MAC,
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Arp,
    };
    let mut frame = vec![0; header.buffer_len() + request.buffer_len()];
    header.emit(&mut EthernetFrame::new_unchecked(&mut frame));
    request.emit(&mut ArpPacket::new_unchecked(&mut frame[header.buffer_len()..]));
    frame
}

/// Puts a frame into the guest's buffer; answers how many bytes that took.
fn put(memory: &Memory, parts: &[Part], random: &mut Random, mut frame: Vec<u8>) -> u32 {
    let mut header = [0; HEADER_BYTES];
    header[HEADER_BYTES - 2] = 1;
    if random.below(HONESTY) == 0 {
        let at = random.below(HEADER_BYTES as u64) as usize;
        header[at..].fill_with(|| *random.pick(&[0, 1, 2, 3, 4, 5, 0x7f, 0x81, 0xff]));
    }
    if random.below(HONESTY) == 0 {
        let at = random.below(frame.len() as u64) as usize;
        frame[at] ^= 1 << random.below(8);
    }
    let bytes = [header.as_slice(), &frame].concat();
    let mut rest = bytes.as_slice();
    for part in parts.iter().filter(|part| part.is_written) {
        let (now, later) = rest.split_at(rest.len().min(part.len as usize));
        memory.write(Address::Guest(part.address), now);
        rest = later;
    }
    (bytes.len() - rest.len()) as u32
}

/// Takes the guest's frame out of its buffers.
fn take(memory: &Memory, parts: &[Part]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in parts.iter().filter(|part| !part.is_written) {
        let start = bytes.len();
        let len = (part.len as usize).min((HEADER_BYTES + MOST_FRAME_BYTES).saturating_sub(start));
        bytes.resize(start + len, 0);
        memory.read_into(Address::Guest(part.address), &mut bytes[start..]);
    }
    bytes.drain(..HEADER_BYTES.min(bytes.len()));
    (!bytes.is_empty()).then_some(bytes)
}
