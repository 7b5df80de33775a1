//! Sequences that seeds decide, with each fault at each operation.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::println;

use super::faults::Fault;
use super::random::Random;
use super::steps::steps;
use super::world::{Shape, World};

/// Seeds of each shape; `CACHE_SEEDS` says another number.
const SEEDS: u64 = 12;
const STEPS: usize = 14;

fn shapes() -> impl Iterator<Item = Shape> {
    let base = Shape { block_bytes: 4096, has_blocks: true, blocks: 64, most_dirty: 100, has_others: false };
    [
        base,
        Shape { block_bytes: 1024, blocks: 200, has_others: true, ..base },
        Shape { block_bytes: 512, blocks: 40, most_dirty: 2, ..base },
        Shape { blocks: 7, has_others: true, ..base },
        Shape { has_blocks: false, has_others: true, ..base },
        Shape { has_blocks: false, block_bytes: 512, most_dirty: 3, ..base },
    ]
    .into_iter()
}

/// Plays a sequence; answers how many operations it took.
fn play(shape: Shape, seed: u64, fault: Fault, at: usize) -> usize {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(shape, seed, fault, at);
        for step in steps(&mut Random::new(seed), STEPS) {
            if world.faults().is_off() {
                break;
            }
            world.step(step);
        }
        let count = world.faults().count();
        world.end(seed ^ at as u64);
        count
    }));
    outcome.unwrap_or_else(|_| {
        steps(&mut Random::new(seed), STEPS).iter().for_each(|step| println!("{step:?}"));
        panic!("play({shape:?}, {seed}, Fault::{fault:?}, {at})")
    })
}

fn seeds() -> u64 {
    std::env::var("CACHE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

fn each_fault(fault: Fault) {
    for (shape, seed) in shapes().flat_map(|shape| (0..seeds()).map(move |seed| (shape, seed))) {
        let count = play(shape, seed, Fault::None, 0);
        for at in 0..count {
            play(shape, seed, fault, at);
        }
    }
}

#[test]
fn what_is_written_is_read_and_what_is_synced_is_durable() {
    for (shape, seed) in shapes().flat_map(|shape| (0..seeds() * 20).map(move |seed| (shape, seed))) {
        play(shape, seed, Fault::None, 0);
    }
}

#[test]
fn an_error_at_every_step_is_mended_or_told() {
    each_fault(Fault::Error(1));
}

#[test]
fn errors_that_last_are_told() {
    each_fault(Fault::Error(3));
    each_fault(Fault::Error(usize::MAX));
}

#[test]
fn a_power_cut_at_every_step_leaves_what_was_synced() {
    each_fault(Fault::PowerCut);
}

#[test]
fn a_disk_that_is_full_at_every_step_loses_nothing_silently() {
    each_fault(Fault::Full);
}

#[test]
fn memory_that_is_short_at_every_step_loses_nothing_silently() {
    each_fault(Fault::NoMemory(1));
    each_fault(Fault::NoMemory(3));
}
