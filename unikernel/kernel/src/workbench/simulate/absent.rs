//! Bytes that go to others from pages of a mapped file that are on the disk, and come from them into such pages: each goes once, however
//! often a call has to wait for a page in between.

use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::{errno, general as linux, net};
use unikernel_hal::sim::disk::Faults;
use unikernel_hal::sim::engine::Random;

use super::disk::{disk_with_file, open, with_disk};
use super::judge;
use super::net::address;
use crate::workbench::app::{call, get, map, put};

const PAGE: u64 = 4096;
/// From the first half of the file is sent, into the second received.
const HALF: u64 = 64 * PAGE;
/// Fits into what a pipe and a socket keep.
const MOST_BYTES: u64 = 5 * PAGE;
const NONBLOCK: u32 = linux::O_NONBLOCK;
const STREAM: u32 = 1;
const DATAGRAM: u32 = 2;

/// What lies in the file.
fn content(at: u64) -> u8 {
    (at * 31 + at / PAGE) as u8
}

pub(super) fn streams(seed: u64) -> Result<(), String> {
    let disk = disk_with_file(seed, (0..2 * HALF).map(content).collect())?;
    judge(&with_disk(seed ^ 1 << 60, false).run_with(
        || disk.plug_in(Faults { seed, ..Faults::default() }),
        move || {
            let mut random = Random::new(seed);
            let file = open("/data/file", linux::O_RDWR);
            let protection = linux::PROT_READ | linux::PROT_WRITE;
            let shared = [0, 2 * HALF, protection.into(), linux::MAP_SHARED.into(), file, 0];
            let view = call(linux::__NR_mmap, &shared).expect("a view");
            for (what, make, keeps_borders) in PAIRS {
                let (from, to) = make();
                for _ in 0..3 {
                    pass(what, (from, to), view, keeps_borders, &mut random);
                }
            }
            0
        },
    ))
}

/// What takes bytes at one end and gives them at the other; whether it keeps messages apart.
type Pair = (&'static str, fn() -> (u64, u64), bool);

const PAIRS: [Pair; 5] = [
    ("a pipe", pipe, false),
    ("TCP", tcp, false),
    ("a local stream", || local(STREAM), false),
    ("local datagrams", || local(DATAGRAM), true),
    ("UDP", udp, true),
];

/// Sends some pieces of the first half with one call, and receives them in pieces of the second.
fn pass(what: &str, (from, to): (u64, u64), view: u64, keeps_borders: bool, random: &mut Random) {
    let own = put(b"from memory");
    let mut pieces = Vec::from([(own, 11)]);
    for _ in 0..1 + random.below(3) {
        let at = random.below(HALF - MOST_BYTES);
        pieces.push((view + at, 1 + random.below(MOST_BYTES / 4)));
    }
    let expected: Vec<u8> = pieces
        .iter()
        .flat_map(|&(at, len)| match at == own {
            true => b"from memory".to_vec(),
            false => (at - view..at - view + len).map(content).collect(),
        })
        .collect();
    let vectors = vectors(&pieces);
    let sent = call(linux::__NR_writev, &[from, vectors, pieces.len() as u64]);
    assert_eq!(sent, Ok(expected.len() as u64), "{what}");
    let nap = put(&[0, 1_000_000_u64].map(u64::to_le_bytes).concat());
    let mut received = Vec::new();
    while received.len() < expected.len() {
        // It is changed by what comes, but not what is sent of it.
        let at = view + HALF + random.below(HALF - MOST_BYTES);
        let most = if keeps_borders { MOST_BYTES } else { 1 + random.below(MOST_BYTES) };
        match call(linux::__NR_read, &[to, at, most]) {
            Ok(count) => received.extend(get(at, count as usize)),
            // It may wait for an acknowledgement.
            Err(error) => {
                assert_eq!(error, errno::EAGAIN as i32, "{what}");
                assert!(call(linux::__NR_nanosleep, &[nap, 0]) == Ok(0), "{what}");
            }
        }
        assert!(!keeps_borders || received.len() == expected.len() || received.is_empty(), "{what}");
    }
    assert!(received == expected, "{what}: {} bytes are others", expected.len());
    assert_eq!(call(linux::__NR_read, &[to, view + HALF, PAGE]), Err(errno::EAGAIN as i32), "{what}");
}

/// `struct iovec`s.
fn vectors(pieces: &[(u64, u64)]) -> u64 {
    put(&pieces.iter().flat_map(|&(at, len)| [at, len]).flat_map(u64::to_le_bytes).collect::<Vec<_>>())
}

fn two(ends: u64) -> (u64, u64) {
    let end = |at| u64::from(get(ends + at, 1)[0]);
    (end(0), end(4))
}

fn pipe() -> (u64, u64) {
    let ends = map(8);
    call(linux::__NR_pipe2, &[ends, NONBLOCK.into()]).expect("a pipe");
    let (to, from) = two(ends);
    (from, to)
}

fn local(kind: u32) -> (u64, u64) {
    let ends = map(8);
    let kind = kind | NONBLOCK;
    call(linux::__NR_socketpair, &[net::AF_UNIX.into(), kind.into(), 0, ends]).expect("a pair");
    two(ends)
}

fn socket(kind: u32) -> u64 {
    call(linux::__NR_socket, &[net::AF_INET.into(), kind.into(), 0]).expect("a socket")
}

fn tcp() -> (u64, u64) {
    let listener = socket(STREAM);
    call(linux::__NR_bind, &[listener, address(7), 16]).expect("a port");
    call(linux::__NR_listen, &[listener, 1]).expect("a listener");
    let from = socket(STREAM);
    call(linux::__NR_connect, &[from, address(7), 16]).expect("a connection");
    let to = call(linux::__NR_accept4, &[listener, 0, 0, NONBLOCK.into()]).expect("its other end");
    (from, to)
}

fn udp() -> (u64, u64) {
    let to = socket(DATAGRAM | NONBLOCK);
    call(linux::__NR_bind, &[to, address(8), 16]).expect("a port");
    let from = socket(DATAGRAM);
    call(linux::__NR_connect, &[from, address(8), 16]).expect("a peer");
    (from, to)
}
