//! NVMe disks, driven by a module (`qemu/src/nvme_tests.rs`); the first argument says what is tested.
//!
//! - `mounted FOLDER`: a disk with a filesystem, on which files are written by two threads at once, made durable, and read; the module stays;
//! - `root`: the same with the disk as root, which came with a file;
//! - `reload N`: a disk that nobody has mounted comes and goes N times;
//! - `absent`: the module finds nothing to drive;
//! - `failing`: a disk whose writes fail from a place on;
//! - `listed NAME...`: just these disks and partitions are there.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::{env, process, thread};

use guest_tests::random::Random;
use guest_tests::{check, check_eq, raw_syscall};

const MODULE: &str = "/lib/modules/nvme.ko";

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["mounted", folder] => mounted(Path::new(folder)),
        ["root"] => {
            check_eq!(text("/greeting"), "from the disk\n");
            check!(text("/proc/mounts").lines().any(|line| line.contains("nvme0n1 / ext4 ")));
            mounted(Path::new("/"));
        }
        ["reload", times] => reload(times.parse().unwrap()),
        ["absent"] => absent(),
        ["failing"] => failing(),
        ["listed", ref names @ ..] => check_eq!(disks(), names),
        _ => process::exit(2),
    }
    println!("nvme: all well");
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// finit_module(2): 0, or a negative error number.
fn load() -> i64 {
    let file = File::open(MODULE).unwrap();
    let parameters = b"\0";
    let arguments = [file.as_raw_fd() as u64, parameters.as_ptr() as u64, 0, 0, 0, 0];
    raw_syscall(libc::SYS_finit_module, arguments)
}

/// delete_module(2).
fn unload() -> i64 {
    let name = b"nvme\0";
    raw_syscall(libc::SYS_delete_module, [name.as_ptr() as u64, libc::O_NONBLOCK as u64, 0, 0, 0, 0])
}

/// The names in `/proc/partitions`.
fn disks() -> Vec<String> {
    let lines = text("/proc/partitions");
    lines.lines().skip(2).filter_map(|line| line.split_whitespace().nth(3)).map(str::to_owned).collect()
}

/// Nobody can take a module away whose disk is mounted.
fn stays() {
    check_eq!(unload(), -i64::from(libc::EBUSY));
    check_eq!(text("/sys/module/nvme/initstate"), "live\n");
    check!(text("/sys/module/nvme/refcnt").trim().parse::<u32>().unwrap() >= 1);
}

fn mounted(folder: &Path) {
    check!(disks().contains(&"nvme0n1".to_owned()));
    stays();
    thread::scope(|scope| {
        for writer in 0..2u64 {
            scope.spawn(move || write_and_read(folder, writer));
        }
    });
    stays();
}

/// Files of all sizes, written in pieces that begin and end anywhere, made durable, and read.
fn write_and_read(folder: &Path, writer: u64) {
    let mut random = Random::new(writer + 1);
    for round in 0..12 {
        let len = [0, 1, 511, 512, 4095, 4097, 65_537, 300_001, 1_500_000][round % 9] + round;
        let bytes = random.bytes(len);
        let path = folder.join(format!("nvme-{writer}-{round}"));
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        let mut at = 0;
        while at < len {
            let count = (1 + random.below(200_000)).min(len - at);
            file.write_all_at(&bytes[at..at + count], at as u64).unwrap();
            at += count;
            if random.below(4) == 0 {
                file.sync_data().unwrap();
            }
        }
        file.sync_all().unwrap();
        drop(file);
        check_eq!(fs::read(&path).unwrap(), bytes);
        if round % 3 == 0 {
            fs::remove_file(&path).unwrap();
        }
    }
}

/// Memory that nobody uses, in bytes.
fn free_memory() -> i64 {
    let metrics = text("/proc/unikernel/metrics");
    let value = metrics.lines().find_map(|line| line.strip_prefix("unikernel_memory_free_bytes "));
    value.and_then(|value| value.parse().ok()).unwrap()
}

fn reload(times: usize) {
    /// What caches may take meanwhile.
    const SLACK_BYTES: i64 = 256 << 10;
    check_eq!(disks(), [] as [&str; 0]);
    let come_and_go = || {
        check_eq!(load(), 0);
        check_eq!(disks(), ["nvme0n1", "nvme0n1p1", "nvme0n1p2"]);
        check_eq!(load(), -i64::from(libc::EEXIST));
        check_eq!(unload(), 0);
        check_eq!(disks(), [] as [&str; 0]);
        check!(fs::metadata("/sys/module/nvme").is_err());
    };
    (0..5).for_each(|_| come_and_go());
    let before = free_memory();
    (0..times).for_each(|_| come_and_go());
    let after = free_memory();
    println!("nvme: {times} times; free {before}, then {after}");
    check!(after >= before - SLACK_BYTES);
}

/// Nothing is left of a module that has not started.
fn absent() {
    /// What caches may take meanwhile.
    const SLACK_BYTES: i64 = 64 << 10;
    let attempt = || {
        check_eq!(load(), -i64::from(libc::ENODEV));
        check_eq!(text("/proc/modules"), "");
        check!(fs::metadata("/sys/module/nvme").is_err());
        check_eq!(unload(), -i64::from(libc::ENOENT));
    };
    (0..3).for_each(|_| attempt());
    let before = free_memory();
    (0..20).for_each(|_| attempt());
    check!(free_memory() >= before - SLACK_BYTES);
}

/// A write that the disk refuses is told by fsync(2), and the machine goes on.
fn failing() {
    let mut file = File::create("/data/file").unwrap();
    let bytes = vec![7; 1 << 20];
    let mut failed = 0;
    for _ in 0..24 {
        if file.write_all(&bytes).and_then(|()| file.sync_all()).is_err() {
            failed += 1;
        }
    }
    check!(failed > 0);
    let mut greeting = String::new();
    File::open("/data/greeting").unwrap().read_to_string(&mut greeting).unwrap();
    check_eq!(greeting, "from the disk\n");
    println!("nvme: all well");
    process::exit(3);
}
