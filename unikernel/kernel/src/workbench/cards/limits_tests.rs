//! Full queues, no cable, other sizes of packets, a packet filter, and what is counted.

use alloc::boxed::Box;
use core::net::Ipv4Addr;

use linux_raw_sys::{errno, general as linux, ioctl, net};
use smoltcp::socket::tcp;
use smoltcp::wire::IpEndpoint;
use unikernel_hal::sim::card::{Card, Frame, Peer, Port};
use unikernel_hal::sim::machine::SharedCounter;

use super::lan::{ECHO, HOST, Lan};
use super::{MAC, OWN, STATIC, frames, machine, metric, run, run_with, text_of};
use crate::workbench::app::calls::{Room, sys};
use crate::workbench::app::files::{close, now_ms, sleep_ms, write_all};
use crate::workbench::app::net::{
    DGRAM, STREAM, accept, bind, connect, listen, recv, send, send_to, set_int, socket, v4,
};
use crate::workbench::app::wait::poll;

#[test]
fn slow_card_holds_senders_up_and_loses_nothing_of_a_stream() {
    let card = Card { send_ns: 300_000, ..Card::default() };
    run(machine(STATIC), card, |lan| {
        let datagrams = socket(net::AF_INET, DGRAM);
        connect(datagrams, &v4(HOST, ECHO)).unwrap();
        send(datagrams, b"hello", 0).unwrap();
        recv(datagrams, 5, 0).unwrap();
        for number in 0..600_u32 {
            let _ = send(datagrams, &number.to_le_bytes(), net::MSG_DONTWAIT);
        }
        let stream = socket(net::AF_INET, STREAM);
        connect(stream, &v4(HOST, ECHO)).unwrap();
        write_all(stream, &[9; 30_000]).unwrap();
        assert!(recv(stream, 30_000, net::MSG_WAITALL) == Ok([9; 30_000].to_vec()));
        close(stream);
        assert!(metric("nic_tx_full_total") > 0, "there is a place for everything");
        let sent = lan.host().seen.iter().filter(|frame| frame.len() == 46 && frame[23] == 17).count();
        assert!(sent >= 200, "{sent} datagrams were sent");
    });
}

/// Who is at the other end, and lives on when the machine has ended.
struct Witness(SharedCounter);

impl Peer for Witness {
    fn take(&mut self, frame: Frame, _: &mut Port) {
        let is_datagram = frame.bytes.get(23) == Some(&17) && frame.bytes.ends_with(b"the last");
        self.0.set(self.0.get() + u64::from(is_datagram));
    }
}

#[test]
fn the_last_frames_leave_before_the_machine_ends() {
    let card = Card { send_ns: 3_000_000, ..Card::default() };
    let seen = SharedCounter::new();
    let witness = Witness(seen);
    let plug_in = move |_: &Lan| card.plug_in(Box::new(witness));
    run_with(machine(STATIC), plug_in, |_| {
        let socket = socket(net::AF_INET, DGRAM);
        set_int(socket, net::SOL_SOCKET, net::SO_BROADCAST, 1).unwrap();
        for _ in 0..5 {
            send_to(socket, b"the last", 0, &v4([255; 4], 99)).unwrap();
        }
    });
    assert_eq!(seen.get(), 5);
}

#[test]
fn flood_costs_frames_and_nothing_else() {
    run(machine(STATIC), Card::default(), |lan| {
        let server = socket(net::AF_INET, DGRAM);
        bind(server, &v4([0; 4], 9)).unwrap();
        for number in 0..2000_u16 {
            let frame = frames::udp((MAC, OWN.into()), (number, 9), b"flood");
            lan.host().queue(frame);
        }
        let dropped = unikernel_hal::sim::machine::SharedCounter::new();
        lan.act(move |port| dropped.set(port.dropped));
        sleep_ms(20);
        lan.act(move |port| dropped.set(port.dropped));
        assert!(dropped.get() > 1000, "{} frames found no buffer", dropped.get());
        let mut got = 0;
        while recv(server, 10, net::MSG_DONTWAIT).is_ok() {
            got += 1;
        }
        assert!(got > 0, "some arrive");
        lan.send(frames::udp((MAC, OWN.into()), (1, 9), b"after"));
        assert_eq!(recv(server, 10, 0), Ok(b"after".to_vec()));
    });
}

fn flags() -> u32 {
    let room = Room::new(40);
    room.put(0, b"eth0");
    sys!(ioctl, socket(net::AF_INET, DGRAM), ioctl::SIOCGIFFLAGS, &room).unwrap();
    room.word(16) & 0xffff
}

#[test]
fn cable_that_is_out_is_told_and_a_stream_outlives_it() {
    const RUNNING: u32 = 0x40;
    run(machine(STATIC), Card::default(), |lan| {
        assert_ne!(flags() & RUNNING, 0);
        let stream = socket(net::AF_INET, STREAM);
        connect(stream, &v4(HOST, ECHO)).unwrap();
        lan.act(|port| port.is_link_up = false);
        assert_eq!(flags() & RUNNING, 0);
        write_all(stream, b"while it is out").unwrap();
        assert_eq!(poll(stream, linux::POLLIN, 500), 0);
        lan.act(|port| port.is_link_up = true);
        assert_ne!(flags() & RUNNING, 0);
        let before = now_ms();
        assert_eq!(recv(stream, 15, net::MSG_WAITALL), Ok(b"while it is out".to_vec()));
        assert!(now_ms() - before < 3000, "it took {} ms", now_ms() - before);
    });
}

#[test]
fn size_of_packets_is_the_cards_within_reason() {
    for (told, used) in [(1400, 1400), (100, 1280), (9000, 2022)] {
        run(machine(STATIC), Card { mtu: told, ..Card::default() }, move |lan| {
            let room = Room::new(40);
            room.put(0, b"eth0");
            sys!(ioctl, socket(net::AF_INET, DGRAM), ioctl::SIOCGIFMTU, &room).unwrap();
            assert_eq!(room.word(16), used);
            let stream = socket(net::AF_INET, STREAM);
            connect(stream, &v4(HOST, ECHO)).unwrap();
            write_all(stream, &[1; 20_000]).unwrap();
            assert!(recv(stream, 20_000, net::MSG_WAITALL) == Ok([1; 20_000].to_vec()));
            let longest = lan.host().seen.iter().map(|frame| frame.len() - 14).max();
            // The host says that 1,500 are enough for it.
            assert_eq!(longest, Some((used as usize).min(1500)));
        });
    }
}

#[test]
fn frames_and_bytes_are_counted_as_they_pass() {
    run(machine(STATIC), Card::default(), |lan| {
        for _ in 0..5 {
            let socket = socket(net::AF_INET, DGRAM);
            send_to(socket, &[0; 100], 0, &v4(HOST, ECHO)).unwrap();
            recv(socket, 200, 0).unwrap();
        }
        lan.send(alloc::vec![0; 13]);
        sleep_ms(1);
        let text = text_of("/proc/net/dev");
        let line = text.lines().find(|line| line.trim().starts_with("eth0:")).unwrap();
        let fields: alloc::vec::Vec<u64> =
            line.split_whitespace().skip(1).map(|field| field.parse().unwrap()).collect();
        let (sent, bytes) = {
            let host = lan.host();
            (host.seen.len() as u64, host.seen.iter().map(|frame| frame.len() as u64).sum::<u64>())
        };
        assert_eq!((fields[9], fields[8]), (sent, bytes), "sent: {line}");
        // An answer by ARP, and five echoes.
        assert_eq!((fields[1], fields[0]), (6, 42 + 5 * 142), "received: {line}");
        assert_eq!(fields[3], 1, "dropped: {line}");
        let snmp = text_of("/proc/net/snmp");
        assert!(snmp.contains("\nIp: 2 64 6 0 0 0 8 "), "{snmp}");
        assert!(metric("nic_kicks_total") > 0);
    });
}

#[test]
fn filter_lets_in_what_it_names_and_answers_to_what_the_app_began() {
    let words = std::format!("{STATIC} allow=tcp/80:10.0.2.0/24 deny=udp/53 filter=deny");
    run(machine(&words), Card::default(), |lan| {
        let listeners = [80, 81].map(|port| {
            let listener = socket(net::AF_INET, STREAM);
            bind(listener, &v4([0; 4], port)).unwrap();
            listen(listener, 4).unwrap();
            listener
        });
        let own = |port| IpEndpoint::new(Ipv4Addr::from(OWN).into(), port);
        let allowed = lan.connect(own(80), 4000);
        let denied = lan.connect(own(81), 4001);
        lan.send(frames::ping(b"hello"));
        lan.send(frames::udp((MAC, OWN.into()), (9, 53), b"hello"));
        accept(listeners[0]).unwrap();
        lan.wait("connected", |host| host.tcp(allowed).state() == tcp::State::Established);
        let stream = socket(net::AF_INET, STREAM);
        connect(stream, &v4(HOST, ECHO)).unwrap();
        let datagrams = socket(net::AF_INET, DGRAM);
        connect(datagrams, &v4(HOST, ECHO)).unwrap();
        send(datagrams, b"hello", 0).unwrap();
        assert_eq!(recv(datagrams, 10, 0), Ok(b"hello".to_vec()));
        sleep_ms(100);
        assert_eq!(lan.host().tcp(denied).state(), tcp::State::SynSent, "no answer, not even a refusal");
        assert!(
            !lan.host().seen.iter().any(|frame| frame[12..14] == [8, 0] && frame[23] == 1),
            "nothing by ICMP"
        );
        for kind in ["tcp", "udp", "icmp"] {
            assert!(metric(&std::format!("net_filtered_{kind}_total")) > 0, "{kind}");
        }
    });
}

#[test]
fn connection_that_nobody_answers_times_out() {
    run(machine(STATIC), Card::default(), |lan| {
        let stream = socket(net::AF_INET, STREAM);
        connect(stream, &v4(HOST, ECHO)).unwrap();
        lan.act(|port| port.is_link_up = false);
        const TCP_USER_TIMEOUT: u32 = 18;
        set_int(stream, net::IPPROTO_TCP as u32, TCP_USER_TIMEOUT, 3000).unwrap();
        write_all(stream, b"?").unwrap();
        let before = now_ms();
        assert_eq!(recv(stream, 1, 0), Err(errno::ETIMEDOUT));
        assert!((2500..10_000).contains(&(now_ms() - before)), "after {} ms", now_ms() - before);
    });
}
