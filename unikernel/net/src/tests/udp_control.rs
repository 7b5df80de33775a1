//! What goes beside a datagram: headers told and set, datagrams cut and joined, errors in a queue.

use super::*;

fn send_with(
    host: &mut Host,
    id: UdpId,
    to: SocketAddr,
    options: &SendOptions,
    data: &[u8],
) -> Result<(), SendError> {
    host.stack.udp_send_with(id, Some(to), options, data.len(), |room| {
        room.copy_from_slice(data);
        Ok(())
    })
}

fn recv(host: &mut Host, id: UdpId) -> Result<(Vec<u8>, Arrival), RecvError> {
    host.stack.udp_recv(id, |data, arrival| (data.to_vec(), *arrival))
}

fn pair() -> (Net, UdpId, UdpId) {
    let mut net = Net::new();
    net.introduce();
    let server = net.a.stack.udp_bind(any(53), BindOptions::default()).unwrap();
    let client = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    (net, server, client)
}

#[test]
fn headers_are_told() {
    let (mut net, server, client) = pair();
    let headers = HeaderOptions { traffic_class: 0xb8, ..HeaderOptions::default() };
    net.b.stack.udp_set_headers(client, headers, HeaderOptions::default());
    send_with(&mut net.b, client, at(15, 53), &SendOptions::default(), b"one").unwrap();
    let options = SendOptions { traffic_class: Some(1), hop_limit: Some(7), ..SendOptions::default() };
    send_with(&mut net.b, client, at(15, 53), &options, b"two").unwrap();
    net.settle();
    let (_, one) = recv(&mut net.a, server).unwrap();
    assert_eq!(
        (one.traffic_class, one.hop_limit, one.to, one.link),
        (0xb8, 64, ip(15).into(), GroupLink::Nic)
    );
    let (_, two) = recv(&mut net.a, server).unwrap();
    assert_eq!((two.traffic_class, two.hop_limit, two.segment), (1, 7, None));
    assert_eq!(net.a.stack.counters().bad_checksum, 0);
}

#[test]
fn ipv6_headers_are_told() {
    let mut host = Host::new(15);
    let server = host.stack.udp_bind("[::1]:53".parse().unwrap(), BindOptions::default()).unwrap();
    let client = host.stack.udp_bind("[::]:0".parse().unwrap(), BindOptions::default()).unwrap();
    let options = SendOptions { traffic_class: Some(0x2e), hop_limit: Some(3), ..SendOptions::default() };
    send_with(&mut host, client, "[::1]:53".parse().unwrap(), &options, b"six").unwrap();
    host.flush(Instant::ZERO);
    let (_, arrival) = recv(&mut host, server).unwrap();
    assert_eq!((arrival.traffic_class, arrival.hop_limit, arrival.link), (0x2e, 3, GroupLink::Loopback));
}

#[test]
fn source_can_be_named_if_it_is_ours() {
    let mut host = Host::new(15);
    let server = host.stack.udp_bind(any(53), BindOptions::default()).unwrap();
    let client = host.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    let from = |source: &str| SendOptions { source: Some(source.parse().unwrap()), ..SendOptions::default() };
    let here: SocketAddr = "127.0.0.1:53".parse().unwrap();
    send_with(&mut host, client, here, &from("127.0.0.9"), b"x").unwrap();
    host.flush(Instant::ZERO);
    assert_eq!(recv(&mut host, server).unwrap().1.from.ip(), IpAddr::from([127, 0, 0, 9]));
    assert_eq!(send_with(&mut host, client, here, &from("192.0.2.1"), b"x"), Err(SendError::NoRoute));
    assert_eq!(send_with(&mut host, client, here, &from("::1"), b"x"), Err(SendError::Invalid));
    let free = SendOptions { is_free: true, ..from("192.0.2.1") };
    assert_eq!(send_with(&mut host, client, here, &free, b"x"), Ok(()));
    assert_eq!(
        host.stack.udp_bind("192.0.2.1:9".parse().unwrap(), BindOptions::default()),
        Err(BindError::NotOurs)
    );
    let options = BindOptions { is_free: true, ..BindOptions::default() };
    assert!(host.stack.udp_bind("192.0.2.1:9".parse().unwrap(), options).is_ok());
}

#[test]
fn one_call_sends_many_and_many_are_received_as_one() {
    let (mut net, server, client) = pair();
    let data: Vec<u8> = (0..2500).map(|byte| byte as u8).collect();
    let options = SendOptions { segment: Some(1000), ..SendOptions::default() };
    send_with(&mut net.b, client, at(15, 53), &options, &data).unwrap();
    net.settle();
    for piece in data.chunks(1000) {
        assert_eq!(recv(&mut net.a, server).unwrap().0, piece);
    }
    net.a.stack.udp_set_coalescing(server, true);
    send_with(&mut net.b, client, at(15, 53), &options, &data).unwrap();
    send_with(&mut net.b, client, at(15, 53), &options, b"by itself").unwrap();
    net.settle();
    let (joined, arrival) = recv(&mut net.a, server).unwrap();
    assert_eq!((joined, arrival.segment), (data, Some(1000)));
    assert_eq!(recv(&mut net.a, server).unwrap().1.segment, None);
    assert_eq!(recv(&mut net.a, server), Err(RecvError::WouldBlock));
}

#[test]
fn datagrams_of_one_batch_alone_are_joined() {
    let mut host = Host::new(15);
    let here: SocketAddr = "127.0.0.1:53".parse().unwrap();
    let server = host.stack.udp_bind(here, BindOptions::default()).unwrap();
    let client = host.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    host.stack.udp_set_coalescing(server, true);
    for _ in 0..2 {
        send_with(&mut host, client, here, &SendOptions::default(), b"same").unwrap();
        host.flush(Instant::ZERO);
    }
    for _ in 0..2 {
        assert_eq!(recv(&mut host, server).unwrap().0, b"same");
    }
}

#[test]
fn limits_of_segments() {
    let (mut net, _, client) = pair();
    let segments = |segment| SendOptions { segment: Some(segment), ..SendOptions::default() };
    let mut send =
        |segment, len| send_with(&mut net.b, client, at(15, 53), &segments(segment), &vec![0; len]);
    assert_eq!(send(10, 1280), Ok(()));
    assert_eq!(send(10, 1281), Err(SendError::Invalid));
    assert_eq!(send(1473, 2000), Err(SendError::TooLong));
    assert_eq!(send(1473, 1472), Ok(()));
    assert_eq!(send(1400, 65_508), Err(SendError::TooLong));
}

#[test]
fn errors_wait_in_their_queue() {
    let mut host = Host::new(15);
    let closed: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let id = host.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    host.stack.udp_set_receives_errors(id, true);
    send_with(&mut host, id, closed, &SendOptions::default(), b"anyone?").unwrap();
    host.flush(Instant::ZERO);
    assert!(host.stack.udp_readiness(id).contains(Readiness::ERR));
    let queued = host.stack.udp_take_queued_error(id).unwrap();
    assert_eq!((queued.error, queued.to, &queued.data[..]), (SocketError::Refused, closed, &b"anyone?"[..]));
    assert_eq!(queued.origin, ErrorOrigin::Icmp(3, 3, Ipv4Addr::LOCALHOST.into()));
    // With the last one gone, nothing waits as SO_ERROR either.
    assert_eq!(host.stack.udp_take_error(id), None);
    assert!(!host.stack.udp_readiness(id).contains(Readiness::ERR));
    for _ in 0..200 {
        let _ = send_with(&mut host, id, closed, &SendOptions::default(), b"x");
        host.flush(Instant::ZERO);
    }
    let count = core::iter::from_fn(|| host.stack.udp_take_queued_error(id)).count();
    assert_eq!(count, 64);
}

#[test]
fn what_is_too_long_is_told_with_what_fits() {
    let (mut net, _, client) = pair();
    set_discovery(&mut net.b, client, PathDiscovery::Probe);
    net.b.stack.udp_set_receives_errors(client, true);
    let none = SendOptions::default();
    assert_eq!(send_with(&mut net.b, client, at(15, 53), &none, &[0; 1473]), Err(SendError::TooLong));
    let queued = net.b.stack.udp_take_queued_error(client).unwrap();
    assert_eq!((queued.error, queued.origin, queued.mtu), (SocketError::TooLong, ErrorOrigin::Local, 1500));
}

#[test]
fn packets_say_whether_they_may_be_cut() {
    let (mut net, _, client) = pair();
    for (discovery, is_whole) in [
        (PathDiscovery::Never, false),
        (PathDiscovery::Want, true),
        (PathDiscovery::Always, true),
        (PathDiscovery::Probe, true),
        (PathDiscovery::Interface, false),
        (PathDiscovery::Omit, false),
    ] {
        set_discovery(&mut net.b, client, discovery);
        send_with(&mut net.b, client, at(15, 53), &SendOptions::default(), b"x").unwrap();
        net.b.flush(net.now);
        let frame = net.b.nic.tx.pop_back().unwrap();
        assert_eq!(frame[20] & 0x40 != 0, is_whole, "{discovery:?}");
    }
}

#[test]
fn drops_are_counted_and_bytes_looked_at_by_offset() {
    let mut net = Net::with(Host::with(Config { udp_rx_bytes: 600, ..config(15) }), Host::new(1));
    let server = net.a.stack.udp_bind(any(53), BindOptions::default()).unwrap();
    let client = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    for _ in 0..4 {
        send_with(&mut net.b, client, at(15, 53), &SendOptions::default(), &[1; 200]).unwrap();
        net.settle();
    }
    assert_eq!(recv(&mut net.a, server).unwrap().1.drops, 0);
    send_with(&mut net.b, client, at(15, 53), &SendOptions::default(), b"late").unwrap();
    net.settle();
    let look = |data: &[u8], arrival: &Arrival| (data.len(), arrival.drops);
    let mut peek = |offset| net.a.stack.udp_peek(server, offset, look);
    assert_eq!(peek(0), Ok((200, 0)));
    assert_eq!(peek(150), Ok((50, 0)));
    assert_eq!(peek(201), Ok((3, 2)));
    assert_eq!(peek(204), Err(RecvError::WouldBlock));
}
