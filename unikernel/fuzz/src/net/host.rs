//! A stack with a card made of two queues, and a clock that the input moves.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use unikernel_net::smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use unikernel_net::smoltcp::time::{Duration, Instant};
use unikernel_net::smoltcp::wire::{EthernetAddress, Ipv4Cidr};
use unikernel_net::{Addressing, Config, Ipv4Config, Segmenter, Stack};

use super::frame;

pub(super) const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 15];
pub(super) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub(super) const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);

/// A card.
pub(super) struct Nic {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
    /// Frames that it takes before it has sent some.
    pub(super) room: usize,
}

pub(super) struct Rx(Vec<u8>);
pub(super) struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

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
        (self.tx.len() < self.room).then_some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl Segmenter for Nic {}

/// Sizes for a small machine, so that tables fill soon.
pub(super) fn config(addressing: Addressing) -> Config {
    Config {
        tcp_rx_window: 8192,
        tcp_rx_limit: 16_384,
        tcp_tx_limit: 8192,
        max_flows: 8,
        max_half_open: 4,
        max_backlog: 4,
        spare_flows: 2,
        time_wait_slots: 4,
        max_neighbors: 8,
        udp_rx_bytes: 8192,
        queue_packets: 16,
        ..Config::new(EthernetAddress(OWN_MAC), addressing)
    }
}

/// [`OWN`], in the network of [`PEER`].
pub(super) fn fixed() -> Addressing {
    Addressing::Static(Ipv4Config {
        address: Ipv4Cidr::new(OWN, 24),
        gateway: Some(PEER),
        dns: Vec::new(),
        routes: Vec::new(),
        time_servers: Vec::new(),
    })
}

pub(super) struct Host {
    pub(super) stack: Stack,
    pub(super) nic: Nic,
    pub(super) now: Instant,
}

impl Host {
    pub(super) fn new(config: Config) -> Self {
        let nic = Nic { rx: VecDeque::new(), tx: VecDeque::new(), room: 64 };
        let mut state = 7_u64;
        let random = move || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            state ^ state >> 29
        };
        let stack = Stack::new(config, Some(nic.capabilities()), Box::new(random), Instant::ZERO);
        Self { stack, nic, now: Instant::ZERO }
    }

    /// Takes a frame in.
    pub(super) fn receive(&mut self, frame: Vec<u8>) {
        self.nic.rx.push_back(frame);
    }

    /// Lets time pass, and the stack do what is due. Answers what it has sent, each of which must be a frame as others take it.
    pub(super) fn run(&mut self, by: Duration) -> Vec<Vec<u8>> {
        self.now += by;
        self.stack.poll(self.now, &mut self.nic);
        self.stack.flush(self.now, &mut self.nic);
        let sent: Vec<Vec<u8>> = self.nic.tx.drain(..).collect();
        for frame in &sent {
            assert!(frame[6..12] == OWN_MAC, "somebody else's address: {frame:02x?}");
            assert_eq!(frame::fault(frame), None, "{frame:02x?}");
        }
        assert!(self.stack.poll_at().is_none_or(|at| at >= Instant::ZERO));
        let _ = self.stack.can_reach(IpAddr::V4(PEER));
        sent
    }
}
