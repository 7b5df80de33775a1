//! What the command line allows of files and addresses (`allow-paths=`, `allow-net=`), what a run is told to need (`trace=policy`), and
//! rules that threads put upon themselves (landlock(7)).

use alloc::borrow::ToOwned;

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;
use linux_raw_sys::io_uring::io_uring_op::{IORING_OP_MKDIRAT, IORING_OP_OPENAT};
use linux_raw_sys::landlock::*;
use linux_raw_sys::net::AF_INET;

use crate::workbench::app::calls::{Room, sys};
use crate::workbench::app::net::{DGRAM, STREAM, connect, v4};
use crate::workbench::app::ring::{Ring, Sqe};
use crate::workbench::app::run::run;
use crate::workbench::app::{Machine, Outcome, join, spawn, text};

const HERE: i32 = AT_FDCWD;

fn socket(kind: u32) -> u64 {
    crate::workbench::app::net::socket(AF_INET, kind)
}

fn with(line: &str, app: impl FnOnce() + 'static) -> Outcome {
    let machine = Machine { command_line: line.into(), ..Machine::default() };
    let outcome = machine.run(|| {
        app();
        0
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    outcome
}

#[test]
fn words_allow_paths() {
    let outcome = with("allow-paths=r:/etc,rwc:/tmp", || {
        assert!(sys!(openat, HERE, "/etc/passwd", O_RDONLY, 0).is_ok());
        assert_eq!(sys!(openat, HERE, "/etc/passwd", O_WRONLY, 0), Err(EPERM));
        assert_eq!(sys!(openat, HERE, "/proc/self/status", O_RDONLY, 0), Err(EPERM));
        assert!(sys!(openat, HERE, "/tmp/new", O_RDWR | O_CREAT, 0o644).is_ok());
        assert_eq!(sys!(mkdir, "/etc/new", 0o755), Err(EPERM));
        assert_eq!(sys!(rename, "/tmp/new", "/etc/new"), Err(EPERM));
        assert_eq!((sys!(unlink, "/etc/passwd"), sys!(unlink, "/tmp/new")), (Err(EPERM), Ok(0)));
        assert_eq!(sys!(execve, "/etc/passwd", 0, 0), Err(EPERM));
    });
    assert!(outcome.console.contains("of `/etc/passwd` is not in `allow-paths=`"), "{}", outcome.console);
    let machine = Machine { command_line: "allow-paths=r:/none".into(), ..Machine::default() };
    assert!(machine.run(|| 0).console.contains("there is no `/none`"));
}

#[test]
fn words_allow_addresses() {
    let outcome = with("allow-net=bind:127.0.0.1:8000-8099,connect:127.0.0.0/8:9000", || {
        let bound = |port: u16| sys!(bind, socket(STREAM), &Room::of(&v4([127, 0, 0, 1], port)), 16);
        assert_eq!((bound(8001), bound(8100), bound(0)), (Ok(0), Err(EPERM), Err(EPERM)));
        let connects =
            |kind, port: u16| sys!(connect, socket(kind), &Room::of(&v4([127, 0, 0, 1], port)), 16);
        assert_eq!((connects(STREAM, 9000), connects(STREAM, 9001)), (Err(ECONNREFUSED), Err(EPERM)));
        assert_eq!((connects(DGRAM, 9000), connects(DGRAM, 53)), (Ok(0), Err(EPERM)));
        let to = Room::of(&v4([127, 0, 0, 1], 53));
        assert_eq!(sys!(sendto, socket(DGRAM), text("x"), 1, 0, &to, 16), Err(EPERM));
        assert_eq!(sys!(listen, socket(STREAM), 1), Err(EPERM));
    });
    assert!(
        outcome.console.contains("policy: Bind of 127.0.0.1:8100 is not in `allow-net=`"),
        "{}",
        outcome.console
    );
}

#[test]
fn a_run_is_told_what_it_needs() {
    let app = || {
        sys!(openat, HERE, "/etc/passwd", O_RDONLY, 0).unwrap();
        sys!(openat, HERE, "/tmp/made", O_RDWR | O_CREAT, 0o644).unwrap();
        sys!(bind, socket(STREAM), &Room::of(&v4([0; 4], 80)), 16).unwrap();
    };
    let outcome = with("trace=policy", app);
    let learnt = |key: &str| {
        let line =
            outcome.console.lines().find_map(|line| line.split_once(&std::format!("policy: learnt {key}=")));
        line.unwrap_or_else(|| panic!("{}", outcome.console)).1.trim_end().to_owned()
    };
    assert_eq!(learnt("allow-paths"), "r:/etc/passwd,rwc:/tmp");
    assert_eq!(learnt("allow-net"), "bind:0.0.0.0:80");
    let calls = learnt("allow-calls");
    assert!(calls.split(',').any(|call| call == "openat"), "{calls}");
    // What was learnt is enough.
    let line = std::format!(
        "allow-calls={calls} allow-paths={} allow-net={}",
        learnt("allow-paths"),
        learnt("allow-net")
    );
    let outcome = with(&line, app);
    assert!(!outcome.console.contains("policy: "), "{}", outcome.console);
}

/// Forbids the calling thread these rights, except below `/tmp`.
fn forbid(files: u32) {
    let ruleset = sys!(landlock_create_ruleset, &Room::of_longs(&[files.into(), 0]), 16, 0).unwrap();
    let parent = sys!(openat, HERE, "/tmp", O_PATH, 0).unwrap() as u32;
    let rule = [&u64::from(files).to_le_bytes()[..], &parent.to_le_bytes()].concat();
    sys!(landlock_add_rule, ruleset, 1, &Room::of(&rule), 0).unwrap();
    assert_eq!(sys!(landlock_restrict_self, ruleset, 0), Ok(0));
}

#[test]
fn rules_bind_the_thread_and_those_it_starts() {
    run(|| {
        let confined = spawn(|| {
            forbid(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR);
            assert_eq!(sys!(openat, HERE, "/etc/passwd", O_RDONLY, 0), Err(EACCES));
            assert_eq!((sys!(mkdir, "/etc/x", 0o755), sys!(mkdir, "/tmp/x", 0o755)), (Err(EACCES), Ok(0)));
            join(spawn(|| assert_eq!(sys!(openat, HERE, "/etc/passwd", O_RDONLY, 0), Err(EACCES))).unwrap());
        });
        join(confined.unwrap());
        assert!(sys!(openat, HERE, "/etc/passwd", O_RDONLY, 0).is_ok());
    });
}

#[test]
fn rings_of_who_is_bound_are_bound() {
    run(|| {
        let confined = spawn(|| {
            forbid(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR);
            let ring = Ring::new(4);
            let open = Sqe::on(IORING_OP_OPENAT, HERE as u64, text("/etc/passwd"), 0);
            assert_eq!(ring.one(open), -(EACCES as i32));
            assert_eq!(
                ring.one(Sqe::on(IORING_OP_MKDIRAT, HERE as u64, text("/x"), 0o755)),
                -(EACCES as i32)
            );
            assert_eq!(ring.one(Sqe::on(IORING_OP_MKDIRAT, HERE as u64, text("/tmp/y"), 0o755)), 0);
        });
        join(confined.unwrap());
    });
}

#[test]
fn ports_are_given_up() {
    run(|| {
        let ruleset = sys!(landlock_create_ruleset, &Room::of_longs(&[0, 3]), 16, 0).unwrap();
        let rule = Room::of_longs(&[u64::from(LANDLOCK_ACCESS_NET_BIND_TCP), 80]);
        assert_eq!(sys!(landlock_add_rule, ruleset, 2, &rule, 0), Ok(0));
        assert_eq!(sys!(landlock_restrict_self, ruleset, 0), Ok(0));
        let bound = |kind, port: u16| sys!(bind, socket(kind), &Room::of(&v4([127, 0, 0, 1], port)), 16);
        assert_eq!((bound(STREAM, 80), bound(STREAM, 81), bound(DGRAM, 81)), (Ok(0), Err(EACCES), Ok(0)));
        assert_eq!(connect(socket(STREAM), &v4([127, 0, 0, 1], 80)), Err(EACCES));
    });
}
