//! Files larger than memory, beside a program that wants memory for itself: what is cached goes before the
//! program is refused anything.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use guest_tests::random::number_from_environment;

const PIECE_BYTES: usize = 1 << 20;

fn piece(number: usize) -> Vec<u8> {
    (0..PIECE_BYTES).map(|at| (number * 7 + at / 4096) as u8).collect()
}

fn check(file: &File, pieces: usize) {
    let mut bytes = vec![0; PIECE_BYTES];
    for number in 0..pieces {
        file.read_exact_at(&mut bytes, (number * PIECE_BYTES) as u64).unwrap();
        assert!(bytes == piece(number), "piece {number}");
    }
}

fn main() {
    let data = PathBuf::from(std::env::var("DATA").expect("DATA names a folder"));
    let pieces = number_from_environment("FILE_MIB", 160) as usize;
    let wanted_mib = number_from_environment("WANTED_MIB", 32) as usize;
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(data.join("big")).unwrap();
    for number in 0..pieces {
        file.write_all_at(&piece(number), (number * PIECE_BYTES) as u64).unwrap();
    }
    check(&file, pieces);
    // Memory is full of the file now; half of it is wanted back.
    let mut own: Vec<Vec<u8>> = Vec::new();
    for number in 0..wanted_mib {
        let mut block = Vec::new();
        block.try_reserve_exact(PIECE_BYTES).unwrap_or_else(|error| panic!("MiB {number}: {error}"));
        block.resize(PIECE_BYTES, number as u8);
        own.push(block);
    }
    check(&file, pieces);
    assert!(own.iter().enumerate().all(|(number, block)| block.iter().all(|&byte| byte == number as u8)));
    file.sync_all().unwrap();
    println!("disk_pressure: all well");
}
