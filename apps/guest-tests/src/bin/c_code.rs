//! C inside crates: an allocator that manages its memory by `mmap`, `madvise` and thread-local data, and a
//! compressor.

use std::thread;

use guest_tests::check_eq;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const THREADS: u64 = 4;
const ROUNDS: u64 = 200;

fn main() {
    let threads = (0..THREADS).map(|seed| thread::spawn(move || work(seed)));
    let sums: Vec<u64> =
        threads.collect::<Vec<_>>().into_iter().map(|t| t.join().expect("it works")).collect();
    check_eq!(
        sums,
        (0..THREADS).map(|seed| (0..ROUNDS).map(|round| seed + round).sum()).collect::<Vec<u64>>()
    );
    let text = "an appliance is one server program that is its own machine\n".repeat(10_000);
    let small = zstd::encode_all(text.as_bytes(), 3).expect("memory suffices");
    check_eq!(small.len() < text.len() / 100, true);
    check_eq!(zstd::decode_all(&small[..]).expect("it was just made"), text.as_bytes());
    check_eq!(zstd::decode_all(&small[..small.len() / 2]).is_err(), true);
}

/// Takes and gives blocks of every size, which other blocks must not touch.
fn work(seed: u64) -> u64 {
    let mut blocks: Vec<Vec<u64>> = Vec::new();
    let mut sum = 0;
    for round in 0..ROUNDS {
        blocks.push(vec![seed + round; 1 << (round % 16)]);
        if blocks.len() > 32 {
            let block = blocks.swap_remove((round % 32) as usize);
            sum += block[block.len() / 2];
        }
    }
    sum + blocks.iter().map(|block| block[block.len() - 1]).sum::<u64>()
}
