//! vsock(7), with a host that the test plays (Virtio 1.2, section 5.10).

use alloc::vec::Vec;
use std::boxed::Box;

use linux_raw_sys::errno::*;
use linux_raw_sys::general as linux;
use linux_raw_sys::net::{AF_VSOCK, MSG_PEEK, MSG_WAITALL, SHUT_RD, SHUT_RDWR, SHUT_WR, SO_ERROR, SOL_SOCKET};
use unikernel_hal::sim::plain::{Device, Plain, Use};

use crate::workbench::app::files::{close, now_ms, read, set_nonblocking, sleep_ms, write};
use crate::workbench::app::net::{
    NONBLOCK, STREAM, accept, address_by, bind, connect, ioctl_int, listen, name, option_int, peer, recv,
    send, send_to, shutdown, socket, try_socket,
};
use crate::workbench::app::wait::{add, epoll, poll, wait};
use crate::workbench::app::{Machine, join, spawn};

/// Who is who.
const GUEST: u64 = 3;
const HOST: u64 = 2;
/// Queues.
const RX: u16 = 0;
const TX: u16 = 1;
const EVENTS: u16 = 2;
/// Operations.
const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const RESET: u16 = 3;
const SHUTDOWN: u16 = 4;
const DATA: u16 = 5;
const CREDIT_UPDATE: u16 = 6;
const CREDIT_REQUEST: u16 = 7;
/// Flags of a shutdown.
const NO_RECEIVE: u32 = 1;
const NO_SEND: u32 = 2;
/// `VMADDR_PORT_ANY`, `VMADDR_CID_ANY`.
const ANY: u32 = u32::MAX;
const IN: u32 = linux::POLLIN;
const OUT: u32 = linux::POLLOUT;
const HUP: u32 = linux::POLLHUP;
const RDHUP: u32 = linux::POLLRDHUP;
const DEVICE: Device = Device(0);

/// A packet.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Packet {
    from: (u64, u32),
    to: (u64, u32),
    kind: u16,
    operation: u16,
    flags: u32,
    /// The sender's room, and how much its app has taken.
    room: u32,
    taken: u32,
    data: Vec<u8>,
}

impl Packet {
    /// One of the host's, with much room, from `port` to `guest_port`.
    fn new(operation: u16, port: u32, guest_port: u32) -> Self {
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

    fn data(port: u32, guest_port: u32, data: &[u8]) -> Self {
        Self { data: data.to_vec(), ..Self::new(DATA, port, guest_port) }
    }

    /// The answer to this one.
    fn back(&self, operation: u16) -> Self {
        Self::new(operation, self.to.1, self.from.1)
    }

    fn encode(&self) -> Vec<u8> {
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

    fn decode(bytes: &[u8]) -> Self {
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
fn tell(packet: &Packet) {
    DEVICE.give(RX, &packet.encode());
}

/// What the guest has said to the host, if anything.
fn heard() -> Option<Packet> {
    DEVICE.take(TX).map(|bytes| Packet::decode(&bytes))
}

/// The next that the guest says, which is this.
#[track_caller]
fn expect(operation: u16) -> Packet {
    let packet = heard().expect("a packet");
    assert_eq!(packet.operation, operation, "{packet:?}");
    packet
}

/// Waits until the guest says something.
fn wait_for(operation: u16) -> Packet {
    for _ in 0..1000 {
        if let Some(packet) = heard() {
            assert_eq!(packet.operation, operation, "{packet:?}");
            return packet;
        }
        sleep_ms(1);
    }
    panic!("the guest says nothing");
}

#[track_caller]
fn run_with_host(app: impl FnOnce() + 'static) {
    let plug_in = || {
        let queues = Vec::from([Use::Source, Use::Sink, Use::Source]);
        Plain { device_type: 19, features: 0, config: GUEST.to_le_bytes().to_vec(), queues }.plug_in();
    };
    let outcome = Machine::default().run_with(plug_in, || {
        app();
        0
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
}

/// A `sockaddr_vm`.
fn address(cid: u32, port: u32) -> Vec<u8> {
    let mut bytes = (AF_VSOCK as u16).to_ne_bytes().to_vec();
    bytes.extend([0; 2]);
    bytes.extend(port.to_ne_bytes());
    bytes.extend(cid.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn stream() -> u64 {
    socket(AF_VSOCK, STREAM)
}

/// A connection that the guest has begun, to a port of the host's, and the guest's port.
fn connected(port: u32) -> (u64, u32) {
    let client = socket(AF_VSOCK, STREAM | NONBLOCK);
    assert_eq!(connect(client, &address(HOST as u32, port)), Err(EINPROGRESS));
    let request = expect(REQUEST);
    tell(&request.back(RESPONSE));
    assert_eq!(poll(client, OUT, 0), OUT);
    set_nonblocking(client, false);
    (client, request.from.1)
}

/// A listener on a port.
fn listener(port: u32, backlog: u64) -> u64 {
    let listener = stream();
    assert_eq!(bind(listener, &address(ANY, port)), Ok(0));
    assert_eq!(listen(listener, backlog), Ok(0));
    listener
}

#[test]
fn guest_connects_and_both_sides_talk() {
    run_with_host(|| {
        let client = socket(AF_VSOCK, STREAM | NONBLOCK);
        assert_eq!(poll(client, OUT | IN, 0), OUT | HUP);
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(EINPROGRESS));
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(EALREADY));
        assert_eq!((poll(client, OUT, 0), peer(client)), (0, Err(ENOTCONN)));
        let request = expect(REQUEST);
        assert_eq!((request.from.0, request.to, request.kind), (GUEST, (HOST, 80), 1));
        assert!(request.from.1 >= 1024 && request.room > 0);
        tell(&request.back(RESPONSE));
        assert_eq!((poll(client, OUT, 0), option_int(client, SOL_SOCKET, SO_ERROR)), (OUT, Ok(0)));
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(EISCONN));
        assert_eq!(peer(client), Ok(address(HOST as u32, 80)));
        assert_eq!(name(client), address(GUEST as u32, request.from.1));

        assert_eq!(write(client, b"question"), Ok(8));
        assert_eq!(expect(DATA).data, b"question");
        assert_eq!(read(client, 16), Err(EAGAIN));
        tell(&Packet { data: b"answer".to_vec(), ..request.back(DATA) });
        assert_eq!((poll(client, IN, 0), ioctl_int(client, linux_raw_sys::ioctl::FIONREAD)), (IN, Ok(6)));
        assert_eq!(recv(client, 3, MSG_PEEK), Ok(b"ans".to_vec()));
        assert_eq!((read(client, 3), read(client, 16)), (Ok(b"ans".to_vec()), Ok(b"wer".to_vec())));
        assert_eq!(send_to(client, b"x", 0, &address(HOST as u32, 80)), Err(EISCONN));
    });
}

#[test]
fn host_connects_to_who_listens() {
    run_with_host(|| {
        let server = listener(5000, 2);
        assert_eq!(option_int(server, SOL_SOCKET, linux_raw_sys::net::SO_ACCEPTCONN), Ok(1));
        assert_eq!(name(server), address(ANY, 5000));
        assert_eq!(poll(server, IN, 0), 0);
        for port in 100..103 {
            tell(&Packet::new(REQUEST, port, 5000));
        }
        // The queue has room for two; nobody listens elsewhere.
        tell(&Packet::new(REQUEST, 100, 5001));
        assert_eq!(poll(server, IN, 0), IN);
        let answers: Vec<(u16, u32, u32)> =
            core::iter::from_fn(heard).map(|packet| (packet.operation, packet.from.1, packet.to.1)).collect();
        assert!(answers.contains(&(RESET, 5000, 102)) && answers.contains(&(RESET, 5001, 100)), "{answers:?}");
        assert!(answers.contains(&(RESPONSE, 5000, 100)) && answers.contains(&(RESPONSE, 5000, 101)));
        let first = accept(server).unwrap();
        assert_eq!(peer(first), Ok(address(HOST as u32, 100)));
        assert_eq!(name(first), address(GUEST as u32, 5000));
        tell(&Packet::data(100, 5000, b"hello"));
        assert_eq!(read(first, 16), Ok(b"hello".to_vec()));
        let (second, from) = {
            let second = accept(server).unwrap();
            (second, address_by(linux::__NR_getpeername, second))
        };
        assert_eq!(from, Ok(address(HOST as u32, 101)));
        set_nonblocking(server, true);
        assert_eq!(accept(server), Err(EAGAIN));
        // Who waits in the queue of a listener that goes is turned away.
        tell(&Packet::new(REQUEST, 104, 5000));
        expect(RESPONSE);
        close(server);
        assert_eq!(expect(RESET).to, (HOST, 104));
        assert_eq!(write(second, b"still"), Ok(5));
        assert_eq!((expect(DATA).data, first > 0), (b"still".to_vec(), true));
    });
}

#[test]
fn blocking_calls_wait_for_the_host() {
    run_with_host(|| {
        let host = spawn(|| {
            let request = wait_for(REQUEST);
            tell(&request.back(RESPONSE));
            let data = wait_for(DATA);
            tell(&Packet { data: data.data.clone(), ..data.back(DATA) });
            tell(&Packet { flags: NO_SEND, ..data.back(SHUTDOWN) });
            sleep_ms(5);
            tell(&Packet::new(REQUEST, 7, 5000));
        });
        let host = host.unwrap();
        let server = listener(5000, 1);
        let client = stream();
        assert_eq!(connect(client, &address(HOST as u32, 80)), Ok(0));
        assert_eq!(write(client, b"echo"), Ok(4));
        assert_eq!(recv(client, 4, MSG_WAITALL), Ok(b"echo".to_vec()));
        assert_eq!(read(client, 4), Ok(Vec::new()));
        let accepted = accept(server).unwrap();
        assert_eq!(peer(accepted), Ok(address(HOST as u32, 7)));
        join(host);
    });
}

#[test]
fn refused_attempt_can_be_repeated() {
    run_with_host(|| {
        let client = socket(AF_VSOCK, STREAM | NONBLOCK);
        assert_eq!(connect(client, &address(HOST as u32, 81)), Err(EINPROGRESS));
        let request = expect(REQUEST);
        tell(&request.back(RESET));
        assert_ne!(poll(client, OUT, 0) & HUP, 0);
        assert_eq!(option_int(client, SOL_SOCKET, SO_ERROR), Ok(ECONNRESET as i32));
        assert_eq!(option_int(client, SOL_SOCKET, SO_ERROR), Ok(0));
        assert_eq!(connect(client, &address(HOST as u32, 82)), Err(EINPROGRESS));
        let request = expect(REQUEST);
        tell(&request.back(RESPONSE));
        assert_eq!(connect(client, &address(HOST as u32, 82)), Err(EISCONN));
        // Something else than an answer to the request is a refusal.
        let other = socket(AF_VSOCK, STREAM | NONBLOCK);
        assert_eq!(connect(other, &address(HOST as u32, 83)), Err(EINPROGRESS));
        let request = expect(REQUEST);
        tell(&Packet { data: b"early".to_vec(), ..request.back(DATA) });
        assert_eq!(connect(other, &address(HOST as u32, 83)), Err(ECONNRESET));
    });
}

#[test]
fn silent_host_is_waited_for_no_longer_than_linux_does() {
    run_with_host(|| {
        let (client, start_ms) = (stream(), now_ms());
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(ETIMEDOUT));
        assert!((2000..2100).contains(&(now_ms() - start_ms)), "{} ms", now_ms() - start_ms);
        let request = expect(REQUEST);
        // It is told, and a late answer finds nobody.
        expect(RESET);
        tell(&request.back(RESPONSE));
        expect(RESET);
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(ETIMEDOUT));
    });
}

#[test]
fn names_are_checked() {
    run_with_host(|| {
        let client = stream();
        assert_eq!(connect(client, &address(HOST as u32, 80)[..8]), Err(EINVAL));
        assert_eq!(connect(client, &address(GUEST as u32, 80)), Err(ENODEV));
        assert_eq!(connect(client, &address(1, 80)), Err(ENODEV));
        assert_eq!(bind(client, &address(9, 80)), Err(EADDRNOTAVAIL));
        assert_eq!(listen(client, 1), Err(EINVAL));
        assert_eq!(accept(client), Err(EINVAL));
        assert_eq!((read(client, 1), write(client, b"x")), (Err(ENOTCONN), Err(ENOTCONN)));
        assert_eq!((shutdown(client, SHUT_RD), peer(client)), (Err(ENOTCONN), Err(ENOTCONN)));
        assert_eq!(name(client), address(ANY, ANY));
        assert_eq!(bind(client, &address(GUEST as u32, 80)), Ok(0));
        assert_eq!(name(client), address(ANY, 80));
        assert_eq!(bind(client, &address(ANY, 81)), Err(EINVAL));
        let second = stream();
        assert_eq!(bind(second, &address(ANY, 80)), Err(EADDRINUSE));
        assert_eq!(bind(second, &address(ANY, ANY)), Ok(0));
        assert_eq!(try_socket(AF_VSOCK, STREAM, 77).map(|_| ()), Err(EPROTONOSUPPORT));
        assert_eq!(try_socket(AF_VSOCK, 3, 0).map(|_| ()), Err(ESOCKTNOSUPPORT));
        assert_eq!(heard(), None);
    });
}

#[test]
fn bound_port_is_where_the_connection_comes_from() {
    run_with_host(|| {
        let client = socket(AF_VSOCK, STREAM | NONBLOCK);
        assert_eq!(bind(client, &address(ANY, 700)), Ok(0));
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(EINPROGRESS));
        let request = expect(REQUEST);
        assert_eq!(request.from, (GUEST, 700));
        tell(&request.back(RESET));
        assert_eq!(option_int(client, SOL_SOCKET, SO_ERROR), Ok(ECONNRESET as i32));
        // The port stays the socket's.
        assert_eq!((name(client), listen(client, 1)), (address(ANY, 700), Ok(0)));
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(EINVAL));
        close(client);
        assert_eq!(bind(stream(), &address(ANY, 700)), Ok(0));
    });
}

#[test]
fn sender_waits_for_credit() {
    run_with_host(|| {
        let client = socket(AF_VSOCK, STREAM | NONBLOCK);
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(EINPROGRESS));
        let request = expect(REQUEST);
        tell(&Packet { room: 1000, ..request.back(RESPONSE) });
        let bytes: Vec<u8> = (0..200_000u32).map(|at| (at / 3) as u8).collect();
        let mut taken = write(client, &bytes).unwrap();
        assert!((1000..200_000).contains(&taken), "{taken}");
        assert_eq!((write(client, b"x"), poll(client, OUT, 0)), (Err(EAGAIN), 0));
        let mut got = expect(DATA).data;
        assert_eq!((got.len(), heard()), (1000, None));
        // The host takes the bytes, and says so.
        while got.len() < bytes.len() {
            let credit = Packet { room: 1000, taken: got.len() as u32, ..request.back(CREDIT_UPDATE) };
            tell(&credit);
            while let Some(packet) = heard() {
                assert_eq!(packet.operation, DATA);
                got.extend(packet.data);
            }
            if taken < bytes.len() {
                taken += write(client, &bytes[taken..]).unwrap_or(0);
                core::iter::from_fn(heard).for_each(|packet| got.extend(packet.data));
            }
        }
        assert!(got == bytes, "bytes in their order");
    });
}

#[test]
fn receiver_tells_of_its_room() {
    run_with_host(|| {
        let (client, port) = connected(80);
        tell(&Packet::new(CREDIT_REQUEST, 80, port));
        let credit = expect(CREDIT_UPDATE);
        assert_eq!(credit.taken, 0);
        let room = credit.room as usize;
        let chunk = [7; 4000];
        let mut given = 0;
        while given + chunk.len() <= room {
            tell(&Packet::data(80, port, &chunk));
            given += chunk.len();
        }
        assert_eq!(heard(), None);
        let mut taken = 0;
        while taken < given {
            taken += read(client, 10_000).unwrap().len();
        }
        // Without being asked, once the host knows of little room only.
        let last = core::iter::from_fn(heard).last().expect("an update");
        assert_eq!((last.operation, last.room as usize), (CREDIT_UPDATE, room));
        assert!(last.taken as usize >= room / 2 && last.taken as usize <= taken);
    });
}

#[test]
fn host_that_sends_more_than_it_may_is_reset() {
    run_with_host(|| {
        let (client, port) = connected(80);
        let chunk = [1; 4000];
        for _ in 0..17 {
            tell(&Packet::data(80, port, &chunk));
        }
        assert_eq!(expect(RESET).to, (HOST, 80));
        // What came before can be read; then that is all.
        let mut total = 0;
        while let Ok(bytes) = read(client, 100_000)
            && !bytes.is_empty()
        {
            total += bytes.len();
        }
        assert_eq!(total, 16 * 4000);
        assert_eq!(send(client, b"x", linux_raw_sys::net::MSG_NOSIGNAL), Err(EPIPE));
    });
}

#[test]
fn directions_end_one_by_one() {
    run_with_host(|| {
        let (client, port) = connected(80);
        assert_eq!(shutdown(client, SHUT_WR), Ok(0));
        assert_eq!(expect(SHUTDOWN).flags, NO_SEND);
        assert_eq!(send(client, b"x", linux_raw_sys::net::MSG_NOSIGNAL), Err(EPIPE));
        tell(&Packet::data(80, port, b"more"));
        assert_eq!(read(client, 16), Ok(b"more".to_vec()));
        tell(&Packet { flags: NO_SEND, ..Packet::new(SHUTDOWN, 80, port) });
        assert_eq!(read(client, 16), Ok(Vec::new()));
        assert_eq!(poll(client, IN | RDHUP, 0), IN | RDHUP | HUP);

        let (other, port) = connected(81);
        tell(&Packet { flags: NO_RECEIVE, ..Packet::new(SHUTDOWN, 81, port) });
        assert_eq!(send(other, b"x", linux_raw_sys::net::MSG_NOSIGNAL), Err(EPIPE));
        assert_eq!(shutdown(other, SHUT_RDWR), Ok(0));
        assert_eq!(expect(SHUTDOWN).flags, NO_SEND | NO_RECEIVE);
        tell(&Packet { flags: NO_RECEIVE | NO_SEND, ..Packet::new(SHUTDOWN, 81, port) });
        expect(RESET);
        assert_eq!(shutdown(other, 3), Err(EINVAL));
    });
}

#[test]
fn close_sends_what_was_written() {
    run_with_host(|| {
        let (client, port) = connected(80);
        assert_eq!(write(client, b"last words"), Ok(10));
        close(client);
        assert_eq!(expect(DATA).data, b"last words");
        assert_eq!(expect(SHUTDOWN).flags, NO_RECEIVE | NO_SEND);
        tell(&Packet { flags: NO_RECEIVE | NO_SEND, ..Packet::new(SHUTDOWN, 80, port) });
        expect(RESET);
        // The connection is no more.
        tell(&Packet::data(80, port, b"late"));
        expect(RESET);
        let attempt = socket(AF_VSOCK, STREAM | NONBLOCK);
        assert_eq!(connect(attempt, &address(HOST as u32, 80)), Err(EINPROGRESS));
        expect(REQUEST);
        close(attempt);
        expect(RESET);
    });
}

#[test]
fn reset_ends_a_connection() {
    run_with_host(|| {
        let (client, port) = connected(80);
        let events = epoll();
        add(events, client, linux::EPOLLIN | linux::EPOLLRDHUP, 7).unwrap();
        tell(&Packet::data(80, port, b"unread"));
        tell(&Packet::new(RESET, 80, port));
        let heard_of = wait(events, 4, 0).unwrap();
        assert_eq!(heard_of, [(linux::EPOLLIN | linux::EPOLLRDHUP | linux::EPOLLHUP, 7)]);
        assert_eq!((read(client, 16), read(client, 16)), (Ok(b"unread".to_vec()), Ok(Vec::new())));
        assert_eq!(heard(), None, "no answer to a reset");
    });
}

#[test]
fn nonsense_is_refused_or_passed_over() {
    run_with_host(|| {
        let (client, port) = connected(80);
        // Of no kind that is known here: refused, and the connection is none of its business.
        tell(&Packet { kind: 2, ..Packet::data(80, port, b"seqpacket") });
        expect(RESET);
        // To another machine, or cut short, or with a length that is none: for nobody.
        tell(&Packet { to: (77, port), ..Packet::data(80, port, b"elsewhere") });
        let mut cut = Packet::data(80, port, b"12345678").encode();
        cut.truncate(48);
        DEVICE.give(RX, &cut);
        DEVICE.give(RX, &cut[..20]);
        DEVICE.give(RX, &[]);
        let mut long = Packet::data(80, port, b"").encode();
        long[24..28].fill(0xff);
        DEVICE.give(RX, &long);
        assert_eq!((heard(), poll(client, IN, 0)), (None, 0));
        // Operations that are none tell of credit, and no more.
        tell(&Packet::new(99, 80, port));
        tell(&Packet::new(0, 80, port));
        assert_eq!((heard(), poll(client, IN | OUT, 0)), (None, OUT));
        tell(&Packet::data(80, port, b"fine"));
        assert_eq!(read(client, 16), Ok(b"fine".to_vec()));
        // From who has no connection.
        tell(&Packet::data(4444, port, b"stranger"));
        assert_eq!(expect(RESET).to, (HOST, 4444));
        tell(&Packet::new(RESPONSE, 4444, port));
        expect(RESET);
        // A second request on a connection ends it.
        tell(&Packet::new(REQUEST, 80, port));
        assert_eq!(read(client, 16), Ok(Vec::new()));
    });
}

#[test]
fn machine_that_was_moved_has_another_number_and_no_connections() {
    run_with_host(|| {
        let (client, _) = connected(80);
        let server = listener(5000, 1);
        DEVICE.set_config(0, &9u64.to_le_bytes());
        DEVICE.give(EVENTS, &0u32.to_le_bytes());
        assert_eq!(read(client, 16), Ok(Vec::new()));
        tell(&Packet::new(REQUEST, 7, 5000));
        assert_eq!(heard(), None, "a packet for the number of before");
        tell(&Packet { to: (9, 5000), ..Packet::new(REQUEST, 7, 5000) });
        assert_eq!(expect(RESPONSE).from, (9, 5000));
        let accepted = accept(server).unwrap();
        assert_eq!(name(accepted), address(9, 5000));
    });
}

#[test]
fn host_without_a_device_is_out_of_reach() {
    crate::workbench::app::run::run(|| {
        assert_eq!(try_socket(AF_VSOCK, STREAM, 0).map(|_| ()), Err(EAFNOSUPPORT));
    });
}

#[test]
fn bytes_are_the_same_whatever_the_order_of_cores() {
    for seed in 0..6 {
        let plug_in = || {
            let queues = Vec::from([Use::Source, Use::Sink, Use::Source]);
            Plain { device_type: 19, features: 0, config: GUEST.to_le_bytes().to_vec(), queues }.plug_in();
        };
        let app: Box<dyn FnOnce() -> i32> = Box::new(|| {
            let host = spawn(|| {
                let request = wait_for(REQUEST);
                tell(&Packet { room: 3000, ..request.back(RESPONSE) });
                let mut taken = 0;
                while taken < 20_000 {
                    let data = wait_for(DATA);
                    taken += data.data.len() as u32;
                    tell(&Packet { room: 3000, taken, ..request.back(CREDIT_UPDATE) });
                    tell(&Packet { room: 3000, taken, data: data.data, ..request.back(DATA) });
                }
            });
            let client = stream();
            assert_eq!(connect(client, &address(HOST as u32, 80)), Ok(0));
            let bytes: Vec<u8> = (0..20_000u32).map(|at| (at / 7) as u8).collect();
            let sent = bytes.clone();
            let writer = spawn(move || crate::workbench::app::files::write_all(client, &sent).unwrap());
            assert!(recv(client, 20_000, MSG_WAITALL) == Ok(bytes), "what was sent comes back");
            join(writer.unwrap());
            join(host.unwrap());
            0
        });
        let outcome = Machine { seed, cores: 2, ..Machine::default() }.run_with(plug_in, app);
        assert_eq!(outcome.code, Some(0), "seed {seed}: {}", outcome.console);
    }
}
