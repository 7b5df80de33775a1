//! UDP and TCP through a card, with whatever it does for the driver.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use linux_raw_sys::{errno, net};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::wire::IpEndpoint;
use unikernel_hal::sim::card::{Card, feature};

use super::lan::{ECHO, HOST, HOST_V6, Lan};
use super::{OWN, STATIC, machine, metric, run, text_of};
use crate::workbench::app::files::{close, read, read_to_end, write_all};
use crate::workbench::app::net::{
    DGRAM, STREAM, accept, bind, connect, listen, name, peer, recv, recv_from, send_to, set, shutdown,
    socket, v4, v6,
};
use crate::workbench::app::{Machine, join, spawn};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + (at >> 8)) as u8).collect()
}

/// A stream to the echo server and back.
fn stream(to: &[u8], family: u32, len: usize) {
    let socket = socket(family, STREAM);
    connect(socket, to).unwrap();
    let sender = spawn(move || {
        write_all(socket, &pattern(len)).unwrap();
        shutdown(socket, net::SHUT_WR).unwrap();
    });
    let echo = read_to_end(socket).unwrap();
    assert!(echo == pattern(len), "{} bytes came back, or others than were sent", echo.len());
    join(sender.unwrap());
    close(socket);
}

/// A listener on the machine.
fn listener(port: u16) -> u64 {
    let listener = socket(net::AF_INET, STREAM);
    bind(listener, &v4([0; 4], port)).unwrap();
    listen(listener, 16).unwrap();
    listener
}

fn own(port: u16) -> IpEndpoint {
    IpEndpoint::new(Ipv4Addr::from(OWN).into(), port)
}

/// Has the host send a stream, and end it.
fn host_sends(lan: &Lan, handle: SocketHandle, len: usize) {
    let bytes = pattern(len);
    let mut done = 0;
    while done < len {
        lan.wait("the host can send", |host| host.tcp(handle).can_send());
        done += lan.with(|host| host.tcp(handle).send_slice(&bytes[done..]).unwrap());
    }
    lan.with(|host| host.tcp(handle).close());
}

/// Cards, by what they offer, and words that leave some of it out.
fn offers() -> [(u64, &'static str); 9] {
    use feature::*;
    let all = Card::default().features;
    [
        (all, ""),
        (all & !EVENT_IDX, ""),
        (all & !(HOST_TSO4 | HOST_TSO6), ""),
        (all & !CSUM, ""),
        (all & !GUEST_CSUM, ""),
        (all & !MRG_RXBUF, ""),
        (MAC, ""),
        (all, "offload=none"),
        (all, "offload=no-csum,no-guest-tso,no-event-idx"),
    ]
}

#[test]
fn streams_arrive_whatever_the_card_does() {
    const LEN: usize = 200_000;
    for (seed, (features, words)) in (1..).zip(offers()) {
        let machine =
            Machine { seed, cores: 2, ..machine(&std::format!("{STATIC} ip=2001:db8::15/64 {words}")) };
        run(machine, Card { features, ..Card::default() }, move |lan| {
            stream(&v4(HOST, ECHO), net::AF_INET, LEN);
            let large =
                |lan: &Lan| lan.host().frames.iter().filter(|frame| frame.segment_bytes.is_some()).count();
            let has = |wanted: u64| features & wanted == wanted && !words.contains("none");
            let cuts = has(feature::CSUM | feature::HOST_TSO4) && !words.contains("no-csum");
            assert_eq!(large(&lan) > 0, cuts, "{words}: segments are cut by the card");
            assert_eq!(metric("nic_tx_large_total"), large(&lan) as u64);
            let is_partial = lan.host().frames.iter().any(|frame| frame.partial.is_some());
            assert_eq!(
                is_partial,
                has(feature::CSUM) && !words.contains("no-csum"),
                "checksums are the card's"
            );
            let before = large(&lan);
            stream(&v6(HOST_V6.octets(), ECHO), net::AF_INET6, LEN);
            assert_eq!(large(&lan) > before, cuts, "{words}: over IPv6");
        });
    }
}

/// Frames that the card has brought.
fn received() -> usize {
    let text = text_of("/proc/net/dev");
    let line = text.lines().find(|line| line.trim().starts_with("eth0")).unwrap();
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

#[test]
fn many_segments_come_as_one_if_the_card_merges() {
    const LEN: usize = 300_000;
    for merges in [true, false] {
        let words = if merges { "" } else { "offload=no-guest-tso" };
        run(machine(&std::format!("{STATIC} {words}")), Card::default(), move |lan| {
            let listener = listener(80);
            let handle = lan.connect(own(80), 4000);
            let connection = accept(listener).unwrap();
            let sender = {
                let lan = lan.clone();
                spawn(move || host_sends(&lan, handle, LEN)).unwrap()
            };
            assert!(read_to_end(connection).unwrap() == pattern(LEN));
            join(sender);
            let least = LEN / 1460;
            assert_eq!(received() < least, merges, "{} frames, {least} segments", received());
        });
    }
}

#[test]
fn connection_from_outside_is_accepted_and_ends_from_either_side() {
    for (seed, host_is_first) in (0..6).zip([true, false].into_iter().cycle()) {
        let machine = Machine { seed, cores: 2, ..machine(STATIC) };
        run(machine, Card::default(), move |lan| {
            let listener = listener(80);
            let handle = lan.connect(own(80), 4000);
            let connection = accept(listener).unwrap();
            assert_eq!(peer(connection).unwrap(), v4(HOST, 4000));
            if host_is_first {
                host_sends(&lan, handle, 10);
                assert_eq!(read_to_end(connection), Ok(pattern(10)));
                lan.wait("half closed", |host| host.tcp(handle).state() == tcp::State::FinWait2);
                write_all(connection, b"bye").unwrap();
                close(connection);
            } else {
                write_all(connection, b"bye").unwrap();
                shutdown(connection, net::SHUT_WR).unwrap();
                lan.wait("the end", |host| host.tcp(handle).state() == tcp::State::CloseWait);
                host_sends(&lan, handle, 10);
                assert_eq!(read_to_end(connection), Ok(pattern(10)));
                close(connection);
            }
            lan.wait("what was said", |host| host.tcp(handle).recv_queue() == 3);
            lan.wait("closed", |host| {
                !host.tcp(handle).is_active() || host.tcp(handle).state() == tcp::State::TimeWait
            });
        });
    }
}

#[test]
fn reset_is_told_and_sent() {
    run(machine(STATIC), Card::default(), |lan| {
        let listener = listener(80);
        let first = lan.connect(own(80), 4000);
        let connection = accept(listener).unwrap();
        lan.with(|host| host.tcp(first).abort());
        assert_eq!(read(connection, 10), Err(errno::ECONNRESET));
        close(connection);
        let second = lan.connect(own(80), 4001);
        let connection = accept(listener).unwrap();
        let linger = [1_i32, 0].map(i32::to_ne_bytes).concat();
        set(connection, net::SOL_SOCKET, net::SO_LINGER, &linger).unwrap();
        lan.wait("connected", |host| host.tcp(second).state() == tcp::State::Established);
        close(connection);
        lan.wait("a reset", |host| host.tcp(second).state() == tcp::State::Closed);
    });
}

#[test]
fn refused_connection_is_told() {
    run(machine(STATIC), Card::default(), |_| {
        assert_eq!(connect(socket(net::AF_INET, STREAM), &v4(HOST, 81)), Err(errno::ECONNREFUSED));
    });
}

#[test]
fn datagrams_go_both_ways_and_the_sender_is_told() {
    run(machine(STATIC), Card::default(), |_| {
        let socket = socket(net::AF_INET, DGRAM);
        for len in [0, 1, 700, 1472] {
            assert_eq!(send_to(socket, &pattern(len), 0, &v4(HOST, ECHO)), Ok(len));
            assert_eq!(recv_from(socket, 2000, 0), Ok((pattern(len), v4(HOST, ECHO))));
        }
        // Nobody has the port there (RFC 1122, section 4.1.3.3).
        connect(socket, &v4(HOST, 9)).unwrap();
        send_to(socket, b"?", 0, &[]).unwrap();
        assert_eq!(recv(socket, 10, 0), Err(errno::ECONNREFUSED));
    });
}

#[test]
fn datagram_that_is_too_long_for_a_frame_leaves_in_fragments() {
    run(machine(STATIC), Card::default(), |lan| {
        let socket = socket(net::AF_INET, DGRAM);
        send_to(socket, &pattern(4000), 0, &v4(HOST, 9)).unwrap();
        let is_fragment =
            |frame: &&Vec<u8>| frame[12..14] == [8, 0] && frame[20..22] != [0x40, 0] && frame[23] == 17;
        lan.wait("three fragments", move |host| host.seen.iter().filter(is_fragment).count() == 3);
        let mut bytes = Vec::new();
        lan.host().seen.iter().filter(is_fragment).for_each(|frame| bytes.extend_from_slice(&frame[34..]));
        assert!(bytes[8..] == pattern(4000), "the datagram behind its header");
    });
}

#[test]
fn source_is_the_address_of_the_card() {
    run(machine(&std::format!("{STATIC} ip=2001:db8::f/64")), Card::default(), |_| {
        let one = socket(net::AF_INET, DGRAM);
        connect(one, &v4(HOST, ECHO)).unwrap();
        assert_eq!(name(one)[4..8], OWN);
        let other = socket(net::AF_INET6, DGRAM);
        connect(other, &v6(HOST_V6.octets(), ECHO)).unwrap();
        assert_eq!(name(other)[8..24], "2001:db8::f".parse::<Ipv6Addr>().unwrap().octets());
    });
}
