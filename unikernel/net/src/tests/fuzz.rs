//! Frames that nobody would send: random bytes, and valid segments with random damage. Seeded and
//! bounded; nothing may panic, and every table must stay within its bounds.

use super::*;

/// A SYN from `.1` to `.15`, checksums included.
pub(crate) fn syn(from: u16, to: u16, sequence: i32) -> Vec<u8> {
    segment(from, to, 0x02, sequence, 0, &[2, 4, 0x05, 0xb4], &[])
}

/// A segment from `.1` to `.15`.
pub(crate) fn segment(
    from: u16,
    to: u16,
    flags: u8,
    sequence: i32,
    ack: i32,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    use smoltcp::wire::{Ipv4Packet, TcpPacket};
    let tcp_len = 20 + options.len() + payload.len();
    let mut frame = vec![0; 14 + 20 + tcp_len];
    frame[..6].copy_from_slice(&mac(15).0);
    frame[6..12].copy_from_slice(&mac(1).0);
    frame[12..14].copy_from_slice(&[8, 0]);
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
    packet.set_version(4);
    packet.set_header_len(20);
    packet.set_total_len(20 + tcp_len as u16);
    packet.set_hop_limit(64);
    packet.set_next_header(smoltcp::wire::IpProtocol::Tcp);
    packet.set_src_addr(ip(1));
    packet.set_dst_addr(ip(15));
    packet.fill_checksum();
    let tcp = &mut frame[34..];
    tcp[0..2].copy_from_slice(&from.to_be_bytes());
    tcp[2..4].copy_from_slice(&to.to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[8..12].copy_from_slice(&ack.to_be_bytes());
    tcp[12] = ((20 + options.len()) as u8 / 4) << 4;
    tcp[13] = flags;
    tcp[14..16].copy_from_slice(&4096u16.to_be_bytes());
    tcp[20..20 + options.len()].copy_from_slice(options);
    tcp[20 + options.len()..].copy_from_slice(payload);
    TcpPacket::new_unchecked(tcp).fill_checksum(&ip(1).into(), &ip(15).into());
    frame
}

pub(crate) fn damage(rng: &mut Rng, frame: &mut Vec<u8>) {
    for _ in 0..=rng.below(3) {
        let len = frame.len() as u64;
        match rng.below(8) {
            0 => frame.truncate(rng.below(len + 1) as usize),
            1 => frame.extend((0..rng.below(64)).map(|byte| byte as u8)),
            _ if !frame.is_empty() => {
                let index = rng.below(len.min(70)) as usize % frame.len();
                frame[index] = rng.next() as u8;
            }
            _ => {}
        }
    }
}

/// Damage alone rarely passes a checksum; the interesting paths lie behind it.
fn mend(frame: &mut [u8]) {
    use smoltcp::wire::{Ipv4Packet, TcpPacket};
    if frame.len() < 54 || frame[12..14] != [8, 0] || frame[14] != 0x45 {
        return;
    }
    Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
    let (from, to) = {
        let packet = Ipv4Packet::new_unchecked(&frame[14..]);
        (packet.src_addr(), packet.dst_addr())
    };
    let len = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    if frame[23] == 6 && (40..=frame.len() - 14).contains(&len) {
        TcpPacket::new_unchecked(&mut frame[34..14 + len]).fill_checksum(&from.into(), &to.into());
    }
}

#[test]
fn random_bytes_are_dropped() {
    let mut host = Host::new(15);
    host.listen(80, 16);
    let mut rng = Rng(1);
    for _ in 0..20_000 {
        let mut frame: Vec<u8> = (0..rng.below(128)).map(|_| rng.next() as u8).collect();
        if frame.len() >= 14 && rng.below(4) > 0 {
            frame[..6].copy_from_slice(&mac(15).0);
            frame[12..14].copy_from_slice([[8, 0], [8, 6], [0x86, 0xdd]][rng.below(3) as usize].as_slice());
        }
        host.nic.rx.push_back(frame);
        host.poll(Instant::ZERO);
        host.flush(Instant::ZERO);
        host.nic.tx.clear();
    }
    let counters = host.stack.counters();
    assert_eq!(counters.rx_packets, 20_000);
    assert!(counters.malformed + counters.not_for_us + counters.unknown_protocol > 15_000);
    assert_eq!(counters.active, 0);
}

#[test]
fn damaged_conversations_neither_panic_nor_leak() {
    // A frame in three is damaged.
    for seed in seeds(12) {
        let mut net =
            Net::with(Host::with(Config { max_flows: 32, max_half_open: 16, ..config(15) }), Host::new(1));
        net.rng = Rng(seed);
        let mut rng = Rng(seed ^ 0xabcd);
        let listener = net.a.listen(8080, 8);
        let mut open: Vec<TcpId> = Vec::new();
        let mut accepted: Vec<TcpId> = Vec::new();
        for _ in 0..400 {
            churn(&mut net, &mut rng, listener, &mut open, &mut accepted);
            net.a.flush(net.now);
            net.b.flush(net.now);
            let mut frames: Vec<Vec<u8>> = net.b.nic.tx.drain(..).collect();
            for frame in &mut frames {
                if rng.below(3) == 0 {
                    net.a.nic.rx.push_back(frame.clone());
                    damage(&mut rng, frame);
                    mend(frame);
                }
            }
            net.a.nic.rx.extend(frames);
            net.carry(true);
            net.now += Duration::from_millis(rng.below(300));
            net.a.poll(net.now);
            net.b.poll(net.now);
            let counters = net.a.stack.counters();
            assert!(counters.active <= 32 && counters.half_open <= 16);
        }
        for id in accepted.drain(..) {
            net.a.stack.tcp_abort(id);
        }
        net.a.stack.listener_close(listener);
        net.b.nic.tx.clear();
        for _ in 0..200 {
            net.now += Duration::from_secs(1);
            net.a.poll(net.now);
            net.a.flush(net.now);
        }
        assert_eq!(net.a.stack.counters().active, 0, "seed {seed}");
    }
}

/// A random act on either side.
fn churn(
    net: &mut Net,
    rng: &mut Rng,
    listener: ListenerId,
    open: &mut Vec<TcpId>,
    accepted: &mut Vec<TcpId>,
) {
    match rng.below(8) {
        0 => open.extend(net.b.stack.tcp_connect(net.now, None, at(15, 8080))),
        1 => accepted.extend(net.a.stack.tcp_accept(listener)),
        2 if !open.is_empty() => {
            let id = open.swap_remove(rng.below(open.len() as u64) as usize);
            net.b.stack.tcp_close(id);
        }
        3 if !accepted.is_empty() => {
            let id = accepted.swap_remove(rng.below(accepted.len() as u64) as usize);
            net.a.stack.tcp_close(id);
        }
        4 | 5 => {
            for id in open.iter() {
                net.b.send(*id, &[rng.next() as u8; 700]);
                let _ = net.b.recv(*id);
            }
        }
        _ => {
            for id in accepted.iter() {
                let _ = net.a.recv(*id);
                net.a.send(*id, &[rng.next() as u8; 300]);
            }
        }
    }
}

#[test]
fn each_kind_of_damage_has_its_counter() {
    let mut host = Host::new(15);
    host.listen(80, 16);
    let good = syn(4000, 80, 1);
    let mut expect = |change: fn(&mut Vec<u8>), count: fn(&Counters) -> u64, name: &str| {
        let mut frame = good.clone();
        change(&mut frame);
        let before = count(&host.stack.counters());
        host.nic.rx.push_back(frame);
        host.poll(Instant::ZERO);
        host.flush(Instant::ZERO);
        assert_eq!(count(&host.stack.counters()), before + 1, "{name}");
        assert_eq!(host.stack.counters().active, 0, "{name}");
    };
    expect(|f| f.truncate(10), |c| c.malformed, "short frame");
    expect(|f| f.truncate(20), |c| c.malformed, "short IP header");
    expect(|f| f.truncate(40), |c| c.malformed, "shorter than its length field");
    expect(|f| f[14] = 0x55, |c| c.malformed, "version 5");
    expect(|f| f[24] ^= 1, |c| c.bad_checksum, "IP checksum");
    expect(|f| f[50] ^= 1, |c| c.bad_checksum, "TCP checksum");
    expect(|f| (f[20], f[24], f[25]) = (0x20, f[24].wrapping_sub(0x20), f[25]), |c| c.fragments, "fragment");
    expect(|f| f[5] ^= 1, |c| c.not_for_us, "another station's frame");
    expect(|f| f[13] = 0x42, |c| c.unknown_protocol, "unknown ethertype");
    expect(
        |f| {
            f[46] = 0xf0;
            mend(f);
        },
        |c| c.malformed,
        "data offset beyond the end",
    );
}
