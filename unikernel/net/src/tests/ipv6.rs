//! IPv6 beyond loopback: autoconfiguration, neighbours, sockets.

use core::net::{IpAddr, Ipv6Addr};

use smoltcp::wire::{IpCidr, IpProtocol, Ipv6Cidr};

use super::*;

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

pub(crate) fn host(last: u8) -> Host {
    Host::with(Config { ipv6: Ipv6Config::default(), ..config(last) })
}

/// An ICMPv6 message from `from` as a frame for everybody.
pub(crate) fn icmpv6_frame(from: Ipv6Addr, to: Ipv6Addr, hops: u8, message: &[u8]) -> Vec<u8> {
    use smoltcp::wire::{Icmpv6Packet, Ipv6Packet, Ipv6Repr};
    let repr = Ipv6Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.len(),
        hop_limit: hops,
    };
    let mut frame = vec![0; 14 + 40];
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&mac(2).0);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    repr.emit(&mut Ipv6Packet::new_unchecked(&mut frame[14..]));
    frame.extend_from_slice(message);
    Icmpv6Packet::new_unchecked(&mut frame[54..]).fill_checksum(&from, &to);
    frame
}

/// A router's advertisement with one prefix, on-link and autonomous.
pub(crate) fn advertisement(router_seconds: u16, network: &str, valid: u32, preferred: u32) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0];
    message.extend(router_seconds.to_be_bytes());
    message.extend([0; 8]);
    message.extend([3, 4, 64, 0xc0]);
    message.extend(valid.to_be_bytes());
    message.extend(preferred.to_be_bytes());
    message.extend([0; 4]);
    message.extend(v6(network).octets());
    icmpv6_frame(v6("fe80::2"), v6("ff02::1"), 255, &message)
}

fn feed(host: &mut Host, now: Instant, frame: Vec<u8>) {
    host.nic.rx.push_back(frame);
    host.poll(now);
    host.flush(now);
}

fn addresses(host: &Host) -> Vec<Ipv6Addr> {
    host.stack.config().ipv6.iter().map(|own| own.address.address()).collect()
}

/// The types of the ICMPv6 messages sent since the last call.
fn sent(host: &mut Host) -> Vec<u8> {
    host.nic
        .tx
        .drain(..)
        .filter(|frame| frame[12..14] == [0x86, 0xdd] && frame[20] == 58)
        .map(|frame| frame[54])
        .collect()
}

fn at_second(second: i64) -> Instant {
    Instant::from_secs(second)
}

fn tick(host: &mut Host, second: i64) {
    host.poll(at_second(second));
    host.flush(at_second(second));
}

#[test]
fn boot_probes_its_address_and_asks_for_routers_thrice() {
    let mut host = host(15);
    tick(&mut host, 0);
    assert_eq!(sent(&mut host), [135, 133], "probe, router solicitation");
    for second in 1..30 {
        tick(&mut host, second);
    }
    assert_eq!(sent(&mut host), [133, 133]);
    assert_eq!(addresses(&host), [v6("fe80::ff:fe00:f")]);
}

#[test]
fn advertisement_brings_address_and_router() {
    let mut host = host(15);
    tick(&mut host, 0);
    feed(&mut host, at_second(0), advertisement(1800, "2001:db8:1::", 3600, 1800));
    assert_eq!(addresses(&host), [v6("fe80::ff:fe00:f"), v6("2001:db8:1::ff:fe00:f")]);
    sent(&mut host);
    tick(&mut host, 0);
    for second in 1..20 {
        tick(&mut host, second);
    }
    assert!(!sent(&mut host).contains(&133), "the router was heard");
    let routes = &host.stack.config().routes;
    assert!(
        routes
            .iter()
            .any(|route| route.network.prefix_len() == 0 && route.gateway == Some(IpAddr::V6(v6("fe80::2"))))
    );
    let route = host.stack.addresses.route(v6("2001:db8:9::1").into()).unwrap();
    assert_eq!(route, crate::route::Route::Neighbor(v6("fe80::2").into()));
    let route = host.stack.addresses.route(v6("2001:db8:1::77").into()).unwrap();
    assert_eq!(route, crate::route::Route::Neighbor(v6("2001:db8:1::77").into()));
}

#[test]
fn lifetimes_deprecate_and_then_remove() {
    let mut host = host(15);
    feed(&mut host, at_second(0), advertisement(100, "2001:db8:1::", 10_000, 500));
    let global = v6("2001:db8:1::ff:fe00:f");
    let is_deprecated = |host: &Host| {
        let own = host.stack.config().ipv6.iter().find(|own| own.address.address() == global);
        own.map(|own| own.is_deprecated)
    };
    tick(&mut host, 499);
    assert_eq!(is_deprecated(&host), Some(false));
    assert!(host.stack.addresses.route(v6("2001:db8:9::1").into()).is_none(), "the router's time is over");
    tick(&mut host, 501);
    assert_eq!(is_deprecated(&host), Some(true));
    tick(&mut host, 10_001);
    assert_eq!(is_deprecated(&host), None);
}

#[test]
fn forged_advertisement_cannot_end_an_address_at_once() {
    let mut host = host(15);
    feed(&mut host, at_second(0), advertisement(1800, "2001:db8:1::", 100_000, 50_000));
    feed(&mut host, at_second(1), advertisement(0, "2001:db8:1::", 1, 1));
    tick(&mut host, 7_000);
    assert_eq!(addresses(&host).len(), 2, "two hours are safe (RFC 4862 section 5.5.3)");
    tick(&mut host, 7_300);
    assert_eq!(addresses(&host).len(), 1);
}

#[test]
fn advertisement_from_afar_is_ignored() {
    let mut host = host(15);
    let good = advertisement(1800, "2001:db8:1::", 3600, 1800);
    let message = good[54..].to_vec();
    for (from, hops) in [(v6("fe80::2"), 64), (v6("2001:db8::2"), 255)] {
        feed(&mut host, at_second(0), icmpv6_frame(from, v6("ff02::1"), hops, &message));
    }
    let mut damaged = good.clone();
    damaged[100] ^= 1;
    feed(&mut host, at_second(0), damaged);
    assert_eq!(addresses(&host).len(), 1);
    assert_eq!(host.stack.counters().bad_checksum, 1);
}

#[test]
fn tables_of_advertisements_are_bounded() {
    let mut host = host(15);
    for network in 0..1000 {
        let network = std::format!("2001:db8:{network:x}::");
        feed(&mut host, at_second(0), advertisement(1800, &network, 3600, 1800));
    }
    assert!(addresses(&host).len() <= 16);
    assert!(host.stack.config().routes.len() <= 64);
}

#[test]
fn duplicate_address_is_given_up_while_it_is_asked_about() {
    let mut host = host(15);
    tick(&mut host, 0);
    let own = v6("fe80::ff:fe00:f");
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(own.octets());
    feed(&mut host, at_second(0), icmpv6_frame(own, v6("ff02::1"), 255, &message));
    assert_eq!(addresses(&host), [own], "an own source is impossible");
    feed(&mut host, at_second(0), icmpv6_frame(v6("fe80::9"), v6("ff02::1"), 255, &message));
    assert_eq!((addresses(&host).len(), host.stack.counters().duplicate_addresses), (0, 1));
}

#[test]
fn address_that_was_probed_is_defended() {
    let mut host = host(15);
    tick(&mut host, 0);
    tick(&mut host, 2);
    sent(&mut host);
    let own = v6("fe80::ff:fe00:f");
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(own.octets());
    feed(&mut host, at_second(3), icmpv6_frame(Ipv6Addr::UNSPECIFIED, v6("ff02::1:ff00:f"), 255, &message));
    assert_eq!(addresses(&host), [own]);
    assert_eq!(sent(&mut host), [136]);
}

fn net() -> Net {
    let with = |last: u8| {
        let address = Ipv6Cidr::new(v6(&std::format!("2001:db8::{last:x}")), 64);
        let ipv6 = Ipv6Config { addresses: vec![address], ..Ipv6Config::default() };
        Host::with(Config { ipv6, ..config(last) })
    };
    Net::with(with(15), with(1))
}

#[test]
fn connections_and_datagrams_over_global_addresses() {
    let mut net = net();
    net.settle();
    let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 80);
    let listener = net.a.stack.tcp_bind(everywhere, BindOptions::default()).unwrap();
    net.a.stack.tcp_listen(listener, 4).unwrap();
    let to = SocketAddr::new(v6("2001:db8::f").into(), 80);
    let client = net.b.stack.tcp_connect(net.now, None, to).unwrap();
    net.settle();
    let server = net.a.stack.tcp_accept(listener).unwrap();
    assert_eq!(net.a.stack.tcp_peer(server).unwrap().ip(), IpAddr::V6(v6("2001:db8::1")));
    net.b.send(client, b"hello");
    net.settle();
    assert_eq!(net.a.recv(server).unwrap(), b"hello");

    let receiver =
        net.a.stack.udp_bind(SocketAddr::new(everywhere.ip(), 53), BindOptions::default()).unwrap();
    let sender = net.b.stack.udp_bind(SocketAddr::new(everywhere.ip(), 0), BindOptions::default()).unwrap();
    let to = SocketAddr::new(v6("2001:db8::f").into(), 53);
    let closed = SocketAddr::new(v6("2001:db8::f").into(), 54);
    net.b.stack.udp_send(sender, Some(to), 3, |_| Ok::<(), SendError>(())).unwrap();
    net.settle();
    assert_eq!(net.a.stack.udp_recv(receiver, |data, _| data.len()), Ok(3));
    net.b.stack.udp_connect(sender, Some(closed)).unwrap();
    net.b.stack.udp_send(sender, None, 3, |_| Ok::<(), SendError>(())).unwrap();
    net.settle();
    assert_eq!(net.b.stack.udp_take_error(sender), Some(SocketError::Refused));
}

#[test]
fn echo_over_ipv6_is_answered() {
    let mut net = net();
    net.settle();
    let message = [128, 0, 0, 0, 0, 1, 0, 1, 9, 9];
    let mut frame = icmpv6_frame(v6("2001:db8::1"), v6("2001:db8::f"), 64, &message);
    frame[..6].copy_from_slice(&mac(15).0);
    feed(&mut net.a, net.now, frame);
    assert_eq!(sent(&mut net.a), [129]);
}

#[test]
fn most_specific_route_with_least_metric_is_taken() {
    let route = |network: [u8; 4], len, gateway: u8, metric| RouteEntry {
        network: IpCidr::new(Ipv4Addr::from(network).into(), len),
        gateway: Some(ip(gateway).into()),
        metric,
    };
    let routes = vec![
        route([10, 1, 0, 0], 16, 7, 0),
        route([10, 1, 2, 0], 24, 9, 10),
        route([10, 1, 2, 0], 24, 8, 5),
        route([0, 0, 0, 0], 0, 6, 100),
    ];
    let host = Host::with(Config { routes, ..config(15) });
    let via = |to: [u8; 4]| match host.stack.addresses.route(IpAddr::V4(to.into())) {
        Some(crate::route::Route::Neighbor(IpAddr::V4(hop))) => hop.octets()[3],
        _ => 0,
    };
    assert_eq!(
        [via([10, 1, 2, 3]), via([10, 1, 9, 9]), via([10, 0, 2, 44]), via([8, 8, 8, 8])],
        [8, 7, 44, 2]
    );
}

mod routing {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lookup_agrees_with_a_walk_over_all_routes(
            given in proptest::collection::vec((0u32..16, 0u8..=8, 1u8..200, 0u32..3), 0..12),
            to in 0u32..16,
        ) {
            let spread = |bits: u32| Ipv4Addr::from_bits(bits << 26 | 0x0100_0000);
            let routes: Vec<RouteEntry> = given.iter().map(|(bits, len, gateway, metric)| RouteEntry {
                network: IpCidr::new(spread(*bits).into(), *len),
                gateway: Some(ip(*gateway).into()),
                metric: *metric,
            }).collect();
            let mut plain = config(15);
            if let Addressing::Static(config) = &mut plain.addressing {
                config.gateway = None;
            }
            let host = Host::with(Config { routes: routes.clone(), ..plain });
            let to = spread(to);
            let is_same = |route: &&RouteEntry| {
                let IpAddr::V4(network) = IpAddr::from(route.network.address()) else { return false };
                let shift = 32 - u32::from(route.network.prefix_len());
                network.to_bits().checked_shr(shift).unwrap_or(0) == to.to_bits().checked_shr(shift).unwrap_or(0)
            };
            let mut best: Option<&RouteEntry> = None;
            for route in routes.iter().filter(is_same) {
                let rank = |route: &RouteEntry| (route.network.prefix_len(), u32::MAX - route.metric);
                if best.is_none_or(|best| rank(route) > rank(best)) {
                    best = Some(route);
                }
            }
            let expected = best.and_then(|route| route.gateway).map(crate::route::Route::Neighbor);
            prop_assert_eq!(host.stack.addresses.route(to.into()), expected);
        }
    }
}
