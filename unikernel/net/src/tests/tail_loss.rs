//! The end of what was sent is lost, or its acknowledgement: what a probe brings to light (RFC 8985 section 7).

use super::rules::Scene;
use super::sack::{MSS, ROUND_TRIP};
use super::*;

/// When a probe goes out.
const SILENCE: Duration = Duration::from_millis(41);

impl Scene {
    /// Probes and time-outs so far.
    fn alarms(&self) -> (u64, u64) {
        let counters = self.host.stack.counters();
        (counters.loss_probes, counters.retransmit_timeouts)
    }
}

#[test]
fn a_probe_shows_what_else_is_lost() {
    let mut scene = Scene::settled_with_sack();
    scene.write(4);
    scene.pass(ROUND_TRIP);
    assert_eq!(scene.has(1, &[]), []);
    assert_eq!(scene.wait(ROUND_TRIP * 2 - Duration::from_millis(1)), []);
    assert_eq!(scene.wait(Duration::from_millis(2)), [3], "two round trips after the last answer");
    assert_eq!(scene.has(1, &[(3, 4)]), []);
    assert_eq!(scene.wait(ROUND_TRIP / 3), [1, 2]);
    assert_eq!(scene.has(4, &[]), []);
    assert_eq!((scene.alarms(), scene.has_engine()), ((1, 0), false));
}

#[test]
fn an_acknowledgement_that_was_lost_costs_nothing() {
    let mut scene = Scene::settled_with_sack();
    scene.write(4);
    let window = scene.window();
    assert_eq!(scene.wait(SILENCE), [3]);
    // It came twice, says the block.
    assert_eq!(scene.has(4, &[(3, 4)]), []);
    assert!(scene.window() >= window);
    assert_eq!(scene.alarms(), (1, 0));
}

#[test]
fn a_loss_that_a_probe_has_mended_is_still_a_loss() {
    let mut scene = Scene::settled_with_sack();
    scene.write(10);
    scene.pass(ROUND_TRIP);
    assert_eq!(scene.has(8, &[]), []);
    assert_eq!(scene.wait(SILENCE), [9]);
    assert_eq!(scene.has(10, &[]), []);
    assert_eq!((scene.window(), scene.alarms()), (7 * MSS as usize, (1, 0)));
}

#[test]
fn there_is_one_probe_and_then_the_time_out() {
    let mut scene = Scene::settled_with_sack();
    scene.write(4);
    assert_eq!(scene.wait(SILENCE), [3]);
    assert_eq!(scene.wait(Duration::from_millis(190)), []);
    assert_eq!(scene.wait(Duration::from_millis(20)), [0]);
    assert_eq!(scene.alarms(), (1, 1));
}

#[test]
fn what_is_new_makes_the_better_probe() {
    let mut scene = Scene::settled_with_sack();
    let sent = scene.write(40);
    let next = *sent.last().unwrap() + 1;
    assert!(next < 40, "the window is smaller");
    assert_eq!(scene.wait(SILENCE), [next]);
    assert_eq!(scene.host.stack.counters().retransmits, 0);
    assert_eq!(scene.has(next + 1, &[]).first(), Some(&(next + 1)));
}

#[test]
fn one_segment_alone_waits_for_the_time_out() {
    let mut scene = Scene::settled_with_sack();
    scene.write(1);
    assert_eq!(scene.wait(Duration::from_millis(199)), []);
    assert_eq!(scene.wait(Duration::from_millis(2)), [0]);
    assert_eq!(scene.alarms(), (0, 1));
}

#[test]
fn a_peer_without_sack_is_not_probed() {
    let mut scene = Scene::settled_with(&[2, 4, 5, 180, 3, 3, 4, 1]);
    scene.write(4);
    assert_eq!(scene.wait(Duration::from_millis(190)), []);
    assert_eq!(scene.wait(Duration::from_millis(20)), [0]);
    assert_eq!(scene.alarms(), (0, 1));
}
