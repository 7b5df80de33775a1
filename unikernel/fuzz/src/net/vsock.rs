//! Packets of the socket device, whose peer is the host: streams are bounded, and what goes out is a packet.

use unikernel_net::vsock::{ANY_PORT, HEADER_BYTES, Vsock, VsockAddress, VsockEvent, VsockId};

use crate::input::Input;

const HOST: u64 = 2;
const GUEST: u64 = 42;
const MOST_BYTES: usize = 4096;

/// A packet whose numbers are right, but for what the input changes.
fn packet(input: &mut Input<'_>) -> Vec<u8> {
    let peer = 1000 + u32::from(input.byte() & 3);
    let own = [80, 81, 1024, 1025][input.below(4)];
    let operation = input.byte() & 7;
    let flags = u32::from(input.byte() & 3);
    let data = vec![7; if operation == 5 { usize::from(input.half()) % MOST_BYTES } else { 0 }];
    let mut bytes = [HOST.to_le_bytes(), GUEST.to_le_bytes()].concat();
    bytes.extend(u32::to_le_bytes(peer));
    bytes.extend(u32::to_le_bytes(own));
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend([1, 0, operation, 0]);
    bytes.extend(flags.to_le_bytes());
    bytes.extend(if input.flag() { input.word() } else { 1 << 16 }.to_le_bytes());
    bytes.extend(if input.flag() { input.word() } else { 0 }.to_le_bytes());
    bytes.extend(data);
    for _ in 0..input.below(3) {
        let at = input.below(HEADER_BYTES);
        bytes[at] = input.byte();
    }
    bytes
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut vsock = Vsock::new(GUEST);
    vsock.bind(80).expect("the port is free");
    vsock.listen(80, 2);
    let mut known: Vec<VsockId> = Vec::new();
    let mut buffer = vec![0; MOST_BYTES];
    while !input.is_over() {
        step(&mut vsock, &mut input, &mut known);
        while input.flag()
            && let Some(len) = vsock.packet_out(&mut buffer)
        {
            assert!((HEADER_BYTES..=MOST_BYTES).contains(&len));
            let said = u32::from_le_bytes([buffer[24], buffer[25], buffer[26], buffer[27]]);
            assert_eq!(said as usize, len - HEADER_BYTES);
        }
        for event in vsock.take_events() {
            if let VsockEvent::Connection(id) = event {
                let _ = (vsock.readiness(id), vsock.attempt(id), vsock.addresses(id));
            }
        }
        for id in &known {
            let (received, unsent) = vsock.queues(*id);
            assert!(received <= 1 << 20 && unsent <= 1 << 20);
        }
    }
    known.into_iter().for_each(|id| vsock.abort(id));
    vsock.unbind(80);
    // Everything that waited goes out, and then there is nothing.
    let sent = (0..10_000).take_while(|_| vsock.packet_out(&mut buffer).is_some()).count();
    assert!(sent < 10_000 && !vsock.has_output());
}

fn step(vsock: &mut Vsock, input: &mut Input<'_>, known: &mut Vec<VsockId>) {
    let chosen = if known.is_empty() { None } else { known.get(input.below(known.len())).copied() };
    match (input.below(16), chosen) {
        (0, _) => known.extend(vsock.accept(80)),
        (1, _) if known.len() < 16 => {
            known.extend(
                vsock.connect(ANY_PORT, VsockAddress { cid: HOST, port: 1000 + u32::from(input.byte() & 3) }),
            );
        }
        (2, Some(id)) => {
            let most = usize::from(input.half());
            let _ = vsock.recv(id, |bytes| (bytes.len().min(most), ()));
        }
        (3 | 4, Some(id)) => {
            let room = vsock.room(id).unwrap_or_default();
            let _ = vsock.send(id, &vec![9; room.min(input.half().into())]);
        }
        (5, Some(id)) => vsock.shut_down(id, input.flag(), input.flag()),
        (6, Some(id)) => {
            known.retain(|known| *known != id);
            if input.flag() { vsock.close(id) } else { vsock.abort(id) }
        }
        (7, _) if input.byte() == 7 => {
            vsock.reset(GUEST);
            known.clear();
        }
        (8, _) => vsock.packet_in(input.chunk(), input.flag()),
        _ => {
            let bytes = packet(input);
            vsock.packet_in(&bytes, input.byte() != 1);
        }
    }
}
