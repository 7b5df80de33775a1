//! A disk with ext4: what survives the power cut, what an error does.

use alloc::vec::Vec;

use linux_raw_sys::general as linux;
use unikernel_hal::sim::disk::{Disk, Faults};

use super::app::{Machine, call, get, map, put, text};

const DISK_BYTES: usize = 16 << 20;

fn machine(seed: u64, format: bool) -> Machine {
    let command_line = if format { "mount=/data:blk0 format=blk0" } else { "mount=/data:blk0" };
    Machine { seed, cores: 2, command_line: command_line.into(), ..Machine::default() }
}

fn open(path: &str, flags: u32) -> Result<u64, i32> {
    call(linux::__NR_open, &[text(path), flags.into(), 0o600])
}

#[test]
fn file_on_a_disk_outlives_the_machine() {
    let disk = Disk::new(DISK_BYTES);
    let written = machine(1, true).run_with(
        || disk.plug_in(Faults::default()),
        || {
            let file = open("/data/file", linux::O_RDWR | linux::O_CREAT).unwrap();
            let bytes: Vec<u8> = (0..100_000u32).map(|at| at as u8).collect();
            assert_eq!(call(linux::__NR_write, &[file, put(&bytes), 100_000]), Ok(100_000));
            0
        },
    );
    assert_eq!(written.code, Some(0), "{}", written.console);
    let read = machine(2, false).run_with(
        || disk.plug_in(Faults::default()),
        || {
            let file = open("/data/file", linux::O_RDONLY).unwrap();
            let into = map(200_000);
            assert_eq!(call(linux::__NR_read, &[file, into, 200_000]), Ok(100_000));
            assert!(get(into, 100_000).iter().enumerate().all(|(at, byte)| *byte == at as u8));
            0
        },
    );
    assert_eq!(read.code, Some(0), "{}", read.console);
}
