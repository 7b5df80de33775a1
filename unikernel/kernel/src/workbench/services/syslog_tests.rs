//! The log server (RFC 5424 over UDP), played by the app over loopback.

use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::net::{AF_INET, SO_RCVTIMEO_OLD, SOL_SOCKET};

use super::super::app::files::{sleep_ms, words, write};
use super::super::app::net::{DGRAM, LOCALHOST, bind, recv, set, socket, v4};
use super::super::app::run::run_on;
use super::machine;

const LINE: &str = "syslog=127.0.0.1:5140 hostname=test-1.example log=info";

/// A server that waits for a message no longer than a second.
fn server() -> u64 {
    let server = socket(AF_INET, DGRAM);
    assert_eq!(bind(server, &v4(LOCALHOST, 5140)), Ok(0));
    assert_eq!(set(server, SOL_SOCKET, SO_RCVTIMEO_OLD, &words(&[1, 0])), Ok(0));
    server
}

fn messages(server: u64) -> Vec<String> {
    let texts = core::iter::from_fn(|| recv(server, 2048, 0).ok());
    texts.map(|bytes| String::from_utf8(bytes).expect("a text")).collect()
}

/// Splits a message into priority, time, host, program, and the rest.
fn parts(message: &str) -> (u32, &str, &str, &str, &str) {
    let (priority, rest) = message.strip_prefix('<').unwrap().split_once('>').unwrap();
    let fields: Vec<&str> = rest.splitn(5, ' ').collect();
    assert_eq!(fields[0], "1", "{message}");
    (priority.parse().unwrap(), fields[1], fields[2], fields[3], fields[4])
}

#[test]
fn console_and_log_reach_the_server() {
    run_on(machine(LINE), || {
        let server = server();
        drop(messages(server));
        write(1, b"first line\nsecond \xc3\xa4 line\nno end").unwrap();
        let got = messages(server);
        assert_eq!(got.len(), 2, "{got:?}");
        for (message, text) in got.iter().zip(["first line", "second ä line"]) {
            let (priority, time, host, _, rest) = parts(message);
            assert!(priority < 24 * 8, "{message}");
            assert!(time.starts_with("2026-01-01T00:00:0") && time.ends_with('Z'), "{message}");
            assert_eq!(host, "test-1.example");
            assert!(rest.trim_end().ends_with(text), "{message}");
        }
        write(1, b" until now\n").unwrap();
        let got = messages(server);
        assert!(got.len() == 1 && got[0].trim_end().ends_with("no end until now"), "{got:?}");
    });
}

#[test]
fn lines_of_before_the_server_are_lost_and_later_ones_are_not() {
    run_on(machine(LINE), || {
        // Nobody listens: who writes does not wait.
        for number in 0..20 {
            write(1, std::format!("early {number}\n").as_bytes()).unwrap();
            sleep_ms(5);
        }
        let server = server();
        write(1, b"late\n").unwrap();
        let got = messages(server);
        assert!(got.iter().any(|message| message.trim_end().ends_with("late")), "{got:?}");
    });
}

#[test]
fn flood_is_counted() {
    run_on(machine(LINE), || {
        let server = server();
        drop(messages(server));
        let line = [&[b'x'; 200][..], b"\n"].concat();
        write(1, &line.repeat(3000)).unwrap();
        let (mut whole, mut got) = (0, messages(server));
        while !got.is_empty() {
            whole += got.iter().filter(|message| message.contains(&"x".repeat(200))).count();
            got = messages(server);
        }
        // The socket and the queue have an end; neither holds up who writes.
        assert!((1..=3000).contains(&whole), "{whole}");
        write(1, b"after the flood\n").unwrap();
        let got = messages(server);
        assert!(got.last().is_some_and(|message| message.trim_end().ends_with("after the flood")), "{got:?}");
    });
}

#[test]
fn machine_ends_although_nobody_takes_its_log() {
    let outcome = machine("syslog=127.0.0.1:5140").run(|| {
        write(1, b"last words\n").unwrap();
        3
    });
    assert_eq!(outcome.code, Some(3), "{}", outcome.console);
    // With no way to the server it is waited for, but not for long.
    let outcome = machine("syslog=10.9.9.9").run(|| {
        write(1, b"last words\n").unwrap();
        3
    });
    assert_eq!(outcome.code, Some(3), "{}", outcome.console);
    assert!(outcome.now_ns < 3_000_000_000, "{} ns", outcome.now_ns);
}
