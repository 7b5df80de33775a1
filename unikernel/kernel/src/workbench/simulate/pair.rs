//! Two machines on a cable: one that serves, one that asks.

use alloc::format;
use alloc::string::String;
use core::net::Ipv4Addr;

use linux_raw_sys::{errno, net};
use unikernel_hal::sim::card::{Card, feature};
use unikernel_hal::sim::engine::Random;
use unikernel_hal::sim::faults::Faults;

use super::cable::{Plug, Wire, cable};
use super::{judge, machine};
use crate::workbench::app::files::{close, now_ms, sleep_ms};
use crate::workbench::app::net::{STREAM, bind, connect, listen, set, socket, v4};
use crate::workbench::app::{Machine, Outcome};

/// Where the server is.
const SERVER: [u8; 4] = [10, 0, 0, 1];
const CLIENT: [u8; 4] = [10, 0, 0, 2];
/// Whatever the cable is like, all is over by then.
pub(super) const MOST_MS: u64 = 1_200_000;

/// A machine waits for the other more than it works.
const MOST_STEPS: u64 = 20_000_000;

/// A cable as a seed would have it: a good one, one that is only long, or one that is bad in some ways.
pub(super) fn wire(seed: u64) -> Wire {
    let mut random = Random::new(seed ^ 0xcab1e);
    let delay_ns = [50_000, 200_000, 1_000_000, 5_000_000][random.below(4) as usize];
    let mut one_in = |choices: [u32; 4]| choices[random.below(4) as usize];
    Wire {
        seed,
        delay_ns,
        loss_one_in: one_in([0, 0, 50, 12]),
        double_one_in: one_in([0, 0, 30, 8]),
        late_one_in: one_in([0, 0, 20, 5]),
        corrupt_one_in: one_in([0, 0, 50, 15]),
        is_bridge: one_in([0, 0, 0, 1]) == 1,
        jitter_ns: random.below(delay_ns / 2),
        byte_ns: 1 + random.below(80),
    }
}

/// A card as a seed would have it.
fn card(random: &mut Random, last: u8) -> Card {
    use feature::*;
    let removed = [
        0,
        0,
        EVENT_IDX,
        HOST_TSO4 | HOST_TSO6,
        GUEST_TSO4 | GUEST_TSO6 | EVENT_IDX,
        CSUM | GUEST_CSUM,
        MRG_RXBUF,
    ];
    let without = removed[random.below(removed.len() as u64) as usize];
    let pairs = 1 + random.below(3) as u16;
    let several = if pairs > 1 { CTRL_VQ | MQ } else { 0 };
    let features = (Card::default().features | several) & !without;
    Card { mac: [2, 0, 0, 0, 0, last], features, pairs, send_ns: 200 + random.below(2000), ..Card::default() }
}

/// One of the two machines, and what is plugged in.
pub(super) struct Side {
    pub(super) machine: Machine,
    pub(super) card: Card,
    pub(super) plug: Plug,
}

impl Side {
    fn new(seed: u64, address: [u8; 4], plug: Plug) -> Self {
        let mut random = Random::new(seed ^ 0xca4d);
        // Its last words may have to be repeated often.
        let command_line = format!("ip={}/24 slaac=off stop=600", Ipv4Addr::from(address));
        let card = card(&mut random, address[3]);
        // What goes wrong is the cable's: a connection that a machine has no memory for may well be refused.
        let faults = Faults::default();
        let machine = Machine { command_line, faults, most_steps: MOST_STEPS, ..machine(seed) };
        Self { machine, card, plug }
    }

    /// Boots it once and runs an app to its end.
    pub(super) fn run(self, app: impl FnOnce() + Send + 'static) -> Outcome {
        let Self { machine, card, plug } = self;
        machine.run_with(
            || plug.plug_in(card, 0),
            || {
                app();
                0
            },
        )
    }
}

/// The two machines of a seed: server and client.
pub(super) fn sides(seed: u64) -> (Side, Side) {
    let (one, other) = cable(wire(seed));
    (Side::new(seed, SERVER, one), Side::new(seed ^ 1 << 61, CLIENT, other))
}

/// Does two things at once, each with a machine; answers what came of both.
pub(super) fn at_once<A: Send>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> A) -> (A, A) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().expect("a thread that waits for a machine"), other)
    })
}

/// Runs a server and a client, and judges both.
pub(super) fn run(
    seed: u64,
    server: impl FnOnce() + Send + 'static,
    client: impl FnOnce() + Send + 'static,
) -> Result<(Outcome, Outcome), String> {
    let (one, other) = sides(seed);
    let outcomes = at_once(|| one.run(server), || other.run(client));
    judge(&outcomes.0).map_err(|problem| format!("the server on {:?}: {problem}", wire(seed)))?;
    judge(&outcomes.1).map_err(|problem| format!("the client on {:?}: {problem}", wire(seed)))?;
    Ok(outcomes)
}

/// A listener on the server.
pub(super) fn listener(port: u16) -> u64 {
    let listener = socket(net::AF_INET, STREAM);
    bind(listener, &v4([0; 4], port)).expect("a port");
    listen(listener, 64).expect("a listener");
    listener
}

/// Closes a connection, and waits until the other side has everything, the end included.
pub(super) fn close_in_peace(connection: u64) {
    linger(connection, 600);
    close(connection);
}

/// Has a close wait so many seconds for the other side; none: the other side gets a reset (socket(7)).
pub(super) fn linger(connection: u64, seconds: i32) {
    let linger = [1, seconds].map(i32::to_ne_bytes).concat();
    set(connection, net::SOL_SOCKET, net::SO_LINGER, &linger).expect("an option");
}

/// A connection to the server, as soon as it is there.
pub(super) fn connected(port: u16) -> u64 {
    loop {
        let client = socket(net::AF_INET, STREAM);
        match connect(client, &v4(SERVER, port)) {
            Ok(_) => return client,
            // It has not begun to listen, or its address could not be asked for.
            Err(errno::ECONNREFUSED | errno::EHOSTUNREACH | errno::ETIMEDOUT) => {}
            Err(error) => panic!("error {error} of a connection"),
        }
        close(client);
        sleep_ms(20);
        assert!(now_ms() < MOST_MS, "the server cannot be reached");
    }
}
