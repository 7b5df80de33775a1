//! futex(2), all of its operations.

use core::sync::atomic::{AtomicU32, Ordering};

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;
use unikernel_hal::sim::app;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run, run_seeds};
use super::super::app::{join, spawn};
use super::{now_ns, timespec};

const MS: u64 = 1_000_000;
static WOKEN: AtomicU32 = AtomicU32::new(0);

/// A thread that waits at a futex, and has begun to.
fn waiter(futex: Room) -> (u64, u64) {
    let thread = spawn(move || {
        assert_eq!(sys!(futex, &futex, FUTEX_WAIT, 0, 0), Ok(0));
        WOKEN.fetch_add(1, Ordering::Relaxed);
    });
    thread.unwrap()
}

/// Wakes until so many were woken in all.
fn wake_all(futex: Room, count: u64) {
    let mut woken = 0;
    while woken < count {
        woken += sys!(futex, &futex, FUTEX_WAKE, 100).unwrap();
        sys!(nanosleep, &timespec(MS), 0).unwrap();
    }
}

#[test]
fn wait_asks_for_the_value_first() {
    run(|| {
        let futex = Room::new(8);
        assert_eq!(sys!(futex, &futex, FUTEX_WAIT, 1, 0), Err(EAGAIN));
        assert_eq!(sys!(futex, futex.at(1), FUTEX_WAIT, 0, 0), Err(EINVAL));
        assert_eq!(sys!(futex, 8, FUTEX_WAIT, 0, 0), Err(EFAULT));
        assert_eq!(sys!(futex, &futex, FUTEX_WAIT, 0, &Room::of_longs(&[0, 1_000_000_000])), Err(EINVAL));
        assert_eq!(sys!(futex, &futex, FUTEX_WAIT, 0, 1), Err(EFAULT));
        assert_eq!(sys!(futex, &futex, 99, 0, 0), Err(ENOSYS));
        assert_eq!(sys!(futex, &futex, FUTEX_WAKE, 1), Ok(0));
    });
}

#[test]
fn wait_ends_with_its_time() {
    run(|| {
        let futex = Room::new(8);
        let before = now_ns(CLOCK_MONOTONIC);
        assert_eq!(sys!(futex, &futex, FUTEX_WAIT, 0, &timespec(10 * MS)), Err(ETIMEDOUT));
        assert!((10 * MS..12 * MS).contains(&(now_ns(CLOCK_MONOTONIC) - before)));
        // With a bit set the time is a point in time.
        let end = timespec(now_ns(CLOCK_MONOTONIC) + 5 * MS);
        let wait = |op: u32, end: &Room| sys!(futex, &futex, op, 0, end, 0, FUTEX_BITSET_MATCH_ANY);
        assert_eq!(wait(FUTEX_WAIT_BITSET, &end), Err(ETIMEDOUT));
        let end = timespec(now_ns(CLOCK_REALTIME) + 5 * MS);
        assert_eq!(wait(FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, &end), Err(ETIMEDOUT));
        assert_eq!(sys!(futex, &futex, FUTEX_WAIT_BITSET, 0, 0, 0, 0), Err(EINVAL));
        assert_eq!(sys!(futex, &futex, FUTEX_WAKE_BITSET, 1, 0, 0, 0), Err(EINVAL));
    });
}

#[test]
fn wake_wakes_as_many_as_asked() {
    run_seeds(6, || {
        let futex = Room::new(8);
        let threads = [(); 3].map(|()| waiter(futex));
        while sys!(futex, &futex, FUTEX_WAKE, 1) == Ok(0) {
            sys!(nanosleep, &timespec(MS), 0).unwrap();
        }
        sys!(nanosleep, &timespec(MS), 0).unwrap();
        assert_eq!(WOKEN.load(Ordering::Relaxed), 1);
        wake_all(futex, 2);
        threads.into_iter().for_each(join);
    });
}

#[test]
fn bits_choose_who_is_woken() {
    run_seeds(6, || {
        let futex = Room::new(8);
        let wait = move |bits: u32| {
            assert_eq!(sys!(futex, &futex, FUTEX_WAIT_BITSET, 0, 0, 0, bits), Ok(0));
            WOKEN.fetch_add(bits, Ordering::Relaxed);
        };
        let threads = [1, 2].map(|bits| spawn(move || wait(bits)).unwrap());
        for bits in [2, 1] {
            while sys!(futex, &futex, FUTEX_WAKE_BITSET, 9, 0, 0, bits) == Ok(0) {
                sys!(nanosleep, &timespec(MS), 0).unwrap();
            }
            sys!(nanosleep, &timespec(MS), 0).unwrap();
            assert_eq!(WOKEN.load(Ordering::Relaxed), if bits == 2 { 2 } else { 3 });
        }
        threads.into_iter().for_each(join);
    });
}

#[test]
fn requeue_moves_waiters_to_another_futex() {
    run_seeds(6, || {
        let (first, second) = (Room::new(8), Room::new(8));
        let threads = [(); 3].map(|()| waiter(first));
        // Until all are there.
        sys!(nanosleep, &timespec(20 * MS), 0).unwrap();
        assert_eq!(sys!(futex, &first, FUTEX_CMP_REQUEUE, 1, 10, &second, 5), Err(EAGAIN));
        assert_eq!(sys!(futex, &first, FUTEX_CMP_REQUEUE, 1, 10, &second, 0), Ok(3));
        sys!(nanosleep, &timespec(MS), 0).unwrap();
        assert_eq!(WOKEN.load(Ordering::Relaxed), 1);
        assert_eq!(sys!(futex, &first, FUTEX_WAKE, 10), Ok(0));
        assert_eq!(sys!(futex, &second, FUTEX_REQUEUE, 0, 1, &first), Ok(1));
        assert_eq!(sys!(futex, &first, FUTEX_WAKE, 10), Ok(1));
        assert_eq!(sys!(futex, &second, FUTEX_WAKE, 10), Ok(1));
        threads.into_iter().for_each(join);
        assert_eq!(sys!(futex, &first, FUTEX_CMP_REQUEUE, -1, 10, &second, 0), Err(EINVAL));
    });
}

#[test]
fn wake_op_changes_the_second_word() {
    run(|| {
        let (first, second) = (Room::new(8), Room::new(8));
        second.put_word(0, 5);
        let operation = (FUTEX_OP_ADD << 28) | (FUTEX_OP_CMP_EQ << 24) | (3 << 12) | 5;
        assert_eq!(sys!(futex, &first, FUTEX_WAKE_OP, 1, 1, &second, operation), Ok(0));
        assert_eq!(second.word(0), 8);
        assert_eq!(sys!(futex, &first, FUTEX_WAKE_OP, 1, 1, 8, operation), Err(EFAULT));
    });
}

#[test]
fn mutex_of_a_futex_excludes() {
    run_seeds(6, || {
        let (futex, shared) = (Room::new(8), Room::new(8));
        let work = move || {
            for _ in 0..10 {
                while app::compare_exchange(futex.0, 0, 1) != 0 {
                    let _ = sys!(futex, &futex, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, 0);
                }
                let value = shared.word(0);
                app::pause();
                shared.put_word(0, value + 1);
                futex.put_word(0, 0);
                sys!(futex, &futex, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1).unwrap();
            }
        };
        let threads = [(); 3].map(|()| spawn(work).unwrap());
        threads.into_iter().for_each(join);
        assert_eq!(shared.word(0), 30);
    });
}

#[test]
fn locks_with_inheritance_know_their_owner() {
    run(|| {
        let futex = Room::new(8);
        assert_eq!(sys!(futex, &futex, FUTEX_LOCK_PI, 0, 0), Ok(0));
        assert_eq!(futex.word(0) & FUTEX_TID_MASK, 1);
        assert_eq!(sys!(futex, &futex, FUTEX_LOCK_PI, 0, 0), Err(EDEADLK));
        assert_eq!(sys!(futex, &futex, FUTEX_TRYLOCK_PI, 0, 0), Err(EDEADLK));
        assert_eq!(sys!(futex, &futex, FUTEX_UNLOCK_PI, 0, 0), Ok(0));
        assert_eq!(futex.word(0), 0);
        assert_eq!(sys!(futex, &futex, FUTEX_UNLOCK_PI, 0, 0), Err(EPERM));
        assert_eq!(sys!(futex, &futex, FUTEX_TRYLOCK_PI, 0, 0), Ok(0));
        assert_eq!(sys!(futex, &futex, FUTEX_UNLOCK_PI, 0, 0), Ok(0));
        futex.put_word(0, 77);
        assert_eq!(sys!(futex, &futex, FUTEX_LOCK_PI, 0, 0), Err(ESRCH));
    });
}

#[test]
fn locks_with_inheritance_exclude() {
    run_seeds(6, || {
        let (futex, shared) = (Room::new(8), Room::new(8));
        let work = move || {
            for _ in 0..10 {
                assert_eq!(sys!(futex, &futex, FUTEX_LOCK_PI, 0, 0), Ok(0));
                let value = shared.word(0);
                app::pause();
                shared.put_word(0, value + 1);
                assert_eq!(sys!(futex, &futex, FUTEX_UNLOCK_PI, 0, 0), Ok(0));
            }
        };
        let threads = [(); 3].map(|()| spawn(work).unwrap());
        threads.into_iter().for_each(join);
        assert_eq!((shared.word(0), futex.word(0)), (30, 0));
    });
}

#[test]
fn lock_with_inheritance_ends_with_its_time() {
    run(|| {
        let futex = Room::new(8);
        sys!(futex, &futex, FUTEX_LOCK_PI, 0, 0).unwrap();
        let thread = spawn(move || {
            let end = timespec(now_ns(CLOCK_REALTIME) + 5 * MS);
            assert_eq!(sys!(futex, &futex, FUTEX_LOCK_PI, 0, &end), Err(ETIMEDOUT));
            let end = timespec(now_ns(CLOCK_MONOTONIC) + 5 * MS);
            assert_eq!(sys!(futex, &futex, FUTEX_LOCK_PI2, 0, &end), Err(ETIMEDOUT));
            assert_eq!(sys!(futex, &futex, FUTEX_TRYLOCK_PI, 0, 0), Err(EAGAIN));
        });
        join(thread.unwrap());
        assert_eq!(sys!(futex, &futex, FUTEX_UNLOCK_PI, 0, 0), Ok(0));
    });
}

#[test]
fn robust_list_frees_locks_of_the_dead() {
    run_seeds(6, || {
        // A head, whose list is one entry, with the lock 16 bytes behind it.
        let head = Room::new(128);
        head.put_long(0, head.at(64));
        head.put_long(8, 16);
        head.put_long(64, head.0);
        let lock = Room(head.at(80));
        let thread = spawn(move || {
            sys!(set_robust_list, &head, 24).unwrap();
            lock.put_word(0, sys!(gettid).unwrap() as u32);
        });
        join(thread.unwrap());
        assert_eq!(lock.word(0), FUTEX_OWNER_DIED);
    });
}

#[test]
fn robust_list_is_told() {
    run(|| {
        let (head, told) = (Room::new(24), Room::new(16));
        assert_eq!(sys!(set_robust_list, &head, 24), Ok(0));
        assert_eq!(sys!(set_robust_list, &head, 23), Err(EINVAL));
        assert_eq!(sys!(get_robust_list, 0, &told, told.at(8)), Ok(0));
        assert_eq!((told.long(0), told.long(8)), (head.0, 24));
        assert_eq!(sys!(get_robust_list, 77, &told, told.at(8)), Err(ESRCH));
        assert_eq!(sys!(get_robust_list, 0, 1, told.at(8)), Err(EFAULT));
    });
}

#[test]
fn waitv_waits_at_several_futexes() {
    /// `struct futex_waitv`, for words of 32 bits.
    fn entries(futexes: [Room; 2]) -> Room {
        Room::of_longs(&[0, futexes[0].0, 2, 0, futexes[1].0, 2])
    }
    run_seeds(6, || {
        let futexes = [Room::new(8), Room::new(8)];
        let thread = spawn(move || {
            assert_eq!(sys!(futex_waitv, &entries(futexes), 2, 0, 0, CLOCK_MONOTONIC), Ok(1));
        });
        let thread = thread.unwrap();
        while sys!(futex, &futexes[1], FUTEX_WAKE, 1) == Ok(0) {
            sys!(nanosleep, &timespec(MS), 0).unwrap();
        }
        join(thread);
        let list = entries(futexes);
        let end = timespec(now_ns(CLOCK_MONOTONIC) + MS);
        assert_eq!(sys!(futex_waitv, &list, 2, 0, &end, CLOCK_MONOTONIC), Err(ETIMEDOUT));
        assert_eq!(sys!(futex_waitv, &list, 0, 0, 0, CLOCK_MONOTONIC), Err(EINVAL));
        assert_eq!(sys!(futex_waitv, &list, 129, 0, 0, CLOCK_MONOTONIC), Err(EINVAL));
        assert_eq!(sys!(futex_waitv, &list, 2, 1, 0, CLOCK_MONOTONIC), Err(EINVAL));
        futexes[0].put_word(0, 1);
        assert_eq!(sys!(futex_waitv, &list, 2, 0, 0, CLOCK_MONOTONIC), Err(EAGAIN));
    });
}

#[test]
fn wait_and_requeue_to_a_lock_with_inheritance() {
    run_seeds(6, || {
        let (condition, lock) = (Room::new(8), Room::new(8));
        let thread = spawn(move || {
            assert_eq!(sys!(futex, &condition, FUTEX_WAIT_REQUEUE_PI, 0, 0, &lock, 0), Ok(0));
            assert_eq!(lock.word(0) & FUTEX_TID_MASK, sys!(gettid).unwrap() as u32);
            assert_eq!(sys!(futex, &lock, FUTEX_UNLOCK_PI, 0, 0), Ok(0));
        });
        let thread = thread.unwrap();
        sys!(futex, &lock, FUTEX_LOCK_PI, 0, 0).unwrap();
        while sys!(futex, &condition, FUTEX_CMP_REQUEUE_PI, 1, 10, &lock, 0) == Ok(0) {
            sys!(nanosleep, &timespec(MS), 0).unwrap();
        }
        sys!(futex, &lock, FUTEX_UNLOCK_PI, 0, 0).unwrap();
        join(thread);
        assert_eq!(lock.word(0), 0);
    });
}
