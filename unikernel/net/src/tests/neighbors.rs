//! ARP, DHCP, and the neighbour table.

use super::*;
use crate::neighbor::{Answer, Neighbors};

#[test]
fn packets_wait_for_the_neighbor() {
    let mut net = Net::new();
    let server = net.a.stack.udp_bind(any(53), BindOptions::default()).unwrap();
    let client = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    for _ in 0..6 {
        net.b.stack.udp_send::<SendError>(client, Some(at(15, 53)), 1, |_| Ok(())).unwrap();
    }
    assert_eq!(net.b.stack.counters().neighbor_dropped, 2, "four may wait");
    net.settle();
    let mut arrived = 0;
    while net.a.stack.udp_recv(server, |_, _| ()).is_ok() {
        arrived += 1;
    }
    assert_eq!(arrived, 4);
    assert_eq!(net.b.stack.counters().tx_packets, 1 + 4, "one question");
}

#[test]
fn questions_are_repeated_and_given_up() {
    let mut net = Net::new();
    let client = net.b.stack.udp_bind(any(0), BindOptions::default()).unwrap();
    net.b.stack.udp_send::<SendError>(client, Some(at(99, 53)), 1, |_| Ok(())).unwrap();
    net.advance(Duration::from_secs(10));
    assert_eq!(net.b.stack.counters().tx_packets, 3);
    assert_eq!(net.b.stack.counters().neighbor_dropped, 1);
    assert_eq!(net.b.stack.poll_at(), None, "nothing is left to do");
}

#[test]
fn table_is_bounded() {
    let mut table = Neighbors::new(4);
    for last in 1..=10 {
        table.learn(Instant::ZERO, ip(last).into(), mac(last));
    }
    assert_eq!(table.lookup(Instant::ZERO, ip(10).into()), Answer::Known(mac(10)));
    assert_eq!(table.lookup(Instant::ZERO, ip(6).into()), Answer::Ask);
    for last in 100..=163 {
        table.lookup(Instant::ZERO, ip(last).into());
    }
    assert_eq!(table.lookup(Instant::ZERO, ip(200).into()), Answer::Full);
}

#[test]
fn old_answers_are_confirmed_while_in_use() {
    let mut table = Neighbors::new(4);
    table.learn(Instant::ZERO, ip(1).into(), mac(1));
    let later = Instant::from_secs(61);
    assert_eq!(table.lookup(later, ip(1).into()), Answer::Stale(mac(1)));
    assert_eq!(table.lookup(later, ip(1).into()), Answer::Known(mac(1)), "once a second");
    table.learn(later, ip(1).into(), mac(2));
    assert_eq!(table.lookup(later, ip(1).into()), Answer::Known(mac(2)));
}

/// Answers DHCP messages as a server would.
pub(crate) fn dhcp_server(frame: &[u8], lease: Ipv4Addr) -> Option<Vec<u8>> {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::*;
    if frame[12..14] != [8, 0] || frame[23] != 17 || frame[36..38] != [0, 67] {
        return None;
    }
    let checksums = ChecksumCapabilities::default();
    let request = DhcpPacket::new_checked(&frame[42..]).unwrap();
    let request = DhcpRepr::parse(&request).unwrap();
    let message_type = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request => DhcpMessageType::Ack,
        _ => return None,
    };
    let mut repr = DhcpRepr {
        message_type,
        your_ip: lease,
        server_ip: ip(2),
        server_identifier: Some(ip(2)),
        router: Some(ip(2)),
        subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        dns_servers: Some(Default::default()),
        lease_duration: Some(100),
        ..request
    };
    repr.dns_servers.as_mut().unwrap().push(ip(3)).unwrap();
    let udp = UdpRepr { src_port: 67, dst_port: 68 };
    let udp_len = 8 + repr.buffer_len();
    let header = Ipv4Repr {
        src_addr: ip(2),
        dst_addr: Ipv4Addr::BROADCAST,
        next_header: IpProtocol::Udp,
        payload_len: udp_len,
        hop_limit: 64,
    };
    let mut answer = vec![0; 14 + 20 + udp_len];
    answer[..6].copy_from_slice(&[0xff; 6]);
    answer[6..12].copy_from_slice(&mac(2).0);
    answer[12..14].copy_from_slice(&[8, 0]);
    header.emit(&mut Ipv4Packet::new_unchecked(&mut answer[14..]), &checksums);
    let emit = |payload: &mut [u8]| repr.emit(&mut DhcpPacket::new_unchecked(payload)).unwrap();
    let (from, to) = (ip(2).into(), Ipv4Addr::BROADCAST.into());
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut answer[34..]),
        &from,
        &to,
        repr.buffer_len(),
        emit,
        &checksums,
    );
    Some(answer)
}

#[test]
fn dhcp_gains_renews_and_loses_a_lease() {
    let mut host = Host::with(Config::new(mac(15), Addressing::Dhcp));
    let mut now = Instant::ZERO;
    let mut renewals = 0;
    let mut step = |host: &mut Host, now: Instant, answers: bool| {
        for _ in 0..6 {
            host.poll(now);
            host.flush(now);
            let sent: Vec<Vec<u8>> = host.nic.tx.drain(..).collect();
            for frame in sent {
                if frame[12..14] == [8, 6] && answers {
                    host.nic.rx.push_back(arp_answer(&frame));
                }
                if let Some(answer) = dhcp_server(&frame, ip(40)).filter(|_| answers) {
                    renewals += 1;
                    host.nic.rx.push_back(answer);
                }
            }
        }
        renewals
    };
    step(&mut host, now, true);
    let config = host.stack.config().ipv4.clone().unwrap();
    assert_eq!(config.address, Ipv4Cidr::new(ip(40), 24));
    assert_eq!((config.gateway, config.dns), (Some(ip(2)), vec![ip(3)]));
    for _ in 0..300 {
        now += Duration::from_secs(1);
        step(&mut host, now, true);
    }
    assert!(step(&mut host, now, true) >= 5, "offer, ack and renewals");
    assert!(host.stack.config().ipv4.is_some());
    for _ in 0..300 {
        now += Duration::from_secs(1);
        step(&mut host, now, false);
    }
    assert_eq!(host.stack.config().ipv4, None, "the lease has run out");
}

pub(crate) fn arp_answer(question: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[..6].copy_from_slice(&question[6..12]);
    answer[6..12].copy_from_slice(&mac(2).0);
    answer[21] = 2;
    answer[22..28].copy_from_slice(&mac(2).0);
    answer[28..32].copy_from_slice(&question[38..42]);
    answer[32..42].copy_from_slice(&question[22..32]);
    answer
}

#[test]
fn spoofed_sources_are_dropped() {
    let mut host = Host::new(15);
    host.listen(80, 4);
    for from in [[127, 0, 0, 1], [10, 0, 2, 15], [224, 0, 0, 1], [10, 0, 2, 255]] {
        let mut frame = super::fuzz::syn(4000, 80, 1);
        frame[26..30].copy_from_slice(&from);
        smoltcp::wire::Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
        host.nic.rx.push_back(frame);
    }
    host.poll(Instant::ZERO);
    host.flush(Instant::ZERO);
    assert_eq!(host.stack.counters().not_for_us, 4);
    assert_eq!(host.stack.counters().tx_packets, 0);
}
