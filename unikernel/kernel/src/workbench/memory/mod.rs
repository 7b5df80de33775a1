//! Memory of the app: mappings, what is done to them, what is refused.

mod faults_tests;
mod limits_tests;
mod mappings_tests;

use linux_raw_sys::general as linux;

use super::app::calls::{Room, sys};
use super::app::run::Answer;

const PAGE: usize = 4096;
const READ: u32 = linux::PROT_READ;
const WRITE: u32 = linux::PROT_READ | linux::PROT_WRITE;
const PRIVATE: u32 = linux::MAP_PRIVATE | linux::MAP_ANONYMOUS;

/// Maps memory without a file.
fn map(at: u64, len: usize, protection: u32, flags: u32) -> Answer {
    sys!(mmap, at, len, protection, flags | PRIVATE, -1, 0)
}

/// Maps a file from its first byte on.
fn map_file(file: u64, len: usize, protection: u32, flags: u32) -> Answer {
    sys!(mmap, 0, len, protection, flags, file, 0)
}

/// A file of these bytes.
fn file_of(bytes: &[u8]) -> u64 {
    let file = sys!(memfd_create, "file", 0).unwrap();
    sys!(pwrite64, file, &Room::of(bytes), bytes.len(), 0).unwrap();
    file
}

/// A byte of a file.
fn byte_of(file: u64, offset: usize) -> u8 {
    let room = Room::new(1);
    assert_eq!(sys!(pread64, file, &room, 1, offset), Ok(1));
    room.byte(0)
}
