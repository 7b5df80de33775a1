//! Connections between two hosts: one test per state and event.

use super::*;

#[test]
fn listen_syn_accepts_and_exchanges() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    assert_eq!(net.a.events(), [SocketId::Listener(listener)]);
    assert_eq!(net.b.events(), [SocketId::Tcp(client)]);
    assert_eq!(net.b.stack.tcp_readiness(client), Readiness::OUT);

    assert_eq!(net.b.send(client, b"request"), 7);
    net.settle();
    assert_eq!(net.a.events(), [SocketId::Tcp(server)]);
    assert_eq!(net.a.stack.tcp_readiness(server), Readiness::IN | Readiness::OUT);
    assert_eq!(net.a.recv(server).unwrap(), b"request");
    assert_eq!(net.a.recv(server), Err(RecvError::WouldBlock));
    assert_eq!(net.a.stack.tcp_peer(server), net.b.stack.tcp_local(client));
}

#[test]
fn established_request_takes_one_frame_each_way() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.advance(Duration::from_millis(50));
    for _ in 0..10 {
        let before = (net.a.stack.counters(), net.b.stack.counters());
        net.b.send(client, b"GET / HTTP/1.1\r\n\r\n");
        net.b.flush(net.now);
        net.carry(false);
        net.a.poll(net.now);
        net.a.recv(server).unwrap();
        net.a.send(server, b"HTTP/1.1 200 OK\r\n\r\n");
        net.a.flush(net.now);
        net.carry(true);
        net.b.poll(net.now);
        net.b.recv(client).unwrap();
        assert_eq!(net.a.stack.counters().tx_packets, before.0.tx_packets + 1);
        assert_eq!(net.b.stack.counters().tx_packets, before.1.tx_packets + 1);
    }
}

#[test]
fn established_fin_reports_end_then_closes_both() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.b.send(client, b"last words");
    net.b.stack.tcp_close(client);
    net.settle();
    assert!(net.a.stack.tcp_readiness(server).contains(Readiness::IN | Readiness::RDHUP));
    assert_eq!(net.a.recv(server).unwrap(), b"last words");
    assert_eq!(net.a.recv(server), Err(RecvError::Finished));
    net.a.stack.tcp_close(server);
    net.advance(Duration::from_millis(100));
    assert_eq!(net.a.stack.counters().active, 0);
    assert_eq!(net.b.stack.counters().active, 0, "the record is all that is left");
    assert_eq!(net.b.stack.counters().time_wait, 1);
    assert_eq!(net.a.stack.counters().time_wait, 0);
}

#[test]
fn close_with_unread_data_resets() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.b.send(client, b"unread");
    net.settle();
    net.a.stack.tcp_close(server);
    net.settle();
    assert_eq!(net.b.stack.tcp_readiness(client) & Readiness::ERR, Readiness::ERR);
    assert_eq!(net.b.recv(client), Err(RecvError::Reset));
    assert_eq!(net.b.recv(client), Err(RecvError::Finished));
    assert_eq!(net.b.stack.tcp_send(client, 1, |_| (0, ())), Err(SendError::Closed));
    assert_eq!(net.a.stack.counters().active, 0);
}

#[test]
fn data_for_a_closed_connection_resets() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.a.stack.tcp_close(server);
    net.settle();
    assert_eq!(net.b.recv(client), Err(RecvError::Finished));
    net.b.send(client, b"anybody there?");
    net.settle();
    // The end was read already, so it is the writer who is told (Linux: EPIPE).
    assert_eq!(net.b.stack.tcp_take_error(client), Some(SocketError::Closed));
    assert_eq!(net.a.stack.counters().active, 0);
}

#[test]
fn connect_without_listener_is_refused() {
    let mut net = Net::new();
    let client = net.b.stack.tcp_connect(net.now, None, at(15, 9)).unwrap();
    net.settle();
    assert_eq!(net.b.stack.tcp_take_error(client), Some(SocketError::Refused));
    assert!(net.b.stack.tcp_readiness(client).contains(Readiness::HUP));
    assert_eq!(net.a.stack.counters().no_listener, 1);
    net.b.stack.tcp_close(client);
    net.settle();
    assert_eq!(net.b.stack.counters().active, 0);
}

#[test]
fn connect_without_neighbor_is_unreachable() {
    let mut net = Net::new();
    let client = net.b.stack.tcp_connect(net.now, None, at(77, 80)).unwrap();
    net.advance(Duration::from_secs(2));
    assert!(net.b.stack.tcp_is_connecting(client));
    let hasty = net.b.stack.tcp_connect(net.now, None, at(78, 80)).unwrap();
    net.b.stack.tcp_close(hasty);
    net.advance(Duration::from_secs(2));
    assert_eq!(net.b.stack.tcp_take_error(client), Some(SocketError::HostUnreachable));
    net.b.stack.tcp_close(client);
    net.settle();
    assert_eq!(net.b.stack.counters().active, 0);
}

#[test]
fn backlog_full_drops_and_the_peer_tries_again() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 2);
    let clients: Vec<_> =
        (0..3).map(|_| net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap()).collect();
    net.settle();
    assert!(net.a.stack.counters().backlog_full > 0);
    for _ in 0..2 {
        net.a.stack.tcp_accept(listener).unwrap();
    }
    assert_eq!(net.a.stack.tcp_accept(listener), Err(AcceptError::WouldBlock));
    net.advance(Duration::from_secs(4));
    net.a.stack.tcp_accept(listener).unwrap();
    assert!(clients.iter().all(|client| net.b.stack.tcp_is_connected(*client)));
}

#[test]
fn half_open_flows_are_bounded_and_time_out() {
    let mut net = Net::with(Host::with(Config { max_half_open: 8, ..config(15) }), Host::new(1));
    net.a.listen(8080, 128);
    for _ in 0..20 {
        net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    }
    // The peer's answers never arrive: only what b sends is carried.
    for _ in 0..4 {
        net.b.flush(net.now);
        net.carry(false);
        net.a.poll(net.now);
        net.a.flush(net.now);
        let arp: VecDeque<_> = net.a.nic.tx.drain(..).filter(|frame| frame[12..14] == [8, 6]).collect();
        net.b.nic.rx.extend(arp);
        net.b.poll(net.now);
    }
    assert_eq!(net.a.stack.counters().half_open, 8);
    assert_eq!(net.a.stack.counters().cookies_given, 12);
    for _ in 0..60 {
        net.now += Duration::from_secs(1);
        net.a.poll(net.now);
        net.a.flush(net.now);
    }
    assert_eq!(net.a.stack.counters().half_open, 0);
    assert_eq!(net.a.stack.counters().active, 0);
    assert_eq!(net.a.stack.counters().half_open_timeouts, 8);
}

#[test]
fn forged_attempts_do_not_keep_real_ones_out() {
    let mut net = Net::with(Host::with(Config { max_half_open: 64, ..config(15) }), Host::new(1));
    let listener = net.a.listen(8080, 128);
    let mut connected = 0;
    for round in 0..200u16 {
        for forged in 0..32u16 {
            let mut frame = super::fuzz::syn(1024 + round * 32 + forged, 8080, 1);
            // From a station that does not exist.
            frame[29] = 200;
            smoltcp::wire::Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
            smoltcp::wire::TcpPacket::new_unchecked(&mut frame[34..])
                .fill_checksum(&ip(200).into(), &ip(15).into());
            net.a.nic.rx.push_back(frame);
        }
        let client = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
        net.settle();
        if let Ok(server) = net.a.stack.tcp_accept(listener) {
            connected += 1;
            net.a.stack.tcp_abort(server);
        }
        net.b.stack.tcp_abort(client);
        net.settle();
        assert!(net.a.stack.counters().half_open <= 64);
    }
    assert_eq!(connected, 200);
}

#[test]
fn reset_of_a_half_open_flow_frees_it() {
    let mut net = Net::new();
    net.a.listen(8080, 16);
    let client = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    while net.a.stack.counters().half_open == 0 {
        net.b.flush(net.now);
        net.carry(false);
        net.a.poll(net.now);
        net.a.flush(net.now);
        if net.a.stack.counters().half_open == 0 {
            net.carry(true);
            net.b.poll(net.now);
        }
    }
    net.b.stack.tcp_abort(client);
    // smoltcp sends no reset for a SYN that was not answered; the answer to it provokes one.
    net.settle();
    assert_eq!(net.a.stack.counters().half_open, 0);
    assert_eq!(net.a.stack.counters().active, 0);
}

#[test]
fn listener_closed_resets_those_who_wait() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let client = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    net.settle();
    net.a.stack.listener_close(listener);
    net.settle();
    assert_eq!(net.b.stack.tcp_take_error(client), Some(SocketError::Reset));
    assert_eq!(net.a.stack.counters().active, 0);
    assert_eq!(net.a.stack.tcp_accept(listener), Err(AcceptError::BadId));
}

#[test]
fn shutdown_send_lets_the_answer_through() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.b.send(client, b"question");
    net.b.stack.tcp_shutdown_send(client).unwrap();
    net.settle();
    assert_eq!(net.a.recv(server).unwrap(), b"question");
    assert_eq!(net.a.recv(server), Err(RecvError::Finished));
    net.a.send(server, b"answer");
    net.a.stack.tcp_close(server);
    net.advance(Duration::from_millis(20));
    assert_eq!(net.b.recv(client).unwrap(), b"answer");
    assert_eq!(net.b.recv(client), Err(RecvError::Finished));
    assert!(net.b.stack.tcp_readiness(client).contains(Readiness::HUP));
    net.b.stack.tcp_close(client);
    net.settle();
    assert_eq!(net.a.stack.counters().active + net.b.stack.counters().active, 0);
}

#[test]
fn loopback_connects_without_a_nic() {
    for address in ["127.0.0.1:8080", "127.9.9.9:8080", "10.0.2.15:8080", "[::1]:8080"] {
        let mut host = Host::new(15);
        let any: SocketAddr = "[::]:8080".parse().unwrap();
        let listener = host.stack.tcp_bind(any, BindOptions::default()).unwrap();
        host.stack.tcp_listen(listener, 4).unwrap();
        let client = host.stack.tcp_connect(Instant::ZERO, None, address.parse().unwrap()).unwrap();
        host.flush(Instant::ZERO);
        let server = host.stack.tcp_accept(listener).expect(address);
        assert!(host.stack.tcp_is_connected(client));
        let big = [7; 20_000];
        assert_eq!(host.send(client, &big), 8192);
        host.flush(Instant::ZERO);
        assert_eq!(host.recv(server).unwrap().len(), 8192);
        host.stack.tcp_close(client);
        host.flush(Instant::ZERO);
        assert_eq!(host.recv(server), Err(RecvError::Finished));
        host.stack.tcp_close(server);
        host.flush(Instant::ZERO);
        assert_eq!(host.stack.counters().active, 0);
        assert!(host.nic.tx.iter().all(|frame| frame[12..14] != [8, 0]), "nothing of it may leave");
    }
}

#[test]
fn full_device_keeps_the_flow_dirty() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.a.nic.tx_room = 0;
    net.a.send(server, b"patience");
    assert!(net.a.stack.has_work());
    net.a.flush(net.now);
    assert!(!net.a.stack.has_work(), "only the device can help");
    net.a.nic.tx_room = 16;
    net.settle();
    assert_eq!(net.b.recv(client).unwrap(), b"patience");
}

#[test]
fn stale_ids_are_refused() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.a.stack.tcp_close(server);
    assert_eq!(net.a.recv(server), Err(RecvError::BadId));
    assert_eq!(net.a.stack.tcp_send(server, 1, |_| (0, ())), Err(SendError::BadId));
    assert_eq!(net.a.stack.tcp_local(server), None);
    net.b.stack.tcp_abort(client);
    assert_eq!(net.b.stack.tcp_readiness(client), Readiness::empty());
}

#[test]
fn lost_address_ends_connections() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, _) = net.connect(listener);
    net.a.stack.set_ipv4(None);
    assert!(net.a.stack.tcp_readiness(server).contains(Readiness::ERR));
    assert_eq!(net.a.stack.tcp_take_error(server), Some(SocketError::AddressLost));
}

#[test]
fn sequence_numbers_follow_clock_and_secret() {
    // Read off the SYN|ACK, which is the one place where smoltcp shows them.
    let number = |host: &mut Host, port: u16, now: Instant| {
        host.nic.rx.push_back(super::fuzz::syn(port, 80, 1000));
        host.poll(now);
        host.flush(now);
        let frame = host.nic.tx.pop_back().unwrap();
        host.nic.rx.push_back(super::fuzz::segment(port, 80, 4, 1001, 0, &[], &[]));
        host.poll(now);
        assert_eq!(host.stack.counters().active, 0);
        u32::from_be_bytes(frame[38..42].try_into().unwrap())
    };
    let mut host = Host::new(15);
    host.listen(80, 64);
    let first: Vec<u32> = (0..64).map(|port| number(&mut host, 4000 + port, Instant::ZERO)).collect();
    let second = Instant::from_secs(1);
    for (port, before) in first.iter().enumerate() {
        let after = number(&mut host, 4000 + port as u16, second);
        assert_eq!(after.wrapping_sub(*before), 16_000_000, "the same pair: only the clock has moved");
    }
    let high = first.iter().filter(|number| **number >> 31 == 1).count();
    assert!((16..=48).contains(&high), "different pairs: unrelated, but {high} of 64");
    let mut other = Host::new(16);
    let Addressing::Static(address) = config(15).addressing else { unreachable!("config is static") };
    other.stack.set_ipv4(Some(address));
    other.stack.config.mac = mac(15);
    other.listen(80, 64);
    assert_ne!(number(&mut other, 4000, Instant::ZERO), first[0], "another secret");
}

/// What the power button asks of the stack, in order.
#[test]
fn stop_refuses_newcomers_and_delivers_the_rest() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    let waiting = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    net.settle();
    net.a.stack.refuse_connections();
    let late = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    let own = net.a.stack.tcp_connect(net.now, None, "127.0.0.1:8080".parse().unwrap()).unwrap();
    net.settle();
    assert_eq!(net.b.stack.tcp_take_error(late), Some(SocketError::Refused));
    assert!(net.a.stack.tcp_is_connected(own), "an app may wake its own acceptor");
    assert!(net.a.stack.tcp_accept(listener).is_ok());
    assert!(net.b.stack.tcp_is_connected(waiting));
    net.a.send(server, b"the last words");
    net.a.stack.tcp_close_all();
    assert!(net.a.stack.has_undelivered());
    net.advance(Duration::from_millis(50));
    assert_eq!(net.b.recv(client).unwrap(), b"the last words");
    // The peer has not closed, and need not.
    assert!(!net.a.stack.has_undelivered());
}
