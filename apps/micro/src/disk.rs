//! Times files on a disk. Every figure has its own name, and can be asked for alone.
//!
//! What is read cold was put onto the disk before the machine was booted (`cold`, of [`COLD_BYTES`]): its pages are in no
//! cache, and each is read once.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;
const MIB: usize = 1 << 20;
/// Length of the file that is read cold.
const COLD_BYTES: u64 = 128 << 20;
/// The front half is for sequential reading, the rest for reading at random.
const RANDOM_FROM: u64 = COLD_BYTES / 2;
/// Blocks that are read at random, with one and with many in flight each.
const RANDOM_READS: u64 = 4000;
const SYNCS: u32 = 400;
const CACHED_BYTES: u64 = 8 << 20;
const CACHED_READS: u64 = 50_000;
const FILES: usize = 10_000;
const FILES_IN_A_FOLDER: usize = 500;

/// Times what is named, or all, and shows each figure.
pub(super) fn measure(folder: &Path, names: &[String], show: impl Fn(&str, f64)) {
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    if is_wanted("sequential") {
        show("disk_sequential_read_mib_per_s", sequential_read(folder));
        show("disk_sequential_write_mib_per_s", sequential_write(folder));
    }
    if is_wanted("random") {
        show("disk_random_read_1_per_s", random_read(folder, 1, 0));
        show("disk_random_read_16_per_s", random_read(folder, 16, RANDOM_READS));
    }
    if is_wanted("sync") {
        show("disk_append_sync_per_s", append_and_sync(folder));
        show("disk_overwrite_sync_per_s", overwrite_and_sync(folder));
    }
    if is_wanted("cached") {
        show("disk_cached_read_4k_ns", cached_read(folder));
    }
    if is_wanted("files") {
        show("disk_open_stat_close_ns", open_stat_close(folder));
    }
}

fn per_second(count: f64, elapsed: Duration) -> f64 {
    count / elapsed.as_secs_f64()
}

fn sequential_read(folder: &Path) -> f64 {
    let file = File::open(folder.join("cold")).expect("the disk has a file `cold`");
    let mut buffer = vec![0; MIB];
    let started = Instant::now();
    for at in (0..RANDOM_FROM).step_by(MIB) {
        file.read_exact_at(&mut buffer, at).expect("it can be read");
    }
    per_second((RANDOM_FROM / MIB as u64) as f64, started.elapsed())
}

/// With the sync at the end: what lies in the cache was not written yet.
fn sequential_write(folder: &Path) -> f64 {
    const COUNT: u64 = 64;
    let file = File::create(folder.join("sequential")).expect("the disk can be written");
    let buffer = vec![0x5a; MIB];
    let started = Instant::now();
    for number in 0..COUNT {
        file.write_all_at(&buffer, number * MIB as u64).expect("it can be written");
    }
    file.sync_data().expect("it can be synced");
    per_second(COUNT as f64, started.elapsed())
}

/// Reads blocks in an order without a pattern, none twice, from `in_flight` threads.
fn random_read(folder: &Path, in_flight: u64, first: u64) -> f64 {
    let blocks = (COLD_BYTES - RANDOM_FROM) / BLOCK as u64;
    // Odd, so that it visits every block of a power of two before it comes back.
    let place = |number: u64| RANDOM_FROM + number.wrapping_mul(7919) % blocks * BLOCK as u64;
    let file = &File::open(folder.join("cold")).expect("the disk has a file `cold`");
    let started = Instant::now();
    thread::scope(|scope| {
        for reader in 0..in_flight {
            scope.spawn(move || {
                let mut buffer = [0; BLOCK];
                for number in (first + reader..first + RANDOM_READS).step_by(in_flight as usize) {
                    file.read_exact_at(&mut buffer, place(number)).expect("it can be read");
                }
            });
        }
    });
    per_second(RANDOM_READS as f64, started.elapsed())
}

/// As a log grows: each sync commits a new length, too.
fn append_and_sync(folder: &Path) -> f64 {
    let file = File::create(folder.join("log")).expect("the disk can be written");
    write_and_sync(&file)
}

/// In blocks that a file has already.
fn overwrite_and_sync(folder: &Path) -> f64 {
    let path = folder.join("blocks");
    fs::write(&path, vec![1; SYNCS as usize * BLOCK]).expect("the disk can be written");
    let file = OpenOptions::new().write(true).open(&path).expect("it was made");
    file.sync_all().expect("it can be synced");
    write_and_sync(&file)
}

fn write_and_sync(file: &File) -> f64 {
    let block = [0xa5; BLOCK];
    let started = Instant::now();
    for number in 0..u64::from(SYNCS) {
        file.write_all_at(&block, number * BLOCK as u64).expect("it can be written");
        file.sync_data().expect("it can be synced");
    }
    per_second(f64::from(SYNCS), started.elapsed())
}

fn cached_read(folder: &Path) -> f64 {
    let path = folder.join("cached");
    fs::write(&path, vec![3; CACHED_BYTES as usize]).expect("the disk can be written");
    let file = File::open(&path).expect("it was made");
    let mut buffer = [0; BLOCK];
    let mut number = 0_u64;
    super::best_ns(CACHED_READS as u32, |count| {
        for _ in 0..count {
            number = number.wrapping_add(7919);
            let at = number % (CACHED_BYTES / BLOCK as u64) * BLOCK as u64;
            file.read_exact_at(&mut buffer, at).expect("it can be read");
        }
    })
}

fn open_stat_close(folder: &Path) -> f64 {
    let name = |number: usize| folder.join(format!("files{}/file{number}", number / FILES_IN_A_FOLDER));
    for number in 0..FILES {
        if number.is_multiple_of(FILES_IN_A_FOLDER) {
            fs::create_dir(folder.join(format!("files{}", number / FILES_IN_A_FOLDER)))
                .expect("the disk has room");
        }
        File::create(name(number)).expect("the disk has room");
    }
    let names: Vec<_> = (0..FILES).map(name).collect();
    super::best_ns(FILES as u32, |_| {
        for name in &names {
            let file = File::open(name).expect("it was made");
            assert_eq!(file.metadata().expect("it is open").len(), 0);
        }
    })
}
