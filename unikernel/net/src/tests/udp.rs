//! UDP and ICMP.

use super::*;

fn send(host: &mut Host, id: UdpId, to: Option<SocketAddr>, data: &[u8]) -> Result<(), SendError> {
    host.stack.udp_send(id, to, data.len(), |room| {
        room.copy_from_slice(data);
        Ok(())
    })
}

fn recv(host: &mut Host, id: UdpId) -> Result<(Vec<u8>, SocketAddr), RecvError> {
    host.stack.udp_recv(id, |data, arrival| (data.to_vec(), arrival.from))
}

#[test]
fn datagrams_travel_both_ways() {
    let mut net = Net::new();
    let server = net.a.stack.udp_bind(any(53), BindOptions::default()).unwrap();
    let client = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    send(&mut net.b, client, Some(at(15, 53)), b"question").unwrap();
    net.settle();
    assert_eq!(net.a.events(), [SocketId::Udp(server)]);
    let (data, from) = recv(&mut net.a, server).unwrap();
    assert_eq!(data, b"question");
    send(&mut net.a, server, Some(from), b"answer").unwrap();
    net.settle();
    assert_eq!(recv(&mut net.b, client).unwrap(), (b"answer".to_vec(), at(15, 53)));
    assert_eq!(recv(&mut net.b, client), Err(RecvError::WouldBlock));
}

#[test]
fn closed_port_is_reported_to_a_connected_socket() {
    let mut net = Net::new();
    let client = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    net.b.stack.udp_connect(client, Some(at(15, 9))).unwrap();
    send(&mut net.b, client, None, b"anyone?").unwrap();
    while net.a.stack.counters().udp_no_port == 0 {
        net.a.flush(net.now);
        net.carry(true);
        net.b.poll(net.now);
        net.b.flush(net.now);
        net.carry(false);
        net.a.poll(net.now);
    }
    let answer = net.a.nic.tx.back().unwrap();
    assert_eq!(answer[34..36], [3, 3], "destination unreachable, port unreachable");
    net.settle();
    assert_eq!(net.a.stack.counters().udp_no_port, 1);
    assert!(net.b.stack.udp_readiness(client).contains(Readiness::ERR));
    assert_eq!(recv(&mut net.b, client), Err(RecvError::Refused));
    assert_eq!(recv(&mut net.b, client), Err(RecvError::WouldBlock));
}

#[test]
fn connected_socket_hears_only_its_peer() {
    let mut net = Net::new();
    let server = net.a.stack.udp_bind(any(7), BindOptions::default()).unwrap();
    let other = net.a.stack.udp_bind(any(8), BindOptions::default()).unwrap();
    let client = net.b.stack.udp_bind(any(1234), BindOptions::default()).unwrap();
    net.b.stack.udp_connect(client, Some(at(15, 7))).unwrap();
    send(&mut net.a, other, Some(at(1, 1234)), b"stranger").unwrap();
    send(&mut net.a, server, Some(at(1, 1234)), b"peer").unwrap();
    net.settle();
    assert_eq!(recv(&mut net.b, client).unwrap().0, b"peer");
    assert_eq!(recv(&mut net.b, client), Err(RecvError::WouldBlock));
}

#[test]
fn receive_queue_is_bounded() {
    let mut net = Net::with(Host::with(Config { udp_rx_bytes: 1000, ..config(15) }), Host::new(1));
    let server = net.a.stack.udp_bind(any(53), BindOptions::default()).unwrap();
    let client = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    for _ in 0..10 {
        send(&mut net.b, client, Some(at(15, 53)), &[1; 200]).unwrap();
        net.settle();
    }
    assert_eq!(net.a.stack.counters().udp_full, 7);
    for _ in 0..3 {
        recv(&mut net.a, server).unwrap();
    }
    assert_eq!(recv(&mut net.a, server), Err(RecvError::WouldBlock));
}

#[test]
fn limits_of_a_datagram() {
    let mut net = Net::new();
    let id = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    assert_eq!(send(&mut net.b, id, None, b"x"), Err(SendError::NoDestination));
    set_discovery(&mut net.b, id, PathDiscovery::Always);
    assert_eq!(send(&mut net.b, id, Some(at(15, 1)), &[0; 1473]), Err(SendError::TooLong));
    assert_eq!(send(&mut net.b, id, Some(at(15, 1)), &[0; 1472]), Ok(()));
    set_discovery(&mut net.b, id, PathDiscovery::Want);
    assert_eq!(send(&mut net.b, id, Some(at(15, 1)), &[0; 65_508]), Err(SendError::TooLong));
    assert_eq!(send(&mut net.b, id, Some(at(15, 1)), &[0; 65_507]), Ok(()));
    assert_eq!(send(&mut net.b, id, Some(at(255, 1)), b"x"), Err(SendError::Broadcast));
    net.b.stack.udp_set_broadcast(id, true);
    assert_eq!(send(&mut net.b, id, Some(at(255, 1)), b"x"), Ok(()));
    assert_eq!(send(&mut net.b, id, Some("8.8.8.8:53".parse().unwrap()), b"x"), Ok(()), "by the gateway");
    assert_eq!(
        send(&mut net.b, id, Some("[2001:db8::1]:53".parse().unwrap()), b"x"),
        Err(SendError::NoRoute)
    );
}

#[test]
fn broadcasts_arrive_without_an_answer_for_closed_ports() {
    let mut net = Net::new();
    let server = net.a.stack.udp_bind(any(67), BindOptions::default()).unwrap();
    let client = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    net.b.stack.udp_set_broadcast(client, true);
    let everyone = SocketAddr::new(Ipv4Addr::BROADCAST.into(), 67);
    send(&mut net.b, client, Some(everyone), b"hello all").unwrap();
    send(&mut net.b, client, Some(SocketAddr::new(Ipv4Addr::BROADCAST.into(), 68 + 1)), b"nobody").unwrap();
    net.settle();
    assert_eq!(recv(&mut net.a, server).unwrap().0, b"hello all");
    assert_eq!(net.a.stack.counters().tx_packets, 0);
}

#[test]
fn loopback_datagrams() {
    let mut host = Host::new(15);
    let all: SocketAddr = "[::]:5353".parse().unwrap();
    let server = host.stack.udp_bind(all, BindOptions::default()).unwrap();
    let client = host.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    send(&mut host, client, Some("127.0.0.1:5353".parse().unwrap()), &[9; 40_000]).unwrap();
    host.flush(Instant::ZERO);
    assert_eq!(recv(&mut host, server).unwrap().0.len(), 40_000);
    host.stack.udp_connect(client, Some("127.0.0.1:9".parse().unwrap())).unwrap();
    send(&mut host, client, None, b"x").unwrap();
    host.flush(Instant::ZERO);
    assert_eq!(host.stack.udp_take_error(client), Some(SocketError::Refused));
}

#[test]
fn echo_is_answered() {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr};
    let mut host = Host::new(15);
    let icmp = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 3, data: b"abcdefgh" };
    let repr = Ipv4Repr {
        src_addr: ip(1),
        dst_addr: ip(15),
        next_header: IpProtocol::Icmp,
        payload_len: icmp.buffer_len(),
        hop_limit: 64,
    };
    let mut frame = vec![0; 14 + repr.buffer_len() + icmp.buffer_len()];
    frame[..6].copy_from_slice(&mac(15).0);
    frame[6..12].copy_from_slice(&mac(1).0);
    frame[12..14].copy_from_slice(&[8, 0]);
    let checksums = ChecksumCapabilities::default();
    repr.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &checksums);
    icmp.emit(&mut Icmpv4Packet::new_unchecked(&mut frame[34..]), &checksums);
    host.nic.rx.push_back(frame);
    host.poll(Instant::ZERO);
    let answer = host.nic.tx.pop_front().unwrap();
    assert_eq!(answer[..6], mac(1).0, "back to the station that asked");
    let icmp = Icmpv4Packet::new_checked(&answer[34..]).unwrap();
    let expected = Icmpv4Repr::EchoReply { ident: 7, seq_no: 3, data: b"abcdefgh" };
    assert_eq!(Icmpv4Repr::parse(&icmp, &checksums).unwrap(), expected);
}
