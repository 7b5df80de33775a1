//! A server that keeps what it is told on a disk, and loses its power, while a client asks until it is answered: what was
//! acknowledged is there afterwards.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use linux_raw_sys::{general as linux, net};
use unikernel_hal::sim::disk::{Disk, Faults};
use unikernel_hal::sim::engine::Random;
use unikernel_hal::sim::machine::SharedCounter;

use super::cable::PAUSE_NS;
use super::pair::{self, Side};
use super::{judge, machine};
use crate::workbench::app::calls::sys;
use crate::workbench::app::files::{close, now_ms, read, read_to_end, write, write_all};
use crate::workbench::app::net::{accept, recv, send};
use crate::workbench::app::wait::poll;
use crate::workbench::app::{Machine, spawn};

const PORT: u16 = 6379;
const DISK_BYTES: usize = 8 << 20;
const KEYS: u32 = 24;
/// How often the power goes at most.
const CUTS: u64 = 2;
const PATH: &str = "/data/log";

/// What the client asks for, and what it is answered.
const SET: u8 = b's';
const HAS: u8 = b'h';
const END: u8 = b'e';
const REQUEST_BYTES: usize = 5;
const YES: u8 = b'y';
const NO: u8 = b'n';

/// A key as it stands in the log.
fn record(key: u32) -> [u8; 16] {
    let mut random = Random::new(key.into());
    let mut record = [0; 16];
    record[..8].copy_from_slice(&u64::from(key).to_le_bytes());
    record[8..].copy_from_slice(&random.next_u64().to_le_bytes());
    record
}

/// The keys of a log, up to what is none.
fn keys(log: &[u8]) -> Vec<u32> {
    let key = |bytes: &[u8]| {
        let key = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
        (record(key) == *bytes).then_some(key)
    };
    log.chunks_exact(16).map_while(key).collect()
}

fn open(flags: u32) -> u64 {
    sys!(open, PATH, flags | linux::O_CREAT, 0o600).expect("a file")
}

/// What is in the log.
fn log() -> Vec<u8> {
    let file = open(linux::O_RDONLY);
    let bytes = read_to_end(file).expect("a read");
    close(file);
    bytes
}

pub(super) fn store(seed: u64) -> Result<(), String> {
    let disk = Disk::new(DISK_BYTES);
    let format = Machine {
        command_line: "mount=/data:blk0 format=blk0".into(),
        faults: Default::default(),
        ..machine(seed)
    };
    judge(&format.run_with(
        || disk.plug_in(Faults { seed, ..Faults::default() }),
        || {
            close(open(linux::O_WRONLY));
            0
        },
    ))?;
    let (server, client) = pair::sides(seed);
    let is_over = SharedCounter::new();
    let (asked, served) =
        pair::at_once(|| judge(&client.run(move || ask(seed))), || run_server(seed, server, &disk, is_over));
    let told = |who: &'static str| move |problem| format!("{who} on {:?}: {problem}", pair::wire(seed));
    served.map_err(told("the server"))?;
    asked.map_err(told("the client"))
}

/// Boots the server until it ends by itself.
fn run_server(seed: u64, side: Side, disk: &Disk, is_over: SharedCounter) -> Result<(), String> {
    let Side { mut machine, card, plug } = side;
    machine.command_line += " mount=/data:blk0";
    let mut random = Random::new(seed ^ 0x570e);
    let mut base_ns = 0;
    for boot in 0..=CUTS {
        machine.seed = seed ^ boot << 56;
        let cut_at_write = (boot < CUTS).then(|| 1 + random.below(80));
        let faults = Faults { seed: machine.seed, cut_at_write, ..Faults::default() };
        let outcome = machine.clone().run_with(
            || {
                disk.plug_in(faults);
                plug.plug_in(card, base_ns);
            },
            move || {
                serve();
                is_over.set(1);
                0
            },
        );
        judge(&outcome)?;
        base_ns += outcome.now_ns + PAUSE_NS;
        if is_over.get() == 1 {
            // Its power may have gone while it wrote its last.
            plug.unplug(base_ns);
            return Ok(());
        }
    }
    Err("the server has ended, and nobody has cut its power".into())
}

fn serve() {
    // What was not synced may be anything.
    let file = open(linux::O_WRONLY);
    sys!(ftruncate, file, keys(&log()).len() * 16).expect("a cut");
    close(file);
    let listener = pair::listener(PORT);
    let is_over = Arc::new(AtomicBool::new(false));
    while !is_over.load(Ordering::SeqCst) {
        assert!(now_ms() < pair::MOST_MS, "the client does not end");
        if poll(listener, linux::POLLIN, 100) != 0 {
            let connection = accept(listener).expect("a connection");
            let is_over = is_over.clone();
            spawn(move || serve_one(connection, &is_over)).expect("a thread");
        }
    }
}

fn serve_one(connection: u64, is_over: &AtomicBool) {
    let file = open(linux::O_WRONLY | linux::O_APPEND);
    while let Ok(request) = recv(connection, REQUEST_BYTES, net::MSG_WAITALL)
        && request.len() == REQUEST_BYTES
    {
        let key = u32::from_le_bytes(request[1..].try_into().expect("four bytes"));
        let answer = match request[0] {
            SET => {
                assert_eq!(write(file, &record(key)), Ok(16));
                sys!(fdatasync, file).expect("a sync");
                YES
            }
            HAS if keys(&log()).contains(&key) => YES,
            HAS => NO,
            _ => YES,
        };
        if write_all(connection, &[answer]).is_err() {
            break;
        }
        if request[0] == END {
            pair::close_in_peace(connection);
            return is_over.store(true, Ordering::SeqCst);
        }
    }
    close(file);
    close(connection);
}

/// A client that asks again until it is answered.
struct Asker {
    connection: Option<u64>,
    random: Random,
}

impl Asker {
    fn ask(&mut self, what: u8, key: u32) -> u8 {
        loop {
            assert!(now_ms() < pair::MOST_MS, "the server does not answer");
            if let Some(answer) = self.try_to_ask(what, key) {
                return answer;
            }
            // Whoever ends the server is not answered twice.
            self.connection.take().into_iter().for_each(close);
        }
    }

    fn try_to_ask(&mut self, what: u8, key: u32) -> Option<u8> {
        let connection = *self.connection.get_or_insert_with(|| pair::connected(PORT));
        let request = [&[what][..], &key.to_le_bytes()].concat();
        send(connection, &request, net::MSG_NOSIGNAL).ok()?;
        let patience_ms = 1000 + self.random.below(3000) as i32;
        if poll(connection, linux::POLLIN, patience_ms) == 0 {
            return None;
        }
        read(connection, 1).ok()?.first().copied()
    }
}

fn ask(seed: u64) {
    let mut asker = Asker { connection: None, random: Random::new(seed ^ 0xa5c) };
    for key in 0..KEYS {
        assert_eq!(asker.ask(SET, key), YES);
    }
    for key in 0..KEYS {
        assert_eq!(asker.ask(HAS, key), YES, "key {key} was acknowledged, and is lost");
    }
    assert_eq!(asker.ask(HAS, KEYS), NO);
    assert_eq!(asker.ask(END, 0), YES);
}
