//! Fragments, and what ICMP says to sockets.

use proptest::prelude::*;

use super::ipv6::icmpv6_frame;
use super::{any, *};
use crate::reassembly::{Fragment, Key, Reassembly, Rejected};

fn send(host: &mut Host, id: UdpId, to: SocketAddr, data: &[u8]) -> Result<(), SendError> {
    host.stack.udp_send(id, Some(to), data.len(), |room| {
        room.copy_from_slice(data);
        Ok(())
    })
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + index / 251) as u8).collect()
}

fn wide() -> Net {
    let with = |last| Host::with(Config { udp_rx_bytes: 1 << 20, ..config(last) });
    Net::with(with(15), with(1))
}

#[test]
fn largest_datagrams_travel_in_pieces_over_both_families() {
    let mut net = wide();
    let link_local = |last: u16| std::format!("[fe80::ff:fe00:{last:x}]:53").parse::<SocketAddr>().unwrap();
    let everywhere: SocketAddr = "[::]:53".parse().unwrap();
    let server = net.a.stack.udp_bind(everywhere, BindOptions::default()).unwrap();
    let client = net.b.stack.udp_bind("[::]:0".parse().unwrap(), BindOptions::default()).unwrap();
    for (to, most) in [(at(15, 53), 65_507), (link_local(15), 65_527)] {
        assert_eq!(send(&mut net.b, client, to, &pattern(most + 1)), Err(SendError::TooLong));
        for len in [1472, 1473, 4000, most] {
            send(&mut net.b, client, to, &pattern(len)).unwrap();
            net.settle();
            let got = net.a.stack.udp_recv(server, |data, _| data.to_vec()).unwrap();
            assert!(got == pattern(len), "{len} to {to}");
        }
    }
    assert_eq!(net.a.stack.counters().reassembled, 7, "1472 bytes fit IPv4 alone");
    assert_eq!(net.a.stack.reassembly.bytes(), 0);
}

#[test]
fn pieces_in_any_order_and_twice() {
    let mut net = wide();
    let server = net.a.stack.udp_bind(any(53), BindOptions::default()).unwrap();
    let client = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    net.introduce();
    send(&mut net.b, client, at(15, 53), &pattern(9000)).unwrap();
    net.b.flush(net.now);
    let mut frames: Vec<Vec<u8>> = net.b.nic.tx.drain(..).collect();
    assert_eq!(frames.len(), 7);
    frames.reverse();
    for frame in &frames[..6] {
        net.a.nic.rx.extend([frame.clone(), frame.clone()]);
    }
    net.a.nic.rx.push_back(frames[6].clone());
    net.a.poll(net.now);
    assert!(net.a.stack.udp_recv(server, |data, _| data == pattern(9000)).unwrap());
}

#[test]
fn rest_of_a_datagram_that_never_comes_is_forgotten() {
    let mut net = wide();
    let client = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    net.introduce();
    send(&mut net.b, client, at(15, 53), &pattern(4000)).unwrap();
    net.b.flush(net.now);
    net.a.nic.rx.extend(net.b.nic.tx.drain(..).skip(1));
    net.a.poll(net.now);
    assert!(net.a.stack.reassembly.bytes() > 0);
    net.advance(Duration::from_secs(31));
    assert_eq!((net.a.stack.reassembly.bytes(), net.a.stack.counters().reassembly_timeouts), (0, 1));
}

#[test]
fn denied_fragment_takes_no_memory() {
    let rules =
        vec![Rule { verdict: Action::Allow, protocol: Some(Protocol::Tcp), ports: None, source: None }];
    let filter = Filter { rules, otherwise: Action::Deny };
    let mut net = Net::with(Host::with(Config { filter, ..config(15) }), Host::new(1));
    let client = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    send(&mut net.b, client, at(15, 53), &pattern(4000)).unwrap();
    net.settle();
    let counters = net.a.stack.counters();
    assert_eq!((counters.filtered_fragments, net.a.stack.reassembly.bytes()), (3, 0));
}

/// An ICMP error from the router about the last frame that b has sent.
fn complain(net: &mut Net, kind: u8, code: u8, mtu: u16) {
    use smoltcp::wire::{Icmpv4Packet, IpProtocol, Ipv4Packet, Ipv4Repr};
    net.b.flush(net.now);
    let sent = net.b.nic.tx.pop_back().unwrap();
    let quote = &sent[14..sent.len().min(14 + 28)];
    let repr = Ipv4Repr {
        src_addr: ip(2),
        dst_addr: ip(1),
        next_header: IpProtocol::Icmp,
        payload_len: 8 + quote.len(),
        hop_limit: 64,
    };
    let mut frame = vec![0; 14 + 20 + 8];
    frame[..6].copy_from_slice(&mac(1).0);
    frame[6..12].copy_from_slice(&mac(2).0);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[34..36].copy_from_slice(&[kind, code]);
    frame[40..42].copy_from_slice(&mtu.to_be_bytes());
    frame.extend_from_slice(quote);
    repr.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &Default::default());
    Icmpv4Packet::new_unchecked(&mut frame[34..]).fill_checksum();
    net.b.nic.rx.push_back(frame);
    net.b.poll(net.now);
}

#[test]
fn errors_reach_the_socket_as_on_linux() {
    // Unasked, a connected socket hears only of what will not pass (Linux: `icmp_err_convert`).
    for (kind, code, receives_errors, expected) in [
        (3, 2, false, Some(SocketError::NoProtocol)),
        (3, 3, false, Some(SocketError::Refused)),
        (3, 9, false, Some(SocketError::NetworkUnreachable)),
        (3, 10, false, Some(SocketError::HostUnreachable)),
        (3, 13, false, Some(SocketError::HostUnreachable)),
        (3, 1, false, None),
        (3, 0, false, None),
        (3, 0, true, Some(SocketError::NetworkUnreachable)),
        (3, 1, true, Some(SocketError::HostUnreachable)),
        (11, 0, true, Some(SocketError::HostUnreachable)),
    ] {
        let mut net = Net::new();
        net.introduce();
        let id = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
        net.b.stack.udp_connect(id, Some(at(15, 53))).unwrap();
        net.b.stack.udp_set_receives_errors(id, receives_errors);
        send(&mut net.b, id, at(15, 53), b"x").unwrap();
        complain(&mut net, kind, code, 0);
        assert_eq!(net.b.stack.udp_take_error(id), expected, "{kind}/{code}");
    }
}

#[test]
fn who_minds_the_path_hears_that_it_is_narrow() {
    use PathDiscovery::{Always, Interface, Never, Omit, Probe, Want};
    for (discovery, hears, notes) in [
        (Never, false, true),
        (Want, true, true),
        (Always, true, true),
        (Probe, true, true),
        (Interface, true, false),
        (Omit, true, false),
    ] {
        for receives_errors in [false, true] {
            let mut net = wide();
            net.introduce();
            let id = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
            net.b.stack.udp_connect(id, Some(at(15, 53))).unwrap();
            net.b.stack.udp_set_receives_errors(id, receives_errors);
            set_discovery(&mut net.b, id, discovery);
            send(&mut net.b, id, at(15, 53), b"x").unwrap();
            complain(&mut net, 3, 4, 1000);
            let expected = hears.then_some(SocketError::TooLong);
            assert_eq!(net.b.stack.udp_take_error(id), expected, "{discovery:?}");
            assert_eq!(net.b.stack.udp_take_queued_error(id).is_some(), hears && receives_errors);
            set_discovery(&mut net.b, id, Want);
            assert_eq!(net.b.stack.udp_path_mtu(id) == Some(1000), notes, "{discovery:?}");
        }
    }
}

#[test]
fn narrow_path_is_remembered() {
    let mut net = wide();
    net.introduce();
    let server = net.a.stack.udp_bind(any(53), BindOptions::default()).unwrap();
    let id = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    net.b.stack.udp_connect(id, Some(at(15, 53))).unwrap();
    set_discovery(&mut net.b, id, PathDiscovery::Always);
    send(&mut net.b, id, at(15, 53), &pattern(1400)).unwrap();
    complain(&mut net, 3, 4, 1000);
    assert_eq!(net.b.stack.udp_path_mtu(id), Some(1000));
    assert_eq!(send(&mut net.b, id, at(15, 53), &pattern(1400)), Err(SendError::TooLong));
    set_discovery(&mut net.b, id, PathDiscovery::Want);
    send(&mut net.b, id, at(15, 53), &pattern(1400)).unwrap();
    net.settle();
    assert!(net.a.stack.udp_recv(server, |data, _| data == pattern(1400)).unwrap());
    assert_eq!(net.b.stack.counters().fragments_sent, 2);
    net.advance(Duration::from_secs(601));
    assert_eq!(net.b.stack.udp_path_mtu(id), Some(1500));
}

#[test]
fn error_about_nothing_that_was_sent_does_nothing() {
    let mut host = Host::new(15);
    let mut message = vec![2, 0, 0, 0, 0, 0, 5, 0, 0x60, 0, 0, 0, 0, 8, 17, 64];
    let own = "fe80::ff:fe00:f".parse::<core::net::Ipv6Addr>().unwrap();
    message.extend(own.octets());
    message.extend("fe80::9".parse::<core::net::Ipv6Addr>().unwrap().octets());
    message.extend([0, 53, 0, 53, 0, 8, 0, 0]);
    host.nic.rx.push_back(icmpv6_frame("fe80::2".parse().unwrap(), own, 64, &message));
    host.poll(Instant::ZERO);
    assert_eq!(host.stack.counters().icmp_errors, 0);
    assert_eq!(host.stack.path_mtu("fe80::9".parse().unwrap()), 1500);
}

fn key(ident: u32) -> Key {
    Key { from: ip(1).into(), to: ip(15).into(), protocol: 17, ident }
}

fn piece(ident: u32, offset: usize, has_more: bool, payload: &[u8]) -> Fragment<'_> {
    Fragment { key: key(ident), offset, has_more, header: &[], payload }
}

#[test]
fn overlap_spoils_the_datagram_for_good() {
    let mut reassembly = Reassembly::default();
    let now = Instant::ZERO;
    assert_eq!(reassembly.push(now, &piece(1, 0, true, &[1; 16])), Ok(None));
    assert_eq!(reassembly.push(now, &piece(1, 8, true, &[2; 16])), Err(Rejected::Overlap));
    assert_eq!(reassembly.push(now, &piece(1, 16, false, &[3; 8])), Err(Rejected::Overlap));
    assert_eq!(reassembly.bytes(), 0);
    assert_eq!(reassembly.push(now, &piece(2, 0, true, &[1; 12])), Err(Rejected::Nonsense), "odd length");
    assert_eq!(reassembly.push(now, &piece(3, 65_528, false, &[1; 8])), Err(Rejected::Nonsense), "too long");
}

#[test]
fn memory_of_reassembly_is_bounded() {
    let mut reassembly = Reassembly::default();
    for ident in 0..10_000 {
        let _ = reassembly.push(Instant::ZERO, &piece(ident, 60_000, true, &[0; 1480]));
        assert!(reassembly.bytes() <= 512 * 1024);
    }
}

proptest! {
    #[test]
    fn any_cut_in_any_order_gives_the_datagram(
        cuts in prop::collection::btree_set(1usize..250, 0..12), len in 2000usize..4000, seed in 0u64..u64::MAX,
    ) {
        let data = pattern(len);
        let mut edges: Vec<usize> = cuts.iter().map(|cut| cut * 8).filter(|cut| *cut < len).collect();
        edges.insert(0, 0);
        edges.push(len);
        let mut pieces: Vec<(usize, usize)> = edges.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let mut rng = Rng(seed);
        for index in (1..pieces.len()).rev() {
            pieces.swap(index, rng.below(index as u64 + 1) as usize);
        }
        let mut reassembly = Reassembly::default();
        for (count, (start, end)) in pieces.iter().enumerate() {
            let outcome = reassembly.push(Instant::ZERO, &piece(1, *start, *end < len, &data[*start..*end])).unwrap();
            match outcome {
                Some((_, whole)) => prop_assert!(count + 1 == pieces.len() && whole == data),
                None => prop_assert!(count + 1 < pieces.len()),
            }
        }
    }
}
