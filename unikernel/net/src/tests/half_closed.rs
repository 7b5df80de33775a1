//! Connections of which one side has finished sending, or has closed, while the other goes on.

use super::buffers::{host, host_config, net};
use super::*;

/// After the end of sending, receiving goes on as before, with a buffer that grows.
#[test]
fn half_closed_reads_a_long_answer() {
    const TOTAL: usize = 1 << 20;
    for (is_early, has_unsent) in [(false, false), (true, false), (true, true)] {
        let mut net = net(Duration::from_secs(2));
        let listener = net.a.listen(8080, 16);
        let (server, client) = net.connect(listener);
        let request = vec![3; if has_unsent { 30_000 } else { 100 }];
        assert_eq!(net.b.send(client, &request), request.len());
        if !has_unsent {
            net.settle();
        }
        let (mut sent, mut received, mut asked) = (0, 0, 0);
        if is_early {
            net.b.stack.tcp_shutdown_send(client).unwrap();
        }
        let start = net.now;
        while received < TOTAL {
            sent += net.a.send(server, &vec![9; (TOTAL - sent).min(50_000)]);
            net.step();
            asked += net.a.recv(server).map_or(0, |bytes| bytes.len());
            received += net.b.recv(client).map_or(0, |bytes| bytes.len());
            if received > 10_000 && !is_early {
                // A second time it changes nothing.
                let _ = net.b.stack.tcp_shutdown_send(client);
            }
            net.now += Duration::from_millis(1);
            assert!(net.now - start < Duration::from_secs(5), "{received} bytes have come");
        }
        assert_eq!(asked, request.len());
        assert_eq!(net.b.stack.counters().no_buffer + net.a.stack.counters().retransmits, 0);
        assert_eq!(net.a.recv(server), Err(RecvError::Finished));
        net.a.stack.tcp_close(server);
        net.settle();
        assert_eq!(net.b.recv(client), Err(RecvError::Finished));
        net.b.stack.tcp_close(client);
        net.advance(Duration::from_secs(1));
        assert_eq!(net.a.stack.counters().active + net.b.stack.counters().active, 0);
    }
}

/// Who writes to a peer that has closed is told so, however much it is: on loopback one segment may be more than the
/// peer's buffer.
#[test]
fn closed_peer_resets_who_writes_much() {
    for (address, count) in [("127.0.0.1:8080", 5000), ("127.0.0.1:8080", 60_000), ("10.0.2.15:8080", 100)] {
        let mut host = host(15, Duration::from_secs(2));
        let listener = host.listen(8080, 4);
        let mut now = Instant::from_secs(1);
        let client = host.stack.tcp_connect(now, None, address.parse().unwrap()).unwrap();
        host.flush(now);
        let server = host.stack.tcp_accept(listener).unwrap();
        host.stack.tcp_close(server);
        host.flush(now);
        assert_eq!(host.send(client, &vec![1; count]), count);
        for _ in 0..20 {
            host.poll(now);
            host.flush(now);
            now += Duration::from_millis(10);
        }
        assert_eq!(host.stack.tcp_take_error(client), Some(SocketError::Closed), "{address}, {count} bytes");
    }
}

/// The same on loopback, where a segment may be larger than the buffer that there is. Both sides act only when they are told
/// that they can, and nobody waits for a timer of a second.
#[test]
fn half_closed_reads_a_long_answer_on_loopback() {
    const TOTAL: usize = 1_000_000;
    for (chunk, is_early) in [(1000, true), (5000, true), (5000, false), (65_536, true), (65_536, false)] {
        let sizes = Config { tcp_rx_limit: 1 << 18, tcp_tx_limit: 1 << 16, ..host_config(15) };
        let mut host = Host::with(sizes);
        let listener = host.listen(8080, 4);
        let mut now = Instant::from_secs(1);
        let client = host.stack.tcp_connect(now, None, "127.0.0.1:8080".parse().unwrap()).unwrap();
        host.flush(now);
        let server = host.stack.tcp_accept(listener).unwrap();
        let (mut sent, mut received) = (0, 0);
        if is_early {
            host.send(client, b"GET");
            host.stack.tcp_shutdown_send(client).unwrap();
        }
        let mut events = vec![SocketId::Tcp(server)];
        while received < TOTAL {
            if events.contains(&SocketId::Tcp(server)) {
                while sent < TOTAL {
                    let count = host.send(server, &vec![5; chunk.min(TOTAL - sent)]);
                    sent += count;
                    if count < chunk {
                        break;
                    }
                }
            }
            if events.contains(&SocketId::Tcp(client)) {
                // In small parts at first, as `read_to_end` does.
                loop {
                    let most = (received / 2).max(32);
                    let take = |bytes: &[u8]| (bytes.len().min(most), bytes.len().min(most));
                    let Ok((count, _)) = host.stack.tcp_recv(client, take) else { break };
                    if received == 0 && !is_early {
                        host.stack.tcp_shutdown_send(client).unwrap();
                    }
                    received += count;
                }
            }
            host.flush(now);
            host.poll(now);
            events = host.events();
            if events.is_empty() && !host.stack.has_work() {
                now = host.stack.poll_at().unwrap().max(now + Duration::from_micros(1));
                host.poll(now);
            }
        }
        assert!(now < Instant::from_millis(1500), "{chunk} {is_early} took until {now}");
        assert_eq!(host.stack.counters().no_buffer, 0, "{chunk}");
    }
}

/// Both sides have finished sending, and the window was closed: what is left goes as soon as the peer has room again, not when a
/// timer has run out.
#[test]
fn window_that_opens_after_the_end_is_seen() {
    let mut net = net(Duration::from_secs(2));
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.b.stack.tcp_shutdown_send(client).unwrap();
    net.settle();
    assert_eq!(net.a.recv(server), Err(RecvError::Finished));
    let total = net.a.send(server, &vec![4; 200_000]);
    net.a.stack.tcp_close(server);
    net.advance(Duration::from_millis(300));
    let (start, mut received) = (net.now, 0);
    while received < total {
        received += net.b.recv(client).map_or(0, |bytes| bytes.len());
        net.step();
        net.now += Duration::from_millis(1);
        assert!(net.now - start < Duration::from_millis(500), "{received} of {total} bytes");
    }
    net.b.stack.tcp_close(client);
    net.advance(Duration::from_secs(1));
    assert_eq!(net.a.stack.counters().active + net.b.stack.counters().active, 0);
}

/// Who has shut both directions reads nothing more: a peer that goes on to send is reset, and both hear of it. What had come
/// before can still be read, and a peer that was only told not to be listened to may send.
#[test]
fn data_after_both_directions_are_shut_is_answered_by_a_reset() {
    for (is_read_shut, is_write_shut) in [(true, true), (true, false), (false, true)] {
        let mut net = net(Duration::from_secs(2));
        let listener = net.a.listen(8080, 16);
        let (server, client) = net.connect(listener);
        net.b.send(client, b"before");
        net.settle();
        if is_read_shut {
            net.a.stack.tcp_shutdown_recv(server).unwrap();
        }
        if is_write_shut {
            net.a.stack.tcp_shutdown_send(server).unwrap();
        }
        net.settle();
        assert_eq!(net.b.send(client, b"after"), 5);
        net.advance(Duration::from_millis(500));
        let is_reset = is_read_shut && is_write_shut;
        assert_eq!(net.b.stack.counters().resets_received > 0, is_reset, "{is_read_shut} {is_write_shut}");
        let errors = [net.a.stack.tcp_take_error(server), net.b.stack.tcp_take_error(client)];
        // The client had heard the end: to send is what has become impossible.
        let expected = [Some(SocketError::Reset), Some(SocketError::Closed)];
        assert_eq!(errors, if is_reset { expected } else { [None, None] });
        if is_reset {
            assert_eq!(net.a.recv(server).unwrap(), b"before");
        } else {
            let both = b"beforeafter".as_slice();
            assert_eq!(net.a.recv(server).unwrap(), both, "{is_read_shut} {is_write_shut}");
        }
    }
}

/// The end of a stream, with the last bytes, overtakes a segment. A receiver forgets it until what lies before it is there (RFC 9293 lets it):
/// so the sender has to say it again, whichever acknowledgements it has heard.
#[test]
fn end_that_overtook_a_segment_comes_again() {
    const TRIP: Duration = Duration::from_micros(5000);
    for (late, by) in (0..7).flat_map(|late| [1500, 3000, 6000, 9000, 14_000].map(|by| (late, by))) {
        let mut net = net(Duration::from_secs(2));
        let listener = net.a.listen(8080, 16);
        let (server, client) = net.connect(listener);
        net.b.send(client, b"go");
        net.settle();
        net.a.recv(server).unwrap();
        assert_eq!(net.a.send(server, &[5; 9000]), 9000);
        net.a.stack.tcp_shutdown_send(server).unwrap();
        // Acknowledging this, the sender of the end tells how far it has come: the end counts as sent.
        assert_eq!(net.b.send(client, &[6; 3000]), 3000);
        let (mut under_way, mut sent) = (Vec::new(), 0);
        let end = net.now + Duration::from_secs(60);
        loop {
            net.a.flush(net.now);
            net.b.flush(net.now);
            for frame in net.a.nic.tx.drain(..) {
                let extra = if sent == late { by } else { 0 };
                // One after the other, as they go over a wire.
                let at = net.now + TRIP + Duration::from_micros(extra + 50 * sent);
                under_way.push((at, true, frame));
                sent += 1;
            }
            under_way.extend(net.b.nic.tx.drain(..).map(|frame| (net.now + TRIP, false, frame)));
            let polls = [net.a.stack.poll_at(), net.b.stack.poll_at()].into_iter().flatten();
            let Some(next) = under_way.iter().map(|(at, ..)| *at).chain(polls).min() else { break };
            net.now = next.max(net.now);
            if net.now > end {
                break;
            }
            let (due, rest) = under_way.into_iter().partition(|(at, ..)| *at <= net.now);
            under_way = rest;
            let due: Vec<(Instant, bool, Vec<u8>)> = due;
            for (_, is_from_a, frame) in due {
                if is_from_a { &mut net.b } else { &mut net.a }.nic.rx.push_back(frame);
            }
            net.a.poll(net.now);
            net.b.poll(net.now);
        }
        assert_eq!(net.b.recv(client).map(|bytes| bytes.len()), Ok(9000));
        assert_eq!(net.b.recv(client), Err(RecvError::Finished), "{late} came later by {by} us");
    }
}

/// Frames that overtake each other, in both directions, as a seed would have it: all bytes and both ends arrive.
#[test]
fn ends_arrive_whatever_overtakes_them() {
    // Of a hundred thousand, the one that lost its end.
    for seed in (0..300).chain([16_714]) {
        let mut random = Random(seed);
        let trip_us = [50, 200, 1000, 5000][random.below(4) as usize];
        let (late_one_in, jitter_us) = (2 + random.below(20), random.below(trip_us / 2) + 1);
        let len = [1, 100, 1460, 9000, 40_000][random.below(5) as usize] as usize;
        let mut net = net(Duration::from_secs(2));
        let listener = net.a.listen(8080, 16);
        let (server, client) = net.connect(listener);
        let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let (mut to_send, mut heard) = ([bytes.clone(), bytes.clone()], [Vec::new(), Vec::new()]);
        let mut is_over = [false; 2];
        let (mut under_way, mut last) = (Vec::<(Instant, u64, bool, Vec<u8>)>::new(), [net.now; 2]);
        let mut number = 0;
        let end = net.now + Duration::from_secs(120);
        loop {
            for (side, id) in [(0, server), (1, client)] {
                let host = if side == 0 { &mut net.a } else { &mut net.b };
                if !to_send[side].is_empty() {
                    let sent = host.send(id, &to_send[side]);
                    to_send[side].drain(..sent);
                    if to_send[side].is_empty() {
                        host.stack.tcp_shutdown_send(id).unwrap();
                    }
                }
                match host.recv(id) {
                    Ok(more) => heard[side].extend(more),
                    Err(RecvError::Finished) => is_over[side] = true,
                    Err(_) => {}
                }
            }
            net.a.flush(net.now);
            net.b.flush(net.now);
            let frames_a = net.a.nic.tx.drain(..).map(|frame| (true, frame));
            let frames: Vec<_> = frames_a.chain(net.b.nic.tx.drain(..).map(|frame| (false, frame))).collect();
            for (is_from_a, frame) in frames {
                let arrival = net.now + Duration::from_micros(trip_us + random.below(jitter_us));
                let last = &mut last[usize::from(is_from_a)];
                let at = if random.below(late_one_in) == 0 {
                    arrival + Duration::from_micros(random.below(4 * trip_us))
                } else {
                    *last = arrival.max(*last);
                    *last
                };
                number += 1;
                under_way.push((at, number, is_from_a, frame));
            }
            if is_over == [true; 2] {
                break;
            }
            let polls = [net.a.stack.poll_at(), net.b.stack.poll_at()].into_iter().flatten();
            let next = under_way.iter().map(|(at, ..)| *at).chain(polls).min();
            assert!(
                next.is_some_and(|next| next <= end),
                "seed {seed}: {is_over:?}, {next:?} of {end:?}, {} and {} of {len}",
                heard[0].len(),
                heard[1].len()
            );
            net.now = next.unwrap().max(net.now);
            under_way.sort_by_key(|(at, number, ..)| (*at, *number));
            let due = under_way.partition_point(|(at, ..)| *at <= net.now);
            for (_, _, is_from_a, frame) in under_way.drain(..due) {
                if is_from_a { &mut net.b } else { &mut net.a }.nic.rx.push_back(frame);
            }
            net.a.poll(net.now);
            net.b.poll(net.now);
        }
        assert!(heard.iter().all(|heard| *heard == bytes), "seed {seed}");
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}
