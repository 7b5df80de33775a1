//! What time does to connections: time-outs, keep-alive, lingering, TIME-WAIT.

use super::*;

#[test]
fn silent_peer_times_out() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, _) = net.connect(listener);
    net.a.send(server, b"hello?");
    net.trouble = [1000, 0, 0];
    net.advance(Duration::from_secs(400));
    assert_eq!(net.a.stack.tcp_take_error(server), Some(SocketError::TimedOut));
    assert!(net.a.stack.counters().retransmits >= 5);
    assert_eq!(net.a.stack.counters().timeouts, 1);
}

#[test]
fn idle_connection_lives_on() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.a.send(server, b"ping");
    net.settle();
    net.b.recv(client).unwrap();
    net.advance(Duration::from_secs(4 * 3600));
    net.b.send(client, b"still here");
    net.settle();
    assert_eq!(net.a.recv(server).unwrap(), b"still here");
}

#[test]
fn keep_alive_finds_a_dead_peer() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, _) = net.connect(listener);
    let keep_alive =
        KeepAlive { idle: Duration::from_secs(10), interval: Duration::from_secs(10), probes: 2 };
    net.a.stack.tcp_set_keep_alive(server, Some(keep_alive));
    net.advance(Duration::from_secs(120));
    assert!(net.a.stack.tcp_is_connected(server), "a live peer answers the probes");
    net.trouble = [1000, 0, 0];
    net.advance(Duration::from_secs(60));
    assert_eq!(net.a.stack.tcp_take_error(server), Some(SocketError::TimedOut));
}

#[test]
fn orphan_gives_up_on_a_peer_that_never_closes() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, _client) = net.connect(listener);
    net.a.stack.tcp_close(server);
    net.settle();
    assert_eq!(net.a.stack.counters().active, 1, "in FIN-WAIT-2");
    net.advance(Duration::from_secs(70));
    assert_eq!(net.a.stack.counters().active, 0);
}

#[test]
fn time_wait_answers_a_repeated_fin() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.a.stack.tcp_close(server);
    net.settle();
    net.b.stack.tcp_close(client);
    // b's FIN arrives, a's last acknowledgement does not.
    net.b.flush(net.now);
    net.carry(false);
    net.a.poll(net.now);
    net.a.flush(net.now);
    net.a.nic.tx.clear();
    assert_eq!(net.a.stack.counters().time_wait, 1);
    assert_eq!(net.a.stack.counters().active, 0);
    assert_eq!(net.b.stack.counters().active, 1, "in LAST-ACK");
    net.advance(Duration::from_secs(3));
    assert_eq!(net.b.stack.counters().active, 0, "the record has answered");
}

/// Both close at once, and both are in TIME-WAIT. Whatever comes once more is answered once at most.
#[test]
fn two_in_time_wait_do_not_answer_each_other() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.a.stack.tcp_close(server);
    net.b.stack.tcp_close(client);
    net.a.flush(net.now);
    net.b.flush(net.now);
    let (from_a, from_b) = (net.a.nic.tx.clone(), net.b.nic.tx.clone());
    net.settle();
    assert_eq!((net.a.stack.counters().time_wait, net.b.stack.counters().time_wait), (1, 1));
    let last_ack = {
        net.b.nic.rx.extend(from_a.iter().cloned());
        net.b.poll(net.now);
        net.b.flush(net.now);
        assert_eq!(net.b.nic.tx.len(), 1, "a FIN that comes again is answered");
        net.b.nic.tx[0].clone()
    };
    net.a.nic.rx.extend(from_b);
    for _ in 0..3 {
        net.a.nic.rx.push_back(last_ack.clone());
    }
    let before = net.a.stack.counters().tx_packets + net.b.stack.counters().tx_packets;
    net.settle();
    let after = net.a.stack.counters().tx_packets + net.b.stack.counters().tx_packets;
    assert_eq!(after - before, 1, "a's answer to b's FIN");
}

#[test]
fn time_wait_is_recycled_by_a_new_connection() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    for round in 0..20 {
        let client = net.b.stack.tcp_connect(net.now, Some(any(50_000)), at(15, 8080)).unwrap();
        net.settle();
        let server = net.a.stack.tcp_accept(listener).unwrap();
        net.a.stack.tcp_close(server);
        net.settle();
        net.b.stack.tcp_close(client);
        net.settle();
        assert_eq!(net.a.stack.counters().active, 0);
        assert_eq!(net.a.stack.counters().time_wait_recycled, round);
        net.now += Duration::from_millis(1);
    }
}

#[test]
fn time_wait_yields_to_a_peer_that_insists() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 16);
    let client = net.b.stack.tcp_connect(net.now, Some(any(50_000)), at(15, 8080)).unwrap();
    net.settle();
    let server = net.a.stack.tcp_accept(listener).unwrap();
    net.a.stack.tcp_close(server);
    net.settle();
    net.b.stack.tcp_close(client);
    net.settle();
    // Another machine with b's addresses: its numbers are lower in one case of two; try seeds
    // until one is.
    for seed in 0..64 {
        net.b = Host::new(1);
        net.b.stack.numbers = crate::isn::Numbers::new(&mut || seed);
        let client = net.b.stack.tcp_connect(net.now, Some(any(50_000)), at(15, 8080)).unwrap();
        net.settle();
        let is_at_once = net.b.stack.tcp_is_connected(client);
        net.advance(Duration::from_secs(2));
        assert!(net.b.stack.tcp_is_connected(client));
        let server = net.a.stack.tcp_accept(listener).unwrap();
        net.a.stack.tcp_close(server);
        net.settle();
        net.b.stack.tcp_close(client);
        net.settle();
        if !is_at_once {
            return;
        }
    }
    panic!("every sequence number was higher than the one before");
}
