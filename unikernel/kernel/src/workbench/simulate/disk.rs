//! Files on a disk that loses its power, or fails.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::general as linux;
use unikernel_hal::sim::disk::{Disk, Faults};
use unikernel_hal::sim::engine::Random;
use unikernel_hal::sim::machine::{SharedCounter, cut_power};

use super::{judge, machine};
use crate::workbench::app::{Machine, call, get, map, put, text};

const DISK_BYTES: usize = 8 << 20;
const PAGE: usize = 4096;

pub(super) fn with_disk(seed: u64, is_new: bool) -> Machine {
    let command_line = if is_new { "mount=/data:blk0 format=blk0" } else { "mount=/data:blk0" };
    Machine { command_line: command_line.into(), ..machine(seed) }
}

pub(super) fn open(path: &str, flags: u32) -> u64 {
    call(linux::__NR_open, &[text(path), flags.into(), 0o600]).expect("a file")
}

/// Writes all of it: memory may be short for a part.
pub(super) fn write_all(file: u64, bytes: &[u8]) {
    let (from, mut done, len) = (put(bytes), 0, bytes.len() as u64);
    while done < len {
        done += call(linux::__NR_write, &[file, from + done, len - done]).expect("a write");
    }
    call(linux::__NR_munmap, &[from, len.max(1)]).expect("the buffer goes");
}

/// Reads so many bytes, or up to the end of the file.
pub(super) fn read_all(file: u64, len: u64) -> Vec<u8> {
    let (into, mut done) = (map(len as usize), 0);
    loop {
        match call(linux::__NR_read, &[file, into + done, len - done]).expect("a read") {
            0 => break,
            count => done += count,
        }
    }
    let bytes = get(into, done as usize);
    call(linux::__NR_munmap, &[into, len]).expect("the buffer goes");
    bytes
}

/// A disk with `/data/file`, which a machine has made that is off now: no page of it is in the next one's memory.
pub(super) fn disk_with_file(seed: u64, bytes: Vec<u8>) -> Result<Disk, String> {
    let disk = Disk::new(DISK_BYTES);
    judge(&with_disk(seed, true).run_with(
        || disk.plug_in(Faults { seed, ..Faults::default() }),
        move || {
            write_all(open("/data/file", linux::O_CREAT | linux::O_WRONLY), &bytes);
            0
        },
    ))?;
    Ok(disk)
}

const RECORD_BYTES: u64 = 100;

fn record(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    (0..RECORD_BYTES).map(|_| random.next_u64() as u8).collect()
}

/// Records are appended to a log, with fdatasync after each. The power goes at some write: what was synced is there afterwards.
pub(super) fn log(seed: u64) -> Result<(), String> {
    let mut random = Random::new(!seed);
    let disk = Disk::new(DISK_BYTES);
    let synced = SharedCounter::new();
    judge(&with_disk(seed, true).run_with(
        || disk.plug_in(Faults { seed, ..Faults::default() }),
        || {
            let log = open("/data/log", linux::O_CREAT | linux::O_WRONLY);
            call(linux::__NR_fsync, &[log]).expect("a sync");
            call(linux::__NR_sync, &[]).expect("a sync");
            0
        },
    ))?;
    let cut_at_write = Some(1 + random.below(60));
    judge(&with_disk(seed ^ 1 << 60, false).run_with(
        || disk.plug_in(Faults { seed, cut_at_write, ..Faults::default() }),
        move || {
            let log = open("/data/log", linux::O_WRONLY | linux::O_APPEND);
            for number in 0..40 {
                write_all(log, &record(number));
                call(linux::__NR_fdatasync, &[log]).expect("a sync");
                synced.set(number + 1);
            }
            0
        },
    ))?;
    judge(&with_disk(seed ^ 2 << 60, false).run_with(
        || disk.plug_in(Faults { seed, ..Faults::default() }),
        move || {
            let log = open("/data/log", linux::O_RDONLY);
            let bytes = read_all(log, 64 * RECORD_BYTES);
            let records = bytes.chunks_exact(RECORD_BYTES as usize);
            assert!(
                records.len() as u64 >= synced.get(),
                "{} bytes of {} records",
                bytes.len(),
                synced.get()
            );
            for (number, found) in (0..synced.get()).zip(records) {
                assert_eq!(found, record(number), "record {number} of {}", synced.get());
            }
            0
        },
    ))
}

/// Calls that consume something write to pages of a mapped file that are not in memory: each is done once.
pub(super) fn absent_buffers(seed: u64) -> Result<(), String> {
    const BYTES: usize = 64 * PAGE;
    let disk = disk_with_file(seed, alloc::vec![b'x'; BYTES])?;
    judge(&with_disk(seed ^ 1 << 60, false).run_with(
        || disk.plug_in(Faults { seed, ..Faults::default() }),
        move || {
            let mut random = Random::new(seed);
            let file = open("/data/file", linux::O_RDWR);
            let protection = linux::PROT_READ | linux::PROT_WRITE;
            let shared = [0, BYTES as u64, protection.into(), linux::MAP_SHARED.into(), file, 0];
            let view = call(linux::__NR_mmap, &shared).expect("a view");
            let mut page = || view + random.below(BYTES as u64 / PAGE as u64) * PAGE as u64;
            let counter = call(linux::__NR_eventfd2, &[5, linux::EFD_NONBLOCK.into()]).expect("a counter");
            let at = page();
            assert_eq!(call(linux::__NR_read, &[counter, at, 8]), Ok(8), "an eventfd");
            assert_eq!(get(at, 8), 5u64.to_le_bytes());
            let set = put(&(1u64 << (linux::SIGUSR1 - 1)).to_le_bytes());
            call(linux::__NR_rt_sigprocmask, &[linux::SIG_BLOCK.into(), set, 0, 8]).expect("a mask");
            let nonblocking = linux::O_NONBLOCK.into();
            let signals = call(linux::__NR_signalfd4, &[u64::MAX, set, 8, nonblocking]).expect("a signalfd");
            let me = call(linux::__NR_getpid, &[]).expect("an id");
            call(linux::__NR_kill, &[me, linux::SIGUSR1.into()]).expect("a signal");
            assert_eq!(call(linux::__NR_read, &[signals, page(), 128]), Ok(128), "a signalfd");
            let ends = map(8);
            call(linux::__NR_pipe2, &[ends, linux::O_NONBLOCK.into()]).expect("a pipe");
            let (from, to) = (get(ends, 1)[0], get(ends + 4, 1)[0]);
            call(linux::__NR_write, &[to.into(), put(b"hello"), 5]).expect("a write");
            let at = page();
            assert_eq!(call(linux::__NR_read, &[from.into(), at, 64]), Ok(5), "a pipe");
            assert_eq!(get(at, 5), b"hello");
            0
        },
    ))
}

/// A sector of the disk cannot be written while many pages are dirty. The others are written all the same, whoever asks for it, and whoever
/// syncs the file is told once.
pub(super) fn failed_write(seed: u64) -> Result<(), String> {
    /// More than are written back in one batch.
    const PAGES: usize = 600;
    const LEN: u64 = (PAGES * PAGE) as u64;
    /// Where the file has its blocks.
    const SECTORS: core::ops::Range<u64> = 3_000..7_000;
    let mut random = Random::new(!seed);
    let disk = disk_with_file(seed, alloc::vec![b'o'; LEN as usize])?;
    let bad_sector = Some(SECTORS.start + random.below(SECTORS.end - SECTORS.start));
    let is_file_synced = random.one_in(2);
    let told = SharedCounter::new();
    let outcome = with_disk(seed ^ 1 << 60, false).run_with(
        || disk.plug_in(Faults { seed, bad_sector, ..Faults::default() }),
        move || {
            let file = open("/data/file", linux::O_WRONLY);
            write_all(file, &alloc::vec![b'N'; LEN as usize]);
            // The flusher writes meanwhile.
            let wait = put(&[20u64, 0].map(u64::to_le_bytes).concat());
            call(linux::__NR_nanosleep, &[wait, 0]).expect("a sleep");
            if is_file_synced {
                let errors = (0..2).filter(|_| call(linux::__NR_fsync, &[file]).is_err()).count();
                assert!(errors <= 1, "an error is told once");
                told.set(errors as u64);
                return 0;
            }
            call(linux::__NR_sync, &[]).expect("a sync");
            // What sync(2) has forgotten must not be written at a clean end.
            cut_power()
        },
    );
    judge(&outcome)?;
    // One of the filesystem's own writes failed, and it has stopped.
    if outcome.console.contains("read-only") {
        return Ok(());
    }
    judge(&with_disk(seed ^ 2 << 60, false).run_with(
        || disk.plug_in(Faults { seed, ..Faults::default() }),
        move || {
            let file = open("/data/file", linux::O_RDONLY);
            let bytes = read_all(file, LEN);
            assert_eq!(bytes.len(), LEN as usize);
            let lost = bytes.chunks(PAGE).filter(|page| page.iter().any(|byte| *byte != b'N')).count();
            assert!(lost <= 1, "{lost} pages are not as they were written, and one sector is bad");
            assert!(
                lost == 0 || !is_file_synced || told.get() == 1,
                "{lost} pages are lost and nobody was told"
            );
            0
        },
    ))
    .map_err(|problem| format!("{problem}\nbefore:\n{}", outcome.console))
}
