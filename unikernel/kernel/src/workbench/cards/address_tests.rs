//! How the machine comes by its addresses, and who finds it by them.

use core::net::{Ipv4Addr, Ipv6Addr};

use linux_raw_sys::{ioctl, net};
use smoltcp::wire::IpEndpoint;
use unikernel_hal::sim::card::{Card, feature};

use super::lan::{ECHO, HOST, HOST_V6, Lan};
use super::{MAC, OWN, STATIC, frames, machine, run, text_of};
use crate::workbench::app::calls::{Room, sys};
use crate::workbench::app::files::sleep_ms;
use crate::workbench::app::net::{DGRAM, connect, recv, send, send_to, socket, v4, v6};

/// What an ioctl(2) of netdevice(7) leaves behind a name.
fn ask(name: &str, request: u32) -> Result<Room, u32> {
    let room = Room::new(40);
    room.put(0, name.as_bytes());
    sys!(ioctl, socket(net::AF_INET, DGRAM), request, &room)?;
    Ok(room)
}

fn address_of(name: &str) -> Option<[u8; 4]> {
    let room = ask(name, ioctl::SIOCGIFADDR).ok()?;
    room.bytes(20, 4).try_into().ok()
}

/// A datagram that comes back.
fn echoes(to: &[u8], family: u32) {
    let socket = socket(family, DGRAM);
    connect(socket, to).unwrap();
    send(socket, b"hello", 0).unwrap();
    assert_eq!(recv(socket, 100, 0), Ok(b"hello".to_vec()));
}

#[test]
fn dhcp_gives_address_router_and_name_server() {
    let app = |lan: Lan| {
        lan.host().lease = Some(Ipv4Addr::new(10, 0, 2, 40));
        lan.wait_for_frame("a question for an address", |frame| frame[36..38] == [0, 67]);
        sleep_ms(20);
        for _ in 0..1000 {
            if address_of("eth0").is_some() {
                break;
            }
            sleep_ms(10);
        }
        assert_eq!(address_of("eth0"), Some([10, 0, 2, 40]));
        assert_eq!(text_of("/etc/resolv.conf"), "nameserver 10.0.2.3\n");
        let routes = text_of("/proc/net/route");
        assert!(routes.contains("eth0\t00000000\t0202000A\t0003"), "{routes}");
        echoes(&v4(HOST, ECHO), net::AF_INET);
        let is_named = |frame: &[u8]| {
            frame[36..38] == [0, 67]
                && frame.windows(7).any(|window| window == [12, 5, b'w', b'e', b'b', b'-', b'1'])
        };
        assert!(
            lan.host().seen.iter().any(|frame| frame.len() > 50 && is_named(frame)),
            "the server is told the name"
        );
    };
    run(machine("hostname=web-1"), Card::default(), app);
}

#[test]
fn static_address_is_there_at_once_and_is_answered_for() {
    run(machine(STATIC), Card::default(), |lan| {
        assert_eq!(address_of("eth0"), Some(OWN));
        assert_eq!(ask("eth0", ioctl::SIOCGIFHWADDR).unwrap().bytes(18, 6), MAC);
        assert_eq!(ask("eth0", ioctl::SIOCGIFMTU).unwrap().word(16), 1500);
        assert_eq!(ask("eth0", ioctl::SIOCGIFNETMASK).unwrap().bytes(20, 4), [255, 255, 255, 0]);
        assert_eq!(ask("eth0", ioctl::SIOCGIFBRDADDR).unwrap().bytes(20, 4), [10, 0, 2, 255]);
        assert_eq!(ask("eth0", ioctl::SIOCGIFINDEX).unwrap().word(16), 2);
        // The host asks by ARP (RFC 826) who has it.
        lan.connect(IpEndpoint::new(Ipv4Addr::from(OWN).into(), 9), 999);
        lan.wait_for_frame("an answer by ARP", |frame| {
            frame[12..14] == [8, 6] && frame[20..22] == [0, 2] && frame[22..28] == MAC && frame[28..32] == OWN
        });
        // Nobody listens: the connection is refused.
        lan.wait_for_frame("a reset", |frame| {
            frame[12..14] == [8, 0] && frame[23] == 6 && frame[47] & 4 != 0
        });
    });
}

#[test]
fn machine_asks_who_has_an_address_and_lists_the_answer() {
    run(machine(STATIC), Card::default(), |lan| {
        echoes(&v4(HOST, ECHO), net::AF_INET);
        let asks = |frame: &&alloc::vec::Vec<u8>| frame[12..14] == [8, 6] && frame[38..42] == HOST;
        assert_eq!(lan.host().seen.iter().filter(asks).count(), 1);
        let neighbors = text_of("/proc/net/arp");
        assert!(neighbors.contains("10.0.2.2 ") && neighbors.contains("02:00:00:00:00:02"), "{neighbors}");
        // What is not on the link goes to the router.
        let far = socket(net::AF_INET, DGRAM);
        send_to(far, b"far", 0, &v4([192, 0, 2, 1], 53)).unwrap();
        lan.wait_for_frame("a datagram", |frame| frame[12..14] == [8, 0] && frame[30..34] == [192, 0, 2, 1]);
    });
}

#[test]
fn silent_neighbor_is_asked_for_and_given_up() {
    run(machine(STATIC), Card::default(), |lan| {
        let stream = socket(net::AF_INET, crate::workbench::app::net::STREAM);
        assert_eq!(connect(stream, &v4([10, 0, 2, 99], 80)), Err(linux_raw_sys::errno::EHOSTUNREACH));
        let asks = |frame: &&alloc::vec::Vec<u8>| frame[12..14] == [8, 6] && frame[38..42] == [10, 0, 2, 99];
        assert!(lan.host().seen.iter().filter(asks).count() > 1);
    });
}

#[test]
fn ping_is_answered_with_what_it_brought() {
    run(machine(STATIC), Card::default(), |lan| {
        let payload = [0x5a; 900];
        lan.send(frames::ping(&payload));
        lan.wait_for_frame("an echo", |frame| {
            frame[12..14] == [8, 0] && frame[23] == 1 && frame[34] == 0 && frame[42..] == payload
        });
    });
}

#[test]
fn router_advertisement_brings_an_address_of_ipv6() {
    run(machine("ip=none"), Card::default(), |lan| {
        lan.wait_for_frame("a router solicitation", |frame| {
            frame[12..14] == [0x86, 0xdd] && frame[54] == 133
        });
        lan.send(frames::advertisement());
        sleep_ms(100);
        let addresses = text_of("/proc/net/if_inet6");
        assert!(addresses.contains("20010db800000000000000fffe00000f"), "{addresses}");
        // It may still be tentative (RFC 4862): a second is enough for that.
        sleep_ms(2000);
        echoes(&v6(HOST_V6.octets(), ECHO), net::AF_INET6);
        let own: Ipv6Addr = "2001:db8::ff:fe00:f".parse().unwrap();
        let handle = lan.connect(IpEndpoint::new(own.into(), 9), 999);
        lan.wait("the host hears that nobody listens", |host| !host.tcp(handle).is_open());
    });
}

#[test]
fn card_without_an_address_gets_a_local_one() {
    let card = Card { features: Card::default().features & !feature::MAC, ..Card::default() };
    run(machine(STATIC), card, |_| {
        let mac = ask("eth0", ioctl::SIOCGIFHWADDR).unwrap().bytes(18, 6);
        assert_eq!(mac[0] & 3, 2, "{mac:?} is not local");
        echoes(&v4(HOST, ECHO), net::AF_INET);
    });
}
