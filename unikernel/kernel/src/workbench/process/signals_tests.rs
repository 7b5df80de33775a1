//! Signals: handlers, masks, queues, stacks.

use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;
use unikernel_hal::sim::app;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run, run_seeds};
use super::super::app::{Machine, join, spawn};
use super::{action, bit, change_mask, count, handle, handled, kill, pending};

static SEEN: AtomicU64 = AtomicU64::new(0);

#[test]
fn handler_runs_and_the_call_goes_on() {
    run(|| {
        handle(SIGUSR1, 0, count);
        assert_eq!(sys!(kill, 1, SIGUSR1), Ok(0));
        assert_eq!(handled(SIGUSR1), 1);
        assert_eq!(sys!(kill, 0, SIGUSR1), Ok(0));
        assert_eq!(sys!(tkill, 1, SIGUSR1), Ok(0));
        assert_eq!(sys!(tgkill, 1, 1, SIGUSR1), Ok(0));
        assert_eq!(handled(SIGUSR1), 4);
    });
}

#[test]
fn senders_arguments_are_checked() {
    run(|| {
        assert_eq!(sys!(kill, 1, 65), Err(EINVAL));
        assert_eq!(sys!(kill, 1, -1), Err(EINVAL));
        assert_eq!(sys!(kill, 1, 0), Ok(0));
        assert_eq!(sys!(kill, 77, 0), Err(ESRCH));
        assert_eq!(sys!(tkill, 0, SIGUSR1), Err(EINVAL));
        assert_eq!(sys!(tkill, 77, SIGUSR1), Err(ESRCH));
        assert_eq!(sys!(tgkill, 2, 1, SIGUSR1), Err(ESRCH));
        assert_eq!(sys!(tgkill, -1, 1, SIGUSR1), Err(EINVAL));
    });
}

#[test]
fn sigaction_tells_what_was_set() {
    run(|| {
        let new = action(app::handler(count), SA_RESTART, 0xff);
        let old = Room::new(32);
        assert_eq!(sys!(rt_sigaction, SIGUSR1, &new, &old, 8), Ok(0));
        assert_eq!(old.long(0), 0);
        assert_eq!(sys!(rt_sigaction, SIGUSR1, 0, &old, 8), Ok(0));
        assert_eq!(old.bytes(0, 24), new.bytes(0, 24));
        // SIGKILL and SIGSTOP cannot be blocked.
        assert_eq!(old.long(24), 0xff & !bit(SIGKILL));
        assert_eq!(sys!(rt_sigaction, SIGKILL, &new, 0, 8), Err(EINVAL));
        assert_eq!(sys!(rt_sigaction, SIGSTOP, &new, 0, 8), Err(EINVAL));
        assert_eq!(sys!(rt_sigaction, SIGKILL, 0, &old, 8), Ok(0));
        assert_eq!(sys!(rt_sigaction, 65, &new, 0, 8), Err(EINVAL));
        assert_eq!(sys!(rt_sigaction, 0, &new, 0, 8), Err(EINVAL));
        assert_eq!(sys!(rt_sigaction, SIGUSR1, &new, 0, 16), Err(EINVAL));
        assert_eq!(sys!(rt_sigaction, SIGUSR1, 1, 0, 8), Err(EFAULT));
    });
}

#[test]
fn blocked_signals_wait() {
    run(|| {
        handle(SIGUSR1, 0, count);
        change_mask(SIG_BLOCK, bit(SIGUSR1) | bit(SIGKILL));
        kill(SIGUSR1);
        kill(SIGUSR1);
        assert_eq!((handled(SIGUSR1), pending()), (0, bit(SIGUSR1)));
        let old = Room::new(8);
        assert_eq!(sys!(rt_sigprocmask, SIG_BLOCK, 0, &old, 8), Ok(0));
        assert_eq!(old.long(0), bit(SIGUSR1));
        change_mask(SIG_UNBLOCK, bit(SIGUSR1));
        // Two of a kind are one.
        assert_eq!((handled(SIGUSR1), pending()), (1, 0));
    });
}

#[test]
fn arguments_of_masks_are_checked() {
    run(|| {
        let set = Room::new(8);
        assert_eq!(sys!(rt_sigprocmask, 9, &set, 0, 8), Err(EINVAL));
        assert_eq!(sys!(rt_sigprocmask, 9, 0, &set, 8), Ok(0));
        assert_eq!(sys!(rt_sigprocmask, SIG_BLOCK, &set, 0, 4), Err(EINVAL));
        assert_eq!(sys!(rt_sigprocmask, SIG_BLOCK, 1, 0, 8), Err(EFAULT));
        assert_eq!(sys!(rt_sigpending, &set, 9), Err(EINVAL));
        assert_eq!(sys!(rt_sigpending, 1, 8), Err(EFAULT));
    });
}

#[test]
fn real_time_signals_are_queued_in_order() {
    run(|| {
        const FIRST: u32 = SIGRTMIN + 2;
        static ORDER: AtomicU64 = AtomicU64::new(0);
        fn note(signal: i32) {
            let before = ORDER.load(Ordering::Relaxed);
            ORDER.store(before * 10 + signal as u64 - u64::from(FIRST) + 1, Ordering::Relaxed);
        }
        let all = bit(FIRST) | bit(FIRST + 1);
        for signal in [FIRST, FIRST + 1] {
            let action = action(app::handler(note), 0, all);
            sys!(rt_sigaction, signal, &action, 0, 8).unwrap();
        }
        change_mask(SIG_BLOCK, all);
        for signal in [FIRST + 1, FIRST, FIRST + 1, FIRST] {
            kill(signal);
        }
        assert_eq!(pending(), all);
        change_mask(SIG_UNBLOCK, all);
        assert_eq!(ORDER.load(Ordering::Relaxed), 1122);
    });
}

#[test]
fn queue_of_signals_is_limited() {
    run(|| {
        sys!(setrlimit, RLIMIT_SIGPENDING, &Room::of_longs(&[0, 100])).unwrap();
        change_mask(SIG_BLOCK, bit(SIGRTMIN) | bit(SIGUSR1));
        // `si_code` SI_QUEUE.
        let info = Room::of_longs(&[0, 0xffff_ffff]);
        let info = Room::of(&info.bytes(0, 16).into_iter().chain([0; 112]).collect::<std::vec::Vec<_>>());
        assert_eq!(sys!(rt_sigqueueinfo, 1, SIGRTMIN, &info), Err(EAGAIN));
        assert_eq!(sys!(kill, 1, SIGUSR1), Ok(0));
        sys!(setrlimit, RLIMIT_SIGPENDING, &Room::of_longs(&[100, 100])).unwrap();
        assert_eq!(sys!(rt_sigqueueinfo, 1, SIGRTMIN, &info), Ok(0));
        assert_eq!(sys!(rt_tgsigqueueinfo, 1, 1, SIGRTMIN, &info), Ok(0));
        assert_eq!(sys!(rt_sigqueueinfo, 77, SIGRTMIN, &info), Err(ESRCH));
        assert_eq!(sys!(rt_sigqueueinfo, 1, SIGRTMIN, 1), Err(EFAULT));
        assert_eq!(pending(), bit(SIGRTMIN) | bit(SIGUSR1));
    });
}

#[test]
fn handler_does_not_interrupt_itself() {
    fn nest(signal: i32) {
        count(signal);
        if handled(SIGUSR1) == 1 {
            kill(SIGUSR1);
            SEEN.store(handled(SIGUSR1).into(), Ordering::Relaxed);
        }
    }
    run(|| {
        handle(SIGUSR1, 0, nest);
        kill(SIGUSR1);
        assert_eq!((handled(SIGUSR1), SEEN.load(Ordering::Relaxed)), (2, 1));
    });
    run(|| {
        handle(SIGUSR1, SA_NODEFER, nest);
        kill(SIGUSR1);
        assert_eq!((handled(SIGUSR1), SEEN.load(Ordering::Relaxed)), (2, 2));
    });
}

#[test]
fn mask_of_the_action_holds_while_the_handler_runs() {
    fn send(signal: i32) {
        count(signal);
        kill(SIGUSR2);
        SEEN.store(handled(SIGUSR2).into(), Ordering::Relaxed);
    }
    run(|| {
        handle(SIGUSR2, 0, count);
        sys!(rt_sigaction, SIGUSR1, &action(app::handler(send), 0, bit(SIGUSR2)), 0, 8).unwrap();
        kill(SIGUSR1);
        assert_eq!((SEEN.load(Ordering::Relaxed), handled(SIGUSR2)), (0, 1));
    });
}

#[test]
fn handler_may_be_for_once() {
    let outcome = Machine::default().run(|| {
        handle(SIGUSR1, SA_RESETHAND, count);
        kill(SIGUSR1);
        assert_eq!(handled(SIGUSR1), 1);
        let old = Room::new(32);
        sys!(rt_sigaction, SIGUSR1, 0, &old, 8).unwrap();
        assert_eq!(old.long(0), 0);
        kill(SIGUSR1);
        0
    });
    assert!(outcome.code.is_some_and(|code| code != 0), "{outcome:?}");
}

#[test]
fn ignored_signals_do_nothing() {
    run(|| {
        sys!(rt_sigaction, SIGTERM, &action(1, 0, 0), 0, 8).unwrap();
        kill(SIGTERM);
        change_mask(SIG_BLOCK, bit(SIGTERM));
        kill(SIGTERM);
        kill(SIGCHLD);
        kill(SIGWINCH);
        assert_eq!(sys!(getpid), Ok(1));
    });
}

#[test]
fn signals_end_the_app_by_default() {
    for signal in [SIGTERM, SIGUSR1, SIGHUP, SIGKILL, SIGRTMIN] {
        let outcome = Machine::default().run(move || {
            kill(signal);
            0
        });
        assert!(outcome.code.is_some_and(|code| code != 0), "{signal}: {outcome:?}");
    }
}

#[test]
fn handler_runs_on_the_stack_it_was_given() {
    fn look(_: i32) {
        SEEN.store(app::stack_pointer(), Ordering::Relaxed);
        let told = Room::new(24);
        sys!(sigaltstack, 0, &told).unwrap();
        assert_eq!(told.word(8), SS_ONSTACK);
        assert_eq!(sys!(sigaltstack, &told, 0), Err(EPERM));
    }
    run(|| {
        let stack = Room::new(32 << 10);
        let given = Room::of_longs(&[stack.0, 0, 32 << 10]);
        assert_eq!(sys!(sigaltstack, &given, 0), Ok(0));
        handle(SIGUSR1, SA_ONSTACK, look);
        kill(SIGUSR1);
        let seen = SEEN.load(Ordering::Relaxed);
        assert!((stack.0..stack.at(32 << 10)).contains(&seen), "{seen:x}");
        let told = Room::new(24);
        sys!(sigaltstack, 0, &told).unwrap();
        assert_eq!((told.long(0), told.word(8), told.long(16)), (stack.0, 0, 32 << 10));
    });
}

#[test]
fn arguments_of_stacks_are_checked() {
    run(|| {
        let told = Room::new(24);
        sys!(sigaltstack, 0, &told).unwrap();
        assert_eq!(told.word(8), SS_DISABLE);
        assert_eq!(sys!(sigaltstack, &Room::of_longs(&[4096, 0, 100]), 0), Err(ENOMEM));
        assert_eq!(sys!(sigaltstack, &Room::of_longs(&[4096, 8, 1 << 16]), 0), Err(EINVAL));
        assert_eq!(sys!(sigaltstack, 1, 0), Err(EFAULT));
        assert_eq!(sys!(sigaltstack, &Room::of_longs(&[0, SS_DISABLE.into(), 0]), 0), Ok(0));
    });
}

#[test]
fn thread_gets_what_is_sent_to_it() {
    run_seeds(6, || {
        handle(SIGUSR1, 0, |signal| {
            SEEN.store(sys!(gettid).unwrap(), Ordering::Relaxed);
            count(signal);
        });
        let gate = Room::new(8);
        let thread = spawn(move || {
            while gate.word(0) == 0 {
                let _ = sys!(futex, &gate, FUTEX_WAIT, 0, 0);
            }
        });
        let thread = thread.unwrap();
        assert_eq!(sys!(tgkill, 1, thread.0, SIGUSR1), Ok(0));
        while handled(SIGUSR1) == 0 {
            sys!(sched_yield).unwrap();
        }
        assert_eq!(SEEN.load(Ordering::Relaxed), thread.0);
        gate.put_word(0, 1);
        sys!(futex, &gate, FUTEX_WAKE, 1).unwrap();
        join(thread);
        // Its word is cleared a moment before it is gone.
        while sys!(tgkill, 1, thread.0, 0) != Err(ESRCH) {
            sys!(sched_yield).unwrap();
        }
    });
}

#[test]
fn process_signal_goes_to_who_has_not_blocked_it() {
    run_seeds(6, || {
        handle(SIGUSR1, 0, |signal| {
            SEEN.store(sys!(gettid).unwrap(), Ordering::Relaxed);
            count(signal);
        });
        let gate = Room::new(8);
        let thread = spawn(move || {
            while gate.word(0) == 0 {
                let _ = sys!(futex, &gate, FUTEX_WAIT, 0, 0);
            }
        });
        let thread = thread.unwrap();
        change_mask(SIG_BLOCK, bit(SIGUSR1));
        kill(SIGUSR1);
        while handled(SIGUSR1) == 0 {
            sys!(sched_yield).unwrap();
        }
        assert_eq!(SEEN.load(Ordering::Relaxed), thread.0);
        gate.put_word(0, 1);
        sys!(futex, &gate, FUTEX_WAKE, 1).unwrap();
        join(thread);
    });
}
