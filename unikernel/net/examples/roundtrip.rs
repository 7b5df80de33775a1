//! Costs of one small request and its response, with 1 to 1024 flows open, over a NIC of two
//! fixed buffers that verifies checksums itself: the stack alone is measured.
//!
//! Run with `cargo run --release -p unikernel-net --example roundtrip`; the figures must stay
//! flat as flows are added. Under `valgrind --tool=callgrind` it counts instructions.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant as Clock;

use unikernel_net::smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, RxToken, TxToken};
use unikernel_net::smoltcp::time::Instant;
use unikernel_net::smoltcp::wire::{EthernetAddress, Ipv4Cidr};
use unikernel_net::{Addressing, BindOptions, Config, Ipv4Config, Segmenter, Stack, TcpId};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 10.0.2.15:8080\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";

/// One frame each way.
struct Nic {
    rx: [u8; 256],
    rx_len: usize,
    tx: [u8; 1600],
    tx_len: usize,
}

struct Rx<'a>(&'a [u8]);
struct Tx<'a>(&'a mut [u8; 1600], &'a mut usize);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        *self.1 = len;
        f(&mut self.0[..len])
    }
}

impl Segmenter for Nic {}

impl Device for Nic {
    type RxToken<'a> = Rx<'a>;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let len = std::mem::take(&mut self.rx_len);
        (len > 0).then_some((Rx(&self.rx[..len]), Tx(&mut self.tx, &mut self.tx_len)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx, &mut self.tx_len))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.max_transmission_unit = 1514;
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}

/// The client's side of one connection.
struct Client {
    port: u16,
    sequence: u32,
    ack: u32,
    server: Option<TcpId>,
}

const SYN: u8 = 2;
const PSH_ACK: u8 = 0x18;

impl Client {
    /// Puts a segment of this client into the NIC's receive buffer.
    fn send(&mut self, nic: &mut Nic, flags: u8, payload: &[u8]) {
        let frame = &mut nic.rx;
        frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 15, 2, 0, 0, 0, 0, 1]);
        frame[12..14].copy_from_slice(&[8, 0]);
        let total = 40 + payload.len() as u16;
        frame[14..34].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 2, 1, 10, 0, 2, 15]);
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame[34..36].copy_from_slice(&self.port.to_be_bytes());
        frame[36..38].copy_from_slice(&8080u16.to_be_bytes());
        frame[38..42].copy_from_slice(&self.sequence.to_be_bytes());
        frame[42..46].copy_from_slice(&self.ack.to_be_bytes());
        frame[46..54].copy_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame[54..54 + payload.len()].copy_from_slice(payload);
        nic.rx_len = 54 + payload.len();
        self.sequence = self.sequence.wrapping_add(payload.len() as u32 + u32::from(flags & SYN != 0));
    }

    /// Notes what the server has sent.
    fn take(&mut self, nic: &mut Nic) {
        let len = std::mem::take(&mut nic.tx_len);
        assert!(len >= 54, "no answer for port {}", self.port);
        let sequence = u32::from_be_bytes(nic.tx[38..42].try_into().expect("four bytes"));
        let is_syn = nic.tx[47] & SYN != 0;
        let header = 34 + usize::from(nic.tx[46] >> 4) * 4;
        self.ack = sequence.wrapping_add((len - header) as u32 + u32::from(is_syn));
    }
}

fn config() -> Config {
    let address = Ipv4Config {
        address: Ipv4Cidr::new(Ipv4Addr::new(10, 0, 2, 15), 24),
        gateway: None,
        dns: Vec::new(),
        routes: Vec::new(),
        time_servers: Vec::new(),
    };
    Config {
        tcp_rx_window: 4096,
        tcp_tx_limit: 4096,
        ..Config::new(EthernetAddress([2, 0, 0, 0, 0, 15]), Addressing::Static(address))
    }
}

fn serve(stack: &mut Stack, nic: &mut Nic, client: &mut Client, now: Instant) {
    stack.poll(now, nic);
    let id = client.server.expect("the client is connected");
    let mut read = 0;
    // The buffer is a ring: a request may come in two pieces.
    while read < REQUEST.len() {
        read += stack.tcp_recv(id, |bytes| (bytes.len(), bytes.len())).expect("a request waits").0;
    }
    let write = |room: &mut [u8]| {
        room[..RESPONSE.len()].copy_from_slice(RESPONSE);
        (RESPONSE.len(), ())
    };
    stack.tcp_send(id, RESPONSE.len(), write).expect("the buffer is empty");
    stack.flush(now, nic);
}

fn main() {
    let rounds: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(200_000);
    for flows in [1u16, 16, 256, 1024] {
        let mut nic = Nic { rx: [0; 256], rx_len: 0, tx: [0; 1600], tx_len: 0 };
        let mut random = 1u64;
        let source = move || {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            random
        };
        let mut stack = Stack::new(config(), Some(nic.capabilities()), Box::new(source), Instant::ZERO);
        let any: SocketAddr = (Ipv4Addr::UNSPECIFIED, 8080).into();
        let listener = stack.tcp_bind(any, BindOptions::default()).expect("the port is free");
        stack.tcp_listen(listener, 1024).expect("nobody else listens");
        let mut clients: Vec<Client> = (0..flows)
            .map(|index| Client { port: 10_000 + index, sequence: 1, ack: 0, server: None })
            .collect();
        for client in &mut clients {
            client.send(&mut nic, SYN, &[]);
            stack.poll(Instant::ZERO, &mut nic);
            stack.flush(Instant::ZERO, &mut nic);
            client.take(&mut nic);
            client.send(&mut nic, PSH_ACK, REQUEST);
            stack.poll(Instant::ZERO, &mut nic);
            client.server = Some(stack.tcp_accept(listener).expect("a connection waits"));
            serve(&mut stack, &mut nic, client, Instant::ZERO);
            client.take(&mut nic);
        }
        let mut events = Vec::new();
        let start = Clock::now();
        for round in 0..rounds {
            let now = Instant::from_micros(i64::from(round) * 20);
            let client = &mut clients[round as usize % usize::from(flows)];
            client.send(&mut nic, PSH_ACK, REQUEST);
            serve(&mut stack, &mut nic, client, now);
            client.take(&mut nic);
            stack.take_events(&mut events);
            events.clear();
        }
        let nanoseconds = start.elapsed().as_nanos() as f64 / f64::from(rounds);
        println!("{flows:5} flows: {nanoseconds:7.1} ns per request and response");
    }
}
