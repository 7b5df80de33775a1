//! One file, changed at random in every way there is, against a model in memory (after Apple's `fsx`): read,
//! written, truncated, mapped, preallocated, punched, synced and opened anew. Arguments: the folder; `SEED` and
//! `STEPS` in the environment choose another run.
//!
//! A failure shows the last operations and the seed.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::exit;

use guest_tests::data_folder;
use guest_tests::random::{Random, number_from_environment};
use rustix::fs::FallocateFlags;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};

/// The longest that the file gets, in bytes.
const MOST_BYTES: usize = 600_000;
const PAGE: usize = 4096;
const SHOWN: usize = 30;

struct Run {
    path: PathBuf,
    file: File,
    model: Vec<u8>,
    random: Random,
    history: VecDeque<String>,
    seed: u64,
}

fn main() {
    let folder = data_folder();
    let seed = number_from_environment("SEED", 1);
    let steps = number_from_environment("STEPS", 3000);
    for number in 0..3 {
        let path = folder.join(format!("fsx{number}"));
        let mut run = Run::new(&path, seed * 1000 + number);
        for step in 0..steps {
            run.step(step);
        }
        run.compare_all();
        std::fs::remove_file(&path).unwrap();
    }
    println!("disk_fsx: all well");
}

impl Run {
    fn new(path: &Path, seed: u64) -> Self {
        let file = open(path, true);
        let (random, history) = (Random::new(seed), VecDeque::new());
        Self { path: path.to_owned(), file, model: Vec::new(), random, history, seed }
    }

    fn step(&mut self, step: u64) {
        let at = self.random.below(MOST_BYTES);
        let len = *self.random.pick(&[1, 7, 100, 511, PAGE, 5000, 16 * PAGE, 65_000]);
        let len = (1 + self.random.below(len)).min(MOST_BYTES - at);
        let choice = self.random.below(22);
        self.history
            .push_back(format!("{step}: operation {choice} at {at}, {len} bytes, size {}", self.model.len()));
        if self.history.len() > SHOWN {
            self.history.pop_front();
        }
        match choice {
            0..5 => self.write(at, len),
            5..9 => self.read(at, len),
            9 => self.truncate(at),
            10 => self.append(len),
            11..13 => self.write_mapped(at, len),
            13..15 => self.read_mapped(at, len),
            15 => self.allocate(at, len, FallocateFlags::empty()),
            16 => self.allocate(at, len, FallocateFlags::KEEP_SIZE),
            17 => self.punch(at, len),
            18 => self.zero(at, len),
            19 => self.sync(),
            20 => self.reopen(),
            _ => self.copy(at, len),
        }
    }

    fn fail(&self, what: &str) -> ! {
        eprintln!("disk_fsx: {what}; seed {}; the last operations:", self.seed);
        self.history.iter().for_each(|line| eprintln!("  {line}"));
        exit(1)
    }

    fn expect(&self, is_good: bool, what: &str) {
        if !is_good {
            self.fail(what);
        }
    }

    /// Compares what was read at `at` with the model.
    fn compare(&self, at: usize, found: &[u8], how: &str) {
        let wanted = &self.model[at..at + found.len()];
        if let Some(index) = (0..found.len()).find(|&index| found[index] != wanted[index]) {
            let count = (0..found.len()).filter(|&index| found[index] != wanted[index]).count();
            let (found, wanted) = (found[index], wanted[index]);
            self.fail(&format!("{how}: byte {} is {found}, not {wanted}; {count} differ", at + index));
        }
    }

    fn grow_to(&mut self, len: usize) {
        if self.model.len() < len {
            self.model.resize(len, 0);
        }
    }

    fn write(&mut self, at: usize, len: usize) {
        let bytes = self.random.bytes(len);
        self.file.write_all_at(&bytes, at as u64).unwrap_or_else(|error| self.fail(&error.to_string()));
        self.grow_to(at + len);
        self.model[at..at + len].copy_from_slice(&bytes);
    }

    fn append(&mut self, len: usize) {
        let at = self.model.len();
        if at + len <= MOST_BYTES {
            self.write(at, len);
        }
    }

    fn read(&mut self, at: usize, len: usize) {
        let mut found = vec![0xee; len];
        let count =
            self.file.read_at(&mut found, at as u64).unwrap_or_else(|error| self.fail(&error.to_string()));
        let wanted = self.model.len().saturating_sub(at).min(len);
        self.expect(count == wanted, &format!("read {count} bytes, not {wanted}"));
        if count > 0 {
            self.compare(at, &found[..count], "read");
        }
    }

    fn truncate(&mut self, len: usize) {
        self.file.set_len(len as u64).unwrap_or_else(|error| self.fail(&error.to_string()));
        self.model.resize(len, 0);
    }

    /// Shows a mapping of the pages around `at` to `look`, with the place of `at` in it.
    fn mapped(&self, (at, len): (usize, usize), look: impl FnOnce(&mut [u8])) {
        let start = at / PAGE * PAGE;
        let (size, file) = (at + len - start, self.file.as_fd());
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the file is not truncated while it is mapped, so every byte is there, and nobody else maps
        // it; it is unmapped before anything else happens.
        unsafe {
            let mapping = rustix::mm::mmap(
                std::ptr::null_mut(),
                size,
                protection,
                MapFlags::SHARED,
                file,
                start as u64,
            )
            .unwrap_or_else(|error| self.fail(&format!("mmap: {error}")));
            look(&mut std::slice::from_raw_parts_mut(mapping.cast::<u8>(), size)[at - start..]);
            if at % 3 == 0 {
                rustix::mm::msync(mapping, size, MsyncFlags::SYNC).unwrap();
            }
            rustix::mm::munmap(mapping, size).unwrap();
        }
    }

    fn write_mapped(&mut self, at: usize, len: usize) {
        self.grow_to(at + len);
        self.file.set_len(self.model.len() as u64).unwrap();
        let bytes = self.random.bytes(len);
        self.mapped((at, len), |mapping| mapping.copy_from_slice(&bytes));
        self.model[at..at + len].copy_from_slice(&bytes);
    }

    fn read_mapped(&mut self, at: usize, len: usize) {
        let len = self.model.len().saturating_sub(at).min(len);
        if len > 0 {
            self.mapped((at, len), |mapping| self.compare(at, mapping, "mapping"));
        }
    }

    fn fallocate(&self, flags: FallocateFlags, at: usize, len: usize) {
        let outcome = rustix::fs::fallocate(&self.file, flags, at as u64, len as u64);
        outcome.unwrap_or_else(|error| self.fail(&format!("fallocate {flags:?}: {error}")));
    }

    fn allocate(&mut self, at: usize, len: usize, flags: FallocateFlags) {
        self.fallocate(flags, at, len);
        if flags.is_empty() {
            self.grow_to(at + len);
        }
    }

    fn clear(&mut self, at: usize, end: usize) {
        let end = end.min(self.model.len());
        if at < end {
            self.model[at..end].fill(0);
        }
    }

    fn punch(&mut self, at: usize, len: usize) {
        self.fallocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len);
        self.clear(at, at + len);
    }

    /// Not every file system can: those that answer `EOPNOTSUPP` have it written.
    fn zero(&mut self, at: usize, len: usize) {
        match rustix::fs::fallocate(&self.file, FallocateFlags::ZERO_RANGE, at as u64, len as u64) {
            Ok(()) => {}
            Err(rustix::io::Errno::OPNOTSUPP) => self.file.write_all_at(&vec![0; len], at as u64).unwrap(),
            Err(error) => self.fail(&format!("zero range: {error}")),
        }
        self.grow_to(at + len);
        self.clear(at, at + len);
    }

    fn sync(&mut self) {
        let outcome = if self.random.below(2) == 0 { self.file.sync_all() } else { self.file.sync_data() };
        outcome.unwrap_or_else(|error| self.fail(&error.to_string()));
    }

    fn reopen(&mut self) {
        self.file = open(&self.path, false);
        let len = self.file.metadata().unwrap().len();
        self.expect(len == self.model.len() as u64, &format!("opened anew, it has {len} bytes"));
    }

    /// From one half of the file to another place.
    fn copy(&mut self, at: usize, len: usize) {
        let from = self.random.below(MOST_BYTES);
        let len = len.min(self.model.len().saturating_sub(from));
        // Ranges of one file that overlap are refused.
        if len == 0 || from.abs_diff(at) < len {
            return;
        }
        let (mut source, mut target, mut left) = (from as u64, at as u64, len);
        while left > 0 {
            let copied = rustix::fs::copy_file_range(
                &self.file,
                Some(&mut source),
                &self.file,
                Some(&mut target),
                left,
            );
            let copied = copied.unwrap_or_else(|error| self.fail(&format!("copy_file_range: {error}")));
            self.expect(copied > 0, "copy_file_range copied nothing");
            left -= copied;
        }
        self.grow_to(at + len);
        self.model.copy_within(from..from + len, at);
    }

    fn compare_all(&mut self) {
        self.reopen();
        let found = std::fs::read(&self.path).unwrap();
        self.expect(found.len() == self.model.len(), "its length differs");
        self.compare(0, &found, "at the end");
    }
}

fn open(path: &Path, is_new: bool) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(is_new).truncate(is_new).mode(0o600);
    options.open(path).unwrap()
}
