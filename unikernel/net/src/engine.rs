//! The protocol engine of one flow: a smoltcp socket alone in its set, and how to make one in the midst of
//! a conversation.
//!
//! smoltcp takes a socket's buffers when it is made and shows none of its sequence numbers. So that buffers
//! can come, grow and go, a flow's socket is replaced: [`Engine::drain`] has the old one repeat all that it
//! holds to a device that only listens, and [`Engine::resume`] takes a fresh one through a handshake made
//! up so that it ends with the numbers of the conversation. The front knows these ([`Track`]). The same
//! makes a connection of a SYN cookie that came back.
//!
//! What a new engine does not know: data that had arrived out of order, which the peer sends again, and the
//! round-trip time, which matters little, because smoltcp's least time-out is a second.

mod sink;

use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;

use smoltcp::iface::{Interface, PollResult, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpListenEndpoint, TcpControl, TcpRepr, TcpSeqNumber};

use sink::{Sink, SinkToken};

use crate::flow::engine_shift;
use crate::isn::seed_for;
use crate::phy::{Inbound, NoDevice, loopback_capabilities};
use crate::sequence::Distance;
use crate::stack::ip_interface;
use crate::track::Track;
use crate::wire;

/// Far enough that every timer of a socket has fired (its longest is a minute).
pub(crate) const LATER: Duration = Duration::from_secs(600);
/// Payload of the segments that a fresh engine is fed, at most.
const CHUNK: usize = 32 * 1024;

/// A socket with its buffers.
pub(crate) struct Engine {
    pub(crate) sockets: SocketSet<'static>,
    handle: SocketHandle,
}

/// The two ends of a conversation.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// What a socket held.
#[derive(Default)]
pub(crate) struct Held {
    /// Arrived and not read yet.
    pub(crate) received: Vec<u8>,
    /// Written and not acknowledged yet.
    pub(crate) unacknowledged: Vec<u8>,
    /// The peer has finished sending.
    pub(crate) has_fin: bool,
    /// How far we have finished.
    pub(crate) close: Close,
}

/// Whether we have finished sending.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Close {
    #[default]
    Open,
    /// The end is to be sent, or under way.
    Closed,
    /// The peer has acknowledged it.
    Acknowledged,
}

impl Close {
    fn of(state: State) -> Self {
        match state {
            State::FinWait1 => Self::Closed,
            State::FinWait2 => Self::Acknowledged,
            _ => Self::Open,
        }
    }
}

impl Engine {
    /// A closed socket with buffers of these sizes, in bytes.
    pub(crate) fn new(rx_buffer: usize, tx_buffer: usize) -> Self {
        let socket =
            Socket::new(SocketBuffer::new(vec![0; rx_buffer]), SocketBuffer::new(vec![0; tx_buffer]));
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = sockets.add(socket);
        Self { sockets, handle }
    }

    #[inline]
    pub(crate) fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    #[inline]
    pub(crate) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// The sizes of the receive and the send buffer, in bytes.
    #[inline]
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.socket().recv_capacity(), self.socket().send_capacity())
    }

    /// Takes a closed socket to the place in a conversation that `track` says, with what another socket
    /// held. False if that does not fit its buffers; then nothing of it may be taken for done.
    pub(crate) fn resume(&mut self, track: &mut Track, ends: Ends, held: &Held, now: Instant) -> bool {
        let (rx_buffer, tx_buffer) = self.sizes();
        if held.received.len() > rx_buffer || held.unacknowledged.len() > tx_buffer {
            return false;
        }
        // What was read but not acknowledged arrives again, so that its acknowledgement is still due.
        let first_held = track.received - held.received.len();
        let due = first_held.since(track.acknowledged);
        let read = if due + held.received.len() <= rx_buffer { due } else { 0 };
        let start = first_held - read;
        let mut rehearsal = Rehearsal::new(self, ends, track, now);
        if !rehearsal.shake_hands(track, start) {
            return false;
        }
        let in_flight = track.in_flight().min(held.unacknowledged.len());
        rehearsal.send(&held.unacknowledged[..in_flight]);
        rehearsal.repeat_to(&mut Sink::default());
        rehearsal.receive(start, read, (track, held));
        rehearsal.send(&held.unacknowledged[in_flight..]);
        rehearsal.close(track.received, held);
        (track.acknowledged, track.edge) = (rehearsal.acknowledged, rehearsal.edge);
        track.seen = track.received;
        self.holds(held)
    }

    /// True if it is where a socket was that held this.
    fn holds(&self, held: &Held) -> bool {
        let socket = self.socket();
        let is_ended = (socket.state() == State::CloseWait) == held.has_fin;
        is_ended
            && Close::of(socket.state()) == held.close
            && socket.recv_queue() == held.received.len()
            && socket.send_queue() == held.unacknowledged.len()
    }

    /// Answers what the socket holds, and still does. Its state is that after a retransmission time-out then.
    pub(crate) fn drain(&mut self, track: &Track, ends: Ends, now: Instant) -> Option<Held> {
        let unacknowledged = self.repeat_all(track, ends, now)?;
        let socket = self.socket_mut();
        let state = socket.state();
        let mut received = vec![0; socket.recv_queue()];
        // The socket has as many bytes as it said.
        let _ = socket.peek_slice(&mut received);
        Some(Held { received, unacknowledged, has_fin: state == State::CloseWait, close: Close::of(state) })
    }

    /// Makes the socket send its first unacknowledged segment again, by acknowledgements that repeat
    /// themselves. `now` is what it will take for the time when it last heard of the peer.
    pub(crate) fn provoke(&mut self, track: &Track, ends: Ends, now: Instant) {
        let fin = usize::from(self.socket().state() == State::CloseWait);
        let mut rehearsal = Rehearsal::new(self, ends, track, now);
        let window = u16::try_from(track.window >> track.peer_scale.unwrap_or(0)).unwrap_or(u16::MAX);
        // Another window, and the right one again, begin the count anew.
        for window_len in [window ^ 1, window, window, window, window] {
            rehearsal.window_len = window_len;
            rehearsal.feed(&rehearsal.ack(track.received + fin));
        }
    }

    /// Makes the socket begin again with its first unacknowledged byte, as after a time-out.
    pub(crate) fn rewind(&mut self, track: &Track, ends: Ends, now: Instant) {
        self.socket_mut().set_timeout(None);
        let rehearsal = Rehearsal::new(self, ends, track, now + LATER);
        let Rehearsal { engine, mut interface, now, .. } = rehearsal;
        // There is no device, so nothing is sent; but the time has come.
        interface.poll_egress(now, &mut NoDevice, &mut engine.sockets);
    }

    fn repeat_all(&mut self, track: &Track, ends: Ends, now: Instant) -> Option<Vec<u8>> {
        let socket = self.socket_mut();
        let queued = socket.send_queue();
        if queued == 0 {
            return Some(Vec::new());
        }
        socket.set_congestion_control(CongestionControl::None);
        socket.set_nagle_enabled(false);
        socket.set_keep_alive(None);
        socket.set_timeout(None);
        let fin = usize::from(socket.state() == State::CloseWait);
        // The second time, the timer of what was sent the first time has certainly expired, and the socket
        // begins at the start.
        (1..=2).find_map(|time| {
            let mut sink = Sink::capturing(queued);
            let mut rehearsal = Rehearsal::new(self, ends, track, now + LATER * time);
            // Wide, so that nothing is held back.
            rehearsal.window_len = u16::MAX;
            rehearsal.feed(&rehearsal.ack(track.received + fin));
            rehearsal.repeat_to(&mut sink);
            sink.captured.filter(|bytes| bytes.len() == queued)
        })
    }
}

/// An engine talking to nobody: segments are made up for it, and its own go nowhere.
struct Rehearsal<'e> {
    engine: &'e mut Engine,
    interface: Interface,
    ends: Ends,
    una: TcpSeqNumber,
    /// The window that the peer announces, as segments have it.
    window_len: u16,
    /// What the engine believes to have acknowledged, and the end of the window that it believes to have announced.
    acknowledged: TcpSeqNumber,
    edge: TcpSeqNumber,
    /// The scale of the engine's windows.
    shift: u8,
    now: Instant,
}

impl<'e> Rehearsal<'e> {
    fn new(engine: &'e mut Engine, ends: Ends, track: &Track, now: Instant) -> Self {
        let first = (track.una - 1).0 as u32;
        let interface = ip_interface(&loopback_capabilities(), seed_for(first, 0), now);
        // The window must not be smaller than what is under way.
        let window = (track.window as usize).max(track.in_flight());
        let scaled = window.div_ceil(1 << track.peer_scale.unwrap_or(0));
        let window_len = u16::try_from(scaled).unwrap_or(u16::MAX);
        let (una, start) = (track.una, track.received);
        Self { engine, interface, ends, una, window_len, acknowledged: start, edge: start, shift: 0, now }
    }

    /// A plain acknowledgement from the peer.
    fn ack(&self, seq: TcpSeqNumber) -> TcpRepr<'static> {
        TcpRepr {
            src_port: self.ends.remote.port(),
            dst_port: self.ends.local.port(),
            seq_number: seq,
            ack_number: Some(self.una),
            window_len: self.window_len,
            ..wire::PLAIN_SEGMENT
        }
    }

    fn feed(&mut self, repr: &TcpRepr<'_>) {
        let checksums = ChecksumCapabilities::ignored();
        let packet = wire::tcp_packet(self.ends.remote, self.ends.local, repr, 0, &checksums);
        let mut sink = Sink::default();
        let mut inbound = Inbound::new(&packet, SinkToken(&mut sink), None, None);
        self.interface.poll_ingress_single(self.now, &mut inbound, &mut self.engine.sockets);
    }

    /// Lets the engine say what it has to say.
    fn repeat_to(&mut self, sink: &mut Sink) {
        while self.interface.poll_egress(self.now, sink, &mut self.engine.sockets) != PollResult::None {}
    }

    /// The peer's side of a handshake, after which its next byte has the number `start`.
    fn shake_hands(&mut self, track: &Track, start: TcpSeqNumber) -> bool {
        let local = self.ends.local;
        let socket = self.engine.socket_mut();
        socket.abort();
        socket.set_congestion_control(CongestionControl::None);
        socket.set_nagle_enabled(false);
        socket.set_timeout(None);
        socket.set_keep_alive(None);
        let endpoint = IpListenEndpoint { addr: Some(local.ip().into()), port: local.port() };
        if socket.listen(endpoint).is_err() {
            return false;
        }
        socket.set_ack_delay(None);
        let buffer = socket.recv_capacity();
        let shift = track.peer_scale.map_or(0, |_| engine_shift(buffer));
        // smoltcp takes the window in its SYN, which is never scaled, for a scaled one: then it would accept
        // more than fits. So a scaled engine is made to acknowledge one byte before the start.
        let spare = usize::from(shift > 0);
        self.feed(&TcpRepr {
            control: TcpControl::Syn,
            ack_number: None,
            max_seg_size: Some(track.mss),
            window_scale: track.peer_scale,
            sack_permitted: track.has_sack,
            ..self.ack(start - spare - 1)
        });
        self.repeat_to(&mut Sink::default());
        self.feed(&self.ack(start - spare));
        if spare > 0 {
            self.feed(&TcpRepr { payload: &[0], ..self.ack(start - spare) });
            self.repeat_to(&mut Sink::default());
            let taken = self.engine.socket_mut().recv_slice(&mut [0]);
            debug_assert_eq!(taken, Ok(1));
        }
        let announced = (buffer.saturating_sub(spare) >> shift).min(usize::from(u16::MAX)) << shift;
        (self.acknowledged, self.edge, self.shift) = (start, start + announced, shift);
        self.engine.socket().state() == State::Established
    }

    fn send(&mut self, bytes: &[u8]) {
        // The caller has made sure that there is room.
        let sent = self.engine.socket_mut().send_slice(bytes);
        debug_assert_eq!(sent, Ok(bytes.len()));
    }

    /// The peer sends what it sent before: `read` bytes that were read, then those that were not. The engine acknowledges
    /// what the peer was told of, so that its window ends where the peer believes it to.
    fn receive(&mut self, start: TcpSeqNumber, read: usize, (track, held): (&Track, &Held)) {
        self.receive_bytes(start, &vec![0; read]);
        if read > 0 {
            let taken = self.engine.socket_mut().recv_slice(&mut vec![0; read]);
            debug_assert_eq!(taken, Ok(read));
        }
        let first = start + read;
        let known = track.acknowledged.since(first).min(held.received.len());
        let (told, untold) = held.received.split_at(known);
        self.receive_bytes(first, told);
        if known > 0 {
            self.acknowledge();
        }
        self.receive_bytes(first + known, untold);
        if held.has_fin {
            self.feed(&TcpRepr { control: TcpControl::Fin, ..self.ack(track.received) });
        }
    }

    /// The peer sends `bytes`. A window that is not scaled may be smaller than what waits to be read: then the engine
    /// acknowledges in between.
    fn receive_bytes(&mut self, mut at: TcpSeqNumber, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.edge <= at {
                self.acknowledge();
            }
            let room = self.edge.since(at).min(CHUNK);
            if room == 0 {
                // The caller sees that something is missing.
                return;
            }
            let (chunk, rest) = bytes.split_at(room.min(bytes.len()));
            self.feed(&TcpRepr { payload: chunk, ..self.ack(at) });
            (at, bytes) = (at + chunk.len(), rest);
        }
    }

    /// Has the engine acknowledge what it has received.
    fn acknowledge(&mut self) {
        let mut sink = Sink::default();
        self.repeat_to(&mut sink);
        if let Some((ack, window)) = sink.last {
            (self.acknowledged, self.edge) = (ack, ack + (usize::from(window) << self.shift));
        }
    }

    /// We finish sending, if we had, and the peer acknowledges that, if it had.
    fn close(&mut self, next: TcpSeqNumber, held: &Held) {
        if held.close == Close::Open {
            return;
        }
        self.engine.socket_mut().close();
        if held.close == Close::Acknowledged {
            self.acknowledge();
            self.feed(&TcpRepr { ack_number: Some(self.una + 1), ..self.ack(next) });
        }
    }
}
