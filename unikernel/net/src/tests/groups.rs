//! Multicast groups: reports, delivery, and how datagrams for groups are sent.

use core::net::IpAddr;

use super::ipv6::icmpv6_frame;
use super::*;

fn group(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(239, 1, 2, last))
}

fn bind(host: &mut Host, port: u16) -> UdpId {
    let options = BindOptions { reuse_address: true, ..BindOptions::default() };
    host.stack.udp_bind(any(port), options).unwrap()
}

fn send(host: &mut Host, id: UdpId, to: SocketAddr) {
    host.stack.udp_send(id, Some(to), 4, |_| Ok::<(), SendError>(())).unwrap();
}

fn count(host: &mut Host, id: UdpId) -> usize {
    core::iter::from_fn(|| host.stack.udp_recv(id, |_, _| ()).ok()).count()
}

/// Types and groups of the IGMP messages sent since the last call.
fn igmp(host: &mut Host, now: Instant) -> Vec<(u8, u8)> {
    host.flush(now);
    let frames = host.nic.tx.drain(..).filter(|frame| frame[12..14] == [8, 0] && frame[23] == 2);
    frames.map(|frame| (frame[38], frame[45])).collect()
}

#[test]
fn joining_is_reported_twice_and_the_last_leave_once() {
    let mut host = Host::new(15);
    let (one, two) = (bind(&mut host, 5000), bind(&mut host, 5000));
    host.stack.udp_join(one, group(3), None).unwrap();
    host.stack.udp_join(two, group(3), None).unwrap();
    assert_eq!(host.stack.udp_join(one, group(3), None), Err(GroupError::Already));
    assert_eq!(host.stack.udp_join(one, ip(3).into(), None), Err(GroupError::NotAGroup));
    host.flush(Instant::ZERO);
    let report = host.nic.tx[0].clone();
    assert_eq!(report[..6], [0x01, 0x00, 0x5e, 1, 2, 3]);
    assert_eq!(
        (report[14], report[22], &report[34..38]),
        (0x46, 1, &[0x94, 4, 0, 0][..]),
        "router alert, one hop"
    );
    assert_eq!(crate::wire::sum(&report[38..46]), 0xffff);
    assert_eq!(igmp(&mut host, Instant::ZERO), [(0x16, 3)]);
    let later = Instant::from_secs(10);
    host.poll(later);
    assert_eq!(igmp(&mut host, later), [(0x16, 3)]);
    host.stack.udp_leave(one, group(3), None).unwrap();
    assert_eq!(host.stack.udp_leave(one, group(3), None), Err(GroupError::NotJoined));
    assert_eq!(igmp(&mut host, later), []);
    host.stack.udp_close(two);
    assert_eq!(igmp(&mut host, later), [(0x17, 3)]);
}

#[test]
fn memberships_are_bounded() {
    let mut host = Host::new(15);
    let id = bind(&mut host, 5000);
    for last in 0..20 {
        host.stack.udp_join(id, group(last), None).unwrap();
    }
    assert_eq!(host.stack.udp_join(id, group(20), None), Err(GroupError::TooMany));
}

#[test]
fn query_is_answered_for_every_group_in_its_time() {
    let mut host = Host::new(15);
    let id = bind(&mut host, 5000);
    host.stack.udp_join(id, group(3), None).unwrap();
    host.stack.udp_join(id, "ff05::7".parse().unwrap(), None).unwrap();
    host.poll(Instant::from_secs(10));
    host.flush(Instant::from_secs(10));
    host.nic.tx.clear();
    let mut query = super::fuzz::syn(1, 1, 1);
    query.truncate(34);
    query[..6].copy_from_slice(&[0x01, 0x00, 0x5e, 0, 0, 1]);
    query[16..18].copy_from_slice(&28u16.to_be_bytes());
    query[23] = 2;
    query[30..34].copy_from_slice(&[224, 0, 0, 1]);
    smoltcp::wire::Ipv4Packet::new_unchecked(&mut query[14..]).fill_checksum();
    query.extend([0x11, 20, 0xee, 0xeb, 0, 0, 0, 0]);
    host.nic.rx.push_back(query);
    host.poll(Instant::from_secs(11));
    let due = host.stack.poll_at().unwrap();
    assert!(due < Instant::from_secs(13), "within two seconds");
    host.poll(due);
    host.flush(due);
    let reports = host.nic.tx.len();
    assert_eq!(igmp(&mut host, due), [(0x16, 3)]);
    assert_eq!(reports, 3, "two groups and that of the own address");

    let query = icmpv6_frame("fe80::2".parse().unwrap(), "ff02::1".parse().unwrap(), 1, &{
        let mut message = [0; 24];
        (message[0], message[5]) = (130, 100);
        message
    });
    host.nic.rx.push_back(query);
    host.poll(due);
    host.poll(due + Duration::from_millis(100));
    host.flush(due);
    let mld: Vec<Vec<u8>> = host.nic.tx.drain(..).filter(|frame| frame[12..14] == [0x86, 0xdd]).collect();
    assert_eq!((mld.len(), mld[0][62]), (2, 131));
    assert_eq!(mld[0][..6], [0x33, 0x33, 0, 0, 0, 7]);
}

#[test]
fn datagram_for_a_group_reaches_all_who_listen() {
    let mut net = Net::new();
    let (one, two, other) = (bind(&mut net.a, 5000), bind(&mut net.a, 5000), bind(&mut net.a, 5001));
    let bound =
        net.a.stack.udp_bind(at(15, 5000), BindOptions { reuse_address: true, ..BindOptions::default() });
    let bound = bound.unwrap();
    let sender = bind(&mut net.b, 6000);
    send(&mut net.b, sender, SocketAddr::new(group(3), 5000));
    net.settle();
    assert_eq!((count(&mut net.a, one), net.a.stack.counters().not_for_us), (0, 1), "nobody has joined");
    net.a.stack.udp_join(one, group(3), None).unwrap();
    net.settle();
    send(&mut net.b, sender, SocketAddr::new(group(3), 5000));
    net.b.flush(net.now);
    assert_eq!(net.b.nic.tx[0][22], 1, "one hop unless asked for more");
    net.settle();
    let counts = [one, two, other, bound].map(|id| count(&mut net.a, id));
    assert_eq!(counts, [1, 1, 0, 0]);
}

#[test]
fn own_members_hear_it_unless_told_not_to() {
    let mut net = Net::new();
    let id = bind(&mut net.a, 5000);
    net.a.stack.udp_join(id, group(3), None).unwrap();
    send(&mut net.a, id, SocketAddr::new(group(3), 5000));
    net.settle();
    assert_eq!(count(&mut net.a, id), 1);
    let quiet = MulticastOptions { is_looped: false, hop_limit: 9, ..MulticastOptions::default() };
    net.a.stack.udp_set_multicast(id, quiet);
    send(&mut net.a, id, SocketAddr::new(group(3), 5000));
    net.a.flush(net.now);
    assert_eq!(net.a.nic.tx.back().unwrap()[22], 9);
    net.settle();
    assert_eq!(count(&mut net.a, id), 0);
    let inside = MulticastOptions { link: Some(GroupLink::Loopback), ..MulticastOptions::default() };
    net.a.stack.udp_set_multicast(id, inside);
    let before = net.a.stack.counters().tx_packets;
    send(&mut net.a, id, SocketAddr::new(group(3), 5000));
    net.settle();
    assert_eq!((count(&mut net.a, id), net.a.stack.counters().tx_packets), (1, before));
}

#[test]
fn only_what_was_joined_is_heard_if_that_is_wanted() {
    let mut net = Net::new();
    let (member, shy) = (bind(&mut net.a, 5000), bind(&mut net.a, 5000));
    net.a.stack.udp_join(member, group(3), None).unwrap();
    let own_only = MulticastOptions { hears_all: false, ..MulticastOptions::default() };
    net.a.stack.udp_set_multicast(shy, own_only);
    let sender = bind(&mut net.b, 6000);
    let heard = |net: &mut Net| {
        send(&mut net.b, sender, SocketAddr::new(group(3), 5000));
        net.settle();
        [member, shy].map(|id| count(&mut net.a, id))
    };
    assert_eq!(heard(&mut net), [1, 0]);
    net.a.stack.udp_join(shy, group(3), None).unwrap();
    assert_eq!(heard(&mut net), [1, 1]);
    // Of one sender only, which is another; then that one, too.
    net.a.stack.udp_set_sources(shy, &[(group(3), ip(99).into()), (group(4), ip(1).into())]);
    assert_eq!(heard(&mut net), [1, 0]);
    let from = net.b.stack.udp_local(sender).unwrap();
    assert!(from.ip().is_unspecified());
    net.a.stack.udp_set_sources(shy, &[(group(3), ip(1).into())]);
    assert_eq!(heard(&mut net), [1, 1]);
}
