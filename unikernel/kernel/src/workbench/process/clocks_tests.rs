//! Clocks, sleeping, timers.

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run, run_seeds};
use super::{bit, change_mask, count, handle, handled, now_ns, timespec};

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// `struct itimerspec`: then every so often, first after that.
fn timer_spec(interval_ns: u64, first_ns: u64) -> Room {
    Room::of_longs(&[interval_ns / S, interval_ns % S, first_ns / S, first_ns % S])
}

fn sleep(ns: u64) {
    let end = now_ns(CLOCK_MONOTONIC) + ns;
    while sys!(clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &timespec(end), 0) == Err(EINTR) {}
}

/// `struct sigevent`.
fn signal_event(signal: u32, notify: u32, thread: u64) -> Room {
    Room::of_longs(&[0x1234, u64::from(notify) << 32 | u64::from(signal), thread, 0, 0, 0, 0, 0])
}

fn new_timer(event: &Room) -> u32 {
    let id = Room::new(8);
    sys!(timer_create, CLOCK_MONOTONIC, event, &id).unwrap();
    id.word(0)
}

#[test]
fn clocks_go_forward() {
    run(|| {
        for clock in [CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW] {
            let before = now_ns(clock);
            sleep(MS);
            let passed = now_ns(clock) - before;
            assert!((MS..2 * MS).contains(&passed), "clock {clock}: {passed}");
        }
        for clock in [CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_TAI] {
            assert!(now_ns(clock) <= now_ns(CLOCK_REALTIME) + S);
        }
        assert_eq!(sys!(clock_gettime, 99, &Room::new(16)), Err(EINVAL));
        assert_eq!(sys!(clock_gettime, CLOCK_MONOTONIC, 1), Err(EFAULT));
    });
}

#[test]
fn processor_time_counts_work_not_sleep() {
    run(|| {
        let (thread, process) = (CLOCK_THREAD_CPUTIME_ID, CLOCK_PROCESS_CPUTIME_ID);
        let before = (now_ns(thread), now_ns(process));
        unikernel_hal::sim::app::compute_ns(5 * MS);
        let worked = (now_ns(thread), now_ns(process));
        assert!(worked.0 - before.0 >= 5 * MS && worked.1 - before.1 >= 5 * MS);
        sleep(100 * MS);
        assert!(now_ns(thread) - worked.0 < MS && now_ns(process) - worked.1 < MS);
        let usage = Room::new(144);
        assert_eq!(sys!(getrusage, RUSAGE_SELF, &usage), Ok(0));
        assert!(usage.long(0) * S + usage.long(8) * 1000 >= 5 * MS);
        assert_eq!(sys!(getrusage, 9, &usage), Err(EINVAL));
    });
}

#[test]
fn calls_tell_the_same_time() {
    run(|| {
        let (day, seconds) = (Room::new(16), Room::new(8));
        assert_eq!(sys!(gettimeofday, &day, 0), Ok(0));
        let now = now_ns(CLOCK_REALTIME);
        assert!(now - (day.long(0) * S + day.long(8) * 1000) < MS);
        assert_eq!(sys!(time, &seconds), Ok(now / S));
        assert_eq!(seconds.long(0), now / S);
        assert_eq!(sys!(time, 1), Err(EFAULT));
        assert_eq!(sys!(gettimeofday, 1, 0), Err(EFAULT));
        assert!(sys!(times, &Room::new(32)).is_ok());
        let resolution = Room::new(16);
        assert_eq!(sys!(clock_getres, CLOCK_MONOTONIC, &resolution), Ok(0));
        assert_eq!((resolution.long(0), resolution.long(8)), (0, 1));
        assert_eq!(sys!(clock_getres, 99, &resolution), Err(EINVAL));
    });
}

#[test]
fn sleeps_last_as_long_as_asked() {
    run_seeds(6, || {
        let before = now_ns(CLOCK_MONOTONIC);
        assert_eq!(sys!(nanosleep, &timespec(20 * MS), 0), Ok(0));
        let passed = now_ns(CLOCK_MONOTONIC) - before;
        assert!((20 * MS..22 * MS).contains(&passed), "{passed}");
        let end = timespec(now_ns(CLOCK_REALTIME) + 5 * MS);
        assert_eq!(sys!(clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &end, 0), Ok(0));
        // What has passed already is not waited for.
        assert_eq!(sys!(clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &end, 0), Ok(0));
        assert!(now_ns(CLOCK_MONOTONIC) - before < 30 * MS);
    });
}

#[test]
fn arguments_of_sleeps_are_checked() {
    run(|| {
        assert_eq!(sys!(nanosleep, &Room::of_longs(&[0, S]), 0), Err(EINVAL));
        assert_eq!(sys!(nanosleep, &Room::of_longs(&[u64::MAX, 0]), 0), Err(EINVAL));
        assert_eq!(sys!(nanosleep, 1, 0), Err(EFAULT));
        let time = timespec(MS);
        assert_eq!(sys!(clock_nanosleep, 99, 0, &time, 0), Err(EINVAL));
        assert_eq!(sys!(clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &time, 0), Err(EOPNOTSUPP));
        assert_eq!(sys!(restart_syscall), Err(EINTR));
    });
}

#[test]
fn alarm_is_a_signal_once() {
    run(|| {
        handle(SIGALRM, 0, count);
        assert_eq!(sys!(alarm, 5), Ok(0));
        let left = sys!(alarm, 1).unwrap();
        assert!((4..=5).contains(&left));
        sleep(3 * S);
        assert_eq!(handled(SIGALRM), 1);
        sys!(alarm, 1).unwrap();
        assert_eq!(sys!(alarm, 0), Ok(1));
        sleep(2 * S);
        assert_eq!(handled(SIGALRM), 1);
    });
}

#[test]
fn interval_timer_repeats() {
    run(|| {
        handle(SIGALRM, 0, count);
        let (every, told) = (Room::of_longs(&[0, 10_000, 0, 5_000]), Room::new(32));
        assert_eq!(sys!(setitimer, ITIMER_REAL, &every, 0), Ok(0));
        assert_eq!(sys!(getitimer, ITIMER_REAL, &told), Ok(0));
        assert_eq!((told.long(0), told.long(8), told.long(16)), (0, 10_000, 0));
        assert!((1..=5_000).contains(&told.long(24)));
        for _ in 0..4 {
            assert_eq!(sys!(pause), Err(EINTR));
        }
        assert_eq!(sys!(setitimer, ITIMER_REAL, &Room::new(32), &told), Ok(0));
        assert_eq!((told.long(8), handled(SIGALRM)), (10_000, 4));
        assert_eq!(sys!(setitimer, 9, &every, 0), Err(EINVAL));
        assert_eq!(sys!(getitimer, 9, &told), Err(EINVAL));
        assert_eq!(sys!(setitimer, ITIMER_REAL, &Room::of_longs(&[0, 0, 0, 1_000_000]), 0), Err(EINVAL));
    });
}

#[test]
fn timers_of_work_count_work() {
    run(|| {
        handle(SIGPROF, 0, count);
        handle(SIGVTALRM, 0, count);
        sys!(setitimer, ITIMER_PROF, &Room::of_longs(&[0, 0, 0, 5_000]), 0).unwrap();
        sys!(setitimer, ITIMER_VIRTUAL, &Room::of_longs(&[0, 0, 0, 5_000]), 0).unwrap();
        sleep(50 * MS);
        assert_eq!((handled(SIGPROF), handled(SIGVTALRM)), (0, 0));
        for _ in 0..50 {
            unikernel_hal::sim::app::compute_ns(MS);
            sys!(getpid).unwrap();
        }
        assert_eq!((handled(SIGPROF), handled(SIGVTALRM)), (1, 1));
    });
}

#[test]
fn timer_sends_its_signal() {
    run_seeds(6, || {
        handle(SIGUSR1, 0, count);
        let timer = new_timer(&signal_event(SIGUSR1, SIGEV_SIGNAL, 0));
        assert_eq!(sys!(timer_settime, timer, 0, &timer_spec(0, 10 * MS), 0), Ok(0));
        let told = Room::new(32);
        assert_eq!(sys!(timer_gettime, timer, &told), Ok(0));
        assert!((1..=10 * MS).contains(&told.long(24)));
        assert_eq!(sys!(pause), Err(EINTR));
        assert_eq!(handled(SIGUSR1), 1);
        sys!(timer_gettime, timer, &told).unwrap();
        assert_eq!(told.bytes(0, 32), [0; 32]);
        assert_eq!(sys!(timer_delete, timer), Ok(0));
        assert_eq!(sys!(timer_delete, timer), Err(EINVAL));
        assert_eq!(sys!(timer_gettime, timer, &told), Err(EINVAL));
    });
}

#[test]
fn timer_counts_what_it_could_not_send() {
    run(|| {
        change_mask(SIG_BLOCK, bit(SIGUSR1));
        let timer = new_timer(&signal_event(SIGUSR1, SIGEV_SIGNAL, 0));
        sys!(timer_settime, timer, 0, &timer_spec(10 * MS, 10 * MS), 0).unwrap();
        sleep(55 * MS);
        let info = Room::new(128);
        let set = Room::of_longs(&[bit(SIGUSR1)]);
        assert_eq!(sys!(rt_sigtimedwait, &set, &info, 0, 8), Ok(SIGUSR1.into()));
        assert_eq!(sys!(timer_getoverrun, timer), Ok(4));
        assert_eq!((info.word(8) as i32, info.word(20), info.long(24)), (-2, 4, 0x1234));
        let (old, stop) = (Room::new(32), Room::new(32));
        assert_eq!(sys!(timer_settime, timer, 0, &stop, &old), Ok(0));
        assert_eq!(old.long(8), 10 * MS);
        assert_eq!(sys!(timer_getoverrun, 99), Err(EINVAL));
    });
}

#[test]
fn timer_may_be_for_one_thread_or_nobody() {
    run(|| {
        handle(SIGUSR1, 0, count);
        let own = new_timer(&signal_event(SIGUSR1, SIGEV_THREAD_ID, 1));
        let silent = new_timer(&signal_event(0, SIGEV_NONE, 0));
        for timer in [own, silent] {
            sys!(timer_settime, timer, TIMER_ABSTIME, &timer_spec(0, now_ns(CLOCK_MONOTONIC) + MS), 0)
                .unwrap();
        }
        sleep(5 * MS);
        assert_eq!(handled(SIGUSR1), 1);
    });
}

#[test]
fn arguments_of_timers_are_checked() {
    run(|| {
        let (id, event) = (Room::new(8), signal_event(SIGUSR1, SIGEV_SIGNAL, 0));
        assert_eq!(sys!(timer_create, 99, &event, &id), Err(EINVAL));
        assert_eq!(sys!(timer_create, CLOCK_MONOTONIC, &signal_event(65, SIGEV_SIGNAL, 0), &id), Err(EINVAL));
        assert_eq!(sys!(timer_create, CLOCK_MONOTONIC, &signal_event(SIGUSR1, 9, 0), &id), Err(EINVAL));
        assert_eq!(
            sys!(timer_create, CLOCK_MONOTONIC, &signal_event(SIGUSR1, SIGEV_THREAD_ID, 77), &id),
            Err(EINVAL)
        );
        assert_eq!(sys!(timer_create, CLOCK_MONOTONIC, 1, &id), Err(EFAULT));
        assert_eq!(sys!(timer_create, CLOCK_MONOTONIC, 0, 1), Err(EFAULT));
        let timer = new_timer(&event);
        assert_eq!(sys!(timer_settime, timer, 0, 0, 0), Err(EINVAL));
        assert_eq!(sys!(timer_settime, timer, 0, &Room::of_longs(&[0, 0, 0, S]), 0), Err(EINVAL));
        assert_eq!(sys!(timer_settime, 99, 0, &timer_spec(0, 0), 0), Err(EINVAL));
    });
}
