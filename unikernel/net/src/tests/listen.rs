//! Handshakes under load: backlogs, SYN cookies, storms, `TCP_DEFER_ACCEPT`.

use super::*;

/// A net whose `a` has room for no handshake, so that each is answered with a cookie.
fn cookie_net() -> Net {
    Net::with(Host::with(Config { max_half_open: 0, ..config(15) }), Host::new(1))
}

#[test]
fn listen_cookie_returned_is_accepted_and_exchanges() {
    let mut net = cookie_net();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    assert_eq!(net.a.stack.counters().cookies_given, 1);
    assert_eq!(net.a.stack.counters().cookies_taken, 1);
    assert_eq!(net.a.stack.counters().buffer_bytes, 0, "nothing is needed before there is data");
    net.b.send(client, b"request");
    net.settle();
    assert_eq!(net.a.recv(server).unwrap(), b"request");
    let response = [7; 20_000];
    let mut sent = 0;
    let mut received = Vec::new();
    for _ in 0..100 {
        sent += net.a.send(server, &response[sent..]);
        net.advance(Duration::from_millis(20));
        received.extend(net.b.recv(client).unwrap_or_default());
    }
    assert_eq!(received, response);
    net.b.stack.tcp_close(client);
    net.settle();
    assert_eq!(net.a.recv(server), Err(RecvError::Finished));
    net.a.stack.tcp_close(server);
    net.settle();
    assert_eq!(net.a.stack.counters().active, 0);
}

#[test]
fn listen_cookie_with_lost_ack_is_brought_by_the_data() {
    let mut net = cookie_net();
    let listener = net.a.listen(8080, 16);
    net.introduce();
    let client = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    while !net.b.stack.tcp_is_connected(client) {
        net.step();
    }
    net.b.flush(net.now);
    net.b.nic.tx.clear();
    assert_eq!(net.a.stack.tcp_accept(listener), Err(AcceptError::WouldBlock));
    net.b.send(client, b"data with the acknowledgement");
    net.settle();
    let server = net.a.stack.tcp_accept(listener).unwrap();
    assert_eq!(net.a.recv(server).unwrap(), b"data with the acknowledgement");
}

#[test]
fn listen_without_buffers_is_established_by_the_data() {
    let buffer_bytes = 12 * 1024;
    let mut net = Net::with(Host::with(Config { buffer_bytes, spare_flows: 0, ..config(15) }), Host::new(1));
    let listener = net.a.listen(8080, 16);
    let (hog, _) = net.connect(listener);
    let client = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    while !net.b.stack.tcp_is_connected(client) {
        net.step();
    }
    net.b.flush(net.now);
    net.b.nic.tx.clear();
    net.b.send(client, b"data with the acknowledgement");
    net.settle();
    let server = net.a.stack.tcp_accept(listener).expect("a handshake needs no buffers");
    net.a.stack.tcp_abort(hog);
    net.advance(Duration::from_secs(5));
    assert_eq!(net.a.recv(server).unwrap(), b"data with the acknowledgement");
    assert_eq!(net.a.stack.counters().half_open_timeouts, 0);
}

/// The sequence number of the answer to a SYN that is always the same.
fn answered_syn(net: &mut Net) -> i32 {
    net.a.nic.rx.push_back(super::fuzz::syn(4000, 8080, 1000));
    net.a.poll(net.now);
    net.a.flush(net.now);
    let answer = net.a.nic.tx.pop_back().unwrap();
    i32::from_be_bytes(answer[38..42].try_into().unwrap())
}

#[test]
fn listen_cookie_is_taken_although_the_syn_came_again() {
    let mut net = cookie_net();
    let listener = net.a.listen(8080, 16);
    net.introduce();
    let cookie = answered_syn(&mut net);
    net.a.stack.config.max_half_open = 64;
    let other = answered_syn(&mut net);
    assert_ne!(cookie, other, "there is a flow now");
    net.a.nic.rx.push_back(super::fuzz::segment(4000, 8080, 0x18, 1001, cookie + 1, &[], b"data"));
    net.a.poll(net.now);
    let server = net.a.stack.tcp_accept(listener).unwrap();
    assert_eq!(net.a.recv(server).unwrap(), b"data");
    assert_eq!(net.a.stack.counters().half_open, 0);
}

/// The peer goes by a cookie, has sent a request, and says again where it stands, because a second answer to its SYN
/// puzzles it (RFC 9293 section 3.10.7.4): it must not be reset for that, but be asked for the request.
#[test]
fn listen_peer_that_goes_by_a_cookie_is_not_reset() {
    for has_flow in [false, true] {
        let mut net = cookie_net();
        let listener = net.a.listen(8080, 16);
        net.introduce();
        let cookie = answered_syn(&mut net);
        if has_flow {
            net.a.stack.config.max_half_open = 64;
            answered_syn(&mut net);
        }
        net.a.nic.rx.push_back(super::fuzz::segment(4000, 8080, 0x10, 1005, cookie + 1, &[], &[]));
        net.a.poll(net.now);
        net.a.flush(net.now);
        assert!(net.a.nic.tx.is_empty(), "nobody is reset");
        assert_eq!(net.a.stack.counters().cookies_missed, 1);
        net.a.nic.rx.push_back(super::fuzz::segment(4000, 8080, 0x18, 1001, cookie + 1, &[], b"data"));
        net.a.poll(net.now);
        let server = net.a.stack.tcp_accept(listener).unwrap();
        assert_eq!(net.a.recv(server).unwrap(), b"data");
    }
}

#[test]
fn listen_stray_ack_is_reset_when_cookies_have_grown_old() {
    let mut net = cookie_net();
    net.a.listen(8080, 16);
    net.introduce();
    let cookie = answered_syn(&mut net);
    net.advance(Duration::from_secs(128));
    net.a.nic.rx.push_back(super::fuzz::segment(4000, 8080, 0x10, 1005, cookie + 1, &[], &[]));
    net.a.poll(net.now);
    net.a.flush(net.now);
    let reset = net.a.nic.tx.pop_back().unwrap();
    assert_eq!(reset[47] & 0x04, 0x04);
}

#[test]
fn listen_stray_ack_without_cookie_is_reset() {
    let mut net = cookie_net();
    net.a.listen(8080, 16);
    net.a.nic.rx.push_back(super::fuzz::segment(4000, 8080, 0x10, 1001, 77, &[], &[]));
    net.a.poll(net.now);
    net.a.flush(net.now);
    let reset = net.a.nic.tx.pop_back().unwrap();
    assert_eq!(reset[47] & 0x04, 0x04);
    assert_eq!(net.a.stack.counters().active, 0);
}

#[test]
fn flood_of_syns_leaves_room_for_real_ones() {
    let mut net = Net::with(Host::with(Config { max_half_open: 64, ..config(15) }), Host::new(1));
    let listener = net.a.listen(8080, 4096);
    net.introduce();
    for round in 0..50_000u32 {
        let port = 1024 + (round % 60_000) as u16;
        let mut frame = super::fuzz::syn(port, 8080, round as i32);
        frame[29] = 200;
        smoltcp::wire::Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
        let mut tcp = smoltcp::wire::TcpPacket::new_unchecked(&mut frame[34..]);
        tcp.fill_checksum(&ip(200).into(), &ip(15).into());
        net.a.nic.rx.push_back(frame);
        if round % 100 == 0 {
            let client = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
            net.settle();
            let server = net.a.stack.tcp_accept(listener).expect("good clients get through");
            assert_eq!(net.b.send(client, b"hello"), 5);
            net.settle();
            assert_eq!(net.a.recv(server).unwrap(), b"hello");
            net.a.stack.tcp_abort(server);
            net.b.stack.tcp_abort(client);
            net.settle();
        }
    }
    assert!(net.a.stack.counters().half_open <= 64);
    assert!(net.a.stack.counters().active <= 64);
}

#[test]
fn storm_of_ten_thousand_is_accepted_whole() {
    let mut net = Net::with(Host::with(Config { max_half_open: 1024, ..config(15) }), Host::new(1));
    let listener = net.a.listen(8080, 1024);
    net.introduce();
    let clients: Vec<_> =
        (0..10_000).map(|_| net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap()).collect();
    let mut servers = 0;
    for _ in 0..3000 {
        net.step();
        while net.a.stack.tcp_accept(listener).is_ok() {
            servers += 1;
        }
        net.now += Duration::from_millis(5);
    }
    assert_eq!(servers, 10_000);
    assert!(clients.iter().all(|client| net.b.stack.tcp_is_connected(*client)));
}

/// How many milliseconds it takes until an app that accepts ten connections each 5 ms has all of 5,000 that came at once.
fn storm_ms(backlog: usize) -> i64 {
    let mut net = Net::new();
    let listener = net.a.listen(8080, backlog);
    net.introduce();
    let start = net.now;
    let mut clients: Vec<_> =
        (0..5000).map(|_| net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap()).collect();
    let mut accepted = 0;
    while accepted < 5000 && net.now < start + Duration::from_secs(60) {
        net.step();
        // Whoever believes to be connected asks something.
        clients.retain(|client| !net.b.stack.tcp_is_connected(*client) || net.b.send(*client, b"?") == 0);
        accepted += (0..10).filter(|_| net.a.stack.tcp_accept(listener).is_ok()).count();
        net.now += Duration::from_millis(5);
    }
    (net.now - start).total_millis() as i64
}

/// Peers whose SYN finds the queue full come again after a second and longer: a long queue keeps the app at work.
#[test]
fn storm_waits_in_a_long_queue_rather_than_outside() {
    let (short, long) = (storm_ms(128), storm_ms(4096));
    assert!(long < 3600, "2500 ms are the app's own: {long} ms");
    assert!(short > 2 * long, "{short} ms and {long} ms");
}

#[test]
fn deferred_connection_waits_for_data() {
    for max_half_open in [0, 64] {
        let mut net = Net::with(Host::with(Config { max_half_open, ..config(15) }), Host::new(1));
        let listener = net.a.listen(8080, 16);
        net.a.stack.listener_set_defer(listener, Some(Duration::from_secs(10)));
        let client = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
        net.settle();
        assert!(net.b.stack.tcp_is_connected(client));
        assert_eq!(net.a.stack.tcp_accept(listener), Err(AcceptError::WouldBlock));
        assert_eq!(net.a.stack.counters().half_open, 0);
        net.advance(Duration::from_secs(4));
        net.b.send(client, b"now");
        net.settle();
        let server = net.a.stack.tcp_accept(listener).unwrap();
        assert_eq!(net.a.recv(server).unwrap(), b"now");
    }
}

#[test]
fn deferred_connection_is_accepted_without_data_in_the_end() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    net.a.stack.listener_set_defer(listener, Some(Duration::from_secs(10)));
    net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    net.advance(Duration::from_secs(9));
    assert_eq!(net.a.stack.tcp_accept(listener), Err(AcceptError::WouldBlock));
    net.advance(Duration::from_secs(2));
    assert!(net.a.stack.tcp_accept(listener).is_ok());
}

#[test]
fn deferred_connection_that_ends_is_accepted() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    net.a.stack.listener_set_defer(listener, Some(Duration::from_secs(10)));
    let client = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    net.settle();
    net.b.stack.tcp_close(client);
    net.settle();
    let server = net.a.stack.tcp_accept(listener).unwrap();
    assert_eq!(net.a.recv(server), Err(RecvError::Finished));
}

/// Bytes that come in must be those that were sent, whatever else happens on the wire: a model of each
/// stream above, cookies, parking and growth below.
#[test]
fn streams_match_their_model_under_cookies_and_pressure() {
    for seed in seeds(6) {
        let mut rng = Rng(seed ^ 0x51);
        let limits = Config {
            max_half_open: (seed % 3) as usize,
            buffer_bytes: 60_000 + rng.below(200_000) as usize,
            tcp_rx_window: 32_768,
            tcp_tx_limit: 65_536,
            idle_after: Duration::from_millis(5 + rng.below(50)),
            ..config(15)
        };
        let mut net = Net::with(Host::with(limits), Host::new(1));
        net.introduce();
        net.rng = Rng(seed);
        net.trouble = [10, 10, 30];
        let listener = net.a.listen(8080, 64);
        let clients: Vec<_> =
            (0..8).map(|_| net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap()).collect();
        let mut sent = [0usize; 8];
        let mut servers: Vec<(TcpId, usize, usize)> = Vec::new();
        let byte = |stream: usize, index: usize| (stream * 31 + index) as u8;
        for _ in 0..1500 {
            net.step();
            net.now += Duration::from_millis(1 + rng.below(4));
            while let Ok(server) = net.a.stack.tcp_accept(listener) {
                let peer = net.a.stack.tcp_peer(server);
                let stream =
                    clients.iter().position(|client| net.b.stack.tcp_local(*client) == peer).unwrap();
                servers.push((server, stream, 0));
            }
            let stream = rng.below(8) as usize;
            let count = rng.below(5000) as usize;
            let data: Vec<u8> =
                (sent[stream]..sent[stream] + count).map(|index| byte(stream, index)).collect();
            sent[stream] += net.b.send(clients[stream], &data);
            for (server, stream, received) in &mut servers {
                for value in net.a.recv(*server).unwrap_or_default() {
                    assert_eq!(value, byte(*stream, *received), "seed {seed}");
                    *received += 1;
                }
            }
        }
        // Whoever was left without a buffer gets one when the others are read and idle.
        for _ in 0..80 {
            net.advance(Duration::from_secs(5));
            for (server, stream, received) in &mut servers {
                for value in net.a.recv(*server).unwrap_or_default() {
                    assert_eq!(value, byte(*stream, *received), "seed {seed}");
                    *received += 1;
                }
            }
        }
        for (_, stream, received) in servers {
            let sent = sent[stream];
            assert!(received <= sent && (received > 0 || sent == 0), "seed {seed}: {received} of {sent}");
        }
    }
}

/// By a flow or by a cookie, the peer is told of the largest segment that the listener wants (`TCP_MAXSEG`).
#[test]
fn listener_bounds_the_segments_of_its_peers() {
    for max_half_open in [0, 64] {
        let mut net = Net::with(Host::with(Config { max_half_open, ..config(15) }), Host::new(1));
        let listener = net.a.listen(8080, 4);
        net.a.stack.listener_set_max_segment(listener, 500);
        let (_, client) = net.connect(listener);
        assert_eq!(net.b.stack.tcp_info(client).unwrap().mss, 500);
    }
}

/// A host that lets connections from outside reach what listens on the loopback address.
fn open_net(open_loopback: OpenLoopback) -> Net {
    Net::with(Host::with(Config { open_loopback, ..config(15) }), Host::new(1))
}

fn listen_at(host: &mut Host, address: &str) -> ListenerId {
    let id = host.stack.tcp_bind(address.parse().unwrap(), BindOptions::default()).unwrap();
    host.stack.tcp_listen(id, 4).unwrap();
    id
}

#[test]
fn listen_on_loopback_is_reached_from_outside_if_it_is_open() {
    for address in ["127.0.0.1:6379", "[::1]:6379"] {
        for open in [OpenLoopback::All, OpenLoopback::Ports(vec![80, 6379])] {
            let mut net = open_net(open);
            let listener = listen_at(&mut net.a, address);
            let (server, client) = net.connect(listener);
            assert_eq!(net.a.stack.tcp_local(server), Some(at(15, 6379)));
            net.b.send(client, b"PING");
            net.settle();
            assert_eq!(net.a.recv(server).unwrap(), b"PING", "{address}");
        }
    }
}

#[test]
fn listen_on_loopback_is_closed_otherwise() {
    for (open, address) in [
        (OpenLoopback::Ports(vec![]), "127.0.0.1:6379"),
        (OpenLoopback::Ports(vec![6380]), "127.0.0.1:6379"),
        (OpenLoopback::All, "127.0.0.1:6380"),
    ] {
        let mut net = open_net(open);
        let listener = listen_at(&mut net.a, address);
        let client = net.b.stack.tcp_connect(net.now, None, at(15, 6379)).unwrap();
        net.settle();
        assert_eq!(net.b.stack.tcp_take_error(client), Some(SocketError::Refused));
        assert_eq!(net.a.stack.tcp_accept(listener), Err(AcceptError::WouldBlock));
    }
}

/// Who listens for everybody goes before who listens on the loopback address.
#[test]
fn listen_on_loopback_does_not_take_what_others_listen_for() {
    let mut net = open_net(OpenLoopback::All);
    let inner = listen_at(&mut net.a, "127.0.0.1:6379");
    let outer = listen_at(&mut net.a, "10.0.2.15:6379");
    net.connect(outer);
    assert_eq!(net.a.stack.tcp_accept(inner), Err(AcceptError::WouldBlock));
}
