//! The packet filter, against a naive model and on the wire.

use core::net::{IpAddr, Ipv6Addr};
use core::ops::RangeInclusive;

use proptest::prelude::*;
use smoltcp::wire::{IpCidr, Ipv6Cidr};

use super::fuzz::{segment, syn};
use super::{any, *};

fn rule(verdict: Action, protocol: Option<Protocol>, ports: Option<RangeInclusive<u16>>) -> Rule {
    Rule { verdict, protocol, ports, source: None }
}

fn only(rules: Vec<Rule>) -> Host {
    Host::with(Config { filter: Filter { rules, otherwise: Action::Deny }, ..config(15) })
}

fn feed(host: &mut Host, frame: Vec<u8>) {
    host.nic.rx.push_back(frame);
    host.poll(Instant::ZERO);
    host.flush(Instant::ZERO);
}

#[test]
fn denied_segment_makes_no_state_and_gets_no_answer() {
    let mut host = only(vec![rule(Action::Allow, Some(Protocol::Tcp), Some(80..=80))]);
    host.listen(80, 16);
    host.listen(81, 16);
    feed(&mut host, syn(4000, 81, 1));
    feed(&mut host, syn(4000, 82, 1));
    feed(&mut host, segment(4000, 83, 0x10, 1, 1, &[], b"stray"));
    let counters = host.stack.counters();
    assert_eq!((counters.filtered_tcp, counters.active, counters.tx_packets), (3, 0, 0));
    feed(&mut host, syn(4000, 80, 1));
    assert_eq!(host.stack.counters().half_open, 1);
}

#[test]
fn first_rule_that_matches_decides() {
    let own = Rule { source: Some(IpCidr::new(ip(0).into(), 24)), ..rule(Action::Deny, None, Some(80..=90)) };
    let mut host = only(vec![own, rule(Action::Allow, Some(Protocol::Tcp), None)]);
    host.listen(80, 16);
    host.listen(91, 16);
    feed(&mut host, syn(4000, 80, 1));
    feed(&mut host, syn(4000, 91, 1));
    assert_eq!((host.stack.counters().filtered_tcp, host.stack.counters().half_open), (1, 1));
}

#[test]
fn conversations_begun_here_go_on() {
    let mut net = Net::with(only(vec![]), Host::new(1));
    let listener = net.b.listen(80, 1);
    let client = net.a.stack.tcp_connect(net.now, None, at(1, 80)).unwrap();
    net.settle();
    let server = net.b.stack.tcp_accept(listener).unwrap();
    net.b.send(server, b"answer");
    net.settle();
    assert_eq!(net.a.recv(client).unwrap(), b"answer");

    let question =
        |host: &mut Host, id, to| host.stack.udp_send(id, Some(to), 1, |_| Ok::<(), SendError>(()));
    let resolver = net.b.stack.udp_bind(any(53), BindOptions::default()).unwrap();
    let asker = net.a.stack.udp_bind(any(5000), BindOptions::default()).unwrap();
    question(&mut net.b, resolver, at(15, 5000)).unwrap();
    net.settle();
    assert_eq!(net.a.stack.counters().filtered_udp, 1, "nobody asked");
    question(&mut net.a, asker, at(1, 53)).unwrap();
    question(&mut net.b, resolver, at(15, 5000)).unwrap();
    net.settle();
    assert_eq!(net.a.stack.udp_recv(asker, |data, _| data.len()), Ok(1));
}

#[test]
fn open_filter_is_the_default() {
    assert!(Filter::default().is_open());
    assert!(!Filter { rules: vec![], otherwise: Action::Deny }.is_open());
}

/// Says the same with words: walks the rules and compares bit by bit.
fn model(filter: &Filter, protocol: Option<Protocol>, port: Option<u16>, source: IpAddr) -> Action {
    let bits = |address: IpAddr| -> (Vec<bool>, bool) {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        (
            octets.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1)).collect(),
            address.is_ipv4(),
        )
    };
    for rule in &filter.rules {
        if rule.protocol.is_some() && rule.protocol != protocol {
            continue;
        }
        if let Some(ports) = &rule.ports {
            match port {
                Some(port) if *ports.start() <= port && port <= *ports.end() => {}
                _ => continue,
            }
        }
        if let Some(network) = rule.source {
            let (wanted, is_v4) = bits(network.address().into());
            let (given, is_given_v4) = bits(source);
            let len = usize::from(network.prefix_len());
            if is_v4 != is_given_v4 || wanted[..len] != given[..len] {
                continue;
            }
        }
        return rule.verdict;
    }
    filter.otherwise
}

fn verdicts() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Allow), Just(Action::Deny)]
}

fn protocols() -> impl Strategy<Value = Option<Protocol>> {
    prop::sample::select(vec![None, Some(Protocol::Tcp), Some(Protocol::Udp), Some(Protocol::Icmp)])
}

/// Addresses that differ in few bits, so that networks often match.
fn addresses() -> impl Strategy<Value = IpAddr> {
    let v6 = |bits: u32| Ipv6Addr::from_bits(u128::from(bits) << 90);
    prop_oneof![
        prop::sample::select(vec![0x0a00_0000u32, 0x0a00_0001, 0x0a80_0000, 0x0b00_0000])
            .prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        (0u32..8).prop_map(move |bits| IpAddr::V6(v6(bits))),
    ]
}

fn networks() -> impl Strategy<Value = IpCidr> {
    (addresses(), 0u8..=128).prop_map(|(address, len)| match address {
        IpAddr::V4(v4) => IpCidr::Ipv4(Ipv4Cidr::new(v4, len % 33)),
        IpAddr::V6(v6) => IpCidr::Ipv6(Ipv6Cidr::new(v6, len)),
    })
}

fn filters() -> impl Strategy<Value = Filter> {
    let ports = prop::option::of((0u16..8, 0u16..8).prop_map(|(low, more)| low..=low + more));
    let rules = (verdicts(), protocols(), ports, prop::option::of(networks()))
        .prop_map(|(verdict, protocol, ports, source)| Rule { verdict, protocol, ports, source });
    (prop::collection::vec(rules, 0..6), verdicts())
        .prop_map(|(rules, otherwise)| Filter { rules, otherwise })
}

proptest! {
    #[test]
    fn filter_agrees_with_the_model(
        filter in filters(), protocol in protocols(), port in prop::option::of(0u16..16), source in addresses(),
    ) {
        prop_assert_eq!(filter.judge(protocol, port, source), model(&filter, protocol, port, source));
    }

    #[test]
    fn fragment_is_denied_only_if_every_port_is(
        filter in filters(), protocol in protocols(), source in addresses(),
    ) {
        // Ports above 15 are all alike: no rule ends in their midst.
        let is_hopeless = (0u16..=16).all(|port| filter.judge(protocol, Some(port), source) == Action::Deny);
        prop_assert!(filter.judge_fragment(protocol, source) == Action::Allow || is_hopeless);
    }
}
