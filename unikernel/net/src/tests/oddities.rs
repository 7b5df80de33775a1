//! What few peers do, and Linux answers: priority tags, echo of every size and to groups, malformed options, a stranger's
//! acknowledgement.

use smoltcp::wire::{Icmpv4Packet, Ipv4Packet};

use super::fuzz::{segment, syn};
use super::ipv6::icmpv6_frame;
use super::*;

const SYN_ACK: u8 = 0x12;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

fn feed(host: &mut Host, frame: Vec<u8>) -> Vec<Vec<u8>> {
    host.nic.rx.push_back(frame);
    host.poll(Instant::ZERO);
    host.flush(Instant::ZERO);
    host.nic.tx.drain(..).collect()
}

/// A frame with a tag of a VLAN.
fn tagged(frame: &[u8], kind: u16, tag: u16) -> Vec<u8> {
    [&frame[..12], &kind.to_be_bytes(), &tag.to_be_bytes(), &frame[12..]].concat()
}

#[test]
fn tag_without_a_vlan_is_a_priority() {
    for (kind, tag, is_answered) in [
        (0x8100, 0, true),
        (0x8100, 0xe000, true),
        (0x88a8, 0x2000, true),
        (0x8100, 0x2001, false),
        (0x9100, 0, false),
    ] {
        let mut host = Host::new(15);
        host.listen(80, 4);
        let answers = feed(&mut host, tagged(&syn(4000, 80, 1), kind, tag));
        assert_eq!(answers.len(), usize::from(is_answered), "{kind:x} {tag:x}");
        assert_eq!(host.stack.counters().rx_packets, 1, "{kind:x} {tag:x}");
        assert!(answers.iter().all(|answer| answer[12..14] == [8, 0] && answer[47] == SYN_ACK));
    }
    let mut host = Host::new(15);
    host.listen(80, 4);
    let twice = tagged(&tagged(&syn(4000, 80, 1), 0x8100, 0), 0x8100, 0);
    for len in 0..twice.len() {
        assert!(feed(&mut host, twice[..len].to_vec()).is_empty());
    }
}

/// An echo request of IPv4, in fragments of `most` bytes.
fn pings(len: usize, most: usize) -> Vec<Vec<u8>> {
    let mut message = vec![8, 0, 0, 0, 1, 2, 0, 3];
    message.extend((0..len).map(|index| index as u8));
    Icmpv4Packet::new_unchecked(&mut message).fill_checksum();
    let pieces = message.chunks(most).enumerate();
    let frame = |(index, piece): (usize, &[u8])| {
        let offset = index * most;
        let has_more = offset + piece.len() < message.len();
        let mut frame = vec![0; 34];
        frame[..6].copy_from_slice(&mac(15).0);
        frame[6..12].copy_from_slice(&mac(1).0);
        (frame[12], frame[14], frame[22], frame[23]) = (8, 0x45, 64, 1);
        frame[16..18].copy_from_slice(&(20 + piece.len() as u16).to_be_bytes());
        frame[18..20].copy_from_slice(&[7, 7]);
        let word = (offset / 8) as u16 | if has_more { 0x2000 } else { 0 };
        frame[20..22].copy_from_slice(&word.to_be_bytes());
        frame[26..30].copy_from_slice(&ip(1).octets());
        frame[30..34].copy_from_slice(&ip(15).octets());
        Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
        frame.extend_from_slice(piece);
        frame
    };
    pieces.map(frame).collect()
}

#[test]
fn echo_of_every_size_is_answered() {
    for len in [0, 56, 1472, 1473, 2000, 8000, 65_507] {
        let mut host = Host::new(15);
        let answers: Vec<_> = pings(len, 1480).into_iter().flat_map(|piece| feed(&mut host, piece)).collect();
        let mut message = Vec::new();
        for answer in &answers {
            let packet = Ipv4Packet::new_checked(&answer[14..]).unwrap();
            assert!(answer.len() <= 1514 && packet.verify_checksum());
            assert_eq!((packet.src_addr(), packet.dst_addr()), (ip(15), ip(1)));
            assert_eq!(usize::from(packet.frag_offset()), message.len(), "{len}");
            assert_eq!(answer[..6], mac(1).0);
            message.extend_from_slice(packet.payload());
        }
        assert!(Icmpv4Packet::new_checked(&message[..]).unwrap().verify_checksum(), "{len}");
        assert_eq!((message.len(), &message[..2], &message[4..8]), (8 + len, &[0, 0][..], &[1, 2, 0, 3][..]));
        assert!(message[8..].iter().enumerate().all(|(index, byte)| *byte == index as u8));
    }
}

#[test]
fn damaged_echo_is_not_answered() {
    let mut host = Host::new(15);
    let mut ping = pings(56, 1480).remove(0);
    ping[60] ^= 1;
    assert!(feed(&mut host, ping).is_empty());
    assert_eq!(host.stack.counters().bad_checksum, 1);
}

#[test]
fn echo_to_groups_of_ours_is_answered_by_one_of_us() {
    let own: core::net::Ipv6Addr = "fe80::ff:fe00:f".parse().unwrap();
    for (group, is_answered) in
        [("ff02::1", true), ("ff02::1:ff00:f", true), ("ff02::1:ff00:e", false), ("ff02::fb", false)]
    {
        let mut host = Host::new(15);
        host.nic.tx.clear();
        host.flush(Instant::ZERO);
        host.nic.tx.clear();
        let message = [128, 0, 0, 0, 0, 1, 0, 1, 9, 9];
        let peer = "fe80::2".parse().unwrap();
        let answers = feed(&mut host, icmpv6_frame(peer, group.parse().unwrap(), 64, &message));
        let echoes: Vec<_> = answers.iter().filter(|answer| answer[20] == 58 && answer[54] == 129).collect();
        assert_eq!(echoes.len(), usize::from(is_answered), "{group}");
        for answer in echoes {
            assert_eq!((&answer[22..38], &answer[38..54]), (&own.octets()[..], &peer.octets()[..]));
            assert_eq!((&answer[..6], &answer[58..]), (&mac(2).0[..], &message[4..]));
        }
    }
}

#[test]
fn malformed_options_do_not_keep_a_peer_waiting() {
    let good = [2, 4, 0x05, 0xb4];
    for bad in [[8, 0, 0, 0], [8, 1, 0, 0], [8, 40, 0, 0], [2, 3, 1, 1], [3, 4, 1, 1], [253, 2, 1, 8]] {
        for options in [[good, bad].concat(), [bad, good].concat(), bad.to_vec()] {
            let mut host = Host::new(15);
            let listener = host.listen(80, 4);
            let answers = feed(&mut host, segment(4000, 80, 2, 1, 0, &options, &[]));
            assert_eq!((answers.len(), answers[0][47]), (1, SYN_ACK), "{options:?}");
            let expected = i32::from_be_bytes(answers[0][38..42].try_into().unwrap()).wrapping_add(1);
            feed(&mut host, segment(4000, 80, ACK, 2, expected, &options, b"hello"));
            let server = host.stack.tcp_accept(listener).unwrap();
            assert_eq!(host.recv(server).unwrap(), b"hello", "{options:?}");
        }
    }
}

#[test]
fn malformed_options_are_dropped_if_the_checksum_is_wrong() {
    let mut host = Host::new(15);
    host.listen(80, 4);
    let mut frame = segment(4000, 80, 2, 1, 0, &[2, 4, 5, 0xb4, 8, 0, 0, 0], &[]);
    frame[57] ^= 1;
    assert!(feed(&mut host, frame).is_empty());
    assert_eq!(host.stack.counters().bad_checksum, 1);
}

#[test]
fn stranger_is_reset_while_we_connect() {
    for (flags, payload) in
        [(ACK, &b""[..]), (ACK, b"data"), (ACK | 8, b"data"), (ACK | 1, b""), (SYN_ACK, b"")]
    {
        for wrong in [0_i32, 2, -70_000] {
            let mut host = Host::new(15);
            host.stack.learn_neighbor(ip(1).into(), mac(1));
            let id = host.stack.tcp_connect(Instant::ZERO, Some(at(15, 4001)), at(1, 80)).unwrap();
            host.flush(Instant::ZERO);
            let opening = host.nic.tx.pop_back().unwrap();
            let iss = i32::from_be_bytes(opening[38..42].try_into().unwrap());
            let ack = iss.wrapping_add(wrong);
            let answers = feed(&mut host, segment(80, 4001, flags, 77, ack, &[], payload));
            assert_eq!(answers.len(), 1, "{flags} {wrong}");
            assert_eq!(answers[0][47] & RST, RST);
            assert_eq!(answers[0][38..42], ack.to_be_bytes());
            assert!(host.stack.tcp_is_connecting(id), "the attempt goes on");
            assert!(feed(&mut host, segment(80, 4001, RST | ACK, 77, ack, &[], &[])).is_empty());
            assert!(host.stack.tcp_is_connecting(id));
            // The right one is heard.
            feed(&mut host, segment(80, 4001, SYN_ACK, 500, iss.wrapping_add(1), &[], &[]));
            assert!(host.stack.tcp_is_connected(id));
        }
    }
}

/// Found by fuzzing: it had given its buffers back, and was neither reset nor ever looked at again.
#[test]
fn idle_deferred_connection_is_reset_when_its_listener_is_gone() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    net.a.stack.listener_set_defer(listener, Some(Duration::from_secs(10)));
    let client = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    net.settle();
    net.a.stack.listener_close(listener);
    net.advance(Duration::from_secs(12));
    assert_eq!(net.a.stack.counters().active, 0);
    assert_eq!(net.b.stack.tcp_take_error(client), Some(SocketError::Reset));
}

/// Found by fuzzing: segments of no bytes, and a division by their length.
#[test]
fn no_limit_of_segments_is_none() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    let mss = net.b.stack.tcp_info(client).unwrap().mss;
    net.b.stack.tcp_set_max_segment(client, 0);
    net.b.send(client, &[3; 3000]);
    net.settle();
    assert_eq!(net.a.recv(server).unwrap().len(), 3000);
    assert_eq!(net.b.stack.tcp_info(client).unwrap().mss, mss);
}
