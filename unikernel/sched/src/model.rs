//! Model checks: `loom` runs each scenario in every interleaving of its threads, with every value
//! that the memory model lets a load see. A core is a loom thread; halting is waiting for a
//! "device" that an interrupt sets off, so a lost wake-up shows as a deadlock.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::{CoreSet, Dispatcher, Machine, RunQueue, Schedulable, SleepState};

/// A thread as the dispatcher sees it, with what the checks need to know.
struct Thread {
    core: AtomicUsize,
    is_on_core: AtomicBool,
    allowed: CoreSet,
    sleep_state: SleepState,
    /// True while a core runs it.
    is_running: AtomicBool,
}

impl Thread {
    fn new(core: usize, is_on_core: bool) -> Arc<Self> {
        Arc::new(Self {
            core: AtomicUsize::new(core),
            is_on_core: AtomicBool::new(is_on_core),
            allowed: CoreSet::ALL,
            sleep_state: SleepState::new(),
            is_running: AtomicBool::new(false),
        })
    }

    fn run(&self) {
        assert!(!self.is_running.swap(true, Ordering::AcqRel), "one thread on two cores");
        self.is_running.store(false, Ordering::Release);
    }
}

impl Schedulable for Thread {
    fn core(&self) -> usize {
        self.core.load(Ordering::Relaxed)
    }
    fn set_core(&self, core: usize) {
        self.core.store(core, Ordering::Relaxed);
    }
    fn is_on_core(&self) -> bool {
        self.is_on_core.load(Ordering::Acquire)
    }
    fn allowed(&self) -> CoreSet {
        self.allowed
    }
}

/// One core's interrupt line: an interrupt stays pending until the core takes it.
#[derive(Default)]
struct Line {
    is_pending: Mutex<bool>,
    changed: Condvar,
}

struct Cores {
    queues: [Mutex<RunQueue<Arc<Thread>>>; 2],
    lines: [Line; 2],
}

impl Machine for Cores {
    type Thread = Arc<Thread>;
    fn cores(&self) -> CoreSet {
        CoreSet::first(2)
    }
    fn with_queue<R>(&self, core: usize, work: impl FnOnce(&mut RunQueue<Arc<Thread>>) -> R) -> R {
        work(&mut self.queues[core].lock().unwrap())
    }
    fn interrupt(&self, core: usize) {
        *self.lines[core].is_pending.lock().unwrap() = true;
        self.lines[core].changed.notify_one();
    }
}

impl Cores {
    fn wait_for_interrupt(&self, core: usize) {
        let mut is_pending = self.lines[core].is_pending.lock().unwrap();
        while !*is_pending {
            is_pending = self.lines[core].changed.wait(is_pending).unwrap();
        }
        *is_pending = false;
    }
}

struct World {
    cores: Cores,
    dispatcher: Dispatcher,
}

impl World {
    fn new() -> Arc<Self> {
        let queues = [Mutex::new(RunQueue::new()), Mutex::new(RunQueue::new())];
        let cores = Cores { queues, lines: Default::default() };
        Arc::new(Self { cores, dispatcher: Dispatcher::new() })
    }

    /// What the kernel's idle loop does, without the polling.
    fn next_thread(&self, here: usize) -> Arc<Thread> {
        loop {
            if let Some(thread) = self.dispatcher.take_next(&self.cores, here) {
                return thread;
            }
            self.dispatcher.begin_idle(here);
            if self.dispatcher.begin_halt(&self.cores, here) {
                self.cores.wait_for_interrupt(here);
                self.dispatcher.end_halt(here);
            }
            self.dispatcher.end_idle(here);
        }
    }
}

/// A thread sleeps until a flag is set; core 1 sets it and wakes. Wherever the two meet, core 0 must
/// find the thread again.
#[test]
fn sleeper_that_is_woken_from_another_core_runs_again() {
    loom::model(|| {
        let world = World::new();
        let sleeper = Thread::new(0, true);
        let flag = Arc::new(AtomicBool::new(false));
        let waker = {
            let (world, sleeper, flag) = (world.clone(), sleeper.clone(), flag.clone());
            thread::spawn(move || {
                flag.store(true, Ordering::Relaxed);
                if sleeper.sleep_state.claim() {
                    world.dispatcher.make_ready(&world.cores, sleeper, 1);
                }
            })
        };
        sleeper.sleep_state.begin_block();
        let gives_up = flag.load(Ordering::Relaxed) && sleeper.sleep_state.cancel_block();
        if !gives_up {
            let found = world.next_thread(0);
            assert!(Arc::ptr_eq(&found, &sleeper));
            assert!(flag.load(Ordering::Relaxed), "woken before the flag was set");
        }
        waker.join().unwrap();
    });
}

/// Core 0 idles on the stack of a thread that core 1 wakes and would then like to run itself. Only
/// one may.
#[test]
fn woken_thread_runs_on_one_core() {
    loom::model(|| {
        let world = World::new();
        let bound = Thread::new(0, true);
        bound.sleep_state.begin_block();
        let thief = {
            let (world, bound) = (world.clone(), bound.clone());
            thread::spawn(move || {
                if bound.sleep_state.claim() {
                    world.dispatcher.make_ready(&world.cores, bound, 1);
                }
                if let Some(stolen) = world.dispatcher.take_next(&world.cores, 1) {
                    stolen.run();
                }
            })
        };
        world.next_thread(0).run();
        thief.join().unwrap();
    });
}

/// Core 1 halts while core 0, which stays busy, queues a thread: core 1 must come and take it.
#[test]
fn halting_core_takes_a_thread_that_is_queued_meanwhile() {
    loom::model(|| {
        let world = World::new();
        let helper = {
            let world = world.clone();
            thread::spawn(move || world.next_thread(1).run())
        };
        world.dispatcher.make_ready(&world.cores, Thread::new(0, false), 0);
        helper.join().unwrap();
    });
}

/// A thread was woken while core 0 still stood on its stack; core 0 then leaves the stack and stays
/// busy with another thread. Core 1, which had to pass the thread over, must hear of it.
#[test]
fn thread_whose_stack_was_left_is_offered() {
    loom::model(|| {
        let world = World::new();
        let left = Thread::new(0, true);
        world.cores.with_queue(0, |queue| queue.enqueue(left.clone()));
        // The count is what a core looks at before it takes the lock.
        let _ = world.dispatcher.withdraw(&world.cores, 0, |_| false);
        let helper = {
            let world = world.clone();
            thread::spawn(move || world.next_thread(1).run())
        };
        left.is_on_core.store(false, Ordering::Release);
        world.dispatcher.offer(&world.cores, 0);
        helper.join().unwrap();
    });
}
