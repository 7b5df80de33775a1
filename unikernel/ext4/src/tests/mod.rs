//! Tests of whole filesystems, in memory. The judge is `e2fsck`, which we did not write.

mod check;
mod damage;
mod found;
mod images;
mod limits;
mod memory;
mod model;
mod operations;
mod powercut;
mod recorder;
mod resealed;
mod workload;

use std::path::PathBuf;
use std::process::Command;
use std::string::{String, ToString};
use std::sync::atomic::{AtomicU32, Ordering};
use std::vec::Vec;

use crate::{Ext4, FormatOptions, InodeNumber, MountMode, NewKind, NewNode, Timestamp};
use memory::MemoryDevice;

pub(super) const ROOT: InodeNumber = InodeNumber::ROOT;

/// A moment, `seconds` after the tests' beginning of time.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds: 1_700_000_000 + seconds, nanoseconds: 500 }
}

pub(super) fn file() -> NewNode<'static> {
    NewNode { kind: NewKind::File, permissions: 0o644, user: 0, group: 0 }
}

pub(super) fn directory() -> NewNode<'static> {
    NewNode { kind: NewKind::Directory, permissions: 0o755, user: 0, group: 0 }
}

pub(super) fn options(block_bytes: u32) -> FormatOptions {
    FormatOptions {
        label: b"test".to_vec(),
        uuid: *b"0123456789abcdef",
        hash_seed: *b"fedcba9876543210",
        block_bytes: Some(block_bytes),
        ..FormatOptions::default()
    }
}

/// A formatted device of this many KiB.
pub(super) fn formatted(kib: usize, block_bytes: u32) -> MemoryDevice {
    let device = MemoryDevice::new(kib * 1024);
    Ext4::format(&device, &options(block_bytes), at(0)).expect("the device can be formatted");
    device
}

pub(super) fn mounted<D: crate::BlockDevice>(device: D) -> Ext4<D> {
    Ext4::mount(device, MountMode::ReadWrite, at(1)).expect("the device can be mounted")
}

/// A file that is removed at the end of the test.
pub(super) struct TempPath(pub(super) PathBuf);

impl TempPath {
    pub(super) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = std::format!("unikernel-ext4-{}-{number}-{name}", std::process::id());
        Self(std::env::temp_dir().join(unique))
    }

    pub(super) fn text(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a program of e2fsprogs; returns its exit code and what it said.
pub(super) fn run(program: &str, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(std::format!("/usr/sbin/{program}"))
        .args(arguments)
        .output()
        .expect("e2fsprogs is installed: `make setup`");
    let text = String::from_utf8_lossy(&output.stdout).to_string() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text)
}

/// Fails unless `e2fsck -fn` finds nothing to say about the image.
pub(super) fn assert_clean(image: &[u8]) {
    let path = TempPath::new("fsck");
    std::fs::write(&path.0, image).expect("the image can be written");
    let (code, text) = run("e2fsck", &["-fn", &path.text()]);
    if code != 0 {
        if let Ok(kept) = std::env::var("KEEP_IMAGE") {
            std::fs::copy(&path.0, kept).expect("the image can be kept");
        }
        panic!("e2fsck -fn: {code}\n{text}");
    }
}

/// Runs commands of `debugfs` on an image; returns what they say.
pub(super) fn debugfs(image: &[u8], command: &str) -> String {
    let path = TempPath::new("debugfs");
    std::fs::write(&path.0, image).expect("the image can be written");
    run("debugfs", &["-R", command, &path.text()]).1
}

/// Bytes that can be told apart by position and by `seed`.
pub(super) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}
