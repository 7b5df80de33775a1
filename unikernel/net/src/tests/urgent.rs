//! Urgent data: where it was put it is found, whatever the wire does; and pointers that lie.

use super::fuzz::segment;
use super::*;

const URG_ACK: u8 = 0x30;

/// Reads up to the mark.
fn read(host: &mut Host, id: TcpId) -> Vec<u8> {
    host.stack.tcp_recv(id, |bytes| (bytes.len(), bytes.to_vec())).map_or(Vec::new(), |(bytes, _)| bytes)
}

fn pair(net: &mut Net) -> (TcpId, TcpId) {
    net.introduce();
    let listener = net.a.listen(80, 4);
    net.connect(listener)
}

#[test]
fn last_byte_is_urgent() {
    // Fresh connections are an engine's, and used ones go without.
    for rounds in [0, 40] {
        let mut net = Net::new();
        let (server, client) = pair(&mut net);
        net.b.stack.tcp_set_nodelay(client, true);
        for _ in 0..rounds {
            net.b.send(client, b"before");
            net.settle();
            net.a.recv(server).unwrap();
        }
        assert_eq!(net.a.stack.tcp_recv_urgent(server, false), Err(UrgentError::None));
        net.b.send(client, b"ab!");
        net.b.stack.tcp_mark_urgent(client);
        net.b.flush(net.now);
        let frame = net.b.nic.tx.back().unwrap();
        assert_eq!((frame[47] & URG_ACK, &frame[52..54]), (URG_ACK, [0, 3].as_slice()));
        net.settle();
        net.b.send(client, b"cd");
        net.settle();
        assert!(net.a.stack.tcp_readiness(server).contains(Readiness::PRI));
        assert_eq!(net.a.stack.tcp_recv_queue(server), 2);
        assert_eq!(net.a.stack.tcp_recv_urgent(server, true), Ok(b'!'));
        assert_eq!(net.a.stack.tcp_recv_urgent(server, false), Ok(b'!'));
        assert!(!net.a.stack.tcp_readiness(server).contains(Readiness::PRI));
        assert_eq!(read(&mut net.a, server), b"ab");
        assert!(net.a.stack.tcp_is_at_mark(server));
        assert_eq!(net.a.stack.tcp_peek(server, 0, <[u8]>::to_vec), Ok(b"cd".to_vec()));
        assert_eq!(read(&mut net.a, server), b"cd");
        assert!(!net.a.stack.tcp_is_at_mark(server));
        // What comes after is told without a pointer.
        net.b.send(client, b"e");
        net.b.flush(net.now);
        assert_eq!(net.b.nic.tx.back().unwrap()[47] & URG_ACK, 0x10);
    }
}

/// In the stream nothing is ever missing; beside it, only bytes that were marked are.
#[test]
fn stream_is_whole_on_a_bad_wire() {
    for seed in 0..40 {
        let is_inline = seed % 2 == 0;
        let mut net = Net::new();
        let (server, client) = pair(&mut net);
        net.trouble = [30, 30, 60];
        net.rng = Rng(seed);
        net.a.stack.tcp_set_urgent_inline(server, is_inline);
        let mut rng = Rng(seed + 1000);
        let (mut sent, mut got, mut marked) = (0_usize, Vec::new(), Vec::new());
        let byte = |offset: usize| (offset * 7 + (offset >> 8)) as u8;
        while sent < 60_000 {
            let wanted: Vec<u8> = (sent..sent + 1 + rng.below(3000) as usize).map(byte).collect();
            let count = net.b.send(client, &wanted);
            sent += count;
            if count > 0 && rng.below(3) == 0 {
                net.b.stack.tcp_mark_urgent(client);
                marked.push(sent - 1);
            }
            net.advance(Duration::from_millis(rng.below(20)));
            if rng.below(4) == 0 {
                let _ = net.a.stack.tcp_recv_urgent(server, false);
            }
            got.extend(read(&mut net.a, server));
        }
        net.trouble = [0; 3];
        for _ in 0..100 {
            net.advance(Duration::from_secs(1));
            got.extend(read(&mut net.a, server));
        }
        if is_inline {
            assert_eq!(got, (0..sent).map(byte).collect::<Vec<_>>(), "seed {seed}");
            continue;
        }
        let mut at = 0;
        for offset in 0..sent {
            // A byte that is missing was marked. Its neighbour may be the same: then either may be the one.
            match got.get(at) == Some(&byte(offset)) {
                true => at += 1,
                false => assert!(marked.contains(&offset), "seed {seed}: byte {offset} of {sent}"),
            }
        }
        assert_eq!(at, got.len(), "seed {seed}");
    }
}

#[test]
fn pointers_may_lie() {
    let mut rng = Rng(5);
    for round in 0..3000 {
        let mut host = Host::new(15);
        let listener = host.listen(80, 4);
        let now = Instant::from_secs(10);
        host.nic.rx.push_back(super::fuzz::syn(4000, 80, 99));
        host.poll(now);
        host.flush(now);
        let answer = host.nic.tx.pop_back().unwrap();
        let expected = i32::from_be_bytes([answer[38], answer[39], answer[40], answer[41]]).wrapping_add(1);
        host.nic.rx.push_back(segment(4000, 80, 0x10, 100, expected, &[], &[]));
        host.poll(now);
        let server = host.stack.tcp_accept(listener).unwrap();
        let mut next = 100;
        for _ in 0..8 {
            let payload = vec![7; rng.below(30) as usize];
            let start = next + [0, 0, 0, -5, 5, 70_000, -70_000][rng.below(7) as usize];
            let pointer = [0, 1, 2, 9, 31, 0x7fff, 0xffff][rng.below(7) as usize];
            let mut frame = segment(4000, 80, URG_ACK, start, expected, &[], &payload);
            frame[52..54].copy_from_slice(&u16::to_be_bytes(pointer));
            let tcp = &mut frame[34..];
            smoltcp::wire::TcpPacket::new_unchecked(tcp).fill_checksum(&ip(1).into(), &ip(15).into());
            host.nic.rx.push_back(frame);
            host.poll(now);
            host.flush(now);
            next += if start == next { payload.len() as i32 } else { 0 };
            host.stack.tcp_set_urgent_inline(server, rng.below(4) == 0);
            match rng.below(4) {
                0 => _ = host.stack.tcp_recv_urgent(server, rng.below(2) == 0),
                1 => _ = host.stack.tcp_peek(server, 0, |bytes| bytes.len()),
                2 => _ = read(&mut host, server),
                _ => _ = host.stack.tcp_readiness(server),
            }
        }
        assert!(host.stack.tcp_recv_queue(server) <= 240, "round {round}");
    }
}
