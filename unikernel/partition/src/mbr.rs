//! The master boot record: four partitions in the first block; one that is *extended* begins with a record like it, which
//! has a logical partition and leads to the next such record (as `fdisk` makes them and Linux reads them).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use gpt_disk_types::{MasterBootRecord, MbrPartitionRecord};

use crate::layout::{Candidate, Layout};
use crate::{Complaint, Disk, Table, TableKind, read_block};

const RECORD_BYTES: usize = size_of::<MasterBootRecord>();
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// `os_indicator`: the disk has a GPT.
const PROTECTIVE: u8 = 0xee;
/// `os_indicator`: an extended partition, of DOS, of Windows, of Linux.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// `boot_indicator`: not to be booted, and to be booted.
const BOOT_INDICATORS: [u8; 2] = [0x00, 0x80];
/// The first number of a logical partition.
const FIRST_LOGICAL: u32 = 5;
/// Records in a chain at most (Linux has the same bound).
const MAX_LINKS: usize = 100;

/// The record in a block, if it is one: the first block of a filesystem may look much alike.
pub(crate) fn parse(block: &[u8]) -> Option<MasterBootRecord> {
    let record: MasterBootRecord = bytemuck::pod_read_unaligned(&block[..RECORD_BYTES]);
    let is_sound = record.signature == SIGNATURE
        && record.partitions.iter().all(|entry| BOOT_INDICATORS.contains(&entry.boot_indicator));
    is_sound.then_some(record)
}

/// True if the disk has a GPT, and the record only says so.
pub(crate) fn is_protective(record: &MasterBootRecord) -> bool {
    record.partitions.iter().any(|entry| entry.os_indicator == PROTECTIVE)
}

/// Reads the table; `None` if it has no partition.
pub(crate) fn read(disk: &impl Disk, record: &MasterBootRecord) -> Option<Table> {
    if !record.partitions.iter().any(is_used) {
        return None;
    }
    let signature = u32::from_le_bytes(record.unique_mbr_disk_signature);
    let mut layout = Layout::default();
    layout.reserve(0..1);
    let (extended, plain): (Vec<_>, Vec<_>) = numbered(record).partition(|(_, entry)| is_extended(entry));
    let whole = 0..disk.blocks();
    for (number, entry) in plain {
        layout.add(candidate(signature, number, blocks_of(&entry, 0)), &whole);
    }
    let mut next_number = FIRST_LOGICAL;
    for (_, entry) in extended {
        read_chain(disk, blocks_of(&entry, 0), signature, &mut next_number, &mut layout);
    }
    let (partitions, complaints) = layout.finish(disk);
    Some(Table { kind: TableKind::Mbr, partitions, complaints })
}

/// Adds the logical partitions of an extended one.
fn read_chain(
    disk: &impl Disk,
    extended: Range<u64>,
    signature: u32,
    next_number: &mut u32,
    layout: &mut Layout,
) {
    let mut place = extended.start;
    for _ in 0..MAX_LINKS {
        let is_new = extended.contains(&place) && !layout.is_reserved(place);
        let block = if is_new { read_block(disk, place).ok() } else { None };
        let Some(record) = block.as_deref().and_then(parse) else { break };
        layout.reserve(place..place + 1);
        let mut next = None;
        for (_, entry) in numbered(&record) {
            if is_extended(&entry) {
                // Links count from the start of the whole extended partition, logical partitions from their record.
                next = next.or(Some(blocks_of(&entry, extended.start).start));
            } else {
                let found = candidate(signature, *next_number, blocks_of(&entry, place));
                *next_number += 1;
                if !layout.add(found, &extended) {
                    return;
                }
            }
        }
        match next {
            Some(next) => place = next,
            None => return,
        }
    }
    layout.complaints.push(Complaint::BrokenChain);
}

/// The entries in use, and their numbers.
fn numbered(record: &MasterBootRecord) -> impl Iterator<Item = (u32, MbrPartitionRecord)> {
    (1..).zip(record.partitions).filter(|(_, entry)| is_used(entry))
}

fn is_used(entry: &MbrPartitionRecord) -> bool {
    entry.os_indicator != 0 && entry.size_in_lba.to_u32() != 0
}

fn is_extended(entry: &MbrPartitionRecord) -> bool {
    EXTENDED.contains(&entry.os_indicator)
}

/// What an entry covers, which counts from `base`.
fn blocks_of(entry: &MbrPartitionRecord, base: u64) -> Range<u64> {
    let start = base.saturating_add(entry.starting_lba.to_u32().into());
    start..start.saturating_add(entry.size_in_lba.to_u32().into())
}

fn candidate(signature: u32, number: u32, blocks: Range<u64>) -> Candidate {
    Candidate { number, blocks, uuid: format!("{signature:08x}-{number:02x}"), label: String::new() }
}
