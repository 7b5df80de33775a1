//! Damaged frames of everything beside TCP: fragments, router advertisements, neighbours, groups, ICMP errors.
//! Seeded and bounded; nothing may panic, and every table must stay within its bounds.

use smoltcp::wire::{Icmpv6Packet, Ipv4Packet};

use super::ipv6::{advertisement, icmpv6_frame};
use super::*;

const FRAMES: usize = 30_000;

/// An IPv4 packet from `.1` to `to` as a frame.
fn frame_v4(to: Ipv4Addr, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 34];
    frame[..6].copy_from_slice(&mac(15).0);
    frame[6..12].copy_from_slice(&mac(1).0);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    frame[20..22].copy_from_slice(&fragment.to_be_bytes());
    (frame[22], frame[23]) = (64, protocol);
    frame[26..30].copy_from_slice(&ip(1).octets());
    frame[30..34].copy_from_slice(&to.octets());
    Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
    frame.extend_from_slice(payload);
    frame
}

/// A frame as somebody might send it in good faith.
fn good(rng: &mut Rng) -> Vec<u8> {
    let (own, other) = ("fe80::ff:fe00:f".parse().unwrap(), "fe80::2".parse().unwrap());
    let all = "ff02::1".parse().unwrap();
    let neighbor = |kind: u8| {
        let mut message = vec![kind, 0, 0, 0, 0x60, 0, 0, 0];
        message.extend(core::net::Ipv6Addr::octets(&own));
        message.extend([2, 1, 2, 0, 0, 0, 0, 9]);
        message
    };
    match rng.below(8) {
        0 => frame_v4(ip(15), 17, (rng.below(8) as u16 * 4) | 0x2000, &[7; 32]),
        1 => frame_v4(ip(15), 17, rng.below(8) as u16 * 4, &[7; 24]),
        2 => advertisement(rng.below(4000) as u16, "2001:db8:1::", rng.next() as u32, rng.next() as u32),
        3 => icmpv6_frame(other, own, 255, &neighbor(135)),
        4 => icmpv6_frame(other, all, 255, &neighbor(136)),
        5 => icmpv6_frame(other, all, 1, &[[130, 0, 0, 0, 0, 200, 0, 0].as_slice(), &[0; 16]].concat()),
        6 => {
            let quote = frame_v4(ip(1), 17, 0, &[0, 53, 0, 54, 0, 8, 0, 0]);
            let message = [[3, rng.below(16) as u8, 0, 0, 0, 0, 4, 0].as_slice(), &quote[14..]].concat();
            frame_v4(ip(15), 1, 0, &message)
        }
        _ => {
            // A fragment of IPv6, with what may stand in front of it.
            let mut frame = icmpv6_frame(other, own, 64, &[0; 24]);
            frame[20] = [44, 0, 60, 43][rng.below(4) as usize];
            frame[54..62].copy_from_slice(&[44, 0, 1, 4, 0, 0, 0, 0]);
            frame[62..70].copy_from_slice(&[17, 0, 0, rng.below(3) as u8, 0, 0, 0, rng.below(4) as u8]);
            frame
        }
    }
}

/// Damage alone rarely passes a checksum; the interesting paths lie behind it.
fn mend(frame: &mut [u8]) {
    if frame.len() >= 42 && frame[12..14] == [8, 0] && frame[14] == 0x45 {
        Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
        if matches!(frame[23], 1 | 2) {
            frame[36..38].copy_from_slice(&[0, 0]);
            let sum = !crate::wire::sum(&frame[34..]);
            frame[36..38].copy_from_slice(&sum.to_be_bytes());
        }
    } else if frame.len() >= 62 && frame[12..14] == [0x86, 0xdd] && frame[20] == 58 {
        let address =
            |at: usize| core::net::Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        let (from, to) = (address(22), address(38));
        Icmpv6Packet::new_unchecked(&mut frame[54..]).fill_checksum(&from, &to);
    }
}

#[test]
fn damaged_frames_neither_panic_nor_fill_the_tables() {
    for seed in seeds(3) {
        let mut rng = Rng(seed);
        let rules = vec![Rule { verdict: Action::Deny, protocol: None, ports: Some(0..=9), source: None }];
        let filter = Filter { rules, otherwise: Action::Allow };
        let ipv6 = Ipv6Config::default();
        let mut host = Host::with(Config { filter, ipv6, max_neighbors: 32, ..config(15) });
        let id = host.stack.udp_bind("[::]:53".parse().unwrap(), BindOptions::default()).unwrap();
        host.stack.udp_join(id, "239.1.2.3".parse().unwrap(), None).unwrap();
        host.stack.udp_set_receives_errors(id, true);
        let mut now = Instant::ZERO;
        for _ in 0..FRAMES / 3 {
            let mut frame = good(&mut rng);
            for _ in 0..rng.below(3) {
                super::fuzz::damage(&mut rng, &mut frame);
            }
            mend(&mut frame);
            host.nic.rx.push_back(frame);
            now += Duration::from_millis(rng.below(50));
            host.poll(now);
            host.flush(now);
            host.nic.tx.clear();
            let stack = &host.stack;
            assert!(stack.config().ipv6.len() <= 16 && stack.config().routes.len() <= 64);
            assert!(stack.reassembly.bytes() <= 512 * 1024);
            assert!(stack.neighbors.known().count() <= 32);
            assert!(stack.poll_at().is_none_or(|at| at >= Instant::ZERO));
        }
        let counters = host.stack.counters();
        // The interesting paths were reached.
        assert!(counters.fragments > 1000 && counters.reassembly_failed > 10 && counters.malformed > 100);
        assert!(counters.icmp_errors > 10, "{counters:?}");
    }
}
