//! Several queues, each with a stack of its own, and several cards.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use linux_raw_sys::{general as linux, net};
use smoltcp::wire::IpEndpoint;
use unikernel_hal::sim::card::{Card, Commands, feature};

use super::lan::{ECHO, HOST, Lan};
use super::{OWN, STATIC, machine, metric, run, run_with, text_of};
use crate::workbench::app::files::{close, read, write_all};
use crate::workbench::app::net::{
    DGRAM, STREAM, accept, bind, connect, listen, name, recv, send, set, socket, v4,
};
use crate::workbench::app::wait;
use crate::workbench::app::{Machine, join, spawn};

const PAIRS: u16 = 4;

fn wide_card() -> Card {
    Card { features: feature::ALL, pairs: PAIRS, ..Card::default() }
}

fn wide_machine(seed: u64, words: &str) -> Machine {
    Machine { seed, cores: PAIRS.into(), ..machine(&std::format!("{STATIC} {words}")) }
}

/// Connections from the host to a server with epoll, and to the host from threads, at the same time.
fn talk_both_ways(lan: &Lan) {
    const CONNECTIONS: u16 = 8;
    let listener = socket(net::AF_INET, STREAM);
    bind(listener, &v4([0; 4], 80)).unwrap();
    listen(listener, 16).unwrap();
    let own = IpEndpoint::new(Ipv4Addr::from(OWN).into(), 80);
    let handles: Vec<_> = (0..CONNECTIONS).map(|number| lan.connect(own, 4000 + number)).collect();
    let clients: Vec<_> = (0..3_u8)
        .map(|own| {
            spawn(move || {
                let client = socket(net::AF_INET, STREAM);
                connect(client, &v4(HOST, ECHO)).unwrap();
                write_all(client, &[own; 100]).unwrap();
                assert_eq!(recv(client, 100, net::MSG_WAITALL), Ok([own; 100].to_vec()));
                close(client);
            })
            .unwrap()
        })
        .collect();
    let epoll = wait::epoll();
    for _ in 0..CONNECTIONS {
        let connection = accept(listener).unwrap();
        wait::add(epoll, connection, linux::EPOLLIN, connection).unwrap();
    }
    for (number, handle) in handles.iter().enumerate() {
        lan.wait("the host can send", |host| host.tcp(*handle).can_send());
        lan.with(|host| host.tcp(*handle).send_slice(&[number as u8; 50]).unwrap());
    }
    for _ in 0..CONNECTIONS {
        let [(_, connection)] = wait::wait(epoll, 1, 10_000).unwrap()[..] else { panic!("nothing comes") };
        let bytes = read(connection, 50).unwrap();
        write_all(connection, &bytes).unwrap();
        close(connection);
    }
    for (number, handle) in handles.iter().enumerate() {
        lan.wait("an echo", |host| host.tcp(*handle).recv_queue() == 50);
        let is_own =
            lan.host().tcp(*handle).recv(|bytes| (50, bytes.iter().all(|byte| *byte == number as u8)));
        assert!(is_own.unwrap(), "the bytes of connection {number}");
    }
    clients.into_iter().for_each(join);
}

#[test]
fn each_core_has_a_pair_of_queues_and_flows_of_its_own() {
    for seed in 0..8 {
        let console = run(wide_machine(seed, "log=net:debug,debug"), wide_card(), |lan| {
            talk_both_ways(&lan);
            // UDP is the first shard's, wherever it arrives.
            let socket = socket(net::AF_INET, DGRAM);
            connect(socket, &v4(HOST, ECHO)).unwrap();
            send(socket, b"datagram", 0).unwrap();
            assert_eq!(recv(socket, 100, 0), Ok(b"datagram".to_vec()));
            assert!(metric("net_handed_over_total") > 0, "the card deals flows out by a rule of its own");
        });
        assert!(console.contains("4 of 4 pairs"), "{console}");
    }
}

#[test]
fn pairs_that_nobody_has_a_core_for_stay_unused() {
    let machine = Machine { cores: 2, ..machine(&std::format!("{STATIC} log=debug")) };
    let console = run(machine, wide_card(), |lan| talk_both_ways(&lan));
    assert!(console.contains("2 of 4 pairs"), "{console}");
}

#[test]
fn card_that_does_not_do_commands_is_used_with_one_pair() {
    for commands in [Commands::Refuse, Commands::Ignore] {
        let card = Card { commands, ..wide_card() };
        let console = run(wide_machine(3, ""), card, |lan| talk_both_ways(&lan));
        assert!(console.contains("does not use 4 pairs"), "{console}");
    }
}

#[test]
fn several_pairs_can_be_left_alone() {
    let console = run(wide_machine(1, "offload=no-mq log=debug"), wide_card(), |lan| talk_both_ways(&lan));
    assert!(console.contains("1 of 1 pairs"), "{console}");
}

/// A second card, on another network.
fn second_card() -> Card {
    Card { mac: [2, 0, 0, 0, 0, 16], ..Card::default() }
}

#[test]
fn two_cards_have_addresses_and_routes_of_their_own() {
    const OTHER: [u8; 4] = [10, 0, 7, 2];
    for seed in 0..4 {
        let words = std::format!("{STATIC} eth1.ip=10.0.7.15/24 route=10.9.0.0/16:10.0.2.2 eth1.slaac=off");
        let other = Lan::at(OTHER);
        let same = other.clone();
        let plug_in = move |lan: &Lan| {
            lan.plug_in(Card::default());
            other.plug_in(second_card());
        };
        run_with(Machine { seed, cores: 2, ..machine(&words) }, plug_in, move |lan| {
            let echo = |to: [u8; 4], from: [u8; 4]| {
                let socket = socket(net::AF_INET, DGRAM);
                connect(socket, &v4(to, ECHO)).unwrap();
                assert_eq!(name(socket)[4..8], from);
                send(socket, b"hello", 0).unwrap();
                assert_eq!(recv(socket, 10, 0), Ok(b"hello".to_vec()));
                let stream = crate::workbench::app::net::socket(net::AF_INET, STREAM);
                connect(stream, &v4(to, ECHO)).unwrap();
                write_all(stream, b"stream").unwrap();
                assert_eq!(recv(stream, 6, net::MSG_WAITALL), Ok(b"stream".to_vec()));
                close(stream);
            };
            echo(HOST, OWN);
            echo(OTHER, [10, 0, 7, 15]);
            // One socket for both cards.
            let server = socket(net::AF_INET, STREAM);
            bind(server, &v4([0; 4], 80)).unwrap();
            listen(server, 4).unwrap();
            for (lan, own) in [(&lan, OWN), (&same, [10, 0, 7, 15])] {
                lan.connect(IpEndpoint::new(Ipv4Addr::from(own).into(), 80), 4000);
                let connection = accept(server).unwrap();
                assert_eq!(name(connection)[4..8], own);
            }
            // Bound to a card, nothing leaves by another.
            let bound = socket(net::AF_INET, DGRAM);
            set(bound, net::SOL_SOCKET, net::SO_BINDTODEVICE, b"eth1\0").unwrap();
            connect(bound, &v4(OTHER, ECHO)).unwrap();
            send(bound, b"bound", 0).unwrap();
            assert_eq!(recv(bound, 10, 0), Ok(b"bound".to_vec()));
            let routes = text_of("/proc/net/route");
            assert!(
                routes.contains("eth0\t0000090A\t0202000A") && routes.contains("eth1\t0007000A"),
                "{routes}"
            );
            let dev = text_of("/proc/net/dev");
            assert!(dev.contains("eth0:") && dev.contains("eth1:"), "{dev}");
        });
    }
}

#[test]
fn more_cards_than_can_be_used_are_named() {
    let plug_in = |lan: &Lan| {
        for number in 0..9 {
            lan.plug_in(Card { mac: [2, 0, 0, 0, 0, 20 + number], ..Card::default() });
        }
    };
    let machine = Machine { ram_bytes: 128 << 20, ..machine("ip=none") };
    let console = run_with(machine, plug_in, |_| {
        let dev = text_of("/proc/net/dev");
        assert!(dev.contains("eth7:") && !dev.contains("eth8:"), "{dev}");
    });
    assert!(console.contains("not used: 8 of its kind"), "{console}");
}

#[test]
fn equal_seeds_make_equal_runs() {
    let outcome = |seed| {
        let lan = Lan::new();
        let same = lan.clone();
        wide_machine(seed, "").run_with(
            || lan.plug_in(wide_card()),
            move || {
                talk_both_ways(&same);
                0
            },
        )
    };
    let first = outcome(42);
    assert_eq!(first.code, Some(0), "{}", first.console);
    assert_eq!(first, outcome(42));
    assert_ne!(first.trace, outcome(43).trace);
}
