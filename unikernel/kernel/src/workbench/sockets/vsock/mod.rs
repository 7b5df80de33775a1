//! vsock(7), with a host that the test plays (Virtio 1.2, section 5.10): its packets, and how it is asked.

mod host_tests;
mod stream_tests;

use alloc::vec::Vec;

use linux_raw_sys::errno::*;
use linux_raw_sys::general as linux;
use linux_raw_sys::net::AF_VSOCK;
use unikernel_hal::sim::plain::{Device, Plain, Use};

use crate::workbench::app::Machine;
use crate::workbench::app::files::{set_nonblocking, sleep_ms};
use crate::workbench::app::net::{NONBLOCK, STREAM, bind, connect, listen, socket};
use crate::workbench::app::wait::poll;

/// Who is who.
pub(super) const GUEST: u64 = 3;
pub(super) const HOST: u64 = 2;
/// Queues.
pub(super) const RX: u16 = 0;
pub(super) const TX: u16 = 1;
pub(super) const EVENTS: u16 = 2;
/// Operations.
pub(super) const REQUEST: u16 = 1;
pub(super) const RESPONSE: u16 = 2;
pub(super) const RESET: u16 = 3;
pub(super) const SHUTDOWN: u16 = 4;
pub(super) const DATA: u16 = 5;
pub(super) const CREDIT_UPDATE: u16 = 6;
pub(super) const CREDIT_REQUEST: u16 = 7;
/// Flags of a shutdown.
pub(super) const NO_RECEIVE: u32 = 1;
pub(super) const NO_SEND: u32 = 2;
/// `VMADDR_PORT_ANY`, `VMADDR_CID_ANY`.
pub(super) const ANY: u32 = u32::MAX;
pub(super) const IN: u32 = linux::POLLIN;
pub(super) const OUT: u32 = linux::POLLOUT;
pub(super) const HUP: u32 = linux::POLLHUP;
pub(super) const RDHUP: u32 = linux::POLLRDHUP;
pub(super) const DEVICE: Device = Device(0);

/// A packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Packet {
    pub(super) from: (u64, u32),
    pub(super) to: (u64, u32),
    pub(super) kind: u16,
    pub(super) operation: u16,
    pub(super) flags: u32,
    /// The sender's room, and how much its app has taken.
    pub(super) room: u32,
    pub(super) taken: u32,
    pub(super) data: Vec<u8>,
}

impl Packet {
    /// One of the host's, with much room, from `port` to `guest_port`.
    pub(super) fn new(operation: u16, port: u32, guest_port: u32) -> Self {
        Self {
            from: (HOST, port),
            to: (GUEST, guest_port),
            kind: 1,
            operation,
            flags: 0,
            room: 1 << 18,
            taken: 0,
            data: Vec::new(),
        }
    }

    pub(super) fn data(port: u32, guest_port: u32, data: &[u8]) -> Self {
        Self { data: data.to_vec(), ..Self::new(DATA, port, guest_port) }
    }

    /// The answer to this one.
    pub(super) fn back(&self, operation: u16) -> Self {
        Self::new(operation, self.to.1, self.from.1)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.from.0.to_le_bytes());
        bytes.extend(self.to.0.to_le_bytes());
        bytes.extend(self.from.1.to_le_bytes());
        bytes.extend(self.to.1.to_le_bytes());
        bytes.extend((self.data.len() as u32).to_le_bytes());
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.operation.to_le_bytes());
        bytes.extend([self.flags, self.room, self.taken].iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(&self.data);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let wide = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        assert_eq!(word(24) as usize, bytes.len() - 44, "the length that the header tells");
        Self {
            from: (wide(0), word(16)),
            to: (wide(8), word(20)),
            kind: word(28) as u16,
            operation: (word(28) >> 16) as u16,
            flags: word(32),
            room: word(36),
            taken: word(40),
            data: bytes[44..].to_vec(),
        }
    }
}

/// The host says something.
pub(super) fn tell(packet: &Packet) {
    DEVICE.give(RX, &packet.encode());
}

/// What the guest has said to the host, if anything.
pub(super) fn heard() -> Option<Packet> {
    DEVICE.take(TX).map(|bytes| Packet::decode(&bytes))
}

/// The next that the guest says, which is this.
#[track_caller]
pub(super) fn expect(operation: u16) -> Packet {
    let packet = heard().expect("a packet");
    assert_eq!(packet.operation, operation, "{packet:?}");
    packet
}

/// Waits until the guest says something.
pub(super) fn wait_for(operation: u16) -> Packet {
    for _ in 0..1000 {
        if let Some(packet) = heard() {
            assert_eq!(packet.operation, operation, "{packet:?}");
            return packet;
        }
        sleep_ms(1);
    }
    panic!("the guest says nothing");
}

/// Runs the app on a machine with a host that listens and speaks.
#[track_caller]
pub(super) fn run_on(machine: Machine, app: impl FnOnce() + 'static) {
    let plug_in = || {
        let queues = Vec::from([Use::Source, Use::Sink, Use::Source]);
        Plain { device_type: 19, features: 0, config: GUEST.to_le_bytes().to_vec(), queues }.plug_in();
    };
    let seed = machine.seed;
    let outcome = machine.run_with(plug_in, || {
        app();
        0
    });
    assert_eq!(outcome.code, Some(0), "seed {seed}: {}", outcome.console);
}

#[track_caller]
pub(super) fn run_with_host(app: impl FnOnce() + 'static) {
    run_on(Machine::default(), app);
}

/// A `sockaddr_vm`.
pub(super) fn address(cid: u32, port: u32) -> Vec<u8> {
    let mut bytes = (AF_VSOCK as u16).to_ne_bytes().to_vec();
    bytes.extend([0; 2]);
    bytes.extend(port.to_ne_bytes());
    bytes.extend(cid.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes
}

pub(super) fn stream() -> u64 {
    socket(AF_VSOCK, STREAM)
}

/// A connection that the guest has begun, to a port of the host's, and the guest's port.
pub(super) fn connected(port: u32) -> (u64, u32) {
    let client = socket(AF_VSOCK, STREAM | NONBLOCK);
    assert_eq!(connect(client, &address(HOST as u32, port)), Err(EINPROGRESS));
    let request = expect(REQUEST);
    tell(&request.back(RESPONSE));
    assert_eq!(poll(client, OUT, 0), OUT);
    set_nonblocking(client, false);
    (client, request.from.1)
}

/// A listener on a port.
pub(super) fn listener(port: u32, backlog: u64) -> u64 {
    let listener = stream();
    assert_eq!(bind(listener, &address(ANY, port)), Ok(0));
    assert_eq!(listen(listener, backlog), Ok(0));
    listener
}
