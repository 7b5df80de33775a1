//! Which core threads run on, and their policies.

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run, run_on, run_seeds};
use super::super::app::{Machine, join, spawn};

const OTHER: u32 = 0;
const FIFO: u32 = 1;

#[test]
fn affinity_moves_a_thread() {
    run_seeds(6, || {
        let (mask, core) = (Room::new(8), Room::new(8));
        assert_eq!(sys!(sched_getaffinity, 0, 8, &mask), Ok(8));
        assert_eq!(mask.long(0), 0b11);
        for wanted in [1, 0, 1] {
            mask.put_long(0, 1 << wanted);
            assert_eq!(sys!(sched_setaffinity, 0, 8, &mask), Ok(0));
            for _ in 0..5 {
                sys!(sched_yield).unwrap();
                assert_eq!(sys!(getcpu, &core, 0, 0), Ok(0));
                assert_eq!(core.word(0), wanted);
            }
        }
    });
}

#[test]
fn new_threads_inherit_affinity() {
    run_seeds(6, || {
        sys!(sched_setaffinity, 0, 8, &Room::of_longs(&[0b10])).unwrap();
        let thread = spawn(|| {
            let (mask, core) = (Room::new(8), Room::new(8));
            sys!(sched_getaffinity, 0, 8, &mask).unwrap();
            sys!(getcpu, &core, 0, 0).unwrap();
            assert_eq!((mask.long(0), core.word(0)), (0b10, 1));
        });
        join(thread.unwrap());
    });
}

#[test]
fn arguments_of_affinity_are_checked() {
    run_on(Machine { cores: 2, ..Machine::default() }, || {
        let mask = Room::of_longs(&[0b100]);
        assert_eq!(sys!(sched_setaffinity, 0, 8, &mask), Err(EINVAL));
        assert_eq!(sys!(sched_setaffinity, 77, 8, &Room::of_longs(&[1])), Err(ESRCH));
        assert_eq!(sys!(sched_setaffinity, 0, 8, 1), Err(EFAULT));
        assert_eq!(sys!(sched_getaffinity, 0, 4, &mask), Err(EINVAL));
        assert_eq!(sys!(sched_getaffinity, 77, 8, &mask), Err(ESRCH));
        assert_eq!(sys!(sched_getaffinity, 0, 8, 1), Err(EFAULT));
        // What is no core is left out.
        assert_eq!(sys!(sched_setaffinity, 0, 8, &Room::of_longs(&[u64::MAX])), Ok(0));
        assert_eq!(sys!(sched_getaffinity, 0, 8, &mask), Ok(8));
        assert_eq!(mask.long(0), 0b11);
    });
}

#[test]
fn there_is_one_policy() {
    run(|| {
        let parameter = Room::new(8);
        assert_eq!(sys!(sched_getscheduler, 0), Ok(OTHER.into()));
        assert_eq!(sys!(sched_setscheduler, 0, OTHER, &parameter), Ok(0));
        parameter.put_word(0, 5);
        assert_eq!(sys!(sched_setscheduler, 0, FIFO, &parameter), Err(EPERM));
        assert_eq!(sys!(sched_setscheduler, 0, OTHER, &parameter), Err(EINVAL));
        assert_eq!(sys!(sched_setscheduler, 0, 99, &parameter), Err(EINVAL));
        assert_eq!(sys!(sched_setscheduler, -1, OTHER, &parameter), Err(EINVAL));
        assert_eq!(sys!(sched_setscheduler, 0, OTHER, 0), Err(EINVAL));
        assert_eq!(sys!(sched_setparam, 0, &parameter), Err(EINVAL));
        assert_eq!(sys!(sched_getparam, 0, &parameter), Ok(0));
        assert_eq!(parameter.word(0), 0);
        assert_eq!(sys!(sched_setparam, 0, &parameter), Ok(0));
        assert_eq!(sys!(sched_getparam, 77, &parameter), Err(ESRCH));
        assert_eq!(sys!(sched_getscheduler, 77), Err(ESRCH));
        assert_eq!(sys!(sched_getscheduler, -1), Err(EINVAL));
    });
}

#[test]
fn priorities_have_their_ranges() {
    run(|| {
        let range =
            |policy: u32| (sys!(sched_get_priority_min, policy), sys!(sched_get_priority_max, policy));
        assert_eq!(range(OTHER), (Ok(0), Ok(0)));
        assert_eq!(range(FIFO), (Ok(1), Ok(99)));
        assert_eq!(range(99), (Err(EINVAL), Err(EINVAL)));
        let interval = Room::new(16);
        assert_eq!(sys!(sched_rr_get_interval, 0, &interval), Ok(0));
        assert!(interval.long(0) == 0 && interval.long(8) < 1_000_000_000);
        assert_eq!(sys!(sched_rr_get_interval, 77, &interval), Err(ESRCH));
        // 20 is no nicer than anybody.
        assert_eq!(sys!(getpriority, PRIO_PROCESS, 0), Ok(20));
        assert_eq!(sys!(setpriority, PRIO_PROCESS, 0, 5), Ok(0));
        assert_eq!(sys!(getpriority, PRIO_PROCESS, 77), Err(ESRCH));
        assert_eq!(sys!(getpriority, 9, 0), Err(EINVAL));
        assert_eq!(sys!(setpriority, 9, 0, 5), Err(EINVAL));
    });
}

#[test]
fn thread_that_computes_does_not_hold_up_others() {
    run(|| {
        let word = Room::new(8);
        let thread = spawn(move || word.put_word(0, 1)).unwrap();
        let mut rounds = 0;
        while word.word(0) == 0 {
            unikernel_hal::sim::app::compute_ns(1_000_000);
            rounds += 1;
            assert!(rounds < 1000, "the other thread never ran");
        }
        join(thread);
    });
}
