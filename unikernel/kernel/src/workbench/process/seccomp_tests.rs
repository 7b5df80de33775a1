//! Filters of system calls, and the calls that the command line allows (seccomp(2), `allow-calls=`).

use alloc::vec::Vec;

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;
use linux_raw_sys::io_uring::io_uring_op::{IORING_OP_MKDIRAT, IORING_OP_UNLINKAT};
use linux_raw_sys::prctl::*;
use linux_raw_sys::ptrace::*;
use unikernel_policy::bpf::Instruction;
use unikernel_policy::bpf::code::{JEQ_K, LD_W_ABS, RET_K};

use super::super::app::calls::{Room, sys};
use super::super::app::ring::{Ring, Sqe};
use super::super::app::run::{run, run_seeds};
use super::super::app::{Machine, join, spawn, text};

/// A `struct sock_fprog` with a filter that answers this to one call.
fn filter(number: u32, answer: u32) -> Room {
    let program = [
        Instruction::plain(LD_W_ABS, 0),
        Instruction { code: JEQ_K, jump_true: 0, jump_false: 1, k: number },
        Instruction::plain(RET_K, answer),
        Instruction::plain(RET_K, SECCOMP_RET_ALLOW),
    ];
    let bytes: Vec<u8> = program
        .into_iter()
        .flat_map(|Instruction { code, jump_true, jump_false, k }| {
            [&code.to_le_bytes()[..], &[jump_true, jump_false], &k.to_le_bytes()].concat()
        })
        .collect();
    Room::of_longs(&[4, Room::of(&bytes).0])
}

fn add(number: u32, answer: u32, flags: u32) -> Result<u64, u32> {
    sys!(seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter(number, answer))
}

#[test]
fn filter_binds_the_thread_and_those_it_starts() {
    run(|| {
        let other = spawn(|| {
            while sys!(getppid) != Err(5) {
                sys!(sched_yield).unwrap();
            }
        })
        .unwrap();
        assert_eq!(add(__NR_getuid, SECCOMP_RET_ERRNO | 9, 0), Ok(0));
        assert_eq!((sys!(getuid), sys!(prctl, PR_GET_SECCOMP)), (Err(9), Ok(2)));
        join(spawn(|| assert_eq!(sys!(getuid), Err(9))).unwrap());
        // For all: the first thread is not freer than the others.
        assert_eq!(add(__NR_getppid, SECCOMP_RET_ERRNO | 5, SECCOMP_FILTER_FLAG_TSYNC), Ok(0));
        join(other);
    });
}

#[test]
fn no_thread_slips_through_a_filter_for_all() {
    run_seeds(40, || {
        let started = spawn(|| {
            join(
                spawn(|| {
                    while sys!(getppid) != Err(5) {
                        sys!(sched_yield).unwrap();
                    }
                })
                .unwrap(),
            );
        })
        .unwrap();
        assert_eq!(add(__NR_getppid, SECCOMP_RET_ERRNO | 5, SECCOMP_FILTER_FLAG_TSYNC), Ok(0));
        join(started);
    });
}

#[test]
fn who_resists_is_named() {
    run(|| {
        let other = spawn(|| {
            add(__NR_getuid, SECCOMP_RET_ERRNO | 9, 0).unwrap();
            while sys!(getppid) != Err(5) {
                sys!(sched_yield).unwrap();
            }
        })
        .unwrap();
        // It has not begun, or it has: then it is named.
        while add(__NR_getgid, SECCOMP_RET_ERRNO | 7, SECCOMP_FILTER_FLAG_TSYNC) != Ok(other.0) {
            sys!(sched_yield).unwrap();
        }
        let both = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
        assert_eq!(add(__NR_getgid, SECCOMP_RET_ERRNO | 7, both), Err(ESRCH));
        sys!(exit_group, 0).unwrap();
    });
}

#[test]
fn filters_end_the_app() {
    let outcome = Machine::default().run(|| {
        add(__NR_getppid, SECCOMP_RET_KILL_PROCESS, 0).unwrap();
        let _ = sys!(getppid);
        0
    });
    assert_eq!(outcome.code, Some(128 + SIGSYS as i32));
    assert!(outcome.console.contains("seccomp: getppid: the app is ended"), "{}", outcome.console);
    let outcome = Machine::default().run(|| {
        sys!(prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT).unwrap();
        let _ = sys!(getppid);
        0
    });
    assert_eq!(outcome.code, Some(128 + SIGKILL as i32));
}

#[test]
fn command_line_allows_calls() {
    let machine = |line: &str| Machine { command_line: line.into(), ..Machine::default() };
    let outcome = machine("allow-calls=net-server,-getppid").run(|| {
        assert_eq!((sys!(getppid), sys!(unlink, "/none"), sys!(getuid)), (Err(EPERM), Err(EPERM), Ok(0)));
        assert_eq!(sys!(execve, "/none", 0, 0), Err(EPERM));
        0
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    let line = "policy: getppid is not in `allow-calls=net-server,-getppid`: EPERM";
    assert!(outcome.console.contains(line), "{}", outcome.console);
    let outcome = machine("allow-calls=all,-getppid:kill").run(|| {
        let _ = sys!(getppid);
        0
    });
    assert_eq!(outcome.code, Some(128 + SIGSYS as i32));
    let outcome = machine("allow-calls=net-servre").run(|| 0);
    assert!(outcome.console.contains("bad command line: `allow-calls=net-servre`"), "{}", outcome.console);
}

#[test]
fn rings_are_no_way_around() {
    let machine = Machine { command_line: "allow-calls=all,-unlinkat".into(), ..Machine::default() };
    let outcome = machine.run(|| {
        let ring = Ring::new(4);
        let here = AT_FDCWD as u64;
        assert_eq!(ring.one(Sqe::on(IORING_OP_MKDIRAT, here, text("/tmp/a"), 0o755)), 0);
        let unlink = Sqe::on(IORING_OP_UNLINKAT, here, text("/tmp/a"), 0).op_flags(AT_REMOVEDIR);
        assert_eq!(ring.one(unlink), -(EPERM as i32));
        0
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    assert!(outcome.console.contains("policy: unlinkat by io_uring is not in"), "{}", outcome.console);
}

#[test]
fn refusals_are_not_told_without_end() {
    let machine = Machine { command_line: "allow-calls=all,-getppid".into(), ..Machine::default() };
    let outcome = machine.run(|| {
        for _ in 0..100 {
            assert_eq!(sys!(getppid), Err(EPERM));
        }
        0
    });
    assert_eq!(outcome.console.matches("policy: getppid").count(), 10, "{}", outcome.console);
}
