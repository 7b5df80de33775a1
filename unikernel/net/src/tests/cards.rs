//! A stack that is one of several on its machine, each with a card: addresses of the others are the machine's, too.

use super::*;

/// The address of the machine's other card.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 15);

fn other(port: u16) -> SocketAddr {
    SocketAddr::new(OTHER.into(), port)
}

/// `a` has another card; `b` thinks that its address is behind `a`.
fn net() -> Net {
    let mut net = Net::new();
    net.a.stack.set_siblings(vec![OTHER.into()]);
    let route =
        RouteEntry { network: Ipv4Cidr::new(OTHER, 32).into(), gateway: Some(ip(15).into()), metric: 0 };
    net.b = Host::with(Config { routes: vec![route], ..config(1) });
    net
}

#[test]
fn connection_to_another_cards_address_is_served_where_it_arrives() {
    let mut net = net();
    let listener = net.a.listen(80, 4);
    let client = net.b.stack.tcp_connect(net.now, None, other(80)).unwrap();
    net.settle();
    assert!(net.b.stack.tcp_is_connected(client));
    let server = net.a.stack.tcp_accept(listener).unwrap();
    assert_eq!(net.a.stack.tcp_local(server), Some(other(80)));
    net.a.stack.set_siblings(Vec::new());
    net.settle();
    assert!(net.a.stack.tcp_take_error(server).is_some(), "its address is gone");
}

#[test]
fn connection_to_another_cards_address_stays_inside() {
    let mut net = net();
    let listener = net.a.listen(80, 4);
    net.a.stack.tcp_connect(net.now, None, other(80)).unwrap();
    net.settle();
    let server = net.a.stack.tcp_accept(listener).unwrap();
    assert_eq!(net.a.stack.tcp_peer(server).unwrap().ip(), IpAddr::V4(OTHER));
    assert_eq!(net.a.stack.counters().tx_packets, 0);
}

#[test]
fn neighbours_are_told_of_this_cards_address_only() {
    let mut net = net();
    net.b = Host::with(Config { routes: vec![on_link()], ..config(1) });
    net.b.stack.tcp_connect(net.now, None, other(80)).unwrap();
    net.settle();
    assert_eq!(net.a.stack.counters().not_for_us, 1, "the question was answered");
    assert!(net.a.stack.has_address(ip(15).into()) && !net.a.stack.has_address(OTHER.into()));
}

/// The other card's network, as if it were on this wire.
fn on_link() -> RouteEntry {
    RouteEntry { network: Ipv4Cidr::new(OTHER, 24).network().into(), gateway: None, metric: 0 }
}

#[test]
fn frames_from_our_own_addresses_are_dropped() {
    let mut net = Net::with(Host::new(15), Host::with(config_at(OTHER)));
    net.a.stack.set_siblings(vec![OTHER.into()]);
    net.a.listen(80, 4);
    net.b.stack.tcp_connect(net.now, None, at(15, 80)).unwrap();
    net.settle();
    assert_eq!(net.a.stack.counters().half_open, 0);
}

/// A host that has `address` in the network of the others.
fn config_at(address: Ipv4Addr) -> Config {
    let route = RouteEntry { network: Ipv4Cidr::new(ip(0), 24).into(), gateway: None, metric: 0 };
    let addressing = Addressing::Static(Ipv4Config {
        address: Ipv4Cidr::new(address, 24),
        gateway: None,
        dns: vec![],
        routes: vec![],
        time_servers: vec![],
    });
    Config { addressing, routes: vec![route], ..config(1) }
}

#[test]
fn longest_prefix_is_told_for_the_choice_among_cards() {
    let net = Net::new();
    let route = |to: &str| net.a.stack.route_to(to.parse().unwrap()).map(|route| route.network.prefix_len());
    assert_eq!(route("10.0.2.77"), Some(24));
    assert_eq!(route("192.0.2.1"), Some(0));
    assert_eq!(route("2001:db8::1"), None);
}

#[test]
fn bound_alike_and_deaf_sockets_take_nothing_in() {
    let mut net = Net::new();
    let id = net.a.stack.udp_bind_alike(other(53), BindOptions::default()).unwrap();
    assert_eq!(net.a.stack.udp_local(id), Some(other(53)), "the address was not asked about");
    let socket = net.a.stack.udp_bind(any(54), BindOptions::default()).unwrap();
    let sender = net.b.stack.udp_bind(any(55), BindOptions::default()).unwrap();
    for is_deaf in [true, false] {
        net.a.stack.udp_set_deaf(socket, is_deaf);
        let fill = |room: &mut [u8]| -> Result<(), SendError> {
            room.fill(7);
            Ok(())
        };
        net.b.stack.udp_send(sender, Some(at(15, 54)), 4, fill).unwrap();
        net.settle();
        let received = net.a.stack.udp_recv(socket, |data, _| data.len());
        assert_eq!(received, if is_deaf { Err(RecvError::WouldBlock) } else { Ok(4) });
    }
    net.a.stack.udp_connect_alike(socket, Some(at(1, 9)), other(54));
    assert_eq!(
        (net.a.stack.udp_peer(socket), net.a.stack.udp_local(socket)),
        (Some(at(1, 9)), Some(other(54)))
    );
}
