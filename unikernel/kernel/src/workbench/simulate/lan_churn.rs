//! Many connections over a cable, which end in every way that there is: no byte of those that end in peace is lost, and nothing
//! of any of them is left.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use linux_raw_sys::{errno, general as linux, net};
use unikernel_hal::sim::engine::Random;

use super::pair;
use crate::workbench::app::files::{close, now_ms, read, read_to_end, sleep_ms, write_all};
use crate::workbench::app::net::{accept, recv, send, set, set_int, shutdown};
use crate::workbench::app::wait::poll;
use crate::workbench::app::{join, spawn};
use crate::workbench::cards::metric;

const PORT: u16 = 9;
/// Connections that each of the client's threads makes, one after the other.
const EACH: u8 = 8;
const THREADS: u8 = 3;

/// How a connection ends: what its first byte says.
const CLIENT_FIRST: u8 = 0;
const SERVER_FIRST: u8 = 1;
const CLIENT_RESETS: u8 = 2;
const SERVER_RESETS: u8 = 3;
const BOTH_AT_ONCE: u8 = 4;
/// Without a byte.
const SILENT: u8 = 5;
/// It ends the server.
const LAST: u8 = 6;
/// What is left of a connection is gone by then: a minute in TIME-WAIT, and the timers of what was lost.
const QUIET_MS: u64 = 300_000;

/// What both sides say in a connection of this number.
fn content(number: u8) -> Vec<u8> {
    let mut random = Random::new(number.into());
    let len = [0, 1, 100, 1460, 9_000, 40_000][random.below(6) as usize];
    (0..len).map(|_| random.next_u64() as u8).collect()
}

/// Says it, and that it was all.
fn say(connection: u64, number: u8) {
    write_all(connection, &content(number)).expect("a write");
    shutdown(connection, net::SHUT_WR).expect("an end");
}

fn hear(connection: u64, number: u8) {
    let heard = read_to_end(connection).expect("a read");
    assert!(heard == content(number), "connection {number}: {} bytes, or others", heard.len());
}

pub(super) fn churn(seed: u64) -> Result<(), String> {
    pair::run(seed, serve, move || ask(seed)).map(|_| ())
}

fn serve() {
    let listener = pair::listener(PORT);
    let last = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    let mut connection = 0;
    while !last.load(Ordering::SeqCst) {
        if poll(listener, linux::POLLIN, 200) == 0 {
            assert!(now_ms() < QUIET_MS + pair::MOST_MS, "the client does not end");
            continue;
        }
        connection = accept(listener).expect("a connection");
        let last = last.clone();
        threads.push(spawn(move || serve_one(connection, &last)).expect("a thread"));
    }
    threads.into_iter().for_each(join);
    assert_eq!(metric("net_half_open"), 0, "handshakes are left");
    assert_eq!(metric("net_active"), 1, "connections are left beside the last");
    write_all(connection, b"bye").expect("a write");
    pair::close_in_peace(connection);
}

fn serve_one(connection: u64, last: &AtomicBool) {
    // Of a client whose reset was lost nothing is heard unless it is asked.
    set_int(connection, net::SOL_SOCKET, net::SO_KEEPALIVE, 1).expect("an option");
    set_int(connection, net::IPPROTO_TCP as u32, net::TCP_KEEPIDLE, 5).expect("an option");
    set_int(connection, net::IPPROTO_TCP as u32, net::TCP_KEEPINTVL, 2).expect("an option");
    let is_end = |error: u32| matches!(error, errno::ECONNRESET | errno::ETIMEDOUT);
    let [style, number] = match recv(connection, 2, net::MSG_WAITALL) {
        Ok(bytes) if bytes.len() == 2 => [bytes[0], bytes[1]],
        Ok(_) => [SILENT, 0],
        Err(error) if is_end(error) => [SILENT, 0],
        Err(error) => panic!("error {error} of a connection"),
    };
    match style {
        CLIENT_FIRST => {
            hear(connection, number);
            say(connection, number);
        }
        SERVER_FIRST => {
            say(connection, number);
            assert_eq!(read(connection, 1), Ok(Vec::new()));
        }
        CLIENT_RESETS => loop {
            match read(connection, 4096) {
                Ok(bytes) => assert!(!bytes.is_empty(), "an end in place of a reset"),
                Err(error) if is_end(error) => return close(connection),
                Err(error) => panic!("error {error} of a connection that is reset"),
            }
        },
        SERVER_RESETS => {
            pair::linger(connection, 0);
            return close(connection);
        }
        BOTH_AT_ONCE => {
            say(connection, number);
            hear(connection, number);
        }
        SILENT => {}
        LAST => {
            last.store(true, Ordering::SeqCst);
            return;
        }
        _ => panic!("style {style}"),
    }
    pair::close_in_peace(connection);
}

fn ask(seed: u64) {
    let work = move |thread: u8| {
        let mut random = Random::new(seed ^ u64::from(thread) << 50);
        for index in 0..EACH {
            ask_one(random.below(LAST.into()) as u8, thread * EACH + index, &mut random);
            sleep_ms(random.below(20));
        }
    };
    let threads: Vec<_> = (0..THREADS).map(|thread| spawn(move || work(thread)).expect("a thread")).collect();
    threads.into_iter().for_each(join);
    sleep_ms(QUIET_MS);
    assert_eq!(metric("net_active"), 0, "connections are left");
    let last = pair::connected(PORT);
    write_all(last, &[LAST, 0]).expect("a write");
    assert_eq!(read_to_end(last), Ok(b"bye".to_vec()));
    close(last);
    assert!(now_ms() < QUIET_MS + pair::MOST_MS, "it took {} ms", now_ms());
}

fn ask_one(style: u8, number: u8, random: &mut Random) {
    let connection = pair::connected(PORT);
    if style == SILENT {
        return close(connection);
    }
    write_all(connection, &[style, number]).expect("a write");
    match style {
        CLIENT_FIRST | BOTH_AT_ONCE => {
            say(connection, number);
            hear(connection, number);
        }
        SERVER_FIRST => hear(connection, number),
        CLIENT_RESETS => {
            write_all(connection, &content(number)).expect("a write");
            sleep_ms(random.below(5));
            pair::linger(connection, 0);
        }
        _ => wait_for_reset(connection),
    }
    close(connection);
}

/// A reset that was lost comes again when something is said.
fn wait_for_reset(connection: u64) {
    let second = [1_u64, 0].map(u64::to_ne_bytes).concat();
    set(connection, net::SOL_SOCKET, net::SO_RCVTIMEO, &second).expect("an option");
    loop {
        match recv(connection, 10, 0) {
            Err(errno::ECONNRESET) => return,
            Err(errno::EAGAIN) => {}
            other => panic!("{other:?} in place of a reset"),
        }
        match send(connection, b"?", net::MSG_NOSIGNAL) {
            Ok(_) => {}
            Err(errno::EPIPE | errno::ECONNRESET) => return,
            Err(error) => panic!("error {error} in place of a reset"),
        }
    }
}
