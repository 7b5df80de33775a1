//! Tables that are made here, whole and damaged in every way.

extern crate std;

use std::string::ToString;
use std::vec::Vec;
use std::{format, vec};

use gpt_disk_types::{GptHeader, GptPartitionEntry, GptPartitionType, Guid, LbaLe, U32Le};
use proptest::prelude::*;

use super::*;

const BLOCKS: u64 = 2048;
const LINUX: u8 = 0x83;

/// A disk in memory, and which of its blocks cannot be read.
struct Image {
    block_bytes: usize,
    bytes: Vec<u8>,
    bad: Option<u64>,
}

impl Disk for Image {
    fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    fn blocks(&self) -> u64 {
        (self.bytes.len() / self.block_bytes) as u64
    }

    fn read(&self, block: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let count = (into.len() / self.block_bytes) as u64;
        if self.bad.is_some_and(|bad| (block..block + count).contains(&bad)) {
            return Err(ReadError);
        }
        let start = block as usize * self.block_bytes;
        into.copy_from_slice(&self.bytes[start..start + into.len()]);
        Ok(())
    }
}

impl Image {
    fn new(block_bytes: usize) -> Self {
        Self { block_bytes, bytes: vec![0; BLOCKS as usize * block_bytes], bad: None }
    }

    fn put(&mut self, block: u64, offset: usize, bytes: &[u8]) {
        let at = block as usize * self.block_bytes + offset;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// One entry of a master boot record at `block`.
    fn put_record(&mut self, block: u64, index: usize, kind: u8, start: u32, len: u32) {
        let at = 446 + 16 * index;
        self.put(block, at + 4, &[kind]);
        self.put(block, at + 8, &start.to_le_bytes());
        self.put(block, at + 12, &len.to_le_bytes());
        self.put(block, 510, &[0x55, 0xaa]);
    }

    /// A GPT with such partitions, first and last block, and its backup.
    fn with_gpt(block_bytes: usize, partitions: &[(u64, u64)]) -> Self {
        let mut image = Self::new(block_bytes);
        image.put_record(0, 0, 0xee, 1, u32::MAX);
        let table = entries(partitions);
        let blocks = table.len().div_ceil(block_bytes) as u64;
        image.put(2, 0, &table);
        image.put(BLOCKS - 1 - blocks, 0, &table);
        image.seal(1, 2, BLOCKS - 1, &table);
        image.seal(BLOCKS - 1, BLOCKS - 1 - blocks, 1, &table);
        image
    }

    fn seal(&mut self, place: u64, entries_at: u64, other: u64, table: &[u8]) {
        let blocks = table.len().div_ceil(self.block_bytes) as u64;
        let mut header = GptHeader {
            my_lba: LbaLe::from_u64(place),
            alternate_lba: LbaLe::from_u64(other),
            first_usable_lba: LbaLe::from_u64(2 + blocks),
            last_usable_lba: LbaLe::from_u64(BLOCKS - 2 - blocks),
            partition_entry_lba: LbaLe::from_u64(entries_at),
            number_of_partition_entries: U32Le::from_u32((table.len() / 128) as u32),
            ..GptHeader::default()
        };
        header.partition_entry_array_crc32.0 = U32Le::from_u32(crc32(table));
        header.update_header_crc32();
        self.put(place, 0, bytemuck::bytes_of(&header));
    }

    /// Makes the checksum of a header right again.
    fn reseal(&mut self, place: u64) {
        let at = place as usize * self.block_bytes;
        let size = u32::from_le_bytes(self.bytes[at + 12..at + 16].try_into().unwrap()) as usize;
        if size <= self.block_bytes {
            self.put(place, 16, &[0; 4]);
            let sum = crc32(&self.bytes[at..at + size]);
            self.put(place, 16, &sum.to_le_bytes());
        }
    }

    fn table(&self) -> Table {
        read(self).unwrap().expect("a table")
    }

    /// Numbers, first sectors and lengths.
    fn found(&self) -> Vec<(u32, u64, u64)> {
        let partitions = self.table().partitions;
        partitions.iter().map(|part| (part.number, part.first_sector, part.sectors)).collect()
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes)
}

fn entries(partitions: &[(u64, u64)]) -> Vec<u8> {
    let mut table = vec![0; 128 * 128];
    for (index, (first, last)) in partitions.iter().enumerate() {
        let name = format!("part {index}");
        let entry = GptPartitionEntry {
            partition_type_guid: GptPartitionType::BASIC_DATA,
            unique_partition_guid: Guid::from_bytes([index as u8 + 1; 16]),
            starting_lba: LbaLe::from_u64(*first),
            ending_lba: LbaLe::from_u64(*last),
            name: name.parse().unwrap(),
            ..GptPartitionEntry::default()
        };
        table[128 * index..128 * (index + 1)].copy_from_slice(bytemuck::bytes_of(&entry));
    }
    table
}

#[test]
fn gpt_is_read_with_small_and_large_blocks() {
    for block_bytes in [512, 4096] {
        let image = Image::with_gpt(block_bytes, &[(100, 199), (40, 99), (300, 300)]);
        let scale = block_bytes as u64 / 512;
        let wanted = [(1, 100, 100), (2, 40, 60), (3, 300, 1)];
        assert_eq!(image.found(), wanted.map(|(number, first, len)| (number, first * scale, len * scale)));
        let table = image.table();
        assert_eq!((table.kind, table.complaints.as_slice()), (TableKind::Gpt, [].as_slice()));
        assert_eq!(table.partitions[1].label, "part 1");
        assert_eq!(table.partitions[0].uuid, "01010101-0101-0101-0101-010101010101");
    }
}

#[test]
fn backup_stands_in_for_a_damaged_table() {
    let good = || Image::with_gpt(512, &[(100, 199)]);
    let mut broken: Vec<(Image, GptFault)> = Vec::new();
    for (offset, fault) in [(0, GptFault::NoSignature), (24, GptFault::HeaderChecksum)] {
        let mut image = good();
        image.put(1, offset, &[0xff]);
        broken.push((image, fault));
    }
    let mut entries = good();
    entries.put(2, 300, &[1]);
    broken.push((entries, GptFault::EntriesChecksum));
    // Right checksums over what cannot be.
    let lies: [(usize, u64, GptFault); 6] = [
        (24, 7, GptFault::Misplaced),
        (48, BLOCKS, GptFault::OutsideDisk),
        (40, BLOCKS, GptFault::OutsideDisk),
        (72, u64::MAX, GptFault::OutsideDisk),
        (80, 128 << 32 | 0xffff_ffff, GptFault::EntryCount),
        (80, 129 << 32 | 128, GptFault::EntrySize),
    ];
    for (offset, value, fault) in lies {
        let mut image = good();
        image.put(1, offset, &value.to_le_bytes());
        image.reseal(1);
        broken.push((image, fault));
    }
    let mut unreadable = good();
    unreadable.bad = Some(1);
    broken.push((unreadable, GptFault::Unreadable));
    for (image, fault) in broken {
        assert_eq!(image.found(), [(1, 100, 100)], "{fault}");
        assert_eq!(image.table().complaints, [Complaint::BackupUsed(fault)]);
    }
}

#[test]
fn disk_that_only_says_that_it_has_a_gpt_is_an_error() {
    let mut image = Image::new(512);
    image.put_record(0, 0, 0xee, 1, u32::MAX);
    let fault = GptFault::NoSignature;
    assert_eq!(read(&image), Err(TableError::NoGpt { first: fault, backup: fault }));
    image.bytes.truncate(512);
    assert!(matches!(read(&image), Err(TableError::NoGpt { first: GptFault::Unreadable, .. })));
    image.bad = Some(0);
    assert_eq!(read(&image), Err(TableError::Unreadable));
    image.bytes.clear();
    assert_eq!(read(&image), Ok(None));
}

#[test]
fn partitions_over_others_or_outside_are_refused_alone() {
    let refused = |number, refusal| Complaint::Refused(number, refusal);
    let last_usable = BLOCKS - 2 - 32;
    let image = Image::with_gpt(
        512,
        &[
            (100, 199),
            (150, 160),
            (155, 300),
            (400, 399),
            (500, BLOCKS),
            (600, 699),
            (2, 40),
            (33, 40),
            (700, last_usable),
        ],
    );
    let table = image.table();
    let numbers: Vec<u32> = table.partitions.iter().map(|part| part.number).collect();
    assert_eq!(numbers, [6, 9]);
    let mut complaints = table.complaints;
    complaints.sort_by_key(|complaint| complaint.to_string());
    let wanted = [
        refused(1, Refusal::Overlaps),
        refused(2, Refusal::Overlaps),
        refused(3, Refusal::Overlaps),
        refused(4, Refusal::Backwards),
        refused(5, Refusal::Outside),
        refused(7, Refusal::Outside),
        refused(8, Refusal::Outside),
    ];
    assert_eq!(complaints, wanted);
}

/// A header may call its own entries usable.
#[test]
fn partition_over_the_table_is_refused() {
    let mut image = Image::with_gpt(512, &[(2, 10), (100, 199)]);
    image.put(1, 40, &0u64.to_le_bytes());
    image.reseal(1);
    assert_eq!(image.found(), [(2, 100, 100)]);
    assert_eq!(image.table().complaints, [Complaint::Refused(1, Refusal::Overlaps)]);
}

#[test]
fn entries_may_be_longer_than_usual() {
    let mut image = Image::with_gpt(512, &[]);
    let mut table = vec![0; 256 * 4];
    table[256..384].copy_from_slice(&entries(&[(100, 119)])[..128]);
    image.put(2, 0, &table);
    image.put(1, 80, &(256u64 << 32 | 4).to_le_bytes());
    image.put(1, 88, &crc32(&table).to_le_bytes());
    image.reseal(1);
    assert_eq!(image.found(), [(2, 100, 20)]);
}

#[test]
fn mbr_has_primary_and_logical_partitions() {
    for block_bytes in [512, 4096] {
        let mut image = Image::new(block_bytes);
        image.put(0, 440, &0xc0ff_ee00u32.to_le_bytes());
        image.put_record(0, 0, LINUX, 10, 90);
        image.put_record(0, 2, 0x0f, 200, 1000);
        image.put_record(200, 0, LINUX, 1, 99);
        image.put_record(200, 1, 0x05, 300, 400);
        image.put_record(500, 0, LINUX, 8, 92);
        let scale = block_bytes as u64 / 512;
        let wanted = [(1, 10, 90), (5, 201, 99), (6, 508, 92)];
        assert_eq!(image.found(), wanted.map(|(number, first, len)| (number, first * scale, len * scale)));
        let table = image.table();
        assert_eq!((table.kind, table.complaints.len()), (TableKind::Mbr, 0));
        assert_eq!(table.partitions[2].uuid, "c0ffee00-06");
    }
}

#[test]
fn chains_that_do_not_end_well_are_cut() {
    // Back to the start, to itself, out of the extended partition, to what is no table, to what cannot be read.
    for (start, bad) in [(0, None), (300, None), (5000, None), (400, None), (350, Some(550))] {
        let mut image = Image::new(512);
        image.put_record(0, 0, 0x05, 200, 1000);
        image.put_record(200, 0, LINUX, 1, 99);
        image.put_record(200, 1, 0x05, 300, 400);
        image.put_record(500, 0, LINUX, 8, 40);
        image.put_record(500, 1, 0x05, start, 400);
        image.bad = bad;
        assert_eq!(image.found(), [(5, 201, 99), (6, 508, 40)]);
        assert_eq!(image.table().complaints, [Complaint::BrokenChain]);
    }
    // Longer than any.
    let mut image = Image::new(512);
    image.put_record(0, 0, 0x05, 10, 2000);
    for link in 0..400 {
        image.put_record(10 + 4 * u64::from(link), 0, LINUX, 1, 3);
        image.put_record(10 + 4 * u64::from(link), 1, 0x05, 4 * (link + 1), 4);
    }
    let table = image.table();
    assert_eq!(
        (table.partitions.len(), table.complaints.as_slice()),
        (100, [Complaint::BrokenChain].as_slice())
    );
}

#[test]
fn logical_partition_may_not_cover_the_next_record() {
    let mut image = Image::new(512);
    image.put_record(0, 0, 0x05, 200, 1000);
    image.put_record(200, 0, LINUX, 1, 301);
    image.put_record(200, 1, 0x05, 300, 400);
    image.put_record(500, 0, LINUX, 8, 40);
    image.put_record(0, 1, LINUX, 0, 5);
    image.put_record(0, 2, LINUX, 2000, 49);
    assert_eq!(image.found(), [(6, 508, 40)]);
}

#[test]
fn filesystem_over_the_whole_disk_is_no_table() {
    let mut image = Image::new(512);
    assert_eq!(read(&image), Ok(None));
    image.put(0, 510, &[0x55, 0xaa]);
    assert_eq!(read(&image), Ok(None));
    // The code of a boot sector, where entries would be.
    image.put(0, 446, b"disk error, press any key to continue");
    assert_eq!(read(&image), Ok(None));
}

#[test]
fn labels_are_any_text() {
    let mut image = Image::with_gpt(512, &[(100, 199)]);
    let mut table = entries(&[(100, 199)]);
    table[56..64].copy_from_slice(&[0xe9, 0x00, 0x00, 0xd8, 0x41, 0x00, 0x00, 0x00]);
    image.put(2, 0, &table);
    image.put(1, 88, &crc32(&table).to_le_bytes());
    image.reseal(1);
    assert_eq!(image.table().partitions[0].label, "é\u{fffd}A".to_string());
}

/// What holds whatever a table says.
fn check(image: &Image) {
    let Ok(Some(table)) = read(image) else { return };
    assert!(table.partitions.len() <= MAX_PARTITIONS);
    assert!(table.complaints.len() <= 2 * MAX_PARTITIONS);
    let sectors = image.bytes.len() as u64 / SECTOR_BYTES;
    let mut ranges: Vec<_> =
        table.partitions.iter().map(|part| (part.first_sector, part.first_sector + part.sectors)).collect();
    ranges.sort_unstable();
    for (first, end) in &ranges {
        assert!(0 < *first && first < end && *end <= sectors);
        assert!(first.is_multiple_of(image.block_bytes as u64 / SECTOR_BYTES));
    }
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ranges:?}");
    assert!(table.complaints.iter().all(|complaint| !complaint.to_string().is_empty()));
}

const BLOCK_BYTES: [usize; 2] = [512, 4096];

proptest! {
    #[test]
    fn gpt_with_any_entries_and_header_is_safe(
        block_bytes in prop::sample::select(&BLOCK_BYTES[..]),
        partitions in prop::collection::vec((0..BLOCKS + 9, 0..BLOCKS + 9), 0..128),
        damage in prop::collection::vec((12usize..96, any::<u8>()), 0..4),
        reseals: bool,
    ) {
        let mut image = Image::with_gpt(block_bytes, &partitions);
        for (offset, value) in damage {
            image.put(1, offset, &[value]);
        }
        if reseals {
            image.reseal(1);
        }
        check(&image);
    }

    #[test]
    fn mbr_with_any_chain_is_safe(
        block_bytes in prop::sample::select(&BLOCK_BYTES[..]),
        records in prop::collection::vec(
            (0..40u64, 0..4usize, prop::sample::select(vec![LINUX, 5, 0x0f, 0x85, 0xee, 0]), 0..60u32, 0..60u32),
            0..80,
        ),
    ) {
        let mut image = Image::new(block_bytes);
        image.put_record(0, 3, 5, 1, 1000);
        for (block, index, kind, start, len) in records {
            image.put_record(block, index, kind, start, len);
        }
        check(&image);
    }

    #[test]
    fn any_bytes_are_safe(block_bytes in prop::sample::select(&BLOCK_BYTES[..]), bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let mut image = Image::new(block_bytes);
        image.put(0, 0, &bytes);
        image.put(0, 510, &[0x55, 0xaa]);
        for index in 0..4 {
            image.put(0, 446 + 16 * index, &[0]);
        }
        check(&image);
    }
}
