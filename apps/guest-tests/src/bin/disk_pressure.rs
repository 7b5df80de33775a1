//! Files larger than memory, beside a program that wants memory for itself: what is cached goes before the
//! program is refused anything.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
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
        if let Some(at) = bytes.iter().zip(piece(number)).position(|(read, written)| *read != written) {
            panic!("piece {number}: {:#x} at {at}", bytes[at]);
        }
    }
}

/// The file as memory: all of it is read there, and each page changed.
fn mapped(file: &File, pieces: usize) {
    let len = pieces * PIECE_BYTES;
    let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a new mapping of a file of this length.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), len, read_write, shared, file.as_raw_fd(), 0) };
    assert_ne!(address, libc::MAP_FAILED);
    // SAFETY: mapped above, unmapped below, and the file changes through it alone.
    let bytes = unsafe { std::slice::from_raw_parts_mut(address.cast::<u8>(), len) };
    for number in 0..pieces {
        assert!(bytes[number * PIECE_BYTES..][..PIECE_BYTES] == piece(number), "mapped piece {number}");
    }
    for at in (0..len).step_by(4096) {
        bytes[at + 1] = 0xa5;
    }
    let changed = bytes.iter().skip(1).step_by(4096).filter(|&&byte| byte == 0xa5).count();
    assert_eq!(changed, len / 4096);
    // SAFETY: nothing refers to it afterwards.
    unsafe {
        assert_eq!(libc::msync(address, len, libc::MS_SYNC), 0);
        assert_eq!(libc::munmap(address, len), 0);
    }
    let mut page = [0; 4096];
    for at in (0..len as u64).step_by(4096) {
        file.read_exact_at(&mut page, at).unwrap();
        assert_eq!(page[1], 0xa5, "at {at}");
    }
}

fn main() {
    let data = PathBuf::from(std::env::var("DATA").expect("DATA names a folder"));
    let pieces = number_from_environment("FILE_MIB", 112) as usize;
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
    mapped(&file, pieces);
    assert!(own.iter().enumerate().all(|(number, block)| block.iter().all(|&byte| byte == number as u8)));
    file.sync_all().unwrap();
    println!("disk_pressure: all well");
}
