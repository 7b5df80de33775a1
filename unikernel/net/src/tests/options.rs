//! Binding rules, as Linux has them (socket(7), ip(7), ipv6(7)).

use super::*;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn one_address_one_listener() {
    let mut host = Host::new(15);
    let first = host.listen(80, 4);
    assert_eq!(host.stack.tcp_bind(any(80), BindOptions::default()), Err(BindError::InUse));
    assert_eq!(host.stack.tcp_bind(at(15, 80), BindOptions::default()), Err(BindError::InUse));
    assert_eq!(host.stack.tcp_bind(addr("[::]:80"), BindOptions::default()), Err(BindError::InUse));
    assert_eq!(host.stack.tcp_bind(at(16, 81), BindOptions::default()), Err(BindError::NotOurs));
    let v6_only = BindOptions { dual_stack: false, ..BindOptions::default() };
    assert!(host.stack.tcp_bind(addr("[::]:80"), v6_only).is_ok());
    host.stack.listener_close(first);
    assert!(host.stack.tcp_bind(any(80), BindOptions::default()).is_ok());
}

#[test]
fn port_zero_chooses_different_ports() {
    let mut host = Host::new(15);
    let mut ports = Vec::new();
    for _ in 0..50 {
        let id = host.stack.tcp_bind(any(0), BindOptions::default()).unwrap();
        ports.push(host.stack.listener_local(id).unwrap().port());
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 50);
    assert!(ports.iter().all(|port| (32768..=60999).contains(port)));
}

#[test]
fn reuse_port_shares_connections() {
    let mut net = Net::new();
    let shared = BindOptions { reuse_port: true, ..BindOptions::default() };
    let listeners = [0, 1].map(|_| {
        let id = net.a.stack.tcp_bind(any(80), shared).unwrap();
        net.a.stack.tcp_listen(id, 64).unwrap();
        id
    });
    for _ in 0..40 {
        net.b.stack.tcp_connect(net.now, None, at(15, 80)).unwrap();
    }
    net.settle();
    let counts = listeners.map(|id| core::iter::from_fn(|| net.a.stack.tcp_accept(id).ok()).count());
    assert_eq!(counts[0] + counts[1], 40);
    assert!(counts[0] > 5 && counts[1] > 5, "{counts:?}");
}

#[test]
fn reuse_address_allows_binding_but_not_two_listeners() {
    let mut host = Host::new(15);
    let reuse = BindOptions { reuse_address: true, ..BindOptions::default() };
    let first = host.stack.tcp_bind(any(80), reuse).unwrap();
    let second = host.stack.tcp_bind(any(80), reuse).unwrap();
    host.stack.tcp_listen(first, 4).unwrap();
    assert_eq!(host.stack.tcp_listen(second, 4), Err(ListenError::InUse));
    assert_eq!(host.stack.tcp_bind(any(80), reuse), Err(BindError::InUse), "one listens already");
}

#[test]
fn specific_listener_goes_before_any() {
    let mut net = Net::new();
    let reuse = BindOptions { reuse_port: true, ..BindOptions::default() };
    let wide = net.a.stack.tcp_bind(any(80), reuse).unwrap();
    let exact = net.a.stack.tcp_bind(at(15, 80), reuse).unwrap();
    net.a.stack.tcp_listen(wide, 4).unwrap();
    net.a.stack.tcp_listen(exact, 4).unwrap();
    net.b.stack.tcp_connect(net.now, None, at(15, 80)).unwrap();
    net.settle();
    assert!(net.a.stack.tcp_accept(exact).is_ok());
    assert_eq!(net.a.stack.tcp_accept(wide), Err(AcceptError::WouldBlock));
}

#[test]
fn v4_listener_does_not_hear_v6() {
    let mut host = Host::new(15);
    host.listen(80, 4);
    let client = host.stack.tcp_connect(Instant::ZERO, None, addr("[::1]:80")).unwrap();
    host.flush(Instant::ZERO);
    assert_eq!(host.stack.tcp_take_error(client), Some(SocketError::Refused));
}

#[test]
fn unusable_peers_are_refused_at_once() {
    let mut host = Host::new(15);
    let mut connect = |to: &str| host.stack.tcp_connect(Instant::ZERO, None, addr(to)).unwrap_err();
    assert_eq!(connect("10.0.2.1:0"), ConnectError::Unaddressable);
    assert_eq!(connect("224.0.0.1:80"), ConnectError::Unaddressable);
    assert_eq!(connect("255.255.255.255:80"), ConnectError::Unaddressable);
    assert_eq!(connect("[2001:db8::1]:80"), ConnectError::NoRoute);
}

#[test]
fn nodelay_sends_small_segments_at_once() {
    let mut net = Net::new();
    let listener = net.a.listen(80, 4);
    let (server, client) = net.connect(listener);
    net.advance(Duration::from_millis(50));
    for (is_nodelay, frames) in [(false, 1), (true, 2)] {
        net.a.stack.tcp_set_nodelay(server, is_nodelay);
        let before = net.a.stack.counters().tx_packets;
        for part in [b"a", b"b"] {
            net.a.send(server, part);
            net.a.flush(net.now);
        }
        assert_eq!(net.a.stack.counters().tx_packets - before, frames);
        net.advance(Duration::from_millis(50));
        assert_eq!(net.b.recv(client).unwrap(), b"ab");
    }
}

#[test]
fn writable_event_comes_with_room_for_a_third() {
    let mut net = Net::new();
    let listener = net.a.listen(80, 4);
    let (server, client) = net.connect(listener);
    while net.a.send(server, &[1; 4096]) > 0 {
        net.settle();
    }
    net.a.events();
    assert!(!net.a.stack.tcp_readiness(server).contains(Readiness::OUT));
    net.b.recv(client).unwrap();
    net.settle();
    assert_eq!(net.a.events(), [SocketId::Tcp(server)]);
    assert!(net.a.stack.tcp_readiness(server).contains(Readiness::OUT));
}
