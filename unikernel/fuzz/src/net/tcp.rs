//! Segments with right checksums, in all states of connections. The input is a peer and an app at once: what the peer sends lies near
//! what the stack has last said, so that it is within windows as often as not, and each byte that either side sends is that of its
//! place in the stream. So the app can tell whether bytes were lost, doubled or mixed up, and so can the peer.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use unikernel_net::smoltcp::time::Duration;
use unikernel_net::{BindOptions, CongestionOptions, KeepAlive, ListenerId, LowWater, TcpId};

use super::frame::{ETHERNET, ICMP, IPV4, TCP, arp_reply, ipv4, mend};
use super::host::{Host, OWN, PEER, config, fixed};
use crate::input::Input;

const SYN: u8 = 2;
const ACK: u8 = 16;
const URG: u8 = 32;
/// Where the peer's sequence numbers begin.
const PEER_START: u32 = 1000;
/// The ports that the peer talks from, and that it listens on.
const PEER_PORTS: [u16; 4] = [4000, 4001, 5000, 5001];

/// What the peer knows of a connection.
#[derive(Clone, Copy, Default)]
struct View {
    /// The port of ours: 80, or the one that a connection has which we began.
    own_port: u16,
    /// Our first sequence number, and the next that the peer has not seen.
    start: Option<u32>,
    next: u32,
    /// What we have acknowledged last.
    acknowledged: u32,
}

struct World {
    host: Host,
    listener: ListenerId,
    views: [View; 4],
    open: Vec<TcpId>,
    /// How many bytes the app has sent, and the last that it has received, by connection.
    sent: BTreeMap<u64, u8>,
    received: BTreeMap<u64, u8>,
    /// The last packet of ours, for errors to quote.
    quoted: Vec<u8>,
    /// The peer has sent bytes out of band, or any that are not those of their places.
    is_odd: bool,
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut host = Host::new(config(fixed()));
    let local = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 80);
    let listener = host.stack.tcp_bind(local, BindOptions::default()).expect("the port is free");
    host.stack.tcp_listen(listener, 4).expect("it is bound");
    host.receive(arp_reply());
    let views = [View { own_port: 80, acknowledged: PEER_START, ..View::default() }; 4];
    let mut world = World {
        host,
        listener,
        views,
        open: Vec::new(),
        sent: BTreeMap::new(),
        received: BTreeMap::new(),
        quoted: Vec::new(),
        is_odd: false,
    };
    world.run(Duration::ZERO);
    for _ in 0..300 {
        if input.is_over() {
            break;
        }
        let by = world.step(&mut input);
        world.run(by);
    }
    world.end();
}

impl World {
    /// Lets the stack work, and looks at what it sends.
    fn run(&mut self, by: Duration) {
        for frame in self.host.run(by) {
            match &frame[12..14] {
                [8, 0] if frame[ETHERNET + 9] == TCP => self.look(&frame),
                [8, 6] => self.host.receive(arp_reply()),
                _ => {}
            }
        }
        let counters = self.host.stack.counters();
        assert!(counters.active <= 8 && counters.half_open <= 4 && counters.time_wait <= 4);
    }

    /// The peer takes a segment in.
    fn look(&mut self, frame: &[u8]) {
        let half = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
        let Some(index) = PEER_PORTS.iter().position(|port| *port == half(IPV4 + 2)) else { return };
        self.quoted = frame[ETHERNET..].to_vec();
        let view = &mut self.views[index];
        let (sequence, flags) = (word(IPV4 + 4), frame[IPV4 + 13]);
        // The peer talks to the last of several connections from one of its ports.
        if flags & SYN != 0 {
            view.own_port = half(IPV4);
        }
        if view.own_port != half(IPV4) {
            return;
        }
        if flags & ACK != 0 {
            view.acknowledged = word(IPV4 + 8);
        }
        let payload = &frame[IPV4 + usize::from(frame[IPV4 + 12] >> 4) * 4..];
        if flags & SYN != 0 {
            (view.start, view.next) = (Some(sequence), sequence);
        }
        let end =
            sequence.wrapping_add(payload.len() as u32 + u32::from(flags & SYN != 0) + u32::from(flags & 1));
        if end.wrapping_sub(view.next).cast_signed() > 0 {
            view.next = end;
        }
        if let Some(start) = view.start {
            let first = sequence.wrapping_sub(start).wrapping_sub(1);
            // A probe is a byte from before what was sent.
            let is_probe = payload.len() <= 1;
            for (index, byte) in payload.iter().enumerate() {
                let place = first.wrapping_add(index as u32) as u8;
                assert!(is_probe || *byte == place, "byte {place} of the stream is {byte}: {frame:02x?}");
            }
        }
    }

    /// One act of the peer, the app or the clock; answers how much time passes.
    fn step(&mut self, input: &mut Input<'_>) -> Duration {
        let chosen =
            if self.open.is_empty() { None } else { self.open.get(input.below(self.open.len())).copied() };
        match (input.below(16), chosen) {
            (0, _) => self.open.extend(self.host.stack.tcp_accept(self.listener)),
            (1, _) => {
                let to = SocketAddr::new(PEER.into(), PEER_PORTS[2 + input.below(2)]);
                self.open.extend(self.host.stack.tcp_connect(self.host.now, None, to));
            }
            (2, Some(id)) => self.send(id, input.half().into()),
            (3, Some(id)) => self.receive(id, input.half().into()),
            (4, Some(id)) => self.close(id, input.byte()),
            (5, Some(id)) => self.set(id, input),
            (6, _) => return Duration::from_millis(u64::from(input.byte()) << (input.byte() & 15)),
            (7, _) => match input.byte() {
                0 => self.host.nic.room = input.below(64),
                1 => self.error(input),
                2 => {
                    self.is_odd = true;
                    let mut frame = input.chunk().to_vec();
                    mend(&mut frame);
                    self.host.receive(frame);
                }
                _ => self.host.nic.room = 64,
            },
            _ => self.segment(input),
        }
        Duration::from_millis(1)
    }

    /// A segment of the peer's.
    fn segment(&mut self, input: &mut Input<'_>) {
        let (index, flags, what) = (input.below(4), input.byte() & 0x3f, input.byte());
        let view = self.views[index];
        let near = |input: &mut Input<'_>, bit: u8| {
            if what & bit == 0 { 0 } else { i32::from(input.half().cast_signed()) }
        };
        let sequence = view.acknowledged.wrapping_add_signed(near(input, 1));
        let acknowledged = view.next.wrapping_add_signed(near(input, 2));
        let window = if what & 4 == 0 { 8192 } else { input.half() };
        let len = if what & 8 == 0 { 0 } else { usize::from(input.half()) % 1461 };
        let options =
            if what & 16 == 0 { &[][..] } else { input.take(usize::from(input.clone().byte() % 11) * 4) };
        let urgent = if flags & URG == 0 { 0 } else { input.half() };
        self.is_odd |= flags & URG != 0;
        let mut segment = [PEER_PORTS[index].to_be_bytes(), view.own_port.to_be_bytes()].concat();
        segment.extend(sequence.to_be_bytes());
        segment.extend(acknowledged.to_be_bytes());
        segment.extend([(5 + options.len().div_ceil(4) as u8) << 4, flags]);
        segment.extend(window.to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(urgent.to_be_bytes());
        segment.extend_from_slice(options);
        segment.resize(20 + options.len().next_multiple_of(4), 0);
        let first = sequence.wrapping_add(u32::from(flags & SYN != 0));
        segment.extend((0..len as u32).map(|index| first.wrapping_add(index) as u8));
        self.host.receive(ipv4(PEER, OWN, TCP, 0, &segment));
    }

    /// An ICMP error about the last segment of ours.
    fn error(&mut self, input: &mut Input<'_>) {
        let quoted = &self.quoted[..self.quoted.len().min(48)];
        let [kind, code] = input.array();
        let message =
            [&[[3, 11, 12][usize::from(kind) % 3], code % 16, 0, 0, 0, 0], &input.array::<2>()[..], quoted]
                .concat();
        self.host.receive(ipv4(PEER, OWN, ICMP, 0, &message));
    }

    fn send(&mut self, id: TcpId, most: usize) {
        let next = self.sent.entry(id.to_bits()).or_default();
        let _ = self.host.stack.tcp_send(id, most, |room| {
            let count = room.len().min(most);
            for byte in &mut room[..count] {
                *byte = *next;
                *next = next.wrapping_add(1);
            }
            (count, ())
        });
    }

    fn receive(&mut self, id: TcpId, most: usize) {
        let last = &mut self.received;
        let is_odd = self.is_odd;
        let _ = self.host.stack.tcp_recv(id, |bytes| {
            let taken = &bytes[..bytes.len().min(most)];
            for byte in taken {
                let expected = last.insert(id.to_bits(), *byte).map_or(*byte, |last| last.wrapping_add(1));
                assert!(is_odd || *byte == expected, "byte {expected} of the stream is {byte}");
            }
            (taken.len(), ())
        });
    }

    fn close(&mut self, id: TcpId, how: u8) {
        let stack = &mut self.host.stack;
        match how & 3 {
            0 => _ = stack.tcp_shutdown_send(id),
            1 => _ = stack.tcp_shutdown_recv(id),
            2 => stack.tcp_abort(id),
            _ => stack.tcp_close(id),
        }
        if how & 2 != 0 {
            self.open.retain(|open| *open != id);
        }
    }

    /// Options and questions.
    fn set(&mut self, id: TcpId, input: &mut Input<'_>) {
        let stack = &mut self.host.stack;
        let (what, value) = (input.below(16), input.byte());
        let (is_on, seconds) = (value & 1 == 1, Duration::from_secs(u64::from(value)));
        match what {
            0 => stack.tcp_set_nodelay(id, is_on),
            1 => stack.tcp_set_cork(id, is_on),
            2 => stack.tcp_set_quick_ack(id, is_on),
            3 => {
                let time = seconds.max(Duration::from_secs(1));
                let keep_alive = KeepAlive { idle: time, interval: time, probes: 1 + (value & 7) };
                stack.tcp_set_keep_alive(id, is_on.then_some(keep_alive));
            }
            4 => stack.tcp_set_user_timeout(id, is_on.then_some(seconds)),
            5 => {
                stack.tcp_set_buffers(
                    id,
                    Some(usize::from(value) << 6),
                    Some(usize::from(input.byte()) << 6),
                );
            }
            6 => stack.tcp_set_max_segment(id, u16::from(value) << 4),
            7 => stack.tcp_set_end_seconds(id, Some(value.into())),
            8 => stack.tcp_set_congestion(id, CongestionOptions::default()),
            9 => stack.tcp_set_low_water(
                id,
                LowWater { received: u32::from(value) << 4, unsent: u32::from(input.byte()) << 4 },
            ),
            10 => {
                let _ = stack.tcp_recv_urgent(id, is_on);
            }
            11 => {
                stack.tcp_mark_urgent(id);
                stack.tcp_set_urgent_inline(id, is_on);
            }
            12 => {
                let _ = stack.tcp_send(id, usize::from(value) << 6, |_| (0, ()));
            }
            13 => {
                let _ = stack.tcp_peek(id, value.into(), <[u8]>::len);
            }
            14 => stack.listener_set_defer(self.listener, is_on.then_some(seconds)),
            _ => {
                let _ = (
                    stack.tcp_readiness(id),
                    stack.tcp_info(id),
                    stack.tcp_take_error(id),
                    stack.tcp_recv_queue(id),
                );
                stack.take_events(&mut Vec::new());
            }
        }
    }

    /// Everything is closed, and nothing may be left.
    fn end(mut self) {
        self.open.extend(std::iter::from_fn(|| self.host.stack.tcp_accept(self.listener).ok()));
        for id in core::mem::take(&mut self.open) {
            self.host.stack.tcp_abort(id);
        }
        self.host.stack.listener_close(self.listener);
        self.host.nic.room = 64;
        for _ in 0..500 {
            if self.host.stack.counters().active == 0 {
                return;
            }
            self.run(Duration::from_secs(4));
        }
        panic!("{} connections are left", self.host.stack.counters().active);
    }
}
