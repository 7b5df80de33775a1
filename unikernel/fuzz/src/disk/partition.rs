//! Partition tables: records with any bytes, and a GPT with its backup, whose checksums are right whatever is in it. A partition
//! that may be used lies on the disk, and on no other.

use std::cell::Cell;
use std::collections::BTreeMap;

use crc::{CRC_32_ISO_HDLC, Crc};
use unikernel_partition::{Disk, MAX_PARTITIONS, ReadError, SECTOR_BYTES, TableKind, read};

use crate::input::Input;

static CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

const HEADER_BYTES: usize = 92;
const ENTRY_BYTES: usize = 128;
/// The primary table's entries begin in block 2, the backup's so many blocks before its header.
const ENTRIES_AT: u64 = 2;
const BACKUP_BLOCKS: u64 = 4;
/// A table is a few blocks, and a chain of records has at most 100.
const MOST_READS: u32 = 2000;

/// Zeros, but for some blocks.
struct Sparse {
    block_bytes: usize,
    blocks: u64,
    content: BTreeMap<u64, Vec<u8>>,
    reads: Cell<u32>,
}

impl Sparse {
    fn block(&mut self, number: u64) -> &mut Vec<u8> {
        let block_bytes = self.block_bytes;
        self.content.entry(number).or_insert_with(|| vec![0; block_bytes])
    }
}

impl Disk for Sparse {
    fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn read(&self, block: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.reads.set(self.reads.get() + 1);
        assert!(self.reads.get() < MOST_READS, "reads without end");
        assert!(block + (into.len() / self.block_bytes) as u64 <= self.blocks, "a read behind the end");
        for (number, into) in (block..).zip(into.chunks_mut(self.block_bytes)) {
            into.fill(0);
            if let Some(content) = self.content.get(&number) {
                into.copy_from_slice(content);
            }
        }
        Ok(())
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let block_bytes = 512 << input.below(4);
    let blocks = [64, 1 << 20, 1 << 40, u64::MAX / 4096][input.below(4)] + u64::from(input.byte());
    let mut disk = Sparse { block_bytes, blocks, content: BTreeMap::new(), reads: Cell::new(0) };
    if input.flag() {
        gpt(&mut disk, &mut input);
    } else {
        records(&mut disk, &mut input);
    }
    let Ok(Some(table)) = read(&disk) else { return };
    assert!(table.partitions.len() <= MAX_PARTITIONS);
    let sectors = blocks.saturating_mul(block_bytes as u64 / SECTOR_BYTES);
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for partition in &table.partitions {
        let end = partition.first_sector.checked_add(partition.sectors).expect("it ends");
        assert!(
            partition.first_sector > 0
                && partition.sectors > 0
                && end <= sectors
                && !partition.uuid.is_empty()
        );
        assert!(table.kind == TableKind::Gpt || partition.label.is_empty());
        ranges.push((partition.first_sector, end));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ranges:?}");
    table.complaints.iter().for_each(|complaint| assert!(!complaint.to_string().is_empty()));
}

/// Master boot records, in the first block and in others.
fn records(disk: &mut Sparse, input: &mut Input<'_>) {
    let mut place = 0;
    while !input.is_over() && disk.content.len() < 200 {
        let block = disk.block(place);
        for index in 0..4 {
            let kind = [0, 0x83, 0x05, 0x0f, 0xee, 0x85][input.below(6)];
            let entry = &mut block[446 + 16 * index..][..16];
            (entry[0], entry[4]) = (input.byte() & 0x80, kind);
            if kind != 0 {
                entry[8..12].copy_from_slice(&numbered(input).to_le_bytes());
                entry[12..].copy_from_slice(&numbered(input).to_le_bytes());
            }
        }
        block[510..512].copy_from_slice(&[0x55, 0xaa]);
        place = u64::from(numbered(input)) % disk.blocks;
    }
}

/// A number, more often a small one.
fn numbered(input: &mut Input<'_>) -> u32 {
    if input.flag() { input.byte().into() } else { input.word() }
}

/// A protective record, a table and its backup.
fn gpt(disk: &mut Sparse, input: &mut Input<'_>) {
    let record = disk.block(0);
    record[450] = 0xee;
    record[458] = 1;
    record[510..512].copy_from_slice(&[0x55, 0xaa]);
    let last = disk.blocks - 1;
    let (count, patches) = (input.below(8), input.below(6));
    let mut entries = vec![0; count * ENTRY_BYTES];
    for entry in entries.chunks_exact_mut(ENTRY_BYTES) {
        entry[0] = input.byte();
        entry[16..32].fill(input.byte());
        let first = if input.flag() { 34 + u64::from(input.byte()) } else { input.long() };
        let len = if input.flag() { u64::from(input.byte()) } else { input.long() };
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&first.wrapping_add(len).to_le_bytes());
        let name = input.chunk();
        let name = &name[..name.len().min(72)];
        entry[56..56 + name.len()].copy_from_slice(name);
    }
    let mut header = vec![0; HEADER_BYTES];
    header[..16].copy_from_slice(b"EFI PART\0\0\x01\0\x5c\0\0\0");
    header[40..48].copy_from_slice(&34_u64.to_le_bytes());
    header[48..56].copy_from_slice(&(last - 34.min(last)).to_le_bytes());
    header[80..84].copy_from_slice(&(count as u32).to_le_bytes());
    header[84..88].copy_from_slice(&(ENTRY_BYTES as u32).to_le_bytes());
    header[88..92].copy_from_slice(&CRC32.checksum(&entries).to_le_bytes());
    let places = [(1, last, ENTRIES_AT), (last, 1, last - BACKUP_BLOCKS)];
    for (own, other, at) in places {
        header[24..32].copy_from_slice(&own.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[72..80].copy_from_slice(&at.to_le_bytes());
        let mut header = header.clone();
        for _ in 0..patches {
            let at = input.below(HEADER_BYTES - 8);
            let width = 1 << input.below(4);
            header[at..at + width].copy_from_slice(&input.array::<8>()[..width]);
        }
        header[16..20].fill(0);
        let sum = CRC32.checksum(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        disk.block(own)[..HEADER_BYTES].copy_from_slice(&header);
        for (number, bytes) in (at..).zip(entries.chunks(disk.block_bytes)) {
            disk.block(number)[..bytes.len()].copy_from_slice(bytes);
        }
    }
}
