//! What TCP does with single segments, by state and event (RFC 9293, RFC 5961), against a peer whose
//! segments are written by hand; and what options change.

use super::fuzz::{segment, syn};
use super::*;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// A stack, a connection that it accepted, and the peer's numbers.
pub(super) struct Scene {
    pub(super) host: Host,
    pub(super) server: TcpId,
    /// The peer's next number, and the one it expects.
    pub(super) next: i32,
    pub(super) expected: i32,
    pub(super) now: Instant,
}

/// What a frame of ours says.
pub(super) struct Said {
    pub(super) flags: u8,
    pub(super) sequence: i32,
    pub(super) ack: i32,
    pub(super) len: usize,
    /// The first block of a selective acknowledgement.
    pub(super) block: Option<(i32, i32)>,
}

impl Scene {
    pub(super) fn established() -> Self {
        let mut host = Host::new(15);
        let listener = host.listen(80, 4);
        let now = Instant::from_secs(10);
        host.nic.rx.push_back(syn(4000, 80, 1000));
        host.poll(now);
        host.flush(now);
        let frame = host.nic.tx.pop_back().unwrap();
        let expected = i32::from_be_bytes(frame[38..42].try_into().unwrap()).wrapping_add(1);
        host.nic.rx.push_back(segment(4000, 80, ACK, 1001, expected, &[], &[]));
        host.poll(now);
        let server = host.stack.tcp_accept(listener).unwrap();
        host.flush(now);
        host.nic.tx.clear();
        Self { host, server, next: 1001, expected, now }
    }

    /// The peer says something; answers what we say to it.
    pub(super) fn hear(&mut self, flags: u8, sequence: i32, ack: i32, payload: &[u8]) -> Vec<Said> {
        self.host.nic.rx.push_back(segment(4000, 80, flags, sequence, ack, &[], payload));
        self.host.poll(self.now);
        self.host.flush(self.now);
        self.said()
    }

    pub(super) fn said(&mut self) -> Vec<Said> {
        let number = |frame: &[u8], at: usize| i32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        let block = |frame: &[u8]| {
            let ranges = smoltcp::wire::TcpPacket::new_unchecked(&frame[34..]).selective_ack_ranges();
            ranges.unwrap()[0].map(|(left, right)| (left.cast_signed(), right.cast_signed()))
        };
        let say = |frame: Vec<u8>| Said {
            block: block(&frame),
            flags: frame[47],
            sequence: number(&frame, 38),
            ack: number(&frame, 42),
            len: usize::from(u16::from_be_bytes([frame[16], frame[17]]))
                - 20
                - usize::from(frame[46] >> 4) * 4,
        };
        self.host.nic.tx.drain(..).filter(|frame| frame[12..14] == [8, 0]).map(say).collect()
    }

    pub(super) fn pass(&mut self, time: Duration) -> Vec<Said> {
        let end = self.now + time;
        while let Some(next) = self.host.stack.poll_at().filter(|next| *next <= end) {
            self.now = next.max(self.now + Duration::from_micros(10));
            self.host.poll(self.now);
            self.host.flush(self.now);
        }
        self.now = end;
        self.said()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.host.stack.tcp_is_connected(self.server)
    }
}

#[test]
fn established_rst_in_sequence_resets() {
    let mut scene = Scene::established();
    assert!(scene.hear(RST, scene.next, 0, &[]).is_empty());
    assert!(!scene.is_alive());
    assert_eq!(scene.host.stack.tcp_take_error(scene.server), Some(SocketError::Reset));
}

#[test]
fn reset_connection_that_the_app_still_holds_makes_way_for_a_new_one() {
    let mut scene = Scene::established();
    scene.hear(RST, scene.next, 0, &[]);
    assert!(!scene.is_alive());
    scene.host.nic.rx.push_back(syn(4000, 80, 777_000));
    scene.host.poll(scene.now);
    scene.host.flush(scene.now);
    let said = scene.said();
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].flags, said[0].ack), (SYN | ACK, 777_001));
    assert_eq!(scene.host.stack.tcp_take_error(scene.server), Some(SocketError::Reset), "it is still told");
    scene.host.stack.tcp_close(scene.server);
    scene.host.flush(scene.now);
    assert_eq!(scene.host.stack.counters().active, 1, "the new one");
}

#[test]
fn established_rst_within_window_is_challenged() {
    let mut scene = Scene::established();
    let said = scene.hear(RST, scene.next + 100, 0, &[]);
    assert!(scene.is_alive());
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].flags, said[0].sequence, said[0].ack), (ACK, scene.expected, scene.next));
    assert!(scene.hear(RST, scene.next + 200, 0, &[]).is_empty(), "not at any rate");
    scene.hear(RST, scene.next, 0, &[]);
    assert!(!scene.is_alive(), "a peer that meant it answers with the right number");
}

#[test]
fn established_rst_outside_window_is_dropped() {
    let mut scene = Scene::established();
    for at in [-1, -5000, 100_000, 1 << 30] {
        assert!(scene.hear(RST, scene.next.wrapping_add(at), 0, &[]).is_empty());
        assert!(scene.is_alive());
    }
    assert_eq!(scene.host.stack.counters().out_of_window, 4);
}

#[test]
fn established_syn_is_challenged() {
    for at in [0, 50, -7000, 1 << 29] {
        let mut scene = Scene::established();
        let said = scene.hear(SYN, scene.next.wrapping_add(at), 0, &[]);
        assert!(scene.is_alive());
        assert_eq!((said[0].flags, said[0].ack), (ACK, scene.next), "at {at}");
    }
}

#[test]
fn established_ack_of_the_future_is_challenged() {
    let mut scene = Scene::established();
    let said = scene.hear(ACK, scene.next, scene.expected + 5000, b"never taken");
    assert_eq!((said[0].flags, said[0].ack), (ACK, scene.next));
    assert_eq!(scene.host.recv(scene.server), Err(RecvError::WouldBlock));
}

#[test]
fn established_ack_of_unsent_data_is_challenged() {
    let mut scene = Scene::established();
    scene.host.nic.tx_room = 0;
    scene.host.send(scene.server, b"written, not sent");
    scene.host.flush(scene.now);
    scene.host.nic.tx_room = 16;
    scene.hear(ACK, scene.next, scene.expected + 17, &[]);
    assert_eq!(scene.host.stack.counters().challenges, 1);
    assert_eq!(scene.host.stack.tcp_send_queue(scene.server), 17);
}

#[test]
fn established_urgent_data_is_read_where_it_is_wanted() {
    // A pointer of 0 is one to the first byte.
    for (is_inline, expected) in [(true, b"urgent".as_slice()), (false, b"rgent")] {
        let mut scene = Scene::established();
        scene.host.stack.tcp_set_urgent_inline(scene.server, is_inline);
        scene.hear(ACK | 0x20, scene.next, scene.expected, b"urgent");
        assert_eq!(scene.host.recv(scene.server).unwrap(), expected);
    }
}

#[test]
fn established_fin_leaves_the_other_half_open() {
    let mut scene = Scene::established();
    let said = scene.hear(FIN | ACK, scene.next, scene.expected, &[]);
    assert_eq!(said[0].ack, scene.next + 1);
    assert_eq!(scene.host.send(scene.server, b"still speaking"), 14);
    scene.host.flush(scene.now);
    let said = scene.said();
    assert_eq!((said[0].len, said[0].ack), (14, scene.next + 1));
}

#[test]
fn fin_wait_1_fin_closes_simultaneously() {
    let mut scene = Scene::established();
    scene.host.stack.tcp_close(scene.server);
    scene.host.flush(scene.now);
    assert_eq!(scene.said()[0].flags & FIN, FIN);
    // The peer's FIN crosses ours.
    let said = scene.hear(FIN | ACK, scene.next, scene.expected, &[]);
    assert_eq!(said[0].ack, scene.next + 1);
    scene.hear(ACK, scene.next + 1, scene.expected + 1, &[]);
    scene.pass(Duration::from_millis(10));
    let counters = scene.host.stack.counters();
    assert_eq!((counters.active, counters.time_wait), (0, 1));
}

#[test]
fn syn_sent_syn_opens_simultaneously() {
    let mut net = Net::new();
    net.introduce();
    let one = net.a.stack.tcp_connect(net.now, Some(any(5000)), at(1, 6000)).unwrap();
    let other = net.b.stack.tcp_connect(net.now, Some(any(6000)), at(15, 5000)).unwrap();
    net.advance(Duration::from_secs(4));
    assert!(net.a.stack.tcp_is_connected(one) && net.b.stack.tcp_is_connected(other));
    net.a.send(one, b"both began");
    net.settle();
    assert_eq!(net.b.recv(other).unwrap(), b"both began");
}

#[test]
fn syn_sent_rst_with_wrong_ack_is_ignored() {
    let mut host = Host::new(15);
    let client = host.stack.tcp_connect(Instant::ZERO, Some(any(80)), at(1, 4000)).unwrap();
    host.nic.rx.push_back(segment(4000, 80, RST | ACK, 0, 12345, &[], &[]));
    host.poll(Instant::ZERO);
    assert!(host.stack.tcp_is_connecting(client));
}

/// A router's word that packets are too big, about a segment with this number.
fn too_big(number: i32, mtu: u16) -> Vec<u8> {
    use smoltcp::wire::{Icmpv4Packet, Ipv4Packet};
    let mut frame = segment(4000, 80, ACK, 0, 0, &[], &[0; 16]);
    frame[23] = 1;
    let quoted = segment(80, 4000, ACK, number, 0, &[], &[]);
    frame[34..42].copy_from_slice(&[3, 4, 0, 0, 0, 0, (mtu >> 8) as u8, mtu as u8]);
    frame[42..70].copy_from_slice(&quoted[14..42]);
    frame[54..58].copy_from_slice(&ip(15).octets());
    frame[58..62].copy_from_slice(&ip(1).octets());
    Ipv4Packet::new_unchecked(&mut frame[42..]).fill_checksum();
    let len = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    Icmpv4Packet::new_unchecked(&mut frame[34..]).fill_checksum();
    Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
    frame
}

#[test]
fn established_too_big_sends_again_in_smaller_segments() {
    let mut scene = Scene::established();
    scene.host.send(scene.server, &[5; 4000]);
    scene.host.flush(scene.now);
    assert_eq!(scene.said()[0].len, 1460);
    scene.host.nic.rx.push_back(too_big(scene.expected, 1000));
    scene.host.poll(scene.now);
    scene.host.flush(scene.now);
    let said = scene.said();
    assert!(said.iter().all(|said| said.len <= 960), "1000 less 40");
    assert_eq!(said.iter().map(|said| said.len).sum::<usize>(), 3840, "from the start; Nagle keeps the rest");
    assert_eq!(said[0].sequence, scene.expected);
    assert_eq!(scene.host.stack.counters().path_mtu_changes, 1);
}

#[test]
fn established_too_big_forged_is_ignored() {
    let mut scene = Scene::established();
    scene.host.nic.rx.push_back(too_big(scene.expected, 600));
    scene.host.poll(scene.now);
    scene.host.send(scene.server, &[5; 1400]);
    scene.host.flush(scene.now);
    scene.host.nic.rx.push_back(too_big(scene.expected + 100_000, 600));
    scene.host.poll(scene.now);
    assert_eq!(scene.said()[0].len, 1400, "nothing was under way when the first came");
    assert_eq!(scene.host.stack.counters().path_mtu_changes, 0);
}

#[test]
fn cork_holds_what_does_not_fill_a_segment() {
    let mut scene = Scene::established();
    scene.host.stack.tcp_set_cork(scene.server, true);
    scene.host.send(scene.server, &[1; 100]);
    assert!(scene.pass(Duration::from_millis(150)).is_empty());
    scene.host.send(scene.server, &[1; 1400]);
    scene.host.flush(scene.now);
    assert_eq!(scene.said().iter().map(|said| said.len).collect::<Vec<_>>(), [1460]);
    scene.host.stack.tcp_set_cork(scene.server, false);
    scene.hear(ACK, scene.next, scene.expected + 1460, &[]);
    scene.hear(ACK, scene.next, scene.expected + 1500, &[]);
    scene.host.stack.tcp_set_cork(scene.server, true);
    scene.host.send(scene.server, &[1; 10]);
    let said = scene.pass(Duration::from_millis(250));
    assert_eq!(said[0].len, 10, "200 ms are the end of patience");
}

#[test]
fn quick_ack_does_not_wait() {
    let mut scene = Scene::established();
    assert!(scene.hear(ACK, scene.next, scene.expected, b"one").is_empty());
    assert_eq!(scene.pass(Duration::from_millis(50)).len(), 1);
    scene.host.stack.tcp_set_quick_ack(scene.server, true);
    assert_eq!(scene.hear(ACK, scene.next + 3, scene.expected, b"two").len(), 1);
}

#[test]
fn delayed_ack_is_for_one_segment() {
    let mut scene = Scene::established();
    assert!(scene.hear(ACK, scene.next, scene.expected, &[0; 1000]).is_empty());
    let said = scene.hear(ACK, scene.next + 1000, scene.expected, &[0; 1000]);
    assert_eq!(said[0].ack, scene.next + 2000);
}

#[test]
fn max_segment_holds_both_ways() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 4);
    let client = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    net.b.stack.tcp_set_max_segment(client, 500);
    net.settle();
    let server = net.a.stack.tcp_accept(listener).unwrap();
    for (is_a, id) in [(true, server), (false, client)] {
        let host = if is_a { &mut net.a } else { &mut net.b };
        host.send(id, &[3; 3000]);
        host.flush(net.now);
        assert!(host.nic.tx.iter().all(|frame| frame.len() <= 554), "by the peer, or by itself");
        net.settle();
    }
    assert_eq!(net.a.recv(server).unwrap().len(), 3000);
    assert_eq!(net.b.stack.tcp_info(client).unwrap().mss, 500);
}

#[test]
fn buffers_are_bounded_by_option() {
    let mut net = Net::with(Host::new(15), Host::with(Config { tcp_tx_limit: 1 << 20, ..config(1) }));
    let listener = net.a.listen(8080, 4);
    let (_, client) = net.connect(listener);
    net.b.stack.tcp_set_buffers(client, None, Some(20_000));
    assert_eq!(net.b.send(client, &[1; 100_000]), 20_000);
    assert!(!net.b.stack.tcp_readiness(client).contains(Readiness::OUT));
}

#[test]
fn user_timeout_ends_a_silent_conversation() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 4);
    let (server, _) = net.connect(listener);
    net.a.stack.tcp_set_user_timeout(server, Some(Duration::from_secs(5)));
    net.a.send(server, b"hello?");
    net.trouble = [1000, 0, 0];
    net.advance(Duration::from_secs(4));
    assert!(net.a.stack.tcp_is_connected(server));
    net.advance(Duration::from_secs(2));
    assert_eq!(net.a.stack.tcp_take_error(server), Some(SocketError::TimedOut));
}

#[test]
fn connect_timeout_ends_an_attempt() {
    let mut net = Net::new();
    net.introduce();
    net.trouble = [1000, 0, 0];
    let client = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    net.b.stack.tcp_set_connect_timeout(client, Some(Duration::from_secs(3)));
    net.advance(Duration::from_secs(2));
    assert!(net.b.stack.tcp_is_connecting(client));
    net.advance(Duration::from_secs(2));
    assert_eq!(net.b.stack.tcp_take_error(client), Some(SocketError::TimedOut));
}

#[test]
fn info_tells_of_the_way() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 4);
    let (server, client) = net.connect(listener);
    for _ in 0..10 {
        net.a.send(server, &[1; 1000]);
        net.a.flush(net.now);
        net.carry(true);
        net.now += Duration::from_millis(30);
        net.b.poll(net.now);
        net.b.recv(client).unwrap();
        net.advance(Duration::from_millis(20));
    }
    let info = net.a.stack.tcp_info(server).unwrap();
    assert!((20..60).contains(&info.rtt.total_millis()), "{}", info.rtt);
    assert_eq!((info.in_flight, info.unsent, info.retransmits), (0, 0, 0));
    assert!(info.congestion_window >= 10 * info.mss);
    assert_eq!(info.scales, Some((7, 7)));
}
