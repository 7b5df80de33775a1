//! Streams over a bad cable: every byte arrives, in order, once, and in time.

use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::net;
use unikernel_hal::sim::engine::Random;

use super::pair;
use crate::workbench::app::files::{close, now_ms, read, read_to_end, write_all};
use crate::workbench::app::net::{accept, shutdown};
use crate::workbench::app::{Outcome, join, spawn};

const PORT: u16 = 7;

/// What a connection sends.
fn content(seed: u64, connection: u64) -> Vec<u8> {
    let mut random = Random::new(seed ^ connection << 40);
    let most = 1 << (6 + random.below(12));
    let len = 1 + random.below(most);
    (0..len).map(|_| random.next_u64() as u8).collect()
}

/// Clients send what their server sends back.
pub(super) fn echo(seed: u64) -> Result<(), String> {
    outcomes(seed).map(|_| ())
}

pub(super) fn outcomes(seed: u64) -> Result<(Outcome, Outcome), String> {
    let connections = 1 + Random::new(seed ^ 5).below(4);
    pair::run(
        seed,
        move || {
            let listener = pair::listener(PORT);
            let serve = |connection: u64| loop {
                let bytes = read(connection, 1 << 14).expect("a read");
                if bytes.is_empty() {
                    return pair::close_in_peace(connection);
                }
                write_all(connection, &bytes).expect("a write");
            };
            let accepted = (0..connections).map(|_| accept(listener).expect("a connection"));
            let threads: Vec<_> =
                accepted.map(|file| spawn(move || serve(file)).expect("a thread")).collect();
            threads.into_iter().for_each(join);
        },
        move || {
            let ask = move |number: u64| {
                let connection = pair::connected(PORT);
                let sent = content(seed, number);
                let same = sent.clone();
                let writer = spawn(move || {
                    write_all(connection, &same).expect("a write");
                    shutdown(connection, net::SHUT_WR).expect("an end");
                });
                let echo = read_to_end(connection).expect("a read");
                assert!(
                    echo == sent,
                    "connection {number}: {} bytes of {}, or others",
                    echo.len(),
                    sent.len()
                );
                join(writer.expect("a thread"));
                close(connection);
            };
            let threads: Vec<_> =
                (0..connections).map(|number| spawn(move || ask(number)).expect("a thread")).collect();
            threads.into_iter().for_each(join);
            assert!(now_ms() < pair::MOST_MS, "it took {} ms", now_ms());
        },
    )
}

#[test]
fn equal_seeds_make_equal_runs_of_two_machines() {
    for seed in 100..104 {
        let first = outcomes(seed).expect("a seed that fails nowhere");
        assert_eq!(first, outcomes(seed).expect("the same"));
        assert_ne!(first.1.trace, outcomes(seed + 1000).expect("another").1.trace);
    }
}
