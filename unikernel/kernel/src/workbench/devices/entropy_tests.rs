//! The entropy device (Virtio 1.2, section 5.4), where the processor gives none.

use alloc::vec::Vec;
use std::boxed::Box;

use unikernel_hal::sim::plain::{Answer, Plain, Use};
use unikernel_hal::sim::platform::random;

use super::super::app::Machine;
use super::{run, run_with};

/// Requests are of so many bytes.
const REQUEST_BYTES: usize = 64;

fn device(serve: impl FnMut(&[u8]) -> Answer + 'static) -> Plain {
    random::lose_strong_source();
    Plain { device_type: 4, features: 0, config: Vec::new(), queues: [Use::Server(Box::new(serve))].into() }
}

/// A device whose answers are counted, each longer than what was asked for.
fn counting() -> Plain {
    let mut count = 0;
    device(move |_| {
        count += 1;
        Some((alloc::vec![count; 2 * REQUEST_BYTES], 2 * REQUEST_BYTES as u32))
    })
}

#[test]
fn boot_waits_for_the_first_answer_and_asks_again() {
    run(counting, || {
        // No byte that was not asked for, whatever the device says that it has written.
        let given = random::ask_device();
        let first: Vec<u8> = [[1; REQUEST_BYTES], [2; REQUEST_BYTES]].concat();
        assert!(given.starts_with(&first[..REQUEST_BYTES]) && first.starts_with(&given), "{given:?}");
        super::super::app::files::sleep_ms(1);
        assert_eq!(random::ask_device()[..2 * REQUEST_BYTES], first);
    });
}

#[test]
fn short_answers_count_for_what_they_are() {
    let short = || device(|_| Some((alloc::vec![9; 3], 3)));
    run(short, || {
        let given = random::ask_device();
        assert!(given.len() >= REQUEST_BYTES && given.iter().all(|byte| *byte == 9), "{given:?}");
    });
}

#[test]
fn device_that_gives_too_little_is_no_source() {
    let mut answers = 0;
    let once = move || {
        device(move |_| {
            answers += 1;
            (answers == 1).then(|| (Vec::from([9]), 1))
        })
    };
    let outcome = run_with(Machine::default(), once, || assert_eq!(random::ask_device(), [9]));
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    assert!(outcome.console.contains("random numbers can be guessed"), "{}", outcome.console);
}

#[test]
fn silent_device_does_not_stop_the_boot() {
    let outcome = run_with(Machine::default(), || device(|_| None), || {});
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    assert!(outcome.console.contains("the entropy device gives too little"), "{}", outcome.console);
    assert!(outcome.console.contains("random numbers can be guessed"), "{}", outcome.console);
}
