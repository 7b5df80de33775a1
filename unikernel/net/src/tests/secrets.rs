//! Two machines that go on from one saved state: each has its secrets anew, and loses nothing by that.

use super::*;

/// Answers what a SYN is answered with: a sequence number, which is a cookie if there is no room.
fn answer_to_syn(host: &mut Host, port: u16) -> u32 {
    host.nic.tx.clear();
    host.nic.rx.push_back(super::fuzz::syn(port, 8080, 1000));
    host.poll(Instant::from_secs(1));
    host.flush(Instant::from_secs(1));
    let answer = host.nic.tx.pop_back().unwrap();
    u32::from_be_bytes(answer[38..42].try_into().unwrap())
}

/// What two machines from one state answer to the same SYNs at the same time; the second one's random numbers are others if
/// it was told.
fn answers_of_two(max_half_open: usize, is_told: bool) -> [Vec<u32>; 2] {
    [false, true].map(|is_second| {
        let mut net = Net::with(Host::with(Config { max_half_open, ..config(15) }), Host::new(1));
        net.a.listen(8080, 64);
        net.introduce();
        if is_told {
            // The generators have different entropy now.
            let _ = is_second.then(|| (net.a.stack.random)());
            net.a.stack.renew_secrets();
        }
        (4000..4008).map(|port| answer_to_syn(&mut net.a, port)).collect()
    })
}

#[test]
fn secrets_differ_after_a_restart() {
    for (what, max_half_open) in [("numbers", 64), ("cookies", 0)] {
        let [one, other] = answers_of_two(max_half_open, false);
        assert_eq!(one, other, "{what}: the test is fair");
        let [one, other] = answers_of_two(max_half_open, true);
        let far = |(one, other): (&u32, &u32)| one.abs_diff(*other) > 1 << 12;
        assert!(one.iter().zip(&other).all(far), "{what}: {one:x?} and {other:x?}");
    }
}

#[test]
fn a_cookie_of_before_is_refused() {
    let mut net = Net::with(Host::with(Config { max_half_open: 0, ..config(15) }), Host::new(1));
    let listener = net.a.listen(8080, 16);
    net.introduce();
    let cookie = answer_to_syn(&mut net.a, 4000).cast_signed();
    net.a.stack.renew_secrets();
    net.a.nic.rx.push_back(super::fuzz::segment(
        4000,
        8080,
        0x18,
        1001,
        cookie.wrapping_add(1),
        &[],
        b"data",
    ));
    net.a.poll(net.now);
    assert_eq!(net.a.stack.tcp_accept(listener), Err(AcceptError::WouldBlock));
}

#[test]
fn connections_are_found_under_other_hashes() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 64);
    let pairs: Vec<_> = (0..20).map(|_| net.connect(listener)).collect();
    let ends: Vec<_> = pairs[..10].iter().map(|(_, client)| net.b.stack.tcp_local(*client)).collect();
    // Some have ended, and are remembered.
    for (server, client) in &pairs[..10] {
        net.a.stack.tcp_close(*server);
        net.settle();
        net.b.stack.tcp_close(*client);
        net.settle();
    }
    let waiting = net.a.stack.counters().time_wait;
    assert_eq!(waiting, 10);
    net.a.stack.renew_secrets();
    for (server, client) in &pairs[10..] {
        net.b.send(*client, b"still here");
        net.settle();
        assert_eq!(net.a.recv(*server).unwrap(), b"still here");
    }
    net.advance(Duration::from_secs(1));
    for end in ends {
        net.b.stack.tcp_connect(net.now, end, at(15, 8080)).unwrap();
        net.settle();
    }
    assert_eq!(net.a.stack.counters().time_wait_recycled, 10);
}
