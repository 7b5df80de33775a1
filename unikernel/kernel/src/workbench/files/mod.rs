//! Files: their names, content, attributes and locks, in memory, in `/proc` and `/dev`.

mod attributes_tests;
mod content_tests;
mod copies_tests;
mod descriptors_tests;
mod disk_tests;
mod locks_tests;
mod memfd_tests;
mod names_tests;
mod open_tests;
mod permissions_tests;
mod policy_tests;
mod proc_tests;
mod system_texts_tests;
mod terminal_control_tests;
mod terminal_tests;
mod watches_tests;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use linux_raw_sys::general as linux;

use super::app::calls::{Room, sys};

/// Opens a file that is there, or may be made.
pub(in crate::workbench) fn open(path: &str, flags: u32) -> u64 {
    sys!(open, path, flags, 0o644).unwrap()
}

/// Makes a file of these bytes.
pub(in crate::workbench) fn write_file(path: &str, bytes: &[u8]) {
    let file = open(path, linux::O_WRONLY | linux::O_CREAT | linux::O_TRUNC);
    assert_eq!(sys!(write, file, &Room::of(bytes), bytes.len()), Ok(bytes.len() as u64));
    sys!(close, file).unwrap();
}

/// Everything from an open file's offset on.
fn read_rest(file: u64) -> Vec<u8> {
    let room = Room::new(4096);
    let mut all = Vec::new();
    loop {
        match sys!(read, file, &room, 4096).unwrap() {
            0 => return all,
            count => all.extend(room.bytes(0, count as usize)),
        }
    }
}

pub(in crate::workbench) fn read_file(path: &str) -> Vec<u8> {
    let file = open(path, linux::O_RDONLY);
    let all = read_rest(file);
    sys!(close, file).unwrap();
    all
}

/// Names and kinds in a directory, sorted.
fn list(path: &str) -> Vec<(String, u8)> {
    let folder = open(path, linux::O_RDONLY | linux::O_DIRECTORY);
    let room = Room::new(512);
    let mut found = Vec::new();
    loop {
        let count = sys!(getdents64, folder, &room, 512).unwrap() as usize;
        if count == 0 {
            break;
        }
        let bytes = room.bytes(0, count);
        let mut at = 0;
        while at < count {
            let len = usize::from(u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]));
            let name = bytes[at + 19..at + len].split(|byte| *byte == 0).next().unwrap();
            found.push((String::from_utf8_lossy(name).to_string(), bytes[at + 18]));
            at += len;
        }
    }
    sys!(close, folder).unwrap();
    found.sort();
    found
}

/// What stat(2) says, at the offsets of `struct stat`.
pub(in crate::workbench) struct Stat(Room);

impl Stat {
    pub(in crate::workbench) fn of(path: &str) -> Self {
        let room = Room::new(144);
        sys!(stat, path, &room).unwrap();
        Self(room)
    }

    pub(in crate::workbench) fn of_file(file: u64) -> Self {
        let room = Room::new(144);
        sys!(fstat, file, &room).unwrap();
        Self(room)
    }

    fn filesystem(&self) -> u64 {
        self.0.long(0)
    }

    fn inode(&self) -> u64 {
        self.0.long(8)
    }

    pub(in crate::workbench) fn links(&self) -> u64 {
        self.0.long(16)
    }

    pub(in crate::workbench) fn mode(&self) -> u32 {
        self.0.word(24)
    }

    fn owner(&self) -> (u32, u32) {
        (self.0.word(28), self.0.word(32))
    }

    fn device(&self) -> u64 {
        self.0.long(40)
    }

    pub(in crate::workbench) fn len(&self) -> u64 {
        self.0.long(48)
    }

    fn blocks(&self) -> u64 {
        self.0.long(64)
    }

    fn accessed(&self) -> (u64, u64) {
        (self.0.long(72), self.0.long(80))
    }

    fn modified(&self) -> (u64, u64) {
        (self.0.long(88), self.0.long(96))
    }
}
