//! Frames that were to be expected take the short way. What they do there, they do on the long way, too: a peer that sets
//! a type of service is sent that way.

use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

use super::fuzz::segment;
use super::rules::Scene;
use super::*;

const PSH_ACK: u8 = 0x18;

#[derive(Clone, Debug)]
enum Event {
    /// The peer says something, so far from where it is, and acknowledges so much of what is under way.
    Hear { flags: u8, offset: i32, unacknowledged: i32, len: usize },
    /// The app reads what there is.
    Read,
    /// The app writes.
    Write(usize),
    /// Time passes.
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let flags = prop_oneof![6 => Just(0x10u8), 6 => Just(PSH_ACK), 1 => any::<u8>()];
    let offset = prop_oneof![12 => Just(0i32), 1 => -2000i32..2000];
    let unacknowledged = prop_oneof![8 => Just(0i32), 2 => 0i32..3000, 1 => -70_000i32..70_000];
    let len = prop_oneof![4 => Just(0usize), 6 => 1usize..200, 1 => Just(1460usize)];
    let hear = (flags, offset, unacknowledged, len)
        .prop_map(|(flags, offset, unacknowledged, len)| Event::Hear { flags, offset, unacknowledged, len });
    let event = prop_oneof![
        8 => hear,
        4 => Just(Event::Read),
        4 => (1usize..4000).prop_map(Event::Write),
        1 => (0u64..500).prop_map(Event::Pass),
    ];
    prop::collection::vec(event, 1..60)
}

/// The frame with a type of service (RFC 791 section 3.1).
fn marked(mut frame: Vec<u8>) -> Vec<u8> {
    frame[15] = 0x10;
    frame[24..26].fill(0);
    let sum = !crate::wire::sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// A conversation, all of whose frames go one way.
struct Talk {
    scene: Scene,
    is_marked: bool,
}

impl Talk {
    fn new(is_marked: bool) -> Self {
        let mut talk = Self { scene: Scene::established(), is_marked };
        for _ in 0..6 {
            let request = Event::Hear { flags: PSH_ACK, offset: 0, unacknowledged: 0, len: 7 };
            for event in [request, Event::Read, Event::Write(90)] {
                assert!(talk.after(&event).1.is_ok());
            }
        }
        talk
    }

    /// What is sent after an event, and what the app has read.
    fn after(&mut self, event: &Event) -> (Vec<Vec<u8>>, Result<Vec<u8>, RecvError>) {
        let Scene { host, server, next, expected, now } = &mut self.scene;
        let mut read = Ok(Vec::new());
        match *event {
            Event::Hear { flags, offset, unacknowledged, len } => {
                let (sequence, ack) = (*next + offset, *expected - unacknowledged);
                let frame = segment(4000, 80, flags, sequence, ack, &[], &vec![len as u8; len]);
                host.nic.rx.push_back(if self.is_marked { marked(frame) } else { frame });
                if offset == 0 {
                    *next += len as i32;
                }
            }
            Event::Read => read = host.recv(*server),
            Event::Write(len) => {
                host.send(*server, &vec![len as u8; len]);
            }
            Event::Pass(millis) => *now += Duration::from_millis(millis),
        }
        host.poll(*now);
        host.flush(*now);
        let said: Vec<Vec<u8>> = host.nic.tx.drain(..).collect();
        for frame in said.iter().filter(|frame| frame[12..14] == [8, 0]) {
            let sequence = i32::from_be_bytes(frame[38..42].try_into().unwrap());
            let end = sequence.wrapping_add((frame.len() - 54) as i32);
            if end.wrapping_sub(*expected) > 0 {
                *expected = end;
            }
        }
        (said, read)
    }
}

proptest! {
    #[test]
    fn the_short_way_leads_where_the_long_one_does(events in events()) {
        let (mut short, mut long) = (Talk::new(false), Talk::new(true));
        for event in &events {
            prop_assert_eq!(short.after(event), long.after(event), "{:?}", event);
        }
        prop_assert_eq!(short.scene.host.stack.counters(), long.scene.host.stack.counters());
    }
}

#[test]
fn frames_from_another_station_or_for_another_take_the_long_way() {
    for (at, byte) in [(0, 0x06), (6, 0x0a)] {
        let mut talk = Talk::new(false);
        let scene = &mut talk.scene;
        let mut frame = segment(4000, 80, PSH_ACK, scene.next, scene.expected, &[], b"request");
        assert!(scene.host.stack.fast_path_rx(&frame.clone()));
        frame = segment(4000, 80, PSH_ACK, scene.next + 7, scene.expected, &[], b"request");
        frame[at] ^= byte;
        assert!(!scene.host.stack.fast_path_rx(&frame));
    }
}
