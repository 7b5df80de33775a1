//! Losses mended by the peer's selective acknowledgements: what is sent again, when, and what is not.

use super::fuzz::segment;
use super::rules::Scene;
use super::*;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
pub(super) const MSS: i32 = 1460;
/// Round-trip time of the conversation.
pub(super) const ROUND_TRIP: Duration = Duration::from_millis(20);

impl Scene {
    /// A connection that has been busy for long enough, with a peer that offers SACK.
    pub(super) fn settled_with_sack() -> Self {
        // The largest segment, that SACK is understood, and windows of 64 KiB.
        Self::settled_with(&[2, 4, 5, 180, 4, 2, 3, 3, 4, 1, 1, 1])
    }

    /// The same with a peer that offers such options.
    pub(super) fn settled_with(options: &[u8]) -> Self {
        let mut host = Host::with(Config { tcp_tx_limit: 64 * 1024, ..config(15) });
        let listener = host.listen(80, 4);
        let now = Instant::from_secs(10);
        host.nic.rx.push_back(segment(4000, 80, SYN, 1000, 0, options, &[]));
        host.poll(now);
        host.flush(now);
        let frame = host.nic.tx.pop_back().unwrap();
        let expected = i32::from_be_bytes(frame[38..42].try_into().unwrap()).wrapping_add(1);
        host.nic.rx.push_back(segment(4000, 80, ACK, 1001, expected, &[], &[]));
        host.poll(now);
        let server = host.stack.tcp_accept(listener).unwrap();
        let mut scene = Self { host, server, next: 1001, expected, now };
        for _ in 0..7 {
            scene.hear(ACK, scene.next, scene.expected, b"request");
            scene.host.recv(scene.server).unwrap();
            scene.host.send(scene.server, &[7; 90]);
            scene.host.flush(scene.now);
            (scene.next, scene.expected) = (scene.next + 7, scene.expected + 90);
            scene.pass(ROUND_TRIP);
        }
        scene.hear(ACK, scene.next, scene.expected, &[]);
        assert!(!scene.has_engine());
        scene
    }

    pub(super) fn has_engine(&self) -> bool {
        self.host.stack.flows.get(self.server).unwrap().engine.is_some()
    }

    pub(super) fn window(&self) -> usize {
        self.host.stack.flows.get(self.server).unwrap().congestion.window(MSS as usize)
    }

    /// Writes so many segments; answers which went out, as numbers from 0 on.
    pub(super) fn write(&mut self, segments: usize) -> Vec<i32> {
        assert_eq!(self.host.send(self.server, &vec![5; segments * MSS as usize]), segments * MSS as usize);
        self.host.flush(self.now);
        self.numbers()
    }

    /// Which segments went out.
    pub(super) fn numbers(&mut self) -> Vec<i32> {
        let expected = self.expected;
        self.said().iter().filter(|said| said.len > 0).map(|said| (said.sequence - expected) / MSS).collect()
    }

    /// The peer has everything before segment `ack`, and blocks of segments; answers which go out then.
    pub(super) fn has(&mut self, ack: i32, blocks: &[(i32, i32)]) -> Vec<i32> {
        let number = |index: i32| self.expected.wrapping_add(index * MSS);
        let mut options = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
        for (left, right) in blocks {
            options.extend(number(*left).to_be_bytes());
            options.extend(number(*right).to_be_bytes());
        }
        let options = if blocks.is_empty() { Vec::new() } else { options };
        let frame = segment(4000, 80, ACK, self.next, number(ack), &options, &[]);
        self.host.nic.rx.push_back(frame);
        self.host.poll(self.now);
        self.host.flush(self.now);
        self.numbers()
    }

    /// Time passes; answers which segments go out.
    pub(super) fn wait(&mut self, time: Duration) -> Vec<i32> {
        let expected = self.expected;
        let said = self.pass(time);
        said.iter().filter(|said| said.len > 0).map(|said| (said.sequence - expected) / MSS).collect()
    }
}

#[test]
fn two_holes_are_filled_at_once_and_nothing_else() {
    let mut scene = Scene::settled_with_sack();
    assert_eq!(scene.write(10), (0..10).collect::<Vec<_>>());
    scene.pass(ROUND_TRIP);
    assert_eq!(scene.has(0, &[(1, 2)]), []);
    assert_eq!(scene.has(0, &[(3, 4), (1, 2)]), []);
    assert_eq!(scene.has(0, &[(3, 5), (1, 2)]), [0], "three segments are behind it");
    let rest: Vec<i32> = (6..=10).flat_map(|end| scene.has(0, &[(3, end), (1, 2)])).collect();
    assert_eq!(rest, [2]);
    scene.pass(ROUND_TRIP);
    assert_eq!(scene.has(10, &[]), []);
    assert!(!scene.has_engine());
    assert_eq!(scene.host.stack.counters().retransmits, 2);
    assert_eq!(scene.window(), 7 * MSS as usize, "seven tenths of what was under way");
}

#[test]
fn duplicates_that_tell_nothing_are_no_losses() {
    let mut scene = Scene::settled_with_sack();
    scene.write(10);
    for _ in 0..10 {
        assert_eq!(scene.has(0, &[]), []);
    }
    assert_eq!(scene.host.stack.counters().retransmits, 0);
}

#[test]
fn last_but_one_is_sent_again_after_a_quarter_of_a_round_trip() {
    let mut scene = Scene::settled_with_sack();
    scene.write(3);
    scene.pass(ROUND_TRIP);
    assert_eq!(scene.has(1, &[(2, 3)]), []);
    assert_eq!(scene.wait(ROUND_TRIP / 5), []);
    assert_eq!(scene.wait(ROUND_TRIP / 5), [1]);
    assert_eq!(scene.has(3, &[]), []);
    assert!(!scene.has_engine());
}

#[test]
fn what_comes_too_soon_after_it_was_sent_again_was_late() {
    let mut scene = Scene::settled_with_sack();
    scene.write(10);
    scene.pass(ROUND_TRIP);
    let before = scene.window();
    assert_eq!(scene.has(0, &[(1, 4)]), [0]);
    assert!(scene.window() < before);
    scene.now += ROUND_TRIP / 10;
    scene.has(10, &[]);
    assert!(scene.window() >= before, "it was for nothing");
    // From now on such lateness is waited for.
    scene.expected += 10 * MSS;
    scene.write(10);
    scene.pass(ROUND_TRIP);
    assert_eq!(scene.has(0, &[(1, 4)]), []);
    assert_eq!(scene.wait(ROUND_TRIP / 2), [0], "but not for ever");
}

#[test]
fn time_out_spares_what_the_peer_has() {
    let mut scene = Scene::settled_with_sack();
    scene.write(6);
    scene.pass(ROUND_TRIP);
    // Both holes are filled, and the repetitions get lost, too.
    assert_eq!(scene.has(0, &[(2, 6)]), [0, 1]);
    assert_eq!(scene.wait(Duration::from_millis(300)), [0], "the window is one segment");
    assert!(!scene.has_engine());
    assert_eq!(scene.has(1, &[(2, 6)]), [1]);
    assert_eq!(scene.has(6, &[]), []);
    assert_eq!(scene.host.stack.counters().retransmit_timeouts, 1);
}

#[test]
fn repetition_that_gets_lost_is_sent_again_without_the_timer() {
    let mut scene = Scene::settled_with_sack();
    scene.write(10);
    scene.pass(ROUND_TRIP);
    assert_eq!(scene.has(0, &[(1, 10)]), [0]);
    assert_eq!(scene.write(9), (10..16).collect::<Vec<_>>(), "as much as the window allows with the hole");
    scene.pass(ROUND_TRIP);
    assert_eq!(scene.has(0, &[(1, 12)]), [16, 17]);
    assert_eq!(scene.has(0, &[(1, 13)]), [0, 18]);
    assert_eq!(scene.host.stack.counters().retransmit_timeouts, 0);
}

#[test]
fn blocks_of_what_was_never_sent_are_ignored() {
    let mut scene = Scene::settled_with_sack();
    scene.write(4);
    for blocks in [[(5, 9)], [(-9, -5)], [(3, 2)], [(3, 100_000)]] {
        assert_eq!(scene.has(0, &blocks), []);
    }
    assert_eq!(scene.wait(ROUND_TRIP), []);
}

#[test]
fn bulk_sender_leaves_its_engine_with_data_under_way() {
    let mut net = Net::with(Host::with(Config { tcp_tx_limit: 64 * 1024, ..config(15) }), Host::new(1));
    let listener = net.a.listen(80, 4);
    let (server, client) = net.connect(listener);
    let (mut sent, mut received) = (0, 0);
    let mut was_without = false;
    while received < 300_000 {
        sent += net.a.send(server, &vec![sent as u8; 1000]);
        net.step();
        received += net.b.recv(client).map_or(0, |bytes| bytes.len());
        let flow = net.a.stack.flows.get(server).unwrap();
        was_without |= flow.engine.is_none() && flow.send_queue() > flow.track.in_flight();
        net.now += Duration::from_micros(100);
    }
    assert!(was_without && sent >= received);
}

#[test]
fn window_is_cut_by_what_was_under_way_before_a_batch_of_acknowledgements() {
    let mut scene = Scene::settled_with_sack();
    scene.write(10);
    scene.pass(ROUND_TRIP);
    assert_eq!(scene.has(6, &[]), []);
    assert_eq!(scene.has(6, &[(7, 10)]), [6]);
    assert_eq!(scene.window(), 7 * MSS as usize);
}

#[test]
fn what_has_come_twice_is_told() {
    let mut scene = Scene::settled_with_sack();
    let start = scene.next;
    let blocks = |scene: &mut Scene, sequence| {
        let said = scene.hear(ACK, sequence, scene.expected, &[1; 100]);
        said.iter().map(|said| (said.ack, said.block)).collect::<Vec<_>>()
    };
    assert_eq!(blocks(&mut scene, start), []);
    assert_eq!(blocks(&mut scene, start), [(start + 100, Some((start, start + 100)))]);
    assert!(!scene.has_engine());
    // Behind a gap, which an engine keeps.
    assert_eq!(blocks(&mut scene, start + 200), [(start + 100, Some((start + 200, start + 300)))]);
    assert!(scene.has_engine());
    assert_eq!(blocks(&mut scene, start), [(start + 100, Some((start, start + 100)))]);
    assert_eq!(scene.host.stack.counters().duplicates, 2);
    blocks(&mut scene, start + 100);
    assert_eq!(scene.host.recv(scene.server).unwrap().len(), 300);
}
