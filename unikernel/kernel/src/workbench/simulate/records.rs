//! Threads that write records of one file in every way there is, beside each other in the same pages.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::general as linux;
use unikernel_hal::sim::app;
use unikernel_hal::sim::disk::{Disk, Faults};
use unikernel_hal::sim::engine::Random;

use super::disk::{open, read_all, with_disk};
use super::judge;
use crate::workbench::app::{call, get, join, map, spawn};

const DISK_BYTES: usize = 8 << 20;
const THREADS: u64 = 3;
const RECORDS: u64 = 24;
/// So that most pages have several, and some records lie in two pages.
const RECORD_BYTES: u64 = 1000;
const FILE_BYTES: u64 = RECORDS * RECORD_BYTES;
const STEPS: usize = 60;

/// One thread, whose records nobody else writes.
struct Worker {
    id: u64,
    random: Random,
    file: u64,
    view: u64,
    buffer: u64,
    /// What each record has to be.
    wanted: Vec<u8>,
}

impl Worker {
    fn step(&mut self) {
        let record = self.random.below(RECORDS / THREADS) * THREADS + self.id;
        let (at, version) = (record * RECORD_BYTES, self.random.next_u64() as u8);
        let wanted = record as usize;
        let done = match self.random.below(10) {
            0..2 => {
                app::write(self.buffer, &[version; RECORD_BYTES as usize]);
                self.wanted[wanted] = version;
                call(linux::__NR_pwrite64, &[self.file, self.buffer, RECORD_BYTES, at])
            }
            2..4 => {
                app::write(self.view + at, &[version; RECORD_BYTES as usize]);
                self.wanted[wanted] = version;
                Ok(RECORD_BYTES)
            }
            4 => {
                let punch = linux::FALLOC_FL_PUNCH_HOLE | linux::FALLOC_FL_KEEP_SIZE;
                self.wanted[wanted] = 0;
                call(linux::__NR_fallocate, &[self.file, punch.into(), at, RECORD_BYTES])
            }
            5 => call(linux::__NR_fallocate, &[self.file, 0, at, RECORD_BYTES]),
            6 => call(linux::__NR_fdatasync, &[self.file]),
            7 => call(linux::__NR_fadvise64, &[self.file, 0, FILE_BYTES, linux::POSIX_FADV_DONTNEED.into()]),
            8 => call(linux::__NR_msync, &[self.view, FILE_BYTES, linux::MS_SYNC.into()]),
            _ => call(linux::__NR_pread64, &[self.file, self.buffer, RECORD_BYTES, at])
                .inspect(|_| self.check(record, &get(self.buffer, RECORD_BYTES as usize), "read")),
        };
        done.expect("a call that has nothing to fail for");
        self.check(record, &get(self.view + at, RECORD_BYTES as usize), "mapped");
    }

    fn check(&self, record: u64, found: &[u8], how: &str) {
        let wanted = self.wanted[record as usize];
        let place = found.iter().position(|byte| *byte != wanted);
        assert_eq!(place, None, "record {record}, {how}: {wanted} and {:?}", place.map(|at| found[at]));
    }
}

/// Each record is what was written last, at once and after a restart.
pub(super) fn beside_each_other(seed: u64) -> Result<(), String> {
    let disk = Disk::new(DISK_BYTES);
    judge(&with_disk(seed, true).run_with(
        || disk.plug_in(Faults { seed, ..Faults::default() }),
        move || {
            let file = open("/data/records", linux::O_CREAT | linux::O_RDWR);
            call(linux::__NR_ftruncate, &[file, FILE_BYTES]).expect("its length");
            let versions = open("/data/versions", linux::O_CREAT | linux::O_RDWR);
            let start = |id| {
                let (protection, flags) = (linux::PROT_READ | linux::PROT_WRITE, linux::MAP_SHARED);
                let view = [0, FILE_BYTES, protection.into(), flags.into(), file, 0];
                let view = call(linux::__NR_mmap, &view).expect("a view");
                let random = Random::new(seed ^ id << 32);
                let (buffer, wanted) = (map(RECORD_BYTES as usize), alloc::vec![0; RECORDS as usize]);
                let mut worker = Worker { id, random, file, view, buffer, wanted };
                let job = move || {
                    (0..STEPS).for_each(|_| worker.step());
                    for record in (worker.id..RECORDS).step_by(THREADS as usize) {
                        app::write(worker.buffer, &[worker.wanted[record as usize]]);
                        call(linux::__NR_pwrite64, &[versions, worker.buffer, 1, record]).expect("a byte");
                    }
                };
                spawn(job).expect("a thread")
            };
            let threads: Vec<_> = (0..THREADS).map(start).collect();
            threads.into_iter().for_each(join);
            0
        },
    ))?;
    judge(&with_disk(seed ^ 1 << 60, false).run_with(
        || disk.plug_in(Faults { seed, ..Faults::default() }),
        move || {
            let versions = read_all(open("/data/versions", linux::O_RDONLY), RECORDS + 1);
            let records = read_all(open("/data/records", linux::O_RDONLY), FILE_BYTES + 1);
            assert_eq!((versions.len() as u64, records.len() as u64), (RECORDS, FILE_BYTES));
            for (number, (record, version)) in records.chunks(RECORD_BYTES as usize).zip(versions).enumerate()
            {
                let is_it = record.iter().all(|byte| *byte == version);
                assert!(is_it, "record {number} is not {version} throughout after the restart");
            }
            0
        },
    ))
    .map_err(|problem| format!("after the restart: {problem}"))
}
