//! Threads: how they begin and end, and what is there in place of processes.

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run, run_seeds};
use super::super::app::{Machine, join, spawn};

#[test]
fn threads_have_ids_of_their_own() {
    run_seeds(6, || {
        assert_eq!((sys!(getpid), sys!(gettid), sys!(getppid)), (Ok(1), Ok(1), Ok(0)));
        let told = Room::new(16);
        let thread = spawn(move || {
            told.put_long(0, sys!(gettid).unwrap());
            told.put_long(8, sys!(getpid).unwrap());
        });
        let thread = thread.unwrap();
        join(thread);
        assert_eq!((told.long(0), told.long(8)), (thread.0, 1));
        assert_ne!(thread.0, 1);
    });
}

#[test]
fn many_threads_come_and_go() {
    run_seeds(6, || {
        let sum = Room::new(8);
        for round in 0..4 {
            let threads: std::vec::Vec<_> = (0..5)
                .map(|_| {
                    let add = move || sum.put_long(0, sum.long(0) + 1);
                    spawn(add).unwrap()
                })
                .collect();
            threads.into_iter().for_each(join);
            assert!(sum.long(0) <= 5 * (round + 1));
        }
        assert!(sum.long(0) > 0);
    });
}

#[test]
fn word_of_set_tid_address_is_cleared_at_the_end() {
    run_seeds(6, || {
        let word = Room::new(8);
        word.put_word(0, 7);
        let thread = spawn(move || {
            assert_eq!(sys!(set_tid_address, &word), sys!(gettid));
        });
        thread.unwrap();
        while word.word(0) != 0 {
            let _ = sys!(futex, &word, FUTEX_WAIT, 7, 0);
        }
    });
}

#[test]
fn exit_of_a_thread_leaves_the_others() {
    run_seeds(6, || {
        let word = Room::new(8);
        let thread = spawn(move || {
            let came_back = sys!(exit, 3);
            word.put_word(0, 1 + u32::from(came_back.is_ok()));
        });
        join(thread.unwrap());
        assert_eq!(word.word(0), 0);
    });
}

#[test]
fn exit_group_ends_all_with_its_code() {
    for seed in 0..6 {
        let outcome = Machine { seed, cores: 2, ..Machine::default() }.run(|| {
            spawn(|| assert_eq!(sys!(exit_group, 42), Ok(0))).unwrap();
            let word = Room::new(8);
            loop {
                let _ = sys!(futex, &word, FUTEX_WAIT, 0, 0);
            }
        });
        assert_eq!(outcome.code, Some(42), "seed {seed}: {outcome:?}");
    }
}

#[test]
fn exit_codes_are_a_byte() {
    for (code, seen) in [(0, 0), (1, 1), (255, 255), (256, 0), (-1, 255)] {
        let outcome = Machine::default().run(move || code);
        assert_eq!(outcome.code, Some(seen));
    }
}

#[test]
fn there_is_one_process() {
    run(|| {
        assert_eq!(sys!(fork), Err(ENOSYS));
        assert_eq!(sys!(vfork), Err(ENOSYS));
        assert_eq!(sys!(rseq), Err(ENOSYS));
        assert_eq!(sys!(wait4, -1, 0, 0, 0), Err(ECHILD));
        assert_eq!(sys!(wait4, 77, 0, WNOHANG, 0), Err(ECHILD));
        assert_eq!(sys!(wait4, -1, 0, 1 << 20, 0), Err(EINVAL));
        assert_eq!(sys!(waitid, P_ALL, 0, 0, WEXITED, 0), Err(ECHILD));
        assert_eq!(sys!(waitid, P_ALL, 0, 0, 0, 0), Err(EINVAL));
        assert_eq!(sys!(waitid, 9, 0, 0, WEXITED, 0), Err(EINVAL));
    });
}

#[test]
fn clone_takes_threads_only() {
    run(|| {
        let stack = Room::new(4096);
        let thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
        for flags in [CLONE_THREAD, CLONE_THREAD | CLONE_SIGHAND, CLONE_SIGHAND] {
            let refused = sys!(clone, flags, stack.at(4096), 0, 0, 0);
            assert!(matches!(refused, Err(EINVAL | ENOSYS)), "{refused:?}");
        }
        let process = sys!(clone, SIGCHLD, 0, 0, 0, 0);
        assert!(process.is_err(), "{process:?}");
        let arguments = Room::new(128);
        arguments.put_long(0, thread.into());
        assert_eq!(sys!(clone3, &arguments, 32), Err(EINVAL));
        assert_eq!(sys!(clone3, &arguments, 5000), Err(E2BIG));
        assert_eq!(sys!(clone3, 1, 88), Err(EFAULT));
        // A stack needs a size.
        arguments.put_long(40, stack.0);
        assert_eq!(sys!(clone3, &arguments, 88), Err(EINVAL));
        arguments.put_long(0, 1 << 40);
        assert_eq!(sys!(clone3, &arguments, 88), Err(EINVAL));
    });
}

#[test]
fn number_of_threads_is_limited_for_who_is_not_root() {
    run(|| {
        sys!(setrlimit, RLIMIT_NPROC, &Room::of_longs(&[1, 1])).unwrap();
        join(spawn(|| ()).unwrap());
        sys!(setuid, 1000).unwrap();
        assert_eq!(spawn(|| ()).err(), Some(EAGAIN as i32));
    });
}

#[test]
fn unknown_calls_are_told() {
    run(|| {
        assert_eq!(super::super::app::call(511, &[]), Err(ENOSYS as i32));
        assert_eq!(super::super::app::call(100_000, &[]), Err(ENOSYS as i32));
    });
}
