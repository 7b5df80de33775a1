//! A peer that takes its window back, as Linux does when its memory for a connection is used up (since 6.6). It takes no
//! segment beyond what it says now, nor the acknowledgement in one: those that we send must begin within (RFC 9293 section
//! 3.8.6: a sender has to be robust against it).

use smoltcp::wire::{Ipv4Packet, TcpPacket};

use super::fuzz::segment;
use super::rules::Scene;
use super::sack::{MSS, ROUND_TRIP};
use super::*;

const ACK: u8 = 0x10;

/// The peer says `payload` from `sequence`, has nothing new, and names `window` in units of its scale (16 bytes).
fn hear(scene: &mut Scene, sequence: i32, window: u16, payload: &[u8]) {
    let mut frame = segment(4000, 80, ACK, sequence, scene.expected, &[], payload);
    let (from, to) = {
        let ip = Ipv4Packet::new_unchecked(&frame[14..]);
        (ip.src_addr().into(), ip.dst_addr().into())
    };
    let mut tcp = TcpPacket::new_unchecked(&mut frame[34..]);
    tcp.set_window_len(window);
    tcp.fill_checksum(&from, &to);
    scene.host.nic.rx.push_back(frame);
    scene.host.poll(scene.now);
    scene.host.flush(scene.now);
}

/// Ten segments are under way, and the peer takes back all but `left` bytes of its window.
fn shrunk(left: i32) -> Scene {
    let mut scene = Scene::settled_with_sack();
    scene.write(10);
    scene.pass(ROUND_TRIP);
    let next = scene.next;
    hear(&mut scene, next, (left / 16) as u16, b"");
    scene.said();
    scene
}

#[test]
fn acknowledgements_begin_within_a_window_that_was_taken_back() {
    for left in [0, 160, 2 * MSS / 16 * 16] {
        let mut scene = shrunk(left);
        let (next, edge) = (scene.next, scene.expected + left);
        // What is new, what comes again, and what is beyond our window.
        for (sequence, payload) in [
            (next, &[1; 100][..]),
            (next, &[1; 100]),
            (next - 7, b"request"),
            (next + (1 << 30), b"challenge"),
        ] {
            hear(&mut scene, sequence, (left / 16) as u16, payload);
            let mut said = scene.said();
            said.extend(scene.pass(Duration::from_millis(60)));
            let pure: Vec<i32> = said.iter().filter(|said| said.len == 0).map(|said| said.sequence).collect();
            assert!(!pure.is_empty(), "{payload:?} is answered, with {left} bytes left");
            assert!(pure.iter().all(|sequence| *sequence <= edge), "{pure:?} behind {edge}");
        }
    }
}

#[test]
fn conversation_goes_on_when_a_window_comes_back() {
    let mut scene = shrunk(0);
    for _ in 0..30 {
        scene.pass(Duration::from_secs(1));
    }
    let next = scene.next;
    hear(&mut scene, next, 4096, b"");
    let mut said: Vec<i32> = scene.numbers();
    for _ in 0..40 {
        let ack = said.iter().max().map_or(0, |last| last + 1);
        said.extend(scene.has(ack, &[]));
        said.extend(scene.wait(Duration::from_secs(1)));
    }
    said.sort_unstable();
    said.dedup();
    assert_eq!(said, (0..10).collect::<Vec<_>>());
}

/// Found by fuzzing: the app was gone, and the byte that asks whether the peer hears was repeated for ever.
#[test]
fn peer_that_opens_its_window_to_a_closed_connection_and_falls_silent_is_given_up() {
    const FIN: u8 = 1;
    let mut scene = Scene::established();
    scene.hear(FIN | ACK, scene.next, scene.expected, &[]);
    scene.next += 1;
    scene.host.send(scene.server, &[7; 6000]);
    scene.host.flush(scene.now);
    let mut ends = scene.said().into_iter().map(|said| said.sequence.wrapping_add(said.len as i32));
    scene.expected = ends.next_back().expect("it sends what the window takes");
    let next = scene.next;
    hear(&mut scene, next, 0, b"");
    scene.host.stack.tcp_close(scene.server);
    scene.host.flush(scene.now);
    hear(&mut scene, next, 4096, b"");
    assert!(!scene.said().is_empty(), "it goes on where the window has opened");
    for _ in 0..200 {
        scene.pass(Duration::from_secs(1));
    }
    assert_eq!(scene.host.stack.counters().active, 0);
}
