//! A seeded simulation of cores, threads and slices: whatever is drawn, nobody starves, nobody runs
//! where they may not, and the cores share the work.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::cell::RefCell;

use proptest::prelude::*;

use crate::{CoreSet, Dispatcher, Machine, RunQueue, Schedulable};

struct Thread {
    id: usize,
    core: AtomicUsize,
    allowed: CoreSet,
}

impl Schedulable for Thread {
    fn core(&self) -> usize {
        self.core.load(Ordering::Relaxed)
    }
    fn set_core(&self, core: usize) {
        self.core.store(core, Ordering::Relaxed);
    }
    fn is_on_core(&self) -> bool {
        false
    }
    fn allowed(&self) -> CoreSet {
        self.allowed
    }
}

struct Cores(Vec<RefCell<RunQueue<Arc<Thread>>>>);

impl Machine for Cores {
    type Thread = Arc<Thread>;
    fn cores(&self) -> CoreSet {
        CoreSet::first(self.0.len())
    }
    fn with_queue<R>(&self, core: usize, work: impl FnOnce(&mut RunQueue<Arc<Thread>>) -> R) -> R {
        work(&mut self.0[core].borrow_mut())
    }
    fn interrupt(&self, _: usize) {}
}

/// Runs `slices` rounds in which each core runs one thread for a slice; answers the slices that each
/// thread got. `sleeps` decides which threads sleep for a round after their slice.
fn simulate(core_count: usize, allowed: &[CoreSet], sleeps: &[bool], slices: usize) -> Vec<usize> {
    let cores = Cores((0..core_count).map(|_| RefCell::new(RunQueue::new())).collect());
    let dispatcher = Dispatcher::new();
    for (id, &allowed) in allowed.iter().enumerate() {
        let thread = Arc::new(Thread { id, core: AtomicUsize::new(0), allowed });
        dispatcher.make_ready(&cores, thread, 0);
    }
    let mut ran = alloc::vec![0; allowed.len()];
    let mut asleep = Vec::new();
    for slice in 0..slices {
        let running: Vec<_> =
            (0..core_count).map(|core| (core, dispatcher.take_next(&cores, core))).collect();
        asleep.drain(..).for_each(|thread: Arc<Thread>| {
            let core = thread.core();
            dispatcher.make_ready(&cores, thread, core);
        });
        for (core, thread) in running.into_iter().filter_map(|(core, thread)| Some((core, thread?))) {
            assert!(thread.allowed.contains(core), "on a core that it may not use");
            ran[thread.id] += 1;
            thread.set_core(core);
            if sleeps[(slice * 7 + thread.id) % sleeps.len()] {
                asleep.push(thread);
            } else {
                dispatcher.requeue(&cores, thread, core);
            }
        }
    }
    ran
}

#[test]
fn three_busy_threads_share_two_cores_evenly() {
    let ran = simulate(2, &[CoreSet::ALL; 3], &[false], 3_000);
    assert!(ran.iter().all(|&slices| slices.abs_diff(2_000) < 20), "{ran:?}");
}

#[test]
fn pinned_thread_keeps_its_core_and_others_take_the_rest() {
    let ran = simulate(2, &[CoreSet::only(1), CoreSet::ALL], &[false], 1_000);
    assert_eq!(ran, [1_000, 1_000]);
}

proptest! {
    /// Nobody waits for ever, however the others sleep and wherever they may run.
    #[test]
    fn nobody_starves(
        core_count in 1..5usize,
        masks in prop::collection::vec(1..16u64, 1..12),
        sleeps in prop::collection::vec(any::<bool>(), 1..60),
    ) {
        let cores = CoreSet::first(core_count);
        let allowed: Vec<_> = masks
            .iter()
            .map(|&mask| if CoreSet(mask).and(cores).is_empty() { CoreSet::ALL } else { CoreSet(mask) })
            .collect();
        let slices = 400;
        let ran = simulate(core_count, &allowed, &sleeps, slices);
        // Even if all had to share one core, and slept every other round, each has its turn.
        let least = slices / allowed.len() / 4;
        prop_assert!(ran.iter().all(|&got| got >= least), "{ran:?}, least {least}");
    }
}
