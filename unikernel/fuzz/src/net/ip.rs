//! Frames of everything beside TCP, with right checksums: ARP and NDP, fragments of both versions, ICMP and its errors, groups,
//! datagrams to sockets that are used meanwhile. Tables stay within their bounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use unikernel_net::smoltcp::time::Duration;
use unikernel_net::{
    Action, BindOptions, Config, Filter, HeaderOptions, Ipv6Config, MulticastOptions, PathDiscovery,
    Protocol, Rule, SendError, SendOptions, UdpId,
};

use super::frame::{ETHERNET, ICMP, ICMPV6, TCP, UDP, arp_reply, ethernet, ipv4, mend};
use super::host::{Host, OWN, OWN_MAC, PEER, config, fixed};
use crate::input::Input;

const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 15);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
const ALL_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

fn ipv6(to: Ipv6Addr, next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(if to == OWN_V6 { OWN_MAC } else { [0x33, 0x33, 0, 0, 0, 1] }, [0x86, 0xdd]);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([next, hops]);
    frame.extend(PEER_V6.octets());
    frame.extend(to.octets());
    frame.extend_from_slice(payload);
    frame
}

fn datagram(input: &mut Input<'_>) -> Vec<u8> {
    let len = usize::from(input.half()) % 1400;
    let mut bytes = vec![0, 9, 0, 53];
    bytes.extend((8 + len as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.resize(8 + len, 7);
    bytes
}

/// A frame as somebody might send it in good faith.
fn good(input: &mut Input<'_>, quoted: &[u8]) -> Vec<u8> {
    let to = [OWN, GROUP, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)][input.below(4)];
    match input.below(16) {
        0 => arp_reply(),
        1 => {
            let mut question = arp_reply();
            (question[21], question[38], question[39]) = (1, 10, 0);
            (question[40], question[41]) = (2, 15);
            question
        }
        2 => ipv4(PEER, to, UDP, 0, &datagram(input)),
        3 => {
            // A fragment.
            let place = u16::from(input.byte()) | if input.flag() { 0x2000 } else { 0 };
            ipv4(PEER, to, UDP, place, &vec![7; 8 * input.below(180)])
        }
        4 => ipv4(PEER, OWN, ICMP, 0, &[&[8, 0, 0, 0, 0, 1, 0, 1], input.chunk()].concat()),
        5 => {
            let [kind, code, mtu] = input.array();
            let message =
                [&[kind % 13, code % 16, 0, 0, 0, 0, mtu % 6, 0], &quoted[..quoted.len().min(100)]].concat();
            ipv4(PEER, OWN, ICMP, 0, &message)
        }
        6 => ipv4(PEER, to, 2, 0, &[&[0x11, input.byte(), 0, 0], &GROUP.octets()[..], &[0; 4]].concat()),
        7 => ipv6(OWN_V6, UDP, 64, &datagram(input)),
        8 | 9 => {
            // A fragment, and what may stand in front of it.
            let place = (u16::from(input.byte()) << 3 | u16::from(input.flag())).to_be_bytes();
            let front: &[u8] = &[[44, 0, 1, 4, 0, 0, 0, 0], [UDP, 0, 1, 4, 0, 0, 0, 0]][input.below(2)];
            let front = if input.flag() { front } else { &[] };
            let fragment = [
                &[UDP, 0, place[0], place[1], 0, 0, 0, input.byte() & 3],
                &vec![7; 8 * input.below(180)][..],
            ]
            .concat();
            ipv6(
                OWN_V6,
                if front.is_empty() { 44 } else { [0, 60, 43][input.below(3)] },
                64,
                &[front, &fragment].concat(),
            )
        }
        10 => {
            // A router's advertisement.
            let mut message = vec![134, 0, 0, 0, 64, 0];
            message.extend(input.array::<2>());
            message.extend([0; 8]);
            message.extend([3, 4, 64, 0xc0]);
            message.extend(input.array::<8>());
            message.extend([0; 4]);
            message.extend([0x20, 1, 0xd, 0xb8, 0, input.byte(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            ipv6(ALL_V6, ICMPV6, 255, &message)
        }
        11 | 12 => {
            // A neighbour asks, answers, or has our address.
            let (kind, target) = (135 + input.byte() % 3, if input.flag() { OWN_V6 } else { PEER_V6 });
            let head = [kind, 0, 0, 0, input.byte(), 0, 0, 0];
            let link = [1 + input.byte() % 2, 1, 2, 0, 0, 0, 0, 1];
            let to = if input.flag() { OWN_V6 } else { ALL_V6 };
            ipv6(to, ICMPV6, 255, &[&head[..], &target.octets(), &link].concat())
        }
        13 => {
            let [kind, code, mtu] = input.array();
            let message =
                [&[kind % 5, code % 8, 0, 0, 0, 0, mtu % 6, 0], &quoted[..quoted.len().min(100)]].concat();
            ipv6(OWN_V6, ICMPV6, 64, &message)
        }
        14 => ipv6(ALL_V6, ICMPV6, 1, &[&[130, 0, 0, 0, 0, 200, 0, 0][..], &[0; 16]].concat()),
        _ => input.chunk().to_vec(),
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let rule =
        Rule { verdict: Action::Deny, protocol: Some(Protocol::Udp), ports: Some(9..=9), source: None };
    let rules = if input.flag() { vec![rule] } else { Vec::new() };
    let filter = Filter { rules, otherwise: Action::Allow };
    let ipv6 = Ipv6Config { detects_duplicates: input.flag(), ..Ipv6Config::default() };
    let mut host = Host::new(Config { filter, ipv6, ..config(fixed()) });
    let bind = |host: &mut Host, at: &str| {
        let local = at.parse().expect("it is an address");
        host.stack.udp_bind(local, BindOptions::default()).expect("the port is free")
    };
    let sockets = [bind(&mut host, "[::]:53"), bind(&mut host, "0.0.0.0:54")];
    host.stack.udp_join(sockets[0], GROUP.into(), None).expect("it is a group");
    sockets.iter().for_each(|id| host.stack.udp_set_receives_errors(*id, true));
    let listener = host.stack.tcp_bind("[::]:80".parse().expect("it is an address"), BindOptions::default());
    host.stack.tcp_listen(listener.expect("the port is free"), 4).expect("it is bound");
    let mut quoted = Vec::new();
    for _ in 0..300 {
        if input.is_over() {
            break;
        }
        let by = step(&mut host, &sockets, &mut input, &quoted);
        if let Some(sent) = host.run(by).into_iter().rfind(|frame| frame[12..14] != [8, 6]) {
            quoted = sent[ETHERNET..].to_vec();
        }
        check(&host);
    }
}

fn check(host: &Host) {
    let stack = &host.stack;
    assert!(stack.config().ipv6.len() <= 16 && stack.config().routes.len() <= 64);
    let (listeners, sockets, fragments) = stack.socket_counts();
    assert!(listeners == 1 && sockets == 2 && fragments <= 512 * 1024);
    assert!(stack.counters().active <= 8);
    let mut neighbors = String::new();
    stack.list_neighbors(&mut neighbors, "eth0");
    assert!(neighbors.lines().count() <= 9, "{neighbors}");
}

fn step(host: &mut Host, sockets: &[UdpId; 2], input: &mut Input<'_>, quoted: &[u8]) -> Duration {
    let (what, id) = (input.below(16), sockets[input.below(2)]);
    match what {
        0 => return Duration::from_millis(u64::from(input.byte()) << (input.byte() % 14)),
        1 => {
            let to: IpAddr = [PEER.into(), PEER_V6.into(), GROUP.into(), ALL_V6.into()][input.below(4)];
            let len = usize::from(input.half()) % 9000;
            let options = SendOptions {
                hop_limit: input.flag().then(|| input.byte()),
                is_unsplit: input.flag(),
                segment: input.flag().then(|| input.half()),
                ..SendOptions::default()
            };
            let to = SocketAddr::new(to, 9);
            let _ = host.stack.udp_send_with::<SendError>(id, Some(to), &options, len, |room| {
                room.fill(7);
                Ok(())
            });
        }
        2 => while host.stack.udp_recv(id, |bytes, arrival| (bytes.len(), *arrival)).is_ok() {},
        3 => {
            let _ = (
                host.stack.udp_take_error(id),
                host.stack.udp_take_queued_error(id),
                host.stack.udp_readiness(id),
            );
        }
        4 => {
            let discovery =
                [PathDiscovery::Never, PathDiscovery::Always, PathDiscovery::Probe][input.below(3)];
            let headers = HeaderOptions { discovery, ..HeaderOptions::default() };
            host.stack.udp_set_headers(id, headers, headers);
            host.stack.udp_set_coalescing(id, input.flag());
            host.stack.udp_set_multicast(
                id,
                MulticastOptions { is_looped: input.flag(), ..MulticastOptions::default() },
            );
        }
        5 => {
            let group = Ipv4Addr::new(239, 1, 2, input.byte());
            let _ = host.stack.udp_join(id, group.into(), None);
            let _ = host.stack.udp_leave(id, Ipv4Addr::new(239, 1, 2, input.byte()).into(), None);
        }
        6 => {
            let to: IpAddr = [PEER.into(), PEER_V6.into(), OWN.into()][input.below(3)];
            let peer = input.flag().then_some(SocketAddr::new(to, 9));
            let _ = host.stack.udp_connect(id, peer);
        }
        7 => host.nic.room = input.below(32),
        8 => {
            // A segment, for its headers: what they lead to has a target of its own.
            let segment = [&[0, 9, 0, 80], &input.array::<12>()[..], &[0; 4]].concat();
            host.receive(ipv4(PEER, OWN, TCP, 0, &segment));
        }
        _ => {
            let mut frame = good(input, quoted);
            for _ in 0..input.below(4) {
                let at = input.below(frame.len());
                if let Some(byte) = frame.get_mut(at) {
                    *byte = input.byte();
                }
            }
            if input.byte() == 1 {
                frame.truncate(input.byte().into());
            }
            mend(&mut frame);
            host.receive(frame);
        }
    }
    Duration::from_millis(1)
}
