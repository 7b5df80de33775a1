//! The memory balloon (Virtio 1.2, section 5.5), with hosts that want much.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use linux_raw_sys::general::*;
use unikernel_hal::sim::plain::{Device, Plain, Use};

use super::super::app::Machine;
use super::super::app::calls::Room;
use super::super::app::files::sleep_ms;
use super::{run, run_with};

const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
const STATISTICS: u16 = 2;
const STATS_VQ: u64 = 1 << 1;
const DEFLATE_ON_OOM: u64 = 1 << 2;
const ACTUAL_AT: usize = 4;
const DEVICE: Device = Device(0);
/// Pages of a machine.
const PAGES: u32 = (64 << 20) / 4096;

fn balloon(features: u64, inflate: fn() -> Use) -> Plain {
    let queues = [inflate(), Use::Sink, Use::Held].into();
    Plain { device_type: 5, features, config: alloc::vec![0; 8], queues }
}

/// The host wants so many pages, and gives the machine time for that.
fn want(pages: u32) {
    DEVICE.set_config(0, &pages.to_le_bytes());
    sleep_ms(20);
}

/// How many pages the machine says that the host has.
fn actual() -> u32 {
    u32::from_le_bytes(DEVICE.config()[ACTUAL_AT..].try_into().unwrap())
}

/// The pages that messages of a queue have named since the last time.
fn named(queue: u16) -> Vec<u32> {
    let messages = core::iter::from_fn(|| DEVICE.take(queue));
    let pages = |message: Vec<u8>| -> Vec<u32> {
        message.chunks(4).map(|page| u32::from_le_bytes(page.try_into().unwrap())).collect()
    };
    messages.flat_map(pages).collect()
}

fn free_kib() -> u64 {
    let text = std::string::String::from_utf8(super::super::files::read_file("/proc/meminfo")).unwrap();
    let line = text.lines().find(|line| line.starts_with("MemFree:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn host_gets_pages_and_gives_them_back() {
    run(
        || balloon(0, || Use::Sink),
        || {
            let before = free_kib();
            want(1000);
            let given = named(INFLATE);
            assert_eq!((given.len(), actual()), (1000, 1000));
            let different: BTreeSet<u32> = given.iter().copied().collect();
            assert!(different.len() == 1000 && different.iter().all(|page| *page < PAGES));
            assert!(before - free_kib() >= 4000, "{before} KiB were free, now {}", free_kib());
            want(300);
            let back = named(DEFLATE);
            assert_eq!((back.len(), actual()), (700, 300));
            assert!(back.iter().all(|page| different.contains(page)));
            want(0);
            let rest: BTreeSet<u32> = back.into_iter().chain(named(DEFLATE)).collect();
            assert_eq!((rest, actual()), (different, 0));
            assert!(free_kib() + 100 >= before);
        },
    );
}

#[test]
fn machine_keeps_what_it_needs() {
    run(
        || balloon(0, || Use::Sink),
        || {
            want(u32::MAX);
            sleep_ms(2000);
            let given = actual();
            assert!(given > PAGES / 2 && given < PAGES, "{given} of {PAGES}");
            // There is still some for the app.
            let room = Room::new(1 << 20);
            room.put(0, &[1; 4096]);
            room.put(1 << 19, &[1; 4096]);
            want(0);
            assert_eq!(actual(), 0);
        },
    );
}

#[test]
fn app_takes_pages_back_if_the_host_allows_it() {
    const BYTES: usize = 32 << 20;
    run(
        || balloon(DEFLATE_ON_OOM, || Use::Sink),
        || {
            want(u32::MAX);
            sleep_ms(2000);
            let given = actual();
            want(given);
            let room = Room::new(BYTES);
            (0..BYTES).step_by(4096).for_each(|at| room.put(at, &[7]));
            assert!((0..BYTES).step_by(4096 * 64).all(|at| room.byte(at) == 7));
            sleep_ms(20);
            assert!(!named(DEFLATE).is_empty() && actual() < given, "{} of {given}", actual());
        },
    );
}

#[test]
fn without_leave_the_app_ends_for_want_of_memory() {
    const BYTES: usize = 32 << 20;
    let outcome = run_with(
        Machine::default(),
        || balloon(0, || Use::Sink),
        || {
            want(u32::MAX);
            sleep_ms(2000);
            let room = Room::new(BYTES);
            (0..BYTES).step_by(4096).for_each(|at| room.put(at, &[7]));
        },
    );
    assert_eq!(outcome.code, Some(128 + SIGKILL as i32), "{}", outcome.console);
    assert!(outcome.console.contains("out of memory"), "{}", outcome.console);
}

#[test]
fn host_that_does_not_answer_has_one_message() {
    run(
        || balloon(0, || Use::Held),
        || {
            want(1000);
            let first = named(INFLATE).len();
            assert!((1..=256).contains(&first) && actual() == 0, "{first}");
            want(2000);
            assert_eq!((named(INFLATE).len(), actual()), (0, 0));
            DEVICE.release(INFLATE);
            sleep_ms(20);
            assert_eq!(actual() as usize, first);
            assert!(!named(INFLATE).is_empty());
        },
    );
}

#[test]
fn statistics_are_told_whenever_the_host_asks() {
    run(
        || balloon(STATS_VQ, || Use::Sink),
        || {
            sleep_ms(1);
            let told = |message: Vec<u8>| -> Vec<(u16, u64)> {
                let pair = |part: &[u8]| {
                    let value = u64::from_le_bytes(part[2..].try_into().unwrap());
                    (u16::from_le_bytes([part[0], part[1]]), value)
                };
                message.chunks(10).map(pair).collect()
            };
            let first = told(DEVICE.take(STATISTICS).expect("statistics at first"));
            let tags: Vec<u16> = first.iter().map(|(tag, _)| *tag).collect();
            assert_eq!(tags, [4, 5, 6, 7]);
            let [free, total, available, _] = first[..] else { panic!("four of them") };
            assert!(available.1 <= free.1 && free.1 < total.1 && total.1 <= 64 << 20);
            assert_eq!(DEVICE.take(STATISTICS), None);
            let room = Room::new(4 << 20);
            (0..4 << 20).step_by(4096).for_each(|at| room.put(at, &[7]));
            DEVICE.release(STATISTICS);
            sleep_ms(1);
            let second = told(DEVICE.take(STATISTICS).expect("statistics when they are asked for"));
            assert!(second[0].1 + (4 << 20) <= free.1 && second[1] == total);
        },
    );
}
