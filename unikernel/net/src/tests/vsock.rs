//! Streams between two machines, whose packets are carried by hand.

use alloc::vec;
use alloc::vec::Vec;

use super::Rng;
use crate::vsock::{ANY_PORT, Attempt, HEADER_BYTES, Vsock, VsockAddress, VsockId};
use crate::{AcceptError, BindError, Readiness, RecvError, SendError};

/// The host, as every guest knows it, and a guest.
const HOST: u64 = 2;
const GUEST: u64 = 42;
/// A device's buffer.
const BUFFER_BYTES: usize = 4096;

struct Pair {
    host: Vsock,
    guest: Vsock,
}

fn carry(from: &mut Vsock, to: &mut Vsock) -> bool {
    let mut buffer = vec![0; BUFFER_BYTES];
    let Some(len) = from.packet_out(&mut buffer) else { return false };
    to.packet_in(&buffer[..len], true);
    true
}

impl Pair {
    fn new() -> Self {
        Self { host: Vsock::new(HOST), guest: Vsock::new(GUEST) }
    }

    /// Carries packets until nobody has any.
    fn settle(&mut self) {
        while carry(&mut self.host, &mut self.guest) | carry(&mut self.guest, &mut self.host) {}
    }

    /// A connection from the guest to a listener of the host.
    fn connect(&mut self) -> (VsockId, VsockId) {
        self.host.bind(80).unwrap();
        self.host.listen(80, 4);
        let client = self.guest.connect(ANY_PORT, VsockAddress { cid: HOST, port: 80 }).unwrap();
        assert_eq!(self.guest.attempt(client), Attempt::Pending);
        self.settle();
        assert_eq!(self.guest.attempt(client), Attempt::Connected);
        (self.host.accept(80).unwrap(), client)
    }
}

fn read(vsock: &mut Vsock, id: VsockId) -> Result<Vec<u8>, RecvError> {
    vsock.recv(id, |bytes| (bytes.len(), bytes.to_vec()))
}

#[test]
fn bytes_pass_in_order_however_much_there_is() {
    let mut pair = Pair::new();
    let (server, client) = pair.connect();
    let mut rng = Rng(5);
    let sent: Vec<u8> = (0..1_000_000).map(|_| rng.next() as u8).collect();
    let (mut written, mut received) = (0, Vec::new());
    while received.len() < sent.len() {
        let room = pair.guest.room(client).unwrap_or(0).min(sent.len() - written);
        let count = room.min(rng.below(9000) as usize);
        pair.guest.send(client, &sent[written..written + count]).unwrap();
        written += count;
        (0..rng.below(4)).for_each(|_| _ = carry(&mut pair.guest, &mut pair.host));
        if rng.below(3) == 0 {
            received.extend(read(&mut pair.host, server).unwrap_or_default());
        }
        carry(&mut pair.host, &mut pair.guest);
    }
    assert!(received == sent);
}

#[test]
fn reader_who_does_not_read_holds_the_writer_up() {
    let mut pair = Pair::new();
    let (server, client) = pair.connect();
    let mut written = 0;
    while let Ok(room) = pair.guest.room(client) {
        pair.guest.send(client, &vec![7; room]).unwrap();
        written += room;
        pair.settle();
    }
    assert_eq!(pair.guest.room(client), Err(SendError::WouldBlock));
    assert_eq!(pair.host.queues(server).0 + pair.guest.queues(client).1, written);
    assert!(!pair.guest.readiness(client).contains(Readiness::OUT));
    read(&mut pair.host, server).unwrap();
    pair.settle();
    assert!(pair.guest.readiness(client).contains(Readiness::OUT), "the credit is told");
}

#[test]
fn packet_for_an_unknown_purpose_tells_of_credit_only() {
    let mut pair = Pair::new();
    let (_, client) = pair.connect();
    let mut buffer = vec![0; BUFFER_BYTES];
    pair.guest.send(client, b"hello").unwrap();
    let len = pair.guest.packet_out(&mut buffer).unwrap();
    for purpose in [0, 99] {
        buffer[30] = purpose;
        pair.host.packet_in(&buffer[..len], true);
        assert_eq!(pair.host.packet_out(&mut vec![0; BUFFER_BYTES]), None, "it is answered");
    }
    buffer[28] = 7;
    pair.host.packet_in(&buffer[..len], true);
    pair.settle();
    assert_eq!(read(&mut pair.guest, client), Err(RecvError::Finished), "another type is refused");
}

#[test]
fn nobody_listens_refuses() {
    let mut pair = Pair::new();
    let client = pair.guest.connect(ANY_PORT, VsockAddress { cid: HOST, port: 81 }).unwrap();
    pair.settle();
    assert_eq!(pair.guest.attempt(client), Attempt::Refused);
    assert!(pair.guest.readiness(client).contains(Readiness::HUP));
}

#[test]
fn full_backlog_refuses() {
    let mut pair = Pair::new();
    pair.host.bind(80).unwrap();
    pair.host.listen(80, 2);
    let connect =
        |pair: &mut Pair| pair.guest.connect(ANY_PORT, VsockAddress { cid: HOST, port: 80 }).unwrap();
    let clients: Vec<VsockId> = (0..3).map(|_| connect(&mut pair)).collect();
    pair.settle();
    let attempts: Vec<Attempt> = clients.iter().map(|id| pair.guest.attempt(*id)).collect();
    assert_eq!(attempts, [Attempt::Connected, Attempt::Connected, Attempt::Refused]);
    pair.host.unbind(80);
    pair.settle();
    assert_eq!(read(&mut pair.guest, clients[0]), Err(RecvError::Finished), "nobody accepts it any more");
    assert_eq!(pair.host.accept(80), Err(AcceptError::NotListening));
}

#[test]
fn half_close_lets_the_answer_through() {
    let mut pair = Pair::new();
    let (server, client) = pair.connect();
    pair.guest.send(client, b"question").unwrap();
    pair.guest.shut_down(client, false, true);
    pair.settle();
    assert_eq!(pair.guest.room(client), Err(SendError::Closed));
    assert_eq!(read(&mut pair.host, server).unwrap(), b"question");
    assert_eq!(read(&mut pair.host, server), Err(RecvError::Finished));
    pair.host.send(server, b"answer").unwrap();
    pair.host.close(server);
    pair.settle();
    assert_eq!(read(&mut pair.guest, client).unwrap(), b"answer");
    assert_eq!(read(&mut pair.guest, client), Err(RecvError::Finished));
}

#[test]
fn closed_connections_leave_nothing_behind() {
    let mut pair = Pair::new();
    let (server, client) = pair.connect();
    pair.guest.close(client);
    pair.settle();
    assert!(pair.guest.addresses(client).is_none(), "the host has let go of it");
    assert_eq!(pair.host.room(server), Err(SendError::Closed));
    pair.host.close(server);
    pair.settle();
    assert!(pair.host.addresses(server).is_none());
}

#[test]
fn host_that_never_lets_go_costs_little() {
    let mut guest = Vsock::new(GUEST);
    let mut host = Vsock::new(HOST);
    host.bind(80).unwrap();
    host.listen(80, 1000);
    let ids: Vec<VsockId> = (0..500)
        .map(|_| {
            let id = guest.connect(ANY_PORT, VsockAddress { cid: HOST, port: 80 }).unwrap();
            while carry(&mut guest, &mut host) | carry(&mut host, &mut guest) {}
            guest.close(id);
            id
        })
        .collect();
    // Nothing is carried any more.
    let kept = ids.iter().filter(|id| guest.addresses(**id).is_some()).count();
    assert!(kept <= 64, "{kept} are kept");
}

#[test]
fn moved_machine_loses_its_connections() {
    let mut pair = Pair::new();
    let (_, client) = pair.connect();
    pair.guest.reset(43);
    assert_eq!((pair.guest.cid(), pair.guest.has_output()), (43, false));
    assert_eq!(read(&mut pair.guest, client), Err(RecvError::Finished));
}

#[test]
fn ports_are_held_once() {
    let mut vsock = Vsock::new(GUEST);
    assert_eq!(vsock.bind(80), Ok(80));
    assert_eq!(vsock.bind(80), Err(BindError::InUse));
    let chosen = vsock.bind(ANY_PORT).unwrap();
    assert_ne!(vsock.bind(ANY_PORT), Ok(chosen));
    vsock.unbind(80);
    assert_eq!(vsock.bind(80), Ok(80));
}

#[test]
fn noise_is_survived() {
    let mut rng = Rng(9);
    let mut pair = Pair::new();
    let (_, client) = pair.connect();
    let mut buffer = vec![0; BUFFER_BYTES];
    for _ in 0..200_000 {
        let len = rng.below(200) as usize;
        buffer[..len].iter_mut().for_each(|byte| *byte = rng.next() as u8);
        if rng.below(2) == 0 && len > HEADER_BYTES {
            // Of a connection that there is, or for the listener.
            let port = pair.guest.addresses(client).map_or(80, |(local, _)| local.port);
            buffer[..8].copy_from_slice(&HOST.to_le_bytes());
            buffer[8..16].copy_from_slice(&GUEST.to_le_bytes());
            buffer[16..20].copy_from_slice(&80u32.to_le_bytes());
            buffer[20..24].copy_from_slice(&port.to_le_bytes());
            buffer[24..28].copy_from_slice(&(rng.below(200) as u32).to_le_bytes());
            buffer[28..32].copy_from_slice(&[1, 0, rng.below(9) as u8, 0]);
        }
        pair.guest.packet_in(&buffer[..len], true);
        if rng.below(4) == 0 {
            pair.guest.packet_out(&mut buffer);
            pair.guest.take_events();
        }
    }
}

/// A packet of the host's, to the guest's connection that `seen`, a packet of the guest's, is of.
fn answer_to(seen: &[u8], operation: u16, [room, taken]: [u32; 2], data: &[u8]) -> Vec<u8> {
    let mut packet = seen[..HEADER_BYTES].to_vec();
    let (from, to) = (&seen[..8], &seen[8..16]);
    packet[..8].copy_from_slice(to);
    packet[8..16].copy_from_slice(from);
    packet[16..20].copy_from_slice(&seen[20..24]);
    packet[20..24].copy_from_slice(&seen[16..20]);
    packet[24..28].copy_from_slice(&(data.len() as u32).to_le_bytes());
    packet[30..32].copy_from_slice(&operation.to_le_bytes());
    packet[36..40].copy_from_slice(&room.to_le_bytes());
    packet[40..44].copy_from_slice(&taken.to_le_bytes());
    packet.extend(data);
    packet
}

/// Packets that the guest has for a host that has not taken any before.
fn left_over(guest: &mut Vsock) -> usize {
    let mut buffer = vec![0; BUFFER_BYTES];
    core::iter::from_fn(|| guest.packet_out(&mut buffer)).count()
}

#[test]
fn a_host_that_takes_nothing_makes_nothing_pile_up() {
    let peer = |port| VsockAddress { cid: HOST, port };
    let mut guest = Vsock::new(GUEST);
    // Attempts that are given up before the host has heard of them.
    for port in 0..10_000 {
        let id = guest.connect(ANY_PORT, peer(port)).unwrap();
        guest.abort(id);
    }
    assert_eq!(left_over(&mut guest), 0);
    // Questions that it asks, and takes no answer to; connections that it begins, and drops.
    let mut pair = Pair::new();
    let (_, client) = pair.connect();
    pair.guest.send(client, b"x").unwrap();
    let mut buffer = vec![0; BUFFER_BYTES];
    let len = pair.guest.packet_out(&mut buffer).unwrap();
    let question = answer_to(&buffer[..len], 7, [1 << 16, 1], b"");
    (0..10_000).for_each(|_| pair.guest.packet_in(&question, true));
    assert_eq!(left_over(&mut pair.guest), 1);
    pair.guest.bind(90).unwrap();
    pair.guest.listen(90, 4);
    for port in 0..10_000_u32 {
        for operation in [1, 3] {
            let mut packet = answer_to(&buffer[..len], operation, [1 << 16, 0], b"");
            packet[16..20].copy_from_slice(&port.to_le_bytes());
            packet[20..24].copy_from_slice(&90_u32.to_le_bytes());
            pair.guest.packet_in(&packet, true);
            while let Ok(id) = pair.guest.accept(90) {
                pair.guest.close(id);
            }
        }
    }
    assert!(left_over(&mut pair.guest) <= 2000);
}

#[test]
fn credit_that_is_a_lie_sends_no_more_than_there_is() {
    for credit in [[0, 0], [u32::MAX, 0], [u32::MAX, u32::MAX], [1, 77], [0, u32::MAX]] {
        let mut pair = Pair::new();
        let (_, client) = pair.connect();
        pair.guest.send(client, b"x").unwrap();
        let mut buffer = vec![0; BUFFER_BYTES];
        let len = pair.guest.packet_out(&mut buffer).unwrap();
        pair.guest.packet_in(&answer_to(&buffer[..len], 6, credit, b""), true);
        let room = pair.guest.room(client).unwrap();
        pair.guest.send(client, &vec![1; room]).unwrap();
        assert!(left_over(&mut pair.guest) <= 17);
        assert!(pair.guest.queues(client).1 <= 65_536);
    }
}

#[test]
fn without_memory_who_sends_bytes_is_reset() {
    let mut pair = Pair::new();
    let (server, client) = pair.connect();
    pair.host.send(server, b"kept").unwrap();
    pair.settle();
    pair.host.send(server, b"refused").unwrap();
    let mut buffer = vec![0; BUFFER_BYTES];
    let len = pair.host.packet_out(&mut buffer).unwrap();
    pair.guest.packet_in(&buffer[..len], false);
    pair.settle();
    assert_eq!(read(&mut pair.guest, client), Ok(b"kept".to_vec()));
    assert_eq!(read(&mut pair.guest, client), Err(RecvError::Finished));
    assert_eq!(pair.host.room(server), Err(SendError::Closed));
    // Nor does anybody get a connection.
    pair.guest.bind(90).unwrap();
    pair.guest.listen(90, 4);
    let wanted = pair.host.connect(ANY_PORT, VsockAddress { cid: GUEST, port: 90 }).unwrap();
    let len = pair.host.packet_out(&mut buffer).unwrap();
    pair.guest.packet_in(&buffer[..len], false);
    pair.settle();
    assert_eq!(pair.host.attempt(wanted), Attempt::Refused);
}
