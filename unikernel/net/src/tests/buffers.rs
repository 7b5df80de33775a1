//! Buffers that come with use and go with idleness: an established connection is taken apart and put
//! together again, and nobody may notice.

use proptest::prelude::{ProptestConfig, proptest};

use super::*;

pub(super) fn host_config(last: u8) -> Config {
    Config { tcp_rx_window: 65_536, tcp_rx_limit: 1 << 20, tcp_tx_limit: 1 << 18, ..config(last) }
}

/// A host whose buffers begin small, grow, and are given back after `idle_after`.
pub(super) fn host(last: u8, idle_after: Duration) -> Host {
    Host::with(Config { idle_after, ..host_config(last) })
}

pub(super) fn net(idle_after: Duration) -> Net {
    Net::with(host(15, idle_after), host(1, idle_after))
}

fn buffer_bytes(host: &Host) -> u64 {
    host.stack.counters().buffer_bytes
}

#[test]
fn established_idle_gives_its_buffers_back_and_goes_on() {
    let mut net = net(Duration::from_secs(2));
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    for round in 0..5u8 {
        assert_eq!(net.b.send(client, &[round; 100]), 100);
        net.settle();
        assert_eq!(net.a.recv(server).unwrap(), [round; 100]);
        net.a.send(server, &[round; 3000]);
        net.settle();
        assert_eq!(net.b.recv(client).unwrap(), [round; 3000]);
        net.advance(Duration::from_secs(3));
        assert_eq!(buffer_bytes(&net.a) + buffer_bytes(&net.b), 0);
        assert!(net.a.stack.tcp_is_connected(server));
        assert_eq!(net.a.stack.tcp_readiness(server), Readiness::OUT);
        assert_eq!(net.a.recv(server), Err(RecvError::WouldBlock));
    }
    assert_eq!(net.a.stack.counters().retransmits, 0);
    assert_eq!(net.a.stack.counters().no_buffer, 0);
}

#[test]
fn sending_without_memory_waits_for_it() {
    let sizes = Config { buffer_bytes: 12 * 1024, spare_flows: 0, ..config(15) };
    let mut net = Net::with(Host::with(sizes), Host::new(1));
    let listener = net.a.listen(8080, 16);
    let pairs: Vec<_> = (0..3).map(|_| net.connect(listener)).collect();
    // The first holds all the memory while its peer is silent.
    net.b.nic.rx.clear();
    assert_eq!(net.a.send(pairs[0].0, b"first"), 5);
    net.a.flush(net.now);
    for (server, _) in &pairs[1..] {
        assert_eq!(net.a.stack.tcp_send(*server, 1, |room| (room.len(), ())), Err(SendError::WouldBlock));
        assert!(!net.a.stack.tcp_readiness(*server).contains(Readiness::OUT));
    }
    for (server, client) in pairs {
        net.advance(Duration::from_secs(2));
        net.a.send(server, b"later");
        net.advance(Duration::from_secs(2));
        assert!(net.b.recv(client).unwrap().ends_with(b"later"));
        assert!(net.a.stack.tcp_readiness(server).contains(Readiness::OUT));
    }
}

#[test]
fn idle_fin_is_heard() {
    let mut net = net(Duration::from_secs(2));
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.advance(Duration::from_secs(3));
    net.b.stack.tcp_close(client);
    net.settle();
    assert_eq!(net.a.recv(server), Err(RecvError::Finished));
    net.a.stack.tcp_close(server);
    net.advance(Duration::from_secs(1));
    assert_eq!(net.a.stack.counters().active + net.b.stack.counters().active, 0);
}

#[test]
fn idle_reset_is_heard() {
    let mut net = net(Duration::from_secs(2));
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.advance(Duration::from_secs(3));
    net.b.stack.tcp_abort(client);
    net.settle();
    assert_eq!(net.a.stack.tcp_take_error(server), Some(SocketError::Reset));
}

#[test]
fn idle_peer_is_probed_without_buffers() {
    let mut net = net(Duration::from_secs(2));
    let listener = net.a.listen(8080, 16);
    let (server, _) = net.connect(listener);
    let keep_alive = KeepAlive { idle: Duration::from_secs(10), interval: Duration::from_secs(5), probes: 3 };
    net.a.stack.tcp_set_keep_alive(server, Some(keep_alive));
    net.advance(Duration::from_secs(65));
    assert!(net.a.stack.tcp_is_connected(server));
    assert_eq!(buffer_bytes(&net.a), 0);
    let probes = net.a.stack.counters().keep_alive_probes;
    assert!((5..=7).contains(&probes), "{probes} probes");
    net.trouble = [1000, 0, 0];
    net.advance(Duration::from_secs(40));
    assert_eq!(net.a.stack.tcp_take_error(server), Some(SocketError::TimedOut));
    let more = net.a.stack.counters().keep_alive_probes - probes;
    assert_eq!(more, 3, "three probes, then it is over");
}

#[test]
fn buffers_grow_with_a_stream_and_no_frame_is_lost_for_it() {
    let mut net = net(Duration::from_secs(2));
    super::transfer::transfer(&mut net, 4 << 20, 1 << 16);
    assert_eq!(net.a.stack.counters().retransmits, 0);
    assert_eq!(net.b.stack.counters().no_buffer, 0);
    assert!(buffer_bytes(&net.b) >= 65_536, "the receiver's buffer has grown");
}

#[test]
fn window_grows_with_what_is_read() {
    let mut net = net(Duration::from_secs(2));
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    let mut in_flight = 0;
    for _ in 0..400 {
        net.a.send(server, &[1; 65_536]);
        in_flight = in_flight.max(net.a.stack.tcp_send_queue(server));
        net.step();
        let _ = net.b.recv(client);
        net.now += Duration::from_millis(1);
    }
    assert!(in_flight > 65_536 * 2, "{in_flight}");
}

/// What the front promises, it must take: 64 KiB at once, though the buffer is 4 KiB.
#[test]
fn announced_window_is_honoured() {
    let mut net = net(Duration::from_secs(2));
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    let mut sent = 0;
    for _ in 0..100 {
        sent += net.a.send(server, &[7; 16_384]);
        net.step();
        net.now += Duration::from_millis(5);
    }
    net.settle();
    let received = net.b.stack.tcp_recv_queue(client);
    assert!((60_000..=65_536).contains(&received), "{received} of {sent}");
    assert_eq!(net.b.stack.counters().no_buffer, 0);
    assert_eq!(net.a.stack.counters().retransmits, 0);
    assert_eq!(net.b.recv(client).unwrap().len(), received);
    net.advance(Duration::from_secs(1));
    assert!(net.b.stack.tcp_recv_queue(client) > 60_000, "the window opens again");
}

/// A peer that pays no heed to the window must not get at memory that there is none of.
#[test]
fn segments_beyond_the_window_are_harmless() {
    for at in [0i32, 1460, 4096, 30_000, 60_000, 65_535, 70_000, 120_000, 1 << 20] {
        let mut host = host(15, Duration::from_secs(2));
        let listener = host.listen(80, 4);
        host.nic.rx.push_back(super::fuzz::syn(4000, 80, 1000));
        host.poll(Instant::ZERO);
        host.flush(Instant::ZERO);
        let frame = host.nic.tx.pop_back().unwrap();
        let number = i32::from_be_bytes(frame[38..42].try_into().unwrap()).wrapping_add(1);
        host.nic.rx.push_back(super::fuzz::segment(4000, 80, 0x10, 1001, number, &[], &[]));
        host.poll(Instant::ZERO);
        let server = host.stack.tcp_accept(listener).unwrap();
        for offset in [at, 0, 1400, 2800] {
            let data = [9; 1400];
            host.nic.rx.push_back(super::fuzz::segment(4000, 80, 0x18, 1001 + offset, number, &[], &data));
            host.poll(Instant::ZERO);
            host.flush(Instant::ZERO);
        }
        assert!(host.recv(server).unwrap().len() >= 1400);
    }
}

#[test]
fn memory_short_refuses_buffers_but_not_the_connection() {
    let mut net = Net::with(
        Host::with(Config { buffer_bytes: 30_000, tcp_rx_window: 65_536, ..config(15) }),
        host(1, Duration::from_secs(2)),
    );
    let listener = net.a.listen(8080, 64);
    let clients: Vec<_> =
        (0..10).map(|_| net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap()).collect();
    net.settle();
    assert!(clients.iter().all(|client| net.b.stack.tcp_is_connected(*client)));
    assert!(buffer_bytes(&net.a) <= 30_000);
    let servers: Vec<_> = core::iter::from_fn(|| net.a.stack.tcp_accept(listener).ok()).collect();
    for client in &clients {
        net.b.send(*client, &[1; 2000]);
    }
    net.advance(Duration::from_secs(1));
    let heard = |net: &mut Net| servers.iter().filter(|id| net.a.recv(**id).is_ok()).count();
    assert!(heard(&mut net) >= 2);
    for _ in 0..60 {
        net.advance(Duration::from_secs(3));
        heard(&mut net);
    }
    assert!(buffer_bytes(&net.a) <= 30_000);
    assert_eq!(net.b.stack.counters().timeouts, 0);
}

#[test]
fn many_new_connections_share_what_there_is() {
    // A tenth of them could have buffers at a time.
    let budget = 100 * 12_288;
    let small = Config { buffer_bytes: budget, tcp_rx_window: 65_536, ..config(15) };
    let mut net = Net::with(Host::with(small), host(1, Duration::from_secs(2)));
    let listener = net.a.listen(8080, 4096);
    let mut pairs = Vec::new();
    for round in 0..1000 {
        let (server, client) = net.connect(listener);
        net.b.send(client, &[1; 45]);
        let mut answer = Err(RecvError::WouldBlock);
        for _ in 0..20 {
            net.advance(Duration::from_millis(1));
            if net.a.recv(server).is_ok() {
                net.a.send(server, &[2; 300]);
            }
            answer = net.b.recv(client);
            if answer.is_ok() {
                break;
            }
        }
        assert_eq!(answer.map(|bytes| bytes.len()), Ok(300), "connection {round}");
        assert!(buffer_bytes(&net.a) <= budget as u64);
        pairs.push((server, client));
    }
    net.advance(Duration::from_secs(3));
    assert_eq!(buffer_bytes(&net.a), 0);
    assert!(pairs.iter().all(|(server, _)| net.a.stack.tcp_is_connected(*server)));
}

#[test]
fn idle_connections_are_small() {
    let mut net = net(Duration::from_secs(2));
    let listener = net.a.listen(8080, 4096);
    for _ in 0..10 {
        for _ in 0..1000 {
            net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
        }
        net.settle();
        while net.a.stack.tcp_accept(listener).is_ok() {}
    }
    net.advance(Duration::from_secs(3));
    assert_eq!(net.a.stack.counters().active, 10_000);
    assert_eq!(buffer_bytes(&net.a), 0);
    assert!(size_of::<crate::flow::Flow>() <= 576, "{}", size_of::<crate::flow::Flow>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A bad wire, and connections that are taken apart every few milliseconds.
    #[test]
    fn streams_survive_parking_and_growth(
        seed: u64, total in 1usize..400_000, chunk in 1usize..40_000, loss in 0u64..30, idle in 1u64..30,
    ) {
        let mut net = net(Duration::from_millis(idle));
        net.introduce();
        net.rng = Rng(seed);
        net.trouble = [loss, 10, 40];
        super::transfer::transfer(&mut net, total, chunk.max(total / 500));
    }
}
