//! What goes wrong around the filesystem: little memory, a device that fails.

use std::sync::atomic::{AtomicI64, Ordering};

use super::check::check;
use super::found::content_of;
use super::workload::Workload;
use super::*;
use crate::{BlockDevice, DeviceError, Error};

#[test]
fn cache_stays_within_its_bound() {
    let device = formatted(96 << 10, 1024);
    let mut fs = mounted(&device);
    fs.set_cache_bytes(1 << 20);
    let limit = fs.cache.limit();
    let mut most = 0;
    for number in 0..20_000u32 {
        let name = std::format!("a-name-that-fills-the-directory-{number}");
        fs.create(ROOT, name.as_bytes(), file(), at(2)).expect("create");
        most = most.max(fs.cache.len());
    }
    // Clean blocks up to the limit, and as many that are changed or wait for a checkpoint.
    assert!(most * 2 > limit && most <= 2 * limit + limit / 4, "{most} blocks of {limit}");
    fs.unmount(at(3)).expect("unmount");
    assert_clean(&device.image());
}

/// A disk on which after some writes every further one fails.
struct Failing<'a> {
    below: &'a MemoryDevice,
    left: AtomicI64,
}

impl BlockDevice for Failing<'_> {
    fn size_bytes(&self) -> u64 {
        self.below.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        self.below.read(offset, into)
    }

    fn write(&self, writes: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        for write in writes {
            if self.left.fetch_sub(1, Ordering::Relaxed) <= 0 {
                return Err(DeviceError);
            }
            self.below.write(&[*write])?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), DeviceError> {
        if self.left.load(Ordering::Relaxed) <= 0 { Err(DeviceError) } else { Ok(()) }
    }
}

#[test]
fn failing_device_makes_the_filesystem_read_only_and_stays_recoverable() {
    for writes in (10..400).step_by(13) {
        let device = formatted(2300, 1024);
        let failing = Failing { below: &device, left: AtomicI64::new(1_000_000) };
        let mut fs = mounted(&failing);
        let inode = fs.create(ROOT, b"kept", file(), at(2)).expect("create");
        fs.write_at(inode, 0, b"kept", at(2)).expect("write");
        fs.commit(at(2)).expect("commit");
        failing.left.store(writes, Ordering::Relaxed);
        let mut number = 0;
        let error = loop {
            let name = std::format!("file-{number}");
            let made = fs.create(ROOT, name.as_bytes(), file(), at(3)).and_then(|inode| {
                fs.write_at(inode, 0, &[1; 3000], at(3))?;
                fs.commit(at(3))
            });
            number += 1;
            if let Err(error) = made {
                break error;
            }
        };
        assert_eq!(error, Error::Device);
        drop(fs);
        let mut fs = mounted(&device);
        check(&mut fs);
        let found = content_of(&mut fs);
        assert!(found.contains_key("/kept"));
        // All but the one that failed, which may or may not be there.
        assert!((number..=number + 1).contains(&found.len()), "{} of {number}", found.len());
        fs.unmount(at(4)).expect("unmount");
    }
}

#[test]
fn blocks_of_a_failed_write_stay_the_files_and_read_as_zeros() {
    let device = formatted(2300, 1024);
    let mut fs = mounted(&device);
    let inode = fs.create(ROOT, b"torn", file(), at(2)).expect("create");
    fs.write_at(inode, 0, &[7; 2048], at(2)).expect("write");
    let failed = fs.prepare_write(inode, 1, 6).expect("blocks");
    fs.finish_partial_write(inode, &failed, |_| false, Some(7 * 1024), at(3)).expect("finish");
    let again = fs.prepare_write(inode, 1, 6).expect("blocks");
    let places = |runs: &[crate::WriteRun]| -> Vec<u64> {
        runs.iter().flat_map(|run| run.start..run.start + u64::from(run.blocks)).collect()
    };
    assert_eq!(places(&again), places(&failed), "a retry goes where the first try went");
    fs.cancel_write(&again);
    let mut bytes = [1; 7 * 1024];
    assert_eq!(fs.read_at(inode, 0, &mut bytes), Ok(bytes.len()));
    // What was there before the write is there still.
    assert!(bytes[..2048].iter().all(|byte| *byte == 7) && bytes[2048..].iter().all(|byte| *byte == 0));
    fs.commit(at(3)).expect("commit");
    check(&mut fs);
    fs.unmount(at(4)).expect("unmount");
    assert_clean(&device.image());
}

#[test]
fn write_that_failed_in_part_keeps_the_rest() {
    let device = formatted(2300, 1024);
    let mut fs = mounted(&device);
    let inode = fs.create(ROOT, b"torn", file(), at(2)).expect("create");
    let runs = fs.prepare_write(inode, 0, 8).expect("blocks");
    for run in &runs {
        let bytes = std::vec![7; run.blocks as usize * 1024];
        device.write(&[(run.start * 1024, &bytes)]).expect("write");
    }
    // The first, one in the middle, and the last, which the file's end is in.
    let is_written = |block| ![0, 3, 7].contains(&block);
    fs.finish_partial_write(inode, &runs, is_written, Some(8 * 1024 - 100), at(3)).expect("finish");
    let mut bytes = [1; 8 * 1024 - 100];
    assert_eq!(fs.read_at(inode, 0, &mut bytes), Ok(bytes.len()));
    for (block, content) in bytes.chunks(1024).enumerate() {
        let wanted = if is_written(block as u64) { 7 } else { 0 };
        assert!(content.iter().all(|byte| *byte == wanted), "block {block}");
    }
    fs.commit(at(3)).expect("commit");
    check(&mut fs);
    fs.unmount(at(4)).expect("unmount");
    assert_clean(&device.image());
}

/// Whoever is told of so many available blocks may accept as much data, and write it later: its own metadata takes none of them.
#[test]
fn available_blocks_are_available_for_data() {
    const BLOCK: u64 = 1024;
    let device = formatted(8 << 10, BLOCK as u32);
    let mut fs = mounted(&device);
    let inode = fs.create(ROOT, b"scattered", file(), at(2)).expect("create");
    let promised = fs.statistics().available_blocks;
    for block in 0..promised {
        // Every block is an extent of its own, so that as much metadata is needed as there can be.
        fs.write_at(inode, 2 * block * BLOCK, &[7; BLOCK as usize], at(2))
            .expect("a block that was promised");
    }
    assert_eq!(fs.statistics().available_blocks, 0);
    fs.commit(at(3)).expect("commit");
    check(&mut fs);
    fs.unmount(at(4)).expect("unmount");
    assert_clean(&device.image());
}

#[test]
fn read_only_mount_changes_nothing_but_the_journal() {
    let device = formatted(2300, 1024);
    let mut fs = mounted(&device);
    let mut workload = Workload::new(5);
    for _ in 0..50 {
        workload.step(&mut fs);
    }
    fs.commit(at(2)).expect("commit");
    drop(fs);
    let mut fs = Ext4::mount(&device, MountMode::ReadOnly, at(3)).expect("mount");
    super::found::assert_same(&mut fs, &workload.model);
    assert_eq!(fs.create(ROOT, b"x", file(), at(3)), Err(Error::ReadOnly));
    let replayed = device.image();
    drop(Ext4::mount(&device, MountMode::ReadOnly, at(4)).expect("mount"));
    assert!(device.image() == replayed);
    assert_clean(&replayed);
}
