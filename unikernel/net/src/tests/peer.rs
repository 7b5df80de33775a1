//! Whole conversations with a peer whose segments are written by hand: it may not scale its windows, sends up to the edge
//! of ours and beyond, repeats itself, ends when our queue is full, and lies about what it has. What was acknowledged
//! must be read, the acknowledgement never goes back, and nothing panics. Seeded and bounded.

use super::fuzz::segment;
use super::*;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const ISS: i32 = i32::MAX - 70_000;

/// What the peer's stream has at `offset`.
fn byte(offset: usize) -> u8 {
    (offset * 31 + (offset >> 8) + (offset >> 16)) as u8
}

fn stream(start: usize, len: usize) -> Vec<u8> {
    (start..start + len).map(byte).collect()
}

/// How a peer behaves.
#[derive(Clone, Copy, Debug)]
struct Manners {
    /// The scale of its windows; none if it does not scale.
    scale: Option<u8>,
    /// Bytes that it sends.
    total: usize,
    /// The chance in a hundred that the app reads at a step.
    reads: u64,
    /// It sends beyond our window, ends too early, and acknowledges what it has not.
    lies: bool,
}

struct Peer {
    host: Host,
    server: TcpId,
    now: Instant,
    rng: Rng,
    manners: Manners,
    /// Bytes that it has sent, and those that were acknowledged.
    sent: usize,
    acknowledged: usize,
    /// Bytes up to the edge of our window.
    edge: usize,
    /// The next number that it expects from us.
    expected: i32,
    /// What the app has read.
    read: usize,
    is_at_end: bool,
    is_closed: bool,
}

impl Peer {
    fn sizes() -> Config {
        Config { tcp_rx_window: 65_536, tcp_rx_limit: 1 << 19, tcp_tx_limit: 1 << 17, ..config(15) }
    }

    fn connected(manners: Manners, seed: u64) -> Self {
        Self::connected_to(Self::sizes(), manners, seed)
    }

    fn connected_to(sizes: Config, manners: Manners, seed: u64) -> Self {
        let mut host = Host::with(sizes);
        let listener = host.listen(80, 4);
        let now = Instant::from_secs(10);
        let options = match manners.scale {
            Some(scale) => [2, 4, 5, 0xb4, 1, 3, 3, scale],
            None => [2, 4, 5, 0xb4, 1, 1, 1, 1],
        };
        let opening = segment(4000, 80, SYN, ISS, 0, &options, &[]);
        host.nic.rx.push_back(opening);
        host.poll(now);
        host.flush(now);
        let answer = host.nic.tx.pop_back().unwrap();
        let expected = number(&answer, 38).wrapping_add(1);
        host.nic.rx.push_back(segment(4000, 80, ACK, ISS.wrapping_add(1), expected, &[], &[]));
        host.poll(now);
        let server = host.stack.tcp_accept(listener).unwrap();
        let edge = usize::from(u16::from_be_bytes([answer[48], answer[49]]));
        let rng = Rng(seed);
        let mut peer = Self {
            host,
            server,
            now,
            rng,
            manners,
            sent: 0,
            acknowledged: 0,
            edge,
            expected,
            read: 0,
            is_at_end: false,
            is_closed: false,
        };
        peer.listen();
        peer
    }

    fn number(&self, offset: usize) -> i32 {
        ISS.wrapping_add(1).wrapping_add(offset as i32)
    }

    /// Sends what its stream has from `start`, its end included if that is reached and `ends`.
    fn say(&mut self, start: usize, len: usize, ends: bool) {
        let len = len.min(self.manners.total - start);
        let is_last = ends && start + len == self.manners.total;
        let flags = if is_last { ACK | FIN } else { ACK };
        let lie = if self.manners.lies && self.rng.below(8) == 0 { self.rng.below(3) as i32 - 1 } else { 0 };
        let ack = self.expected.wrapping_add(lie);
        let frame = segment(4000, 80, flags, self.number(start), ack, &[], &stream(start, len));
        self.sent = self.sent.max(start + len + usize::from(is_last));
        self.host.nic.rx.push_back(frame);
        self.listen();
    }

    /// Takes in what we say.
    fn listen(&mut self) {
        self.host.poll(self.now);
        self.host.flush(self.now);
        for frame in core::mem::take(&mut self.host.nic.tx) {
            let (flags, len) = (frame[47], usize::from(u16::from_be_bytes([frame[16], frame[17]])) - 20);
            if frame[12..14] != [8, 0] || flags & 4 != 0 {
                continue;
            }
            let payload = len - usize::from(frame[46] >> 4) * 4;
            let ack = number(&frame, 42).wrapping_sub(self.number(0));
            let ack = usize::try_from(ack).expect("an acknowledgement of the stream");
            assert!(ack <= self.sent, "{ack} was acknowledged, {} sent", self.sent);
            assert!(ack >= self.acknowledged, "from {} back to {ack}", self.acknowledged);
            self.acknowledged = ack;
            let scale = if self.manners.scale.is_some() { 7 } else { 0 };
            self.edge = ack + (usize::from(u16::from_be_bytes([frame[48], frame[49]])) << scale);
            let end = number(&frame, 38).wrapping_add(payload as i32 + i32::from(flags & FIN != 0));
            if end.wrapping_sub(self.expected) > 0 {
                self.expected = end;
            }
        }
        let data = self.acknowledged.min(self.manners.total);
        let held = self.read + self.host.stack.tcp_recv_queue(self.server);
        assert!(held >= data, "{data} bytes were acknowledged, {held} are there");
    }

    /// The app reads `most` bytes, if there are so many.
    fn read(&mut self, most: usize) {
        let mut left = most;
        while left > 0 {
            let take = |bytes: &[u8]| {
                let count = bytes.len().min(left);
                (count, bytes[..count].to_vec())
            };
            match self.host.stack.tcp_recv(self.server, take) {
                Ok((bytes, _)) => {
                    assert!(
                        bytes == stream(self.read, bytes.len()),
                        "other bytes than were sent at {}",
                        self.read
                    );
                    self.read += bytes.len();
                    left -= bytes.len();
                }
                Err(RecvError::WouldBlock) => break,
                Err(RecvError::Finished) => {
                    self.is_at_end = true;
                    break;
                }
                Err(error) => panic!("{error:?} after {} bytes", self.read),
            }
        }
        self.listen();
    }

    /// A step at random.
    fn step(&mut self) {
        let (total, next) = (self.manners.total, self.sent.min(self.manners.total));
        if self.rng.below(100) < self.manners.reads {
            let most = 1 << self.rng.below(19);
            return self.read(most);
        }
        let len = [1, 100, 1460, 1460, 1460][self.rng.below(5) as usize];
        match self.rng.below(16) {
            0 => {
                // Something that came before, or a part of it and more.
                let back = self.rng.below(4000) as usize;
                self.say(next.saturating_sub(back), len, true);
            }
            1 if self.manners.lies => self.say(next.min(self.edge), len, true),
            2 => {
                let start = self.acknowledged.min(next);
                self.say(start, len, true);
            }
            3 if self.rng.below(20) == 0 && !self.is_closed => {
                let _ = self.host.stack.tcp_shutdown_send(self.server);
                self.is_closed = true;
                self.listen();
            }
            4 if !self.is_closed => {
                let count = self.rng.below(3000) as usize;
                self.host.send(self.server, &vec![7; count]);
                self.listen();
            }
            5 => {
                self.now += Duration::from_millis(self.rng.below(400));
                self.listen();
            }
            _ => {
                let room = self.edge.saturating_sub(next).min(total - next);
                self.say(next, len.min(room), next + len.min(room) == total);
            }
        }
    }

    /// The peer repeats what was not acknowledged until everything is, and the app reads all of it.
    fn finish(&mut self) {
        for _ in 0..20_000 {
            self.read(usize::MAX);
            if self.is_at_end {
                break;
            }
            self.now += Duration::from_millis(50);
            let start = self.acknowledged.min(self.manners.total);
            self.say(start, 1460.min(self.edge.saturating_sub(start).max(1)), true);
        }
        assert_eq!((self.read, self.is_at_end), (self.manners.total, true));
    }
}

/// Anything near what would be right, from a peer that keeps to nothing; only panics count.
fn rant(scale: Option<u8>, budget: usize, seed: u64) {
    const NEAR: [i32; 9] = [-1461, -2, -1, 0, 0, 0, 1, 2, 5000];
    let manners = Manners { scale, total: usize::MAX, reads: 0, lies: true };
    let sizes = Config { buffer_bytes: budget, ..Peer::sizes() };
    let mut peer = Peer::connected_to(sizes, manners, seed);
    let (mut next, mut edge) = (ISS.wrapping_add(1), ISS.wrapping_add(1));
    for _ in 0..400 {
        let near = |rng: &mut Rng, number: i32| number.wrapping_add(NEAR[rng.below(9) as usize]);
        let start = if peer.rng.below(3) == 0 { edge } else { next };
        let (start, ack) = (near(&mut peer.rng, start), near(&mut peer.rng, peer.expected));
        let flags = [ACK, ACK, ACK, ACK | FIN, ACK | SYN, SYN, ACK | 8][peer.rng.below(7) as usize];
        let len = [0, 0, 1, 2, 536, 1460][peer.rng.below(6) as usize];
        peer.host.nic.rx.push_back(segment(4000, 80, flags, start, ack, &[], &stream(0, len)));
        match peer.rng.below(24) {
            0 => peer.host.stack.tcp_close(peer.server),
            1 => drop(peer.host.stack.tcp_shutdown_send(peer.server)),
            2 | 3 => drop(peer.host.send(peer.server, &stream(0, len * 3))),
            4..8 => drop(peer.host.recv(peer.server)),
            8 => peer.now += Duration::from_millis(peer.rng.below(3000)),
            _ => {}
        }
        peer.host.poll(peer.now);
        peer.host.flush(peer.now);
        for frame in peer.host.nic.tx.drain(..).filter(|frame| frame[12..14] == [8, 0]) {
            let scale = if scale.is_some() { 7 } else { 0 };
            next = number(&frame, 42);
            edge = next.wrapping_add(i32::from(u16::from_be_bytes([frame[48], frame[49]])) << scale);
            let len =
                i32::from(u16::from_be_bytes([frame[16], frame[17]])) - 20 - i32::from(frame[46] >> 4) * 4;
            peer.expected = number(&frame, 38).wrapping_add(len + i32::from(frame[47] & FIN));
        }
    }
}

#[test]
fn peer_that_keeps_to_nothing_panics_nothing() {
    for seed in seeds(100) {
        for (scale, budget) in [(None, 1 << 24), (Some(0), 1 << 24), (Some(7), 1 << 24), (None, 16_000)] {
            rant(scale, budget, seed);
        }
    }
}

fn number(frame: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(frame[at..at + 4].try_into().unwrap())
}

fn converse(manners: Manners, seed: u64) {
    let mut peer = Peer::connected(manners, seed);
    for _ in 0..1500 {
        peer.step();
    }
    peer.finish();
}

#[test]
fn nothing_that_was_acknowledged_is_lost() {
    for seed in seeds(8) {
        for scale in [None, Some(0), Some(7)] {
            for reads in [0, 2, 20] {
                let total = 1000 + (Rng(seed).next() % 600_000) as usize;
                converse(Manners { scale, total, reads, lies: false }, seed);
            }
        }
    }
}

#[test]
fn peer_that_lies_panics_nothing() {
    for seed in seeds(8) {
        for scale in [None, Some(0), Some(7)] {
            let total = 1000 + (Rng(seed).next() % 300_000) as usize;
            converse(Manners { scale, total, reads: 3, lies: true }, seed);
        }
    }
}

/// A window's worth and more waits to be read, from a peer that does not scale, and then comes the end.
#[test]
fn end_behind_a_full_queue_comes_after_all_of_it() {
    let manners = Manners { scale: None, total: 400_000, reads: 0, lies: false };
    let mut peer = Peer::connected(manners, 1);
    // Read a while, so that the window grows.
    while peer.sent < 250_000 {
        let next = peer.sent;
        peer.say(next, 1460, false);
        peer.read(usize::MAX);
    }
    while peer.sent < manners.total && peer.edge > peer.sent {
        let next = peer.sent;
        peer.say(next, 1460.min(peer.edge - next), true);
    }
    peer.say(peer.acknowledged.min(manners.total), 1460, true);
    peer.finish();
}
