//! Images with anything changed: every operation ends, in bounded time and without a panic.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use unikernel_vfs::{ByteStorage, Error, FileKind, FileSystem, InodeNumber, ReadError, Volume};

use super::image::{DIRECTORY, Image, long, slot, utf16};
use crate::{Fat, identify};

/// Of one operation, on an image of so few clusters.
const MAX_READS: u64 = 20_000;

/// Counts reads, and fails some.
struct Watched {
    bytes: Vec<u8>,
    reads: AtomicU64,
    failing_read: u64,
}

impl Volume for Watched {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let count = self.reads.fetch_add(1, Ordering::Relaxed);
        if count == self.failing_read {
            return Err(ReadError);
        }
        into.copy_from_slice(&self.bytes[offset as usize..offset as usize + into.len()]);
        Ok(())
    }
}

/// A tree with all that there is, in few clusters, so that a changed byte is likely to be one that counts.
fn image(is_fat32: bool) -> Image {
    let mut image = if is_fat32 { Image::fat32(100) } else { Image::fat16(4085) };
    let named = |name: &str, short: &[u8; 11], entry: Vec<u8>| [long(&utf16(name), short), entry].concat();
    let slots = [
        slot(b"LABEL      ", 8, 0, 0),
        named("a file with a long name", b"AFILE~1    ", slot(b"AFILE~1    ", 0, 10, 2000)),
        named("a folder", b"AFOLDE~1   ", slot(b"AFOLDE~1   ", DIRECTORY, 20, 0)),
        slot(b"EMPTY      ", 0, 0, 0),
    ]
    .concat();
    match is_fat32 {
        true => image.put(2, &slots),
        false => {
            let at = image.at(2) - 512 * 32;
            image.bytes[at..at + slots.len()].copy_from_slice(&slots);
        }
    }
    image.chain(&[10, 12, 11, 13]);
    image.chain(&[20, 22]);
    image.directory(20, 0, &slot(b"INNER   TXT", 0, 30, 700).repeat(14));
    image.put(22, &slot(b"BELOW      ", DIRECTORY, 23, 0));
    image.chain(&[23]);
    image.directory(23, 20, &named("deep", b"DEEP       ", slot(b"DEEP       ", 0, 10, 512)));
    image.chain(&[30, 31]);
    image
}

/// Does everything that can be done, to a depth and a number of names.
fn exercise(fat: &mut Fat<'_>, directory: InodeNumber, depth: u32, check: &mut dyn FnMut()) {
    let mut found = Vec::new();
    let _ = fat.entries(directory, 0, &mut |entry| {
        assert!(!entry.name.is_empty() && !entry.name.contains(&b'/') && entry.name.len() <= 765);
        found.push((entry.name.to_vec(), entry.inode, entry.kind.unwrap(), entry.next_cookie));
        if found.len() < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    check();
    for (name, inode, kind, cookie) in found.into_iter().skip(2) {
        // What is listed is found; perhaps another of the same name.
        assert!(matches!(fat.lookup(directory, &name), Ok(_) | Err(Error::Device)));
        let _ = fat.entries(directory, cookie, &mut |_| ControlFlow::Break(()));
        let _ = fat.attributes(inode);
        let _ = fat.lookup(inode, b"..");
        check();
        let mut buffer = vec![0; 3000];
        for offset in [0, 1, 511, 1900, 1 << 20, u64::from(u32::MAX) - 1, u64::MAX] {
            let read = fat.read(inode, offset, &mut buffer);
            assert!(read.is_err() || kind == FileKind::File);
            check();
        }
        if kind == FileKind::Directory && depth > 0 {
            exercise(fat, inode, depth - 1, check);
        }
    }
    let _ = fat.statistics();
    check();
}

/// A changed byte: somewhere that counts, and to what.
fn change() -> impl Strategy<Value = (u8, usize, u8)> {
    (0..4_u8, any::<usize>(), prop_oneof![Just(0), Just(0xff), Just(0xf8), any::<u8>()])
}

fn changed(is_fat32: bool, changes: &[(u8, usize, u8)]) -> Vec<u8> {
    let mut image = image(is_fat32);
    let (data, len) = (image.at(2), image.bytes.len());
    for (place, at, value) in changes {
        let range = match place {
            0 => 11..90,
            1 => 32 * 512..32 * 512 + 32 * 4,
            2 => (data - if is_fat32 { 0 } else { 512 * 32 })..data + 25 * 512,
            _ => 0..len,
        };
        image.bytes[range.start + at % range.len()] = *value;
    }
    image.bytes
}

fn run(bytes: Vec<u8>, failing_read: u64) {
    let watched = Watched { bytes, reads: AtomicU64::new(0), failing_read };
    let identity = identify(&watched);
    assert!(identity.is_none_or(|identity| identity.uuid.len() == 9));
    let Ok(mut fat) = Fat::mount(&watched) else { return };
    let mut last = 0;
    let root = fat.root();
    exercise(&mut fat, root, 3, &mut || {
        let reads = watched.reads.load(Ordering::Relaxed);
        assert!(reads - last < MAX_READS, "{} reads", reads - last);
        last = reads;
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 1000 } else { 20_000 }))]

    #[test]
    fn damaged_images_end(
        is_fat32 in any::<bool>(),
        changes in prop::collection::vec(change(), 0..10),
        failing_read in prop_oneof![Just(u64::MAX), 0..60_u64],
    ) {
        run(changed(is_fat32, &changes), failing_read);
    }
}
