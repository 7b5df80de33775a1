//! timerfd(2) and eventfd(2).

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run, run_seeds};
use super::super::app::{join, spawn};
use super::{now_ns, timespec};

const MS: u64 = 1_000_000;

/// `struct itimerspec` of less than a second.
fn spec(interval_ns: u64, first_ns: u64) -> Room {
    Room::of_longs(&[0, interval_ns, 0, first_ns])
}

fn new_timer(flags: u32) -> u64 {
    sys!(timerfd_create, CLOCK_MONOTONIC, flags).unwrap()
}

#[test]
fn timer_counts_how_often_it_went_off() {
    run(|| {
        let (timer, room) = (new_timer(O_NONBLOCK), Room::new(32));
        assert_eq!(sys!(read, timer, &room, 8), Err(EAGAIN));
        assert_eq!(sys!(timerfd_settime, timer, 0, &spec(10 * MS, 10 * MS), 0), Ok(0));
        sys!(nanosleep, &timespec(35 * MS), 0).unwrap();
        assert_eq!((sys!(read, timer, &room, 8), room.long(0)), (Ok(8), 3));
        assert_eq!(sys!(read, timer, &room, 8), Err(EAGAIN));
        assert_eq!(sys!(timerfd_gettime, timer, &room), Ok(0));
        assert_eq!(room.long(8), 10 * MS);
        assert!((1..=10 * MS).contains(&room.long(24)));
        let old = Room::new(32);
        assert_eq!(sys!(timerfd_settime, timer, 0, &spec(0, 0), &old), Ok(0));
        assert_eq!(old.long(8), 10 * MS);
        sys!(timerfd_gettime, timer, &room).unwrap();
        assert_eq!(room.bytes(0, 32), [0; 32]);
    });
}

#[test]
fn reader_of_a_timer_waits() {
    run_seeds(6, || {
        let (timer, room) = (new_timer(0), Room::new(8));
        let start = now_ns(CLOCK_MONOTONIC);
        let end = start + 5 * MS;
        let when = Room::of_longs(&[0, 0, end / 1_000_000_000, end % 1_000_000_000]);
        sys!(timerfd_settime, timer, TFD_TIMER_ABSTIME, &when, 0).unwrap();
        assert_eq!((sys!(read, timer, &room, 8), room.long(0)), (Ok(8), 1));
        assert!((5 * MS..7 * MS).contains(&(now_ns(CLOCK_MONOTONIC) - start)));
    });
}

#[test]
fn arguments_of_timers_are_checked() {
    run(|| {
        let (timer, room) = (new_timer(O_CLOEXEC), Room::new(32));
        assert_eq!(sys!(fcntl, timer, F_GETFD), Ok(1));
        assert_eq!(sys!(timerfd_create, 99, 0), Err(EINVAL));
        assert_eq!(sys!(timerfd_create, CLOCK_MONOTONIC, 1), Err(EINVAL));
        assert_eq!(sys!(timerfd_settime, timer, 8, &spec(0, 0), 0), Err(EINVAL));
        assert_eq!(sys!(timerfd_settime, timer, 0, &spec(0, 1_000_000_000), 0), Err(EINVAL));
        assert_eq!(sys!(timerfd_settime, timer, 0, 1, 0), Err(EFAULT));
        assert_eq!(sys!(timerfd_settime, 1, 0, &spec(0, 0), 0), Err(EINVAL));
        assert_eq!(sys!(timerfd_gettime, 99, &room), Err(EBADF));
        assert_eq!(sys!(read, timer, &room, 7), Err(EINVAL));
    });
}

#[test]
fn eventfd_adds_and_takes() {
    run(|| {
        let (event, room) = (sys!(eventfd2, 3, O_NONBLOCK).unwrap(), Room::new(8));
        assert_eq!(sys!(write, event, &Room::of_longs(&[4]), 8), Ok(8));
        assert_eq!((sys!(read, event, &room, 8), room.long(0)), (Ok(8), 7));
        assert_eq!(sys!(read, event, &room, 8), Err(EAGAIN));
        assert_eq!(sys!(write, event, &Room::of_longs(&[u64::MAX]), 8), Err(EINVAL));
        assert_eq!(sys!(write, event, &Room::of_longs(&[u64::MAX - 1]), 8), Ok(8));
        assert_eq!(sys!(write, event, &Room::of_longs(&[1]), 8), Err(EAGAIN));
        assert_eq!((sys!(read, event, &room, 7), sys!(write, event, &room, 7)), (Err(EINVAL), Err(EINVAL)));
        assert_eq!(sys!(eventfd2, 0, 2), Err(EINVAL));
    });
}

#[test]
fn semaphore_gives_one_at_a_time() {
    run_seeds(6, || {
        const SEMAPHORE: u32 = 1;
        let event = sys!(eventfd2, 0, SEMAPHORE).unwrap();
        let take = move || {
            let room = Room::new(8);
            assert_eq!((sys!(read, event, &room, 8), room.long(0)), (Ok(8), 1));
        };
        let threads = [(); 2].map(|()| spawn(take).unwrap());
        sys!(write, event, &Room::of_longs(&[3]), 8).unwrap();
        take();
        threads.into_iter().for_each(join);
        let plain = sys!(eventfd, 5).unwrap();
        let room = Room::new(8);
        assert_eq!((sys!(read, plain, &room, 8), room.long(0)), (Ok(8), 5));
    });
}
