//! Connections without an engine: when they leave theirs, what they do without, what brings it back.

use super::fuzz::segment;
use super::rules::{Said, Scene};
use super::*;

const FIN: u8 = 0x01;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const PSH_ACK: u8 = 0x18;

fn has_engine(scene: &Scene) -> bool {
    scene.host.stack.flows.get(scene.server).unwrap().engine.is_some()
}

impl Scene {
    /// A request of the peer's that is read and answered; answers what was said.
    fn exchange(&mut self, request: &[u8], response: &[u8]) -> Vec<Said> {
        let (next, expected) = (self.next, self.expected);
        let mut said = self.hear(ACK, next, expected, request);
        assert_eq!(self.host.recv(self.server).unwrap(), request);
        assert_eq!(self.host.send(self.server, response), response.len());
        self.host.flush(self.now);
        said.extend(self.said());
        self.next += request.len() as i32;
        self.expected += response.len() as i32;
        said
    }

    /// A connection that has been busy for long enough.
    pub(super) fn settled() -> Self {
        let mut scene = Self::established();
        assert!(has_engine(&scene));
        for _ in 0..6 {
            scene.exchange(b"request", &[7; 90]);
        }
        assert!(!has_engine(&scene));
        scene
    }
}

#[test]
fn response_is_one_segment_with_the_acknowledgement() {
    let mut scene = Scene::settled();
    let (next, expected) = (scene.next, scene.expected);
    let said = scene.exchange(b"request", &[7; 90]);
    assert_eq!(said.len(), 1);
    let said = &said[0];
    assert_eq!((said.flags, said.sequence, said.ack, said.len), (PSH_ACK, expected, next + 7, 90));
    assert!(!has_engine(&scene));
}

#[test]
fn acknowledgement_waits_for_data_but_not_for_long() {
    let mut scene = Scene::settled();
    assert!(scene.hear(ACK, scene.next, scene.expected, &[1; 100]).is_empty());
    let said = scene.pass(Duration::from_millis(100));
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].flags, said[0].ack, said[0].len), (ACK, scene.next + 100, 0));
    assert!(scene.pass(Duration::from_secs(1)).is_empty(), "once");
    assert!(!has_engine(&scene));
}

#[test]
fn second_full_segment_is_acknowledged_at_once() {
    let mut scene = Scene::settled();
    assert!(scene.hear(ACK, scene.next, scene.expected, &[1; 1460]).is_empty());
    let said = scene.hear(ACK, scene.next + 1460, scene.expected, &[1; 1460]);
    assert_eq!(said.iter().map(|said| said.ack).collect::<Vec<_>>(), [scene.next + 2920]);
}

#[test]
fn repeated_segments_and_probes_are_answered_without_an_engine() {
    let mut scene = Scene::settled();
    for (at, len) in [(-7, 7), (-1, 0), (-1, 1)] {
        let payload = &[1, 2, 3, 4, 5, 6, 7][..len];
        let said = scene.hear(ACK, scene.next + at, scene.expected, payload);
        assert_eq!(said.iter().map(|said| (said.ack, said.len)).collect::<Vec<_>>(), [(scene.next, 0)]);
        assert!(!has_engine(&scene));
        assert_eq!(scene.host.recv(scene.server), Err(RecvError::WouldBlock));
    }
}

/// While nothing but our end is outstanding, a peer that asks whether anybody is there (RFC 9293 section 3.8.4) is told; one that
/// repeats its acknowledgement is not.
#[test]
fn probe_is_answered_while_our_end_is_outstanding() {
    for has_ended in [false, true] {
        let mut scene = Scene::settled();
        if has_ended {
            scene.hear(ACK | FIN, scene.next, scene.expected, &[]);
            scene.next += 1;
        }
        scene.host.stack.tcp_shutdown_send(scene.server).unwrap();
        scene.host.flush(scene.now);
        assert_eq!(scene.said().iter().map(|said| said.sequence).collect::<Vec<_>>(), [scene.expected]);
        let said = scene.hear(ACK, scene.next - 1, scene.expected, &[]);
        assert_eq!(
            said.iter().map(|said| (said.ack, said.len)).collect::<Vec<_>>(),
            [(scene.next, 0)],
            "{has_ended}"
        );
        // The first is none that repeats itself.
        scene.hear(ACK, scene.next, scene.expected, &[]);
        for _ in 0..4 {
            assert!(scene.hear(ACK, scene.next, scene.expected, &[]).is_empty(), "{has_ended}");
        }
        let again = scene.pass(Duration::from_millis(1500));
        assert_eq!(
            again.iter().map(|said| said.sequence).collect::<Vec<_>>(),
            [scene.expected],
            "{has_ended}"
        );
    }
}

#[test]
fn third_duplicate_has_the_first_segment_sent_again() {
    let mut scene = Scene::settled();
    scene.hear(ACK, scene.next, scene.expected, &[]);
    scene.host.stack.tcp_set_nodelay(scene.server, true);
    scene.host.send(scene.server, &[5; 2920]);
    scene.host.flush(scene.now);
    assert_eq!(scene.said().iter().map(|said| said.len).collect::<Vec<_>>(), [1460; 2]);
    for _ in 0..2 {
        assert!(scene.hear(ACK, scene.next, scene.expected, &[]).is_empty());
    }
    let said = scene.hear(ACK, scene.next, scene.expected, &[]);
    assert_eq!(
        said.iter().map(|said| (said.sequence, said.len)).collect::<Vec<_>>(),
        [(scene.expected, 1460)]
    );
    assert!(!has_engine(&scene));
    assert_eq!(scene.host.stack.counters().retransmits, 1);
}

#[test]
fn overtaken_acknowledgement_changes_nothing() {
    let mut scene = Scene::settled();
    let before = scene.expected;
    scene.exchange(b"request", &[7; 90]);
    scene.hear(ACK, scene.next, scene.expected, &[]);
    assert!(scene.hear(ACK, scene.next, before, &[]).is_empty());
    assert!(!has_engine(&scene));
    assert_eq!(scene.host.stack.tcp_send_queue(scene.server), 0);
}

#[test]
fn time_out_brings_the_engine_back_and_the_segment_again() {
    let mut scene = Scene::settled();
    let expected = scene.expected;
    scene.exchange(b"request", &[7; 90]);
    let said = scene.pass(Duration::from_millis(1500));
    assert_eq!((said[0].sequence, said[0].len), (expected, 90));
    assert!(has_engine(&scene));
    for _ in 0..6 {
        scene.exchange(b"request", &[7; 90]);
    }
    assert!(!has_engine(&scene), "it leaves again");
}

#[test]
fn gap_is_told_of_and_filled() {
    let mut scene = Scene::settled();
    let said = scene.hear(ACK, scene.next + 3, scene.expected, b"def");
    assert_eq!(said.iter().map(|said| said.ack).collect::<Vec<_>>(), [scene.next]);
    scene.hear(ACK, scene.next, scene.expected, b"abc");
    assert_eq!(scene.host.recv(scene.server).unwrap(), b"abcdef");
}

#[test]
fn end_and_reset_are_heard() {
    let mut scene = Scene::settled();
    scene.hear(ACK | FIN, scene.next, scene.expected, b"bye");
    assert_eq!(scene.host.recv(scene.server).unwrap(), b"bye");
    assert_eq!(scene.host.recv(scene.server), Err(RecvError::Finished));
    let mut scene = Scene::settled();
    scene.hear(RST, scene.next, 0, &[]);
    assert_eq!(scene.host.stack.tcp_take_error(scene.server), Some(SocketError::Reset));
}

#[test]
fn closing_sends_what_is_left_and_the_end() {
    let mut scene = Scene::settled();
    scene.hear(ACK, scene.next, scene.expected, &[]);
    scene.host.send(scene.server, b"last");
    scene.host.stack.tcp_close(scene.server);
    scene.host.flush(scene.now);
    let said = scene.said();
    assert_eq!(said.iter().map(|said| said.len).sum::<usize>(), 4);
    assert!(said.last().is_some_and(|said| said.flags & FIN != 0));
}

#[test]
fn cork_holds_what_does_not_fill_a_segment() {
    let mut scene = Scene::settled();
    scene.hear(ACK, scene.next, scene.expected, &[]);
    scene.host.stack.tcp_set_cork(scene.server, true);
    scene.host.send(scene.server, &[1; 100]);
    assert!(scene.pass(Duration::from_millis(150)).is_empty());
    assert_eq!(scene.pass(Duration::from_millis(100))[0].len, 100, "for 200 ms at most");
    assert!(!has_engine(&scene));
}

#[test]
fn whoever_found_no_room_is_told_of_some() {
    // The peer does not scale its window, and takes all that it is sent.
    let mut scene = Scene::settled();
    scene.host.stack.tcp_set_buffers(scene.server, None, Some(256 * 1024));
    scene.hear(ACK, scene.next, scene.expected, &[]);
    for _ in 0..3 {
        let mut written = 0;
        let mut count = 4096;
        while count == 4096 {
            count = scene.host.send(scene.server, &[5; 4096]);
            written += count;
        }
        assert!(!scene.host.stack.tcp_readiness(scene.server).contains(Readiness::OUT));
        scene.host.stack.take_events(&mut Vec::new());
        scene.host.flush(scene.now);
        let mut end = scene.expected;
        loop {
            let said = scene.said();
            let Some(last) = said.last() else { break };
            end = last.sequence.wrapping_add(last.len as i32);
            scene.host.nic.rx.push_back(segment(4000, 80, ACK, scene.next, end, &[], &[]));
            scene.host.poll(scene.now);
            scene.host.flush(scene.now);
        }
        assert_eq!(end, scene.expected.wrapping_add(written as i32));
        scene.expected = end;
        let mut events = Vec::new();
        scene.host.stack.take_events(&mut events);
        assert_eq!(events, [SocketId::Tcp(scene.server)]);
        assert!(!has_engine(&scene));
    }
}
