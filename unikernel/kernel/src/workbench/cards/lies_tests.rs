//! A card that lies: what it says makes no difference to what is true, and the network goes on.

use alloc::vec::Vec;

use linux_raw_sys::net;
use unikernel_hal::sim::card::{Card, Port, feature};

use super::lan::{ECHO, HOST, Lan};
use super::{MAC, STATIC, frames, machine, metric, run};
use crate::workbench::app::files::{close, sleep_ms, write_all};
use crate::workbench::app::net::{STREAM, connect, recv, socket, v4};

/// The first pair's queues.
const RECEIVE: u16 = 0;
const SEND: u16 = 1;

/// A stream to the host and back.
fn works() {
    let socket = socket(net::AF_INET, STREAM);
    connect(socket, &v4(HOST, ECHO)).unwrap();
    for byte in 0..20 {
        write_all(socket, &[byte; 3000]).unwrap();
        assert!(recv(socket, 3000, net::MSG_WAITALL) == Ok([byte; 3000].to_vec()), "part {byte}");
    }
    close(socket);
}

/// The network works before and after the card has lied; answers how many frames the driver has refused.
fn lie(features: u64, lie: impl Fn(&mut Port) + 'static) -> u64 {
    let dropped = unikernel_hal::sim::machine::SharedCounter::new();
    run(machine(STATIC), Card { features, ..Card::default() }, move |lan: Lan| {
        works();
        lan.act(lie);
        sleep_ms(5);
        works();
        dropped.set(metric("nic_rx_dropped_total"));
    });
    dropped.get()
}

fn both_ways(tell: impl Fn(&mut Port) + Clone + 'static) {
    lie(Card::default().features, tell.clone());
    lie(feature::MAC, tell);
}

#[test]
fn request_that_there_is_not_is_ignored() {
    both_ways(|port| {
        for id in [256, 65_535, 65_536, u32::MAX] {
            port.forge(RECEIVE, id, 100);
            port.forge(SEND, id, 0);
        }
    });
}

#[test]
fn request_that_the_card_does_not_have_is_ignored() {
    both_ways(|port| {
        for id in 0..256 {
            port.forge(SEND, id, 0);
        }
    });
}

#[test]
fn buffer_that_comes_twice_is_taken_once() {
    both_ways(|port| {
        for id in [3, 3, 4, 3] {
            port.forge(RECEIVE, id, 40);
        }
    });
}

#[test]
fn length_beyond_the_buffer_is_cut() {
    both_ways(|port| {
        for (id, len) in [(7, 2049), (8, 65_536), (9, u32::MAX)] {
            port.forge(RECEIVE, id, len);
        }
    });
}

#[test]
fn nothing_but_nonsense_for_longer_than_the_ring_is_long() {
    both_ways(|port| (0..600).for_each(|_| port.forge(RECEIVE, 999, 0)));
}

/// A packet behind a header of these bytes, with a number of buffers.
fn packet(header: [u8; 10], buffers: u16, frame: &[u8]) -> Vec<u8> {
    [&header[..], &buffers.to_le_bytes(), frame].concat()
}

#[test]
fn packet_that_is_none_is_dropped_and_counted() {
    let short = |port: &mut Port| {
        for len in [0, 1, 11, 12, 25] {
            let mut bytes = packet([0; 10], 1, &[0; 14]);
            bytes.truncate(len);
            port.send_raw(RECEIVE, bytes);
        }
    };
    // Of the two that are shorter than a header with its number of buffers nothing can be counted but nonsense.
    assert_eq!(lie(Card::default().features, short), 2);
    assert_eq!(lie(feature::MAC, short), 5);
}

#[test]
fn wrong_number_of_buffers_is_nonsense() {
    both_ways(|port| {
        let frame = frames::udp((MAC, super::OWN.into()), (9, 9), b"hello");
        for buffers in [0, 2, 3, 300, u16::MAX] {
            port.send_raw(RECEIVE, packet([0; 10], buffers, &frame));
        }
    });
}

#[test]
fn header_may_say_anything() {
    both_ways(|port| {
        let frame = frames::udp((MAC, super::OWN.into()), (9, 9), b"hello");
        for flags in [0, 1, 2, 3, 0xff] {
            for kind in [1, 3, 4, 5, 0x81, 0xff] {
                let wild = [flags, kind, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
                port.send_raw(RECEIVE, packet(wild, 1, &frame));
                port.send_raw(RECEIVE, packet([flags, kind, 0, 0, 0, 0, 0, 0, 0, 0], 1, &frame));
            }
        }
    });
}

#[test]
fn packet_in_buffers_out_of_order_is_put_together() {
    // One of the parts is not full, so that they do not lie one behind the other.
    lie(Card::default().features, |port| {
        let frame = frames::ping(&[7; 600]);
        let (first, rest) = frame.split_at(300);
        port.send_raw(RECEIVE, packet([0; 10], 2, first));
        port.send_raw(RECEIVE, rest.to_vec());
    });
}

#[test]
fn wrong_checksum_is_found_by_the_driver_or_the_card_and_never_vouched_for() {
    for features in [Card::default().features, feature::MAC] {
        run(machine(STATIC), Card { features, ..Card::default() }, |lan| {
            let server = socket(net::AF_INET, crate::workbench::app::net::DGRAM);
            crate::workbench::app::net::bind(server, &v4([0; 4], 9)).unwrap();
            let good = frames::udp((super::MAC, super::OWN.into()), (9, 9), b"good");
            let mut bad = frames::udp((super::MAC, super::OWN.into()), (9, 9), b"bad!");
            *bad.last_mut().unwrap() ^= 1;
            lan.send(bad);
            lan.send(good);
            assert_eq!(recv(server, 10, 0), Ok(b"good".to_vec()));
        });
    }
}
