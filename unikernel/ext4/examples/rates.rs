//! How fast the filesystem itself is: a disk in memory that takes no time, so what is measured is our own work.
//!
//! `cargo run --release -p unikernel-ext4 --example rates`

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use unikernel_ext4::{
    BlockDevice, DeviceError, Ext4, FormatOptions, InodeNumber, MountMode, NewKind, NewNode, Sync, Timestamp,
};

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanoseconds: 0 };
const BYTES: usize = 512 << 20;

struct Memory {
    bytes: Mutex<Vec<u8>>,
    writes: AtomicU64,
    flushes: AtomicU64,
}

impl BlockDevice for Memory {
    fn size_bytes(&self) -> u64 {
        BYTES as u64
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        let bytes = self.bytes.lock().map_err(|_| DeviceError)?;
        into.copy_from_slice(&bytes[offset as usize..offset as usize + into.len()]);
        Ok(())
    }

    fn write(&self, writes: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        let mut bytes = self.bytes.lock().map_err(|_| DeviceError)?;
        for (offset, data) in writes {
            bytes[*offset as usize..*offset as usize + data.len()].copy_from_slice(data);
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), DeviceError> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Runs `each` that many times and says how long one took, and what the disk was told.
fn measure(fs: &mut Ext4<&Memory>, what: &str, count: u64, mut each: impl FnMut(&mut Ext4<&Memory>, u64)) {
    let disk = *fs.device();
    let before = (disk.writes.load(Ordering::Relaxed), disk.flushes.load(Ordering::Relaxed));
    let start = Instant::now();
    for number in 0..count {
        each(fs, number);
    }
    let ns = start.elapsed().as_nanos() / u128::from(count);
    let writes = disk.writes.load(Ordering::Relaxed) - before.0;
    let flushes = disk.flushes.load(Ordering::Relaxed) - before.1;
    println!("{what:<42} {ns:>8} ns each, {writes} writes and {flushes} flushes for {count}");
}

fn main() {
    let disk =
        Memory { bytes: Mutex::new(vec![0; BYTES]), writes: AtomicU64::new(0), flushes: AtomicU64::new(0) };
    Ext4::format(&&disk, &FormatOptions::default(), NOW).expect("the disk can be formatted");
    let mut fs = Ext4::mount(&disk, MountMode::ReadWrite, NOW).expect("the disk can be mounted");
    let file = NewNode { kind: NewKind::File, permissions: 0o644, user: 0, group: 0 };
    let name = |number: u64| format!("file-{number:07}");
    let root = InodeNumber::ROOT;
    measure(&mut fs, "create in one directory", 20_000, |fs, number| {
        fs.create(root, name(number).as_bytes(), file, NOW).expect("create");
    });
    measure(&mut fs, "look up and read attributes", 20_000, |fs, number| {
        let inode = fs.lookup(root, name(number).as_bytes()).expect("lookup");
        fs.attributes(inode).expect("attributes");
    });
    let inode = fs.lookup(root, name(0).as_bytes()).expect("lookup");
    let block = vec![7; 4096];
    measure(&mut fs, "append 4 KiB and fdatasync", 10_000, |fs, number| {
        fs.write_at(inode, number * 4096, &block, NOW).expect("write");
        fs.sync_inode(inode, Sync::Data, NOW).expect("fdatasync");
    });
    measure(&mut fs, "overwrite 4 KiB and fdatasync", 10_000, |fs, number| {
        fs.write_at(inode, number * 7919 % 10_000 * 4096, &block, NOW).expect("write");
        fs.sync_inode(inode, Sync::Data, NOW).expect("fdatasync");
    });
    let big = vec![9; 1 << 20];
    measure(&mut fs, "write 1 MiB in sequence", 200, |fs, number| {
        let inode = fs.lookup(root, name(1).as_bytes()).expect("lookup");
        fs.write_at(inode, number << 20, &big, NOW).expect("write");
    });
    measure(&mut fs, "find a block of a file (map)", 100_000, |fs, number| {
        fs.map(inode, number * 7919 % 10_000, 1).expect("map");
    });
    measure(&mut fs, "unlink", 20_000, |fs, number| {
        fs.unlink(root, name(number).as_bytes(), NOW).expect("unlink");
    });
    fs.unmount(NOW).expect("unmount");
}
