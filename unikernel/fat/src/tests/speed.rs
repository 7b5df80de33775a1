//! How often the volume is read: a file's end is as near as its beginning.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use unikernel_vfs::{ByteStorage, ReadError, Volume};

use super::find;
use super::image::{Image, slot};
use crate::Fat;

/// An image whose data is not there: a cluster reads as its number, over and over.
struct Numbered {
    image: Vec<u8>,
    data: u64,
    bytes: u64,
    reads: AtomicU64,
}

impl Volume for Numbered {
    fn size_bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        assert!(offset + into.len() as u64 <= self.bytes);
        self.reads.fetch_add(1, Ordering::Relaxed);
        for (at, byte) in (offset..).zip(into) {
            *byte = match self.image.get(at as usize) {
                Some(byte) => *byte,
                None => number_byte(2 + ((at - self.data) / 512) as u32, at),
            };
        }
        Ok(())
    }
}

fn number_byte(cluster: u32, at: u64) -> u8 {
    cluster.to_le_bytes()[(at % 4) as usize]
}

/// FAT32 with one file in these clusters, which begin after the root's.
fn numbered(clusters: u32, chain: &[u32]) -> Numbered {
    let mut image = Image::fat32(clusters);
    image.put(2, &slot(b"FILE       ", 0, chain[0], chain.len() as u32 * 512));
    image.chain(chain);
    let (data, bytes) = (image.at(2) as u64, image.bytes.len() as u64);
    image.bytes.truncate(image.at(3));
    Numbered { image: image.bytes, data, bytes, reads: AtomicU64::new(0) }
}

/// Numbers in an order without any two neighbours.
fn scattered(count: u32) -> Vec<u32> {
    (0..count).map(|index| 3 + (u64::from(index) * 48_271 % u64::from(count)) as u32).collect()
}

fn check(bytes: &[u8], offset: u64, chain: &[u32]) {
    for (at, byte) in (offset..).zip(bytes) {
        let cluster = chain[(at / 512) as usize];
        assert_eq!(*byte, number_byte(cluster, at), "at {at}");
    }
}

#[test]
fn a_file_of_64_mib_is_read_in_order_with_few_reads_of_the_table() {
    let count = 131_071;
    for (chain, most_reads) in [((3..3 + count).collect(), 8), (scattered(count), 64)] {
        let chain: Vec<u32> = chain;
        let volume = numbered(count + 10, &chain);
        let mut fat = Fat::mount(&volume).unwrap();
        let file = find(&mut fat, "file").unwrap();
        let mut buffer = vec![0; 4096];
        let mut calls = 0;
        for offset in (0..u64::from(count) * 512).step_by(4096) {
            let len = fat.read(file, offset, &mut buffer).unwrap();
            if offset % (1 << 20) == 0 {
                check(&buffer[..len], offset, &chain);
            }
            calls += 1;
        }
        // A scattered file has a piece in each cluster and another page of the table for each.
        let reads = volume.reads.load(Ordering::Relaxed);
        assert!(reads < calls * most_reads, "{reads} reads in {calls} calls");
    }
}

#[test]
fn the_end_of_a_contiguous_file_is_looked_for_once() {
    let count = 400_000;
    let chain: Vec<u32> = (3..3 + count).collect();
    let volume = numbered(count + 10, &chain);
    let mut fat = Fat::mount(&volume).unwrap();
    let file = find(&mut fat, "file").unwrap();
    let mut buffer = [0; 4096];
    let mut reads_of = |offset: u64| {
        let before = volume.reads.load(Ordering::Relaxed);
        let len = fat.read(file, offset, &mut buffer).unwrap();
        check(&buffer[..len], offset, &chain);
        volume.reads.load(Ordering::Relaxed) - before
    };
    // The table has 391 windows of 4 KiB.
    assert!((380..400).contains(&reads_of(u64::from(count) * 512 - 4096)));
    for offset in [0, 100_000_000, 50_000_000, 204_000_000, 12_345] {
        assert!(reads_of(offset) <= 2);
    }
}

#[test]
fn a_scattered_file_is_never_followed_from_its_beginning_again() {
    let count = 131_071;
    let chain = scattered(count);
    let volume = numbered(count + 10, &chain);
    let mut fat = Fat::mount(&volume).unwrap();
    let file = find(&mut fat, "file").unwrap();
    let mut buffer = [0; 512];
    let end = u64::from(count - 1) * 512;
    fat.read(file, end, &mut buffer).unwrap();
    for offset in [end / 2, end / 7, end, 512, end - 512, end / 3] {
        let offset = offset / 512 * 512;
        let before = volume.reads.load(Ordering::Relaxed);
        fat.read(file, offset, &mut buffer).unwrap();
        check(&buffer, offset, &chain);
        let reads = volume.reads.load(Ordering::Relaxed) - before;
        // Of 131,071 steps at most one in 256 is known.
        assert!(reads <= 520, "{reads}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is remembered of chains in pieces, and forgotten, each place is where the table says.
    #[test]
    fn chains_are_what_the_table_says(
        pieces in prop::collection::vec((0..6000_u32, 1..40_u32), 1..1500),
        asked in prop::collection::vec(0..60_000_u32, 1..80),
    ) {
        let mut used = BTreeMap::new();
        let mut chain = Vec::new();
        for (start, len) in pieces {
            for cluster in 3 + start..3 + start + len {
                if used.insert(cluster, ()).is_none() {
                    chain.push(cluster);
                }
            }
        }
        let volume = numbered(6100, &chain);
    let mut fat = Fat::mount(&volume).unwrap();
        for index in asked {
            let index = index % (chain.len() as u32 + 1);
            prop_assert_eq!(fat.cluster_at(chain[0], index), Ok(chain.get(index as usize).copied()));
        }
    }
}
