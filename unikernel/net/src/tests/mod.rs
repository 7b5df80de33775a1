//! Tests over in-memory NICs. A [`Host`] is a stack with a NIC; a [`Net`] is a wire between two,
//! which can lose, repeat and reorder frames by a seed.

mod buffers;
mod cards;
mod churn;
mod dhcp;
mod filter;
mod fragments;
mod fuzz;
mod fuzz_ip;
mod groups;
mod half_closed;
mod header_prediction;
mod ipv6;
mod listen;
mod listing;
mod neighbors;
mod netsim;
mod oddities;
mod options;
mod pcapng;
mod peer;
mod plain;
mod rules;
mod sack;
mod secrets;
mod segmenter;
mod shards;
mod shrunk_window;
mod tail_loss;
mod tcp;
mod times;
mod tracer;
mod transfer;
mod udp;
mod udp_control;
mod urgent;
mod vsock;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, Ipv4Cidr};

use crate::*;

/// Seeds for a test that draws its input: the first `few`, 200 times as many with `LONG_TESTS=1`; with `FUZZ_SECONDS` those that
/// fit into that time, from `FUZZ_SEED` on (`make fuzz`). A test that fails shows the last.
pub(crate) fn seeds(few: u64) -> impl Iterator<Item = u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let end = number("FUZZ_SECONDS")
        .map(|seconds| std::time::Instant::now() + core::time::Duration::from_secs(seconds));
    let factor = if std::env::var_os("LONG_TESTS").is_some() { 200 } else { 1 };
    let first = if end.is_some() { number("FUZZ_SEED").unwrap_or(0) } else { 0 };
    (first..)
        .take_while(move |seed| match end {
            Some(end) => std::time::Instant::now() < end,
            None => *seed < factor * few,
        })
        .inspect(|seed| std::println!("seed {seed}"))
}

/// A small generator for tests (splitmix64): seeded, so that a failure repeats.
#[derive(Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A NIC made of two queues.
pub(crate) struct Nic {
    pub(crate) rx: VecDeque<Vec<u8>>,
    pub(crate) tx: VecDeque<Vec<u8>>,
    /// Frames the transmit ring holds.
    pub(crate) tx_room: usize,
    /// The longest frame that it cuts into segments; 0 if it cuts none.
    pub(crate) largest: usize,
    /// Those that it has cut, as they came.
    pub(crate) cut: Vec<(TsoParams, Vec<u8>)>,
}

impl Default for Nic {
    fn default() -> Self {
        Self { rx: VecDeque::new(), tx: VecDeque::new(), tx_room: 4096, largest: 0, cut: Vec::new() }
    }
}

pub(crate) struct Rx(Vec<u8>);
pub(crate) struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0xa5; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Nic {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.rx.pop_front()?), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        (self.tx.len() < self.tx_room).then_some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

pub(crate) struct Host {
    pub(crate) stack: Stack,
    pub(crate) nic: Nic,
}

pub(crate) fn mac(last: u8) -> EthernetAddress {
    EthernetAddress([2, 0, 0, 0, 0, last])
}

pub(crate) fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 2, last)
}

pub(crate) fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(ip(last).into(), port)
}

pub(crate) fn any(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)
}

pub(crate) fn config(last: u8) -> Config {
    let address = Ipv4Config {
        address: Ipv4Cidr::new(ip(last), 24),
        gateway: Some(ip(2)),
        dns: vec![ip(3)],
        routes: vec![],
        time_servers: vec![],
    };
    // Scripts that are not about IPv6 see none of its questions.
    let ipv6 =
        Ipv6Config { accepts_advertisements: false, detects_duplicates: false, ..Ipv6Config::default() };
    Config {
        tcp_rx_window: 8192,
        tcp_rx_limit: 8192,
        tcp_tx_limit: 8192,
        ipv6,
        ..Config::new(mac(last), Addressing::Static(address))
    }
}

impl Host {
    pub(crate) fn new(last: u8) -> Self {
        Self::with(config(last))
    }

    pub(crate) fn with(config: Config) -> Self {
        let nic = Nic::default();
        let mut rng = Rng(u64::from(config.mac.0[5]) << 32);
        let random = Box::new(move || rng.next());
        Self { stack: Stack::new(config, Some(nic.capabilities()), random, Instant::ZERO), nic }
    }

    pub(crate) fn poll(&mut self, now: Instant) {
        self.stack.poll(now, &mut self.nic);
    }

    pub(crate) fn flush(&mut self, now: Instant) {
        self.stack.flush(now, &mut self.nic);
    }

    pub(crate) fn listen(&mut self, port: u16, backlog: usize) -> ListenerId {
        let id = self.stack.tcp_bind(any(port), BindOptions::default()).unwrap();
        self.stack.tcp_listen(id, backlog).unwrap();
        id
    }

    pub(crate) fn send(&mut self, id: TcpId, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            let fill = |room: &mut [u8]| {
                let count = room.len().min(bytes.len() - sent);
                room[..count].copy_from_slice(&bytes[sent..sent + count]);
                (count, count)
            };
            match self.stack.tcp_send(id, 1, fill) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        sent
    }

    pub(crate) fn recv(&mut self, id: TcpId) -> Result<Vec<u8>, RecvError> {
        let mut all = Vec::new();
        loop {
            match self.stack.tcp_recv(id, |bytes| (bytes.len(), bytes.to_vec())) {
                Ok((bytes, _)) => all.extend(bytes),
                Err(error) if all.is_empty() => return Err(error),
                Err(_) => return Ok(all),
            }
        }
    }

    pub(crate) fn events(&mut self) -> Vec<SocketId> {
        let mut events = Vec::new();
        self.stack.take_events(&mut events);
        events
    }
}

/// Two hosts, `.15` and `.1`, on one wire.
pub(crate) struct Net {
    pub(crate) a: Host,
    pub(crate) b: Host,
    pub(crate) now: Instant,
    /// Frames lost, repeated and delayed, in each thousand.
    pub(crate) trouble: [u64; 3],
    pub(crate) rng: Rng,
    late: Vec<(bool, Vec<u8>)>,
}

impl Net {
    pub(crate) fn new() -> Self {
        Self::with(Host::new(15), Host::new(1))
    }

    pub(crate) fn with(a: Host, b: Host) -> Self {
        Self { a, b, now: Instant::ZERO, trouble: [0; 3], rng: Rng(7), late: Vec::new() }
    }

    fn carry(&mut self, is_from_a: bool) {
        let sent = core::mem::take(if is_from_a { &mut self.a.nic.tx } else { &mut self.b.nic.tx });
        for frame in sent {
            let [lost, repeated, delayed] = self.trouble;
            let draw = self.rng.below(1000);
            if draw < lost {
                continue;
            }
            if draw < lost + delayed {
                self.late.push((is_from_a, frame));
                continue;
            }
            let to = if is_from_a { &mut self.b.nic.rx } else { &mut self.a.nic.rx };
            if draw < lost + delayed + repeated {
                to.push_back(frame.clone());
            }
            to.push_back(frame);
        }
    }

    /// One exchange: both sides send what they have, and both take in what came.
    pub(crate) fn step(&mut self) {
        for (is_from_a, frame) in core::mem::take(&mut self.late) {
            let to = if is_from_a { &mut self.b.nic.rx } else { &mut self.a.nic.rx };
            to.push_back(frame);
        }
        self.a.flush(self.now);
        self.b.flush(self.now);
        self.carry(true);
        self.carry(false);
        self.a.poll(self.now);
        self.b.poll(self.now);
    }

    /// Exchanges frames until the wire is silent.
    pub(crate) fn settle(&mut self) {
        for _ in 0..200 {
            self.step();
            let is_busy =
                |host: &Host| host.stack.has_work() || !host.nic.rx.is_empty() || !host.nic.tx.is_empty();
            if !is_busy(&self.a) && !is_busy(&self.b) && self.late.is_empty() {
                return;
            }
        }
    }

    /// Lets time pass, deadline by deadline.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        for _ in 0..10_000 {
            self.settle();
            let next = [self.a.stack.poll_at(), self.b.stack.poll_at()].into_iter().flatten().min();
            match next {
                Some(next) if next <= end => self.now = next.max(self.now + Duration::from_micros(1)),
                _ => break,
            }
            self.a.poll(self.now);
            self.b.poll(self.now);
        }
        self.now = end;
        self.a.poll(self.now);
        self.b.poll(self.now);
        self.settle();
    }

    /// Lets the two learn each other's hardware address. On a wire that loses frames three questions in a row
    /// may stay without an answer, and a connection attempt then fails, rightly.
    pub(crate) fn introduce(&mut self) {
        let listener = self.a.listen(9, 1);
        let (server, client) = self.connect(listener);
        self.a.stack.tcp_close(server);
        self.b.stack.tcp_close(client);
        self.a.stack.listener_close(listener);
        self.settle();
    }

    /// A connection from b to a listener on a.
    pub(crate) fn connect(&mut self, listener: ListenerId) -> (TcpId, TcpId) {
        let port = self.a.stack.listener_local(listener).unwrap().port();
        let client = self.b.stack.tcp_connect(self.now, None, at(15, port)).unwrap();
        self.settle();
        let server = self.a.stack.tcp_accept(listener).unwrap();
        (server, client)
    }
}

/// Has a socket mind the width of paths like that.
pub(crate) fn set_discovery(host: &mut Host, id: UdpId, discovery: PathDiscovery) {
    let headers = HeaderOptions { discovery, ..HeaderOptions::default() };
    host.stack.udp_set_headers(id, headers, headers);
}
