//! Threads that make, move and remove the same few directories of a disk, with files in them that some keep open.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::errno;
use linux_raw_sys::general as linux;
use unikernel_hal::sim::disk::{Disk, Faults};
use unikernel_hal::sim::engine::Random;

use super::disk::with_disk;
use super::judge;
use super::names::{assert_free_space, free_space};
use crate::workbench::app::{call, get, join, map, spawn, text};

const DISK_BYTES: usize = 8 << 20;
const THREADS: u64 = 3;
const STEPS: usize = 50;
const HERE: u64 = linux::AT_FDCWD as u64;

/// What the threads use: directories in directories, two names in each.
fn paths() -> Vec<String> {
    let mut paths: Vec<String> = ["/data/a", "/data/b"].map(String::from).into();
    for depth in [0, 2] {
        for at in depth..paths.len() {
            paths.extend(["a", "b"].map(|name| format!("{}/{name}", paths[at])));
        }
    }
    paths
}

/// One thread, with a file or directory that it has open.
struct Worker {
    paths: Vec<u64>,
    random: Random,
    open: Option<u64>,
    buffer: u64,
}

impl Worker {
    fn path(&mut self) -> u64 {
        self.paths[self.random.below(self.paths.len() as u64) as usize]
    }

    fn keep(&mut self, opened: Result<u64, i32>) -> Result<u64, i32> {
        let opened = opened?;
        if let Some(before) = self.open.replace(opened) {
            call(linux::__NR_close, &[before])?;
        }
        Ok(0)
    }

    /// Another thread may be faster each time: any of these errors is right at some moment.
    fn step(&mut self) {
        let (one, other) = (self.path(), self.path());
        let open = self.open.unwrap_or(u64::MAX);
        let outcome = match self.random.below(12) {
            0..3 => call(linux::__NR_mkdir, &[one, 0o700]),
            3 => call(linux::__NR_rmdir, &[one]),
            4 => call(linux::__NR_unlink, &[one]),
            5 => call(linux::__NR_rename, &[one, other]),
            6 => call(linux::__NR_renameat2, &[HERE, one, HERE, other, linux::RENAME_EXCHANGE.into()]),
            7 => {
                let opened = call(linux::__NR_open, &[one, (linux::O_CREAT | linux::O_RDWR).into(), 0o600]);
                self.keep(opened)
            }
            8 => {
                let opened = call(linux::__NR_open, &[one, linux::O_DIRECTORY.into(), 0]);
                self.keep(opened)
            }
            9 => {
                let flags = linux::O_TMPFILE | linux::O_RDWR;
                let opened = call(linux::__NR_open, &[one, flags.into(), 0o600]);
                self.keep(opened)
            }
            10 => call(linux::__NR_write, &[open, self.buffer, 5_000]),
            _ => call(linux::__NR_linkat, &[open, text(""), HERE, one, linux::AT_EMPTY_PATH.into()])
                .or_else(|_| call(linux::__NR_getdents64, &[open, self.buffer, 4096])),
        };
        let expected = [
            errno::ENOENT,
            errno::EEXIST,
            errno::ENOTEMPTY,
            errno::ENOTDIR,
            errno::EISDIR,
            errno::EINVAL,
            errno::EBADF,
        ];
        if let Err(error) = outcome {
            assert!(expected.contains(&(error as u32)), "error {error}");
        }
    }
}

/// The names in a directory.
fn names(path: &str) -> Vec<String> {
    const BYTES: usize = 4096;
    let directory = call(linux::__NR_open, &[text(path), linux::O_DIRECTORY.into(), 0]).expect("a directory");
    let (into, mut names) = (map(BYTES), Vec::new());
    loop {
        let len = call(linux::__NR_getdents64, &[directory, into, BYTES as u64]).expect("entries");
        let (bytes, mut at) = (get(into, len as usize), 0);
        while at < bytes.len() {
            // linux_dirent64 (getdents(2)): the entry's length at 16, its name from 19 on.
            let entry = &bytes[at..][..usize::from(u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]))];
            let name: Vec<u8> = entry[19..].iter().copied().take_while(|byte| *byte != 0).collect();
            names.push(String::from_utf8(name).expect("a name"));
            at += entry.len();
        }
        if len == 0 {
            break;
        }
    }
    call(linux::__NR_close, &[directory]).expect("it is closed");
    call(linux::__NR_munmap, &[into, BYTES as u64]).expect("the buffer goes");
    names.retain(|name| name != "." && name != "..");
    names
}

/// Removes a file, or a directory with all that is in it; nothing if there is neither.
fn remove(path: &str) {
    match call(linux::__NR_unlink, &[text(path)]) {
        Err(error) if error as u32 == errno::EISDIR => {
            names(path).iter().for_each(|name| remove(&format!("{path}/{name}")));
            call(linux::__NR_rmdir, &[text(path)]).expect("an empty directory");
        }
        outcome => assert!(outcome.is_ok() || outcome == Err(errno::ENOENT as i32), "{path}: {outcome:?}"),
    }
}

/// In the end all can be removed, and nothing is left.
pub(super) fn churn(seed: u64) -> Result<(), String> {
    let disk = Disk::new(DISK_BYTES);
    judge(&with_disk(seed, true).run_with(
        || disk.plug_in(Faults { seed, ..Faults::default() }),
        move || {
            let before = free_space();
            let paths: Vec<u64> = paths().iter().map(|path| text(path)).collect();
            let start = |id| {
                let random = Random::new(seed ^ id << 32);
                let mut worker = Worker { paths: paths.clone(), random, open: None, buffer: map(8192) };
                let job = move || {
                    (0..STEPS).for_each(|_| worker.step());
                    if let Some(open) = worker.open {
                        call(linux::__NR_close, &[open]).expect("it is closed");
                    }
                };
                spawn(job).expect("a thread")
            };
            let threads: Vec<_> = (1..=THREADS).map(start).collect();
            threads.into_iter().for_each(join);
            ["/data/a", "/data/b"].into_iter().for_each(remove);
            assert_free_space(before);
            0
        },
    ))
}
