//! What the kernel tells of the app: its system calls (`trace=syscalls`), and how it died.

use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;
use linux_raw_sys::net::{AF_INET, SO_REUSEADDR, SOL_SOCKET};
use unikernel_hal::sim::app;

use super::app::calls::{Room, sys};
use super::app::net::{self, STREAM};
use super::app::{Machine, Outcome, files, join, spawn};

/// Runs the app with its calls traced; answers what was written.
fn trace(app: impl FnOnce() + 'static) -> String {
    let outcome = Machine { command_line: "trace=syscalls".into(), ..Machine::default() }.run(|| {
        app();
        0
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    outcome.console
}

/// Checks that there is a line that begins so, goes on so, and ends with a time.
#[track_caller]
fn has_line(text: &str, begin: &str, end: &str) {
    let is_it = |line: &str| {
        let rest = line.split_once("] ").map_or(line, |(_, rest)| rest);
        let Some((call, time)) = rest.rsplit_once(" <") else { return rest == std::format!("{begin}{end}") };
        let is_time = time.ends_with('>') && time.as_bytes().get(1) == Some(&b'.');
        call.starts_with(begin) && call.ends_with(end) && is_time
    };
    assert!(text.lines().any(is_it), "`{begin}` ... `{end}` in\n{text}");
}

#[test]
fn calls_are_shown_with_arguments_and_results() {
    let text = trace(|| {
        let file = sys!(open, "/tmp/a\n\"b\"", O_RDWR | O_CREAT | O_CLOEXEC, 0o640).unwrap();
        assert_eq!(file, 3);
        sys!(write, file, &Room::of(b"some bytes, of which not all are shown"), 38).unwrap();
        sys!(pread64, file, &Room::new(8), 4, 5).unwrap();
        assert_eq!(sys!(open, "/none", O_RDONLY, 0), Err(ENOENT));
        assert_eq!(sys!(open, 1, O_RDONLY, 0), Err(EFAULT));
        assert_eq!(sys!(lseek, 99, -1, SEEK_END), Err(EBADF));
        sys!(kill, 1, 0).unwrap();
        sys!(getpid).unwrap();
    });
    has_line(&text, r#"open("/tmp/a\n\"b\"", O_RDWR|O_CREAT|O_CLOEXEC, "#, ") = 3");
    has_line(&text, r#"write(3, "some bytes, of which not all are"..., 38"#, ") = 38");
    has_line(&text, r#"pread64(3, "byte", 4, 5"#, ") = 4");
    has_line(&text, r#"open("/none", O_RDONLY"#, ") = -1 ENOENT");
    has_line(&text, "open(0x1, ", ") = -1 EFAULT");
    has_line(&text, "lseek(99, ", ") = -1 EBADF");
    has_line(&text, "getpid(", ") = 1");
    assert!(text.contains("exit_group(0) = ?"), "{text}");
}

#[test]
fn structures_are_followed() {
    let text = trace(|| {
        let (from, to) = files::pipe(O_CLOEXEC);
        let vector = Room::of_longs(&[Room::of(b"one").0, 3, Room::of(b"two").0, 3]);
        sys!(writev, to, &vector, 2).unwrap();
        let epoll = super::app::wait::epoll();
        super::app::wait::add(epoll, from, EPOLLIN | EPOLLET, 0xabc).unwrap();
        assert_eq!(super::app::wait::wait(epoll, 4, 0).unwrap().len(), 1);
        super::app::wait::poll(from, POLLIN, 0);
        let vector = Room::of_longs(&[Room::new(4).0, 4, Room::new(4).0, 4]);
        assert_eq!(sys!(readv, from, &vector, 2), Ok(6));
        let time = Room::of_longs(&[0, 1000]);
        assert_eq!(sys!(futex, &Room::new(4), FUTEX_WAIT, 0, &time), Err(ETIMEDOUT));
        sys!(clock_gettime, CLOCK_MONOTONIC, &time).unwrap();
        let timer = sys!(timerfd_create, CLOCK_MONOTONIC, 0).unwrap();
        sys!(timerfd_settime, timer, 0, &Room::of_longs(&[0, 0, 5, 6]), 0).unwrap();
        sys!(rt_sigprocmask, SIG_BLOCK, &Room::of_longs(&[0x10]), 0, 8).unwrap();
    });
    has_line(&text, "pipe2([3, 4], O_CLOEXEC", ") = 0");
    has_line(&text, r#"writev(4, ["one", "two"], 2"#, ") = 6");
    has_line(&text, "epoll_ctl(5, EPOLL_CTL_ADD, 3, {EPOLLIN|EPOLLET, 0xabc}", ") = 0");
    has_line(&text, "epoll_wait(5, [{EPOLLIN, 0xabc}], 4, 0", ") = 1");
    has_line(&text, "poll([{3, POLLIN => POLLIN}], 1, 0", ") = 1");
    has_line(&text, r#"readv(3, ["onet", "wo"], 2"#, ") = 6");
    has_line(&text, "<... futex resumed>", ") = -1 ETIMEDOUT");
    assert!(text.contains("{0.000001000}"), "{text}");
    has_line(&text, "clock_gettime(CLOCK_MONOTONIC, {0.", "}) = 0");
    has_line(&text, "timerfd_settime(6, 0, {every {0.000000000}, in {5.000000006}}, ", ") = 0");
    has_line(&text, "rt_sigprocmask(SIG_BLOCK, {0x10}, ", ") = 0");
}

#[test]
fn sockets_are_shown_with_their_addresses() {
    let text = trace(|| {
        let (listener, address) = net::listener();
        let client = net::socket(AF_INET, STREAM);
        net::connect(client, &address).unwrap();
        let server = sys!(accept4, listener, &Room::new(32), &Room::of(&[32, 0, 0, 0]), 0).unwrap();
        net::send_message(client, &[b"mess", b"age"], &[], &[]).unwrap();
        assert_eq!(net::recv_message(server, 16, 0, 0).unwrap().data, b"message");
        net::set_int(client, SOL_SOCKET, SO_REUSEADDR, 1).unwrap();
        let pair = Room::new(8);
        sys!(socketpair, 1, STREAM, 0, &pair).unwrap();
    });
    has_line(&text, "accept4(3, ", ") = 5");
    assert!(text.matches("127.0.0.1").count() >= 3, "bind, connect, accept: {text}");
    let sent = text.lines().find(|line| line.contains("sendmsg(4, ")).unwrap();
    assert!(sent.contains(r#""mess""#) && sent.contains(r#""age""#) && sent.contains(") = 7"), "{sent}");
    let received = text.lines().find(|line| line.contains("recvmsg(5, ")).unwrap();
    assert!(received.contains(r#""message""#), "{received}");
    has_line(&text, "setsockopt(4, SOL_SOCKET, SO_REUSEADDR, [1], 4", ") = 0");
    has_line(&text, "socketpair(", "[6, 7]) = 0");
}

#[test]
fn call_that_sleeps_is_shown_twice() {
    let text = trace(|| {
        let (from, to) = files::pipe(0);
        let reader = spawn(move || assert_eq!(files::read(from, 8), Ok(b"woken".to_vec()))).unwrap();
        files::sleep_ms(1);
        files::write(to, b"woken").unwrap();
        join(reader);
        assert!(sys!(membarrier, 1 << 30, 0, 0).is_err());
        assert_eq!(app::system_call(9999, [1; 6]), -i64::from(ENOSYS as i32));
    });
    let line = |wanted: &str| text.lines().position(|line| line.contains(wanted)).expect(wanted);
    let (begun, woken) = (line("read(3 <unfinished ...>"), line("<... read resumed>, \"woken\", 8) = 5"));
    assert!(begun < line("write(4, \"woken\", 5)") && begun < woken, "{text}");
    assert!(text.contains("number 9999") && text.contains("ENOSYS"), "{text}");
}

/// How an app ends that does this.
fn death(app: impl FnOnce() + 'static) -> Outcome {
    Machine::default().run(|| {
        app();
        0
    })
}

#[track_caller]
fn is_killed(outcome: &Outcome, signal: u32, report: &str) {
    assert_eq!(outcome.code, Some(128 + signal as i32), "{}", outcome.console);
    assert!(outcome.console.contains(report), "`{report}` in {}", outcome.console);
    assert!(outcome.console.contains("rip 0000000000201") && outcome.console.contains("backtrace:"));
}

#[test]
fn crash_is_reported() {
    let reads = death(|| app::read(0x10, &mut [0]));
    is_killed(&reads, SIGSEGV, "the app was killed by SIGSEGV (reading address 0x10)");
    let writes = death(|| {
        let room = Room::new(4096);
        sys!(mprotect, &room, 4096, PROT_READ).unwrap();
        room.put(8, b"x");
    });
    is_killed(&writes, SIGSEGV, "the app was killed by SIGSEGV (writing address 0x");
    let aborts = death(|| {
        let _ = sys!(kill, 1, SIGABRT);
    });
    is_killed(&aborts, SIGABRT, "the app was killed by SIGABRT (sent by the app itself)");
}

#[test]
fn exceptions_are_signals() {
    let told = [
        (0, 0, SIGFPE, "divide error"),
        (1, 0, SIGTRAP, "breakpoint or single step"),
        (3, 0, SIGTRAP, "breakpoint or single step"),
        (6, 0, SIGILL, "illegal instruction"),
        (13, 0x28, SIGSEGV, "general protection fault, error 0x28"),
        (4, 0, SIGSEGV, ""),
        (11, 0x10, SIGBUS, ""),
        (16, 0, SIGFPE, ""),
        (17, 0, SIGBUS, ""),
        (19, 0, SIGFPE, ""),
    ];
    for (vector, error, signal, report) in told {
        let outcome = death(move || app::raise_exception(vector, error));
        let code = outcome.code.unwrap_or_default();
        if vector == 11 {
            // Segments that are not there are SIGBUS or SIGSEGV on Linux, by which one it is.
            assert!([SIGBUS, SIGSEGV].contains(&((code - 128) as u32)), "{code}");
            continue;
        }
        is_killed(&outcome, signal, report);
    }
}

#[test]
fn exception_is_handled_by_the_app() {
    let outcome = death(|| {
        let before = app::stack_pointer();
        let info = app::handler(|signal| assert_eq!(signal, SIGFPE as i32));
        sys!(rt_sigaction, SIGFPE, &Room::of_longs(&[info, 0x0400_0000, app::RESTORER, 0]), 0, 8).unwrap();
        app::raise_exception(0, 0);
        app::raise_exception(19, 0);
        assert_eq!(app::stack_pointer(), before);
        // What is blocked cannot wait: the app ends.
        sys!(rt_sigprocmask, SIG_BLOCK, &Room::of_longs(&[1 << (SIGFPE - 1)]), 0, 8).unwrap();
        app::raise_exception(0, 0);
    });
    is_killed(&outcome, SIGFPE, "divide error");
}

#[test]
fn memory_that_is_gone_is_told() {
    let outcome = death(|| {
        let rooms: Vec<Room> = (0..64).map(|_| Room::new(2 << 20)).collect();
        for room in rooms {
            (0..2 << 20).step_by(4096).for_each(|at| room.put(at, &[7]));
        }
    });
    assert_eq!(outcome.code, Some(128 + SIGKILL as i32), "{}", outcome.console);
    assert!(outcome.console.contains("out of memory"), "{}", outcome.console);
}
