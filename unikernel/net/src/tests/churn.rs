//! Many connections: one after the other and all at once.

use super::*;

#[test]
fn twenty_thousand_connections_leave_nothing_behind() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    // `LONG_TESTS=1` makes it 200,000: what one client can do in a minute.
    let rounds: u32 = if std::env::var_os("LONG_TESTS").is_some() { 200_000 } else { 20_000 };
    for round in 0..rounds {
        let (server, client) = net.connect(listener);
        net.b.send(client, b"GET / HTTP/1.0\r\n\r\n");
        net.settle();
        assert!(net.a.recv(server).is_ok(), "round {round}");
        net.a.send(server, b"HTTP/1.0 200 OK\r\n\r\nhello");
        net.a.stack.tcp_close(server);
        net.settle();
        assert_eq!(net.b.recv(client).unwrap().len(), 24, "round {round}");
        assert_eq!(net.b.recv(client), Err(RecvError::Finished));
        net.b.stack.tcp_close(client);
        net.settle();
        net.now += Duration::from_micros(300);
        net.a.events();
        net.b.events();
        let counters = net.a.stack.counters();
        assert_eq!(counters.active, 0);
        assert!(counters.time_wait <= 4096);
        assert!(net.a.stack.timers.len() <= 256 + 4);
    }
    assert_eq!(net.a.stack.counters().accepted, u64::from(rounds));
    assert!(net.a.stack.counters().time_wait > 3000, "recycled ones leave gaps");
    assert!(net.a.stack.counters().time_wait_evicted > 10_000);
}

#[test]
fn a_thousand_connects_at_once_all_succeed() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 1024);
    let clients: Vec<_> =
        (0..1000).map(|_| net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap()).collect();
    net.settle();
    let mut servers = Vec::new();
    while let Ok(server) = net.a.stack.tcp_accept(listener) {
        servers.push(server);
    }
    assert_eq!(servers.len(), 1000);
    assert!(clients.iter().all(|client| net.b.stack.tcp_is_connected(*client)));
    for client in &clients {
        net.b.send(*client, b"hi");
    }
    net.settle();
    assert!(servers.iter().all(|server| net.a.recv(*server).unwrap() == b"hi"));
}

#[test]
fn flows_are_bounded() {
    let mut net = Net::with(Host::with(Config { max_flows: 10, ..config(15) }), Host::new(1));
    let listener = net.a.listen(8080, 128);
    for _ in 0..50 {
        net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    }
    net.settle();
    assert_eq!(net.a.stack.counters().active, 10);
    let counters = net.a.stack.counters();
    assert_eq!(counters.no_memory, 40);
    let first = net.a.stack.tcp_accept(listener).unwrap();
    net.a.stack.tcp_abort(first);
    net.advance(Duration::from_secs(3));
    assert_eq!(net.a.stack.counters().active, 10, "the place is taken by one of those who wait");
}
