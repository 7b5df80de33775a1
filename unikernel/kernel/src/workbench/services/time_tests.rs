//! Time servers (RFC 5905), played by the app over loopback: good ones, and such as lie.

use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::general::{CLOCK_MONOTONIC, CLOCK_REALTIME};
use linux_raw_sys::net::{AF_INET, SO_RCVTIMEO_OLD, SOL_SOCKET};

use super::super::app::Outcome;
use super::super::app::files::{now_ns, sleep_ms, words};
use super::super::app::net::{DGRAM, LOCALHOST, bind, recv_from, send_to, set, socket, v4};
use super::machine;

const SECOND: i128 = 1_000_000_000;
/// Seconds between 1900 and 1970.
const UNIX_EPOCH: i128 = 2_208_988_800;

/// How far the wall clock is before the one that nobody sets.
fn distance_ns() -> i128 {
    i128::from(now_ns(CLOCK_REALTIME)) - i128::from(now_ns(CLOCK_MONOTONIC))
}

/// A server on a port of 127.0.0.1.
struct Server(u64);

impl Server {
    fn new(port: u16) -> Self {
        let server = socket(AF_INET, DGRAM);
        assert_eq!(bind(server, &v4(LOCALHOST, port)), Ok(0));
        assert_eq!(set(server, SOL_SOCKET, SO_RCVTIMEO_OLD, &words(&[3000, 0])), Ok(0));
        Self(server)
    }

    /// Waits for a question; answers it by what `change` makes of a good reply of a clock that is ahead by so much.
    fn serve(&self, ahead_ns: i128, change: impl FnOnce(&mut Vec<u8>)) {
        let (question, from) = recv_from(self.0, 100, 0).expect("a question");
        assert_eq!((question.len(), question[0]), (48, 0x23), "version 4, a client's");
        let mut reply = reply(&question, ahead_ns);
        change(&mut reply);
        send_to(self.0, &reply, 0, &from).unwrap();
    }

    /// True if nobody asks any more.
    fn is_left_alone(&self) -> bool {
        recv_from(self.0, 100, 0).is_err()
    }
}

/// The answer of a server whose clock is ahead of ours.
fn reply(question: &[u8], ahead_ns: i128) -> Vec<u8> {
    let now_ns = i128::from(now_ns(CLOCK_REALTIME)) + ahead_ns;
    let seconds = now_ns.div_euclid(SECOND);
    let fraction = (now_ns.rem_euclid(SECOND) << 32) / SECOND;
    let time = ((((seconds + UNIX_EPOCH) as u64) << 32) | fraction as u64).to_be_bytes();
    let mut reply = Vec::from([0x24, 2, 4, 0xec]);
    reply.extend([0; 8]);
    reply.extend([127, 0, 0, 9]);
    reply.extend(time);
    reply.extend(&question[40..48]);
    reply.extend(time);
    reply.extend(time);
    reply
}

/// Whether two times differ by less than so many milliseconds.
fn is_close(one_ns: i128, other_ns: i128, ms: i128) -> bool {
    (one_ns - other_ns).abs() < ms * 1_000_000
}

fn run(words: &str, app: impl FnOnce() + 'static) -> String {
    let outcome: Outcome = machine(words).run(|| {
        app();
        0
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    outcome.console
}

#[test]
fn clock_that_is_far_off_is_set_at_once() {
    let console = run("ntp=127.0.0.1:1123 log=debug", || {
        let (server, before) = (Server::new(1123), distance_ns());
        server.serve(3600 * SECOND, |_| {});
        sleep_ms(10);
        assert!(is_close(distance_ns(), before + 3600 * SECOND, 2), "{}", distance_ns() - before);
        // It asks again, and finds it right.
        server.serve(0, |_| {});
        sleep_ms(10);
        assert!(is_close(distance_ns(), before + 3600 * SECOND, 2));
    });
    assert!(
        console.contains("the clock was set by 3600000 ms")
            || console.contains("the clock was set by 3599999 ms")
    );
}

#[test]
fn clock_that_is_nearly_right_is_brought_right_slowly() {
    let console = run("ntp=127.0.0.1:1123 log=debug", || {
        let (server, before) = (Server::new(1123), distance_ns());
        server.serve(SECOND / 20, |_| {});
        sleep_ms(1000);
        // Half a millisecond in a second, and never backwards.
        let gained = distance_ns() - before;
        assert!((100_000..1_000_000).contains(&gained), "{gained} ns");
        // As much as there is time for until it asks again, and then the rest.
        let (question, from) = recv_from(server.0, 100, 0).unwrap();
        let rest = before + SECOND / 20 - distance_ns();
        assert!((15_000_000..25_000_000).contains(&rest), "{rest} ns");
        send_to(server.0, &reply(&question, rest), 0, &from).unwrap();
        sleep_ms(60_000);
        assert!(is_close(distance_ns(), before + SECOND / 20, 2), "{}", distance_ns() - before);
        let right = distance_ns();
        sleep_ms(1000);
        assert!(is_close(distance_ns(), right, 1));
    });
    assert!(console.contains("the clock is off by"), "{console}");
}

#[test]
fn answers_to_no_question_are_passed_over() {
    run("ntp=127.0.0.1:1123", || {
        let (server, before) = (Server::new(1123), distance_ns());
        let (question, from) = recv_from(server.0, 100, 0).unwrap();
        // Cut short, a client's, with another mark, from another port: then the right one.
        let good = reply(&question, 100 * SECOND);
        send_to(server.0, &good[..40], 0, &from).unwrap();
        let mut clients = good.clone();
        clients[0] = 0x23;
        send_to(server.0, &clients, 0, &from).unwrap();
        let mut forged = reply(&question, 7777 * SECOND);
        forged[24] ^= 1;
        send_to(server.0, &forged, 0, &from).unwrap();
        let stranger = Server::new(1124);
        send_to(stranger.0, &reply(&question, 5000 * SECOND), 0, &from).unwrap();
        send_to(server.0, &good, 0, &from).unwrap();
        sleep_ms(10);
        assert!(is_close(distance_ns(), before + 100 * SECOND, 2), "{}", distance_ns() - before);
    });
}

#[test]
fn what_cannot_be_is_not_believed() {
    let console = run("ntp=127.0.0.1:1123", || {
        let (server, before) = (Server::new(1123), distance_ns());
        // Unsynchronized by its leap indicator, by its stratum, and too far from its reference.
        server.serve(9 * SECOND, |reply| reply[0] |= 0xc0);
        server.serve(9 * SECOND, |reply| reply[1] = 16);
        server.serve(9 * SECOND, |reply| reply[4..8].copy_from_slice(&[0, 5, 0, 0]));
        // It was answered before it was asked.
        server.serve(9 * SECOND, |reply| reply[32..40].fill(0xff));
        // Two days are more than the first step may be.
        server.serve(48 * 3600 * SECOND, |_| {});
        sleep_ms(10);
        assert!(is_close(distance_ns(), before, 1), "{}", distance_ns() - before);
        server.serve(200 * SECOND, |_| {});
        sleep_ms(10);
        assert!(is_close(distance_ns(), before + 200 * SECOND, 2));
    });
    assert!(console.contains("the server is not synchronized"), "{console}");
    assert!(
        console.contains("off by 172800000 ms: that is not believed")
            || console.contains("that is not believed")
    );
}

#[test]
fn servers_that_contradict_each_other_move_nothing() {
    let console = run("ntp=127.0.0.1:1123,127.0.0.1:1124", || {
        let (one, two, before) = (Server::new(1123), Server::new(1124), distance_ns());
        one.serve(500 * SECOND, |_| {});
        two.serve(-500 * SECOND, |_| {});
        sleep_ms(2000);
        assert!(is_close(distance_ns(), before, 1), "{}", distance_ns() - before);
        one.serve(-30 * SECOND, |_| {});
        two.serve(-30 * SECOND, |_| {});
        sleep_ms(2000);
        assert!(is_close(distance_ns(), before - 30 * SECOND, 3), "{}", distance_ns() - before);
    });
    assert!(console.contains("2 time servers contradict each other"), "{console}");
}

#[test]
fn server_that_does_not_want_to_be_asked_is_not() {
    let console = run("ntp=127.0.0.1:1123", || {
        let server = Server::new(1123);
        let kiss = |code: &'static [u8; 4]| {
            move |reply: &mut Vec<u8>| {
                reply[1] = 0;
                reply[12..16].copy_from_slice(code);
            }
        };
        server.serve(9 * SECOND, kiss(b"RATE"));
        let begin_ns = now_ns(CLOCK_MONOTONIC);
        server.serve(9 * SECOND, kiss(b"DENY"));
        assert!(now_ns(CLOCK_MONOTONIC) - begin_ns > 8_000_000_000, "it is asked less often");
        assert!(server.is_left_alone());
    });
    assert!(console.contains("the server does not want to be asked: DENY"), "{console}");
}

#[test]
fn nobody_is_asked_if_nobody_is_wanted() {
    run("ntp=off", || assert!(Server::new(123).is_left_alone()));
    run("", || assert!(Server::new(123).is_left_alone()));
}
