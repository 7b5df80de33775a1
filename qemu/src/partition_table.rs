//! Partition tables, written: a GPT with its backup and protective MBR, or an MBR with an extended partition.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use gpt_disk_types::{
    GptHeader, GptPartitionEntry, GptPartitionType, Guid, LbaLe, MasterBootRecord, MbrPartitionRecord, U32Le,
};

/// Entries of a GPT, which every tool expects.
const ENTRIES: usize = 128;
/// The first blocks of a disk are the table's; partitions begin at a MiB, as everywhere.
pub(crate) const ALIGNMENT_BYTES: u64 = 1 << 20;

/// A partition of a new table, in blocks of the disk.
pub(crate) struct NewPartition {
    pub(crate) kind: GptPartitionType,
    pub(crate) name: &'static str,
    pub(crate) uuid: Guid,
    pub(crate) first: u64,
    pub(crate) blocks: u64,
}

/// Writes a GPT to a disk of `block_bytes`.
pub(crate) fn write_gpt(
    disk: &File,
    block_bytes: u64,
    disk_uuid: Guid,
    partitions: &[NewPartition],
) -> Result<()> {
    let blocks = disk.metadata()?.len() / block_bytes;
    let entries = gpt_entries(partitions)?;
    let entry_blocks = (entries.len() as u64).div_ceil(block_bytes);
    let last = blocks.checked_sub(1).context("an empty disk")?;
    let header = |place: u64, other: u64, entries_at: u64| {
        let mut header = GptHeader {
            my_lba: LbaLe::from_u64(place),
            alternate_lba: LbaLe::from_u64(other),
            first_usable_lba: LbaLe::from_u64(2 + entry_blocks),
            last_usable_lba: LbaLe::from_u64(last - 1 - entry_blocks),
            disk_guid: disk_uuid,
            partition_entry_lba: LbaLe::from_u64(entries_at),
            number_of_partition_entries: U32Le::from_u32(ENTRIES as u32),
            ..GptHeader::default()
        };
        header.partition_entry_array_crc32.0 = U32Le::from_u32(crc32(&entries));
        header.update_header_crc32();
        header
    };
    let covers = |partition: &NewPartition| {
        partition.first >= 2 + entry_blocks && partition.first + partition.blocks <= last - entry_blocks
    };
    ensure!(partitions.iter().all(covers), "the partitions do not fit the disk");
    let mut protective = MasterBootRecord::default();
    protective.partitions[0] = record(0xee, 1, u32::try_from(last).unwrap_or(u32::MAX));
    protective.signature = [0x55, 0xaa];
    // A loader's code may be there already.
    let mut first = vec![0; size_of::<MasterBootRecord>()];
    disk.read_exact_at(&mut first, 0)?;
    first[440..].copy_from_slice(&bytemuck::bytes_of(&protective)[440..]);
    disk.write_all_at(&first, 0)?;
    for (place, other, entries_at) in [(1, last, 2), (last, 1, last - entry_blocks)] {
        disk.write_all_at(bytemuck::bytes_of(&header(place, other, entries_at)), place * block_bytes)?;
        disk.write_all_at(&entries, entries_at * block_bytes)?;
    }
    Ok(())
}

fn gpt_entries(partitions: &[NewPartition]) -> Result<Vec<u8>> {
    let mut bytes = vec![0; ENTRIES * size_of::<GptPartitionEntry>()];
    for (partition, place) in partitions.iter().zip(bytes.chunks_exact_mut(size_of::<GptPartitionEntry>())) {
        let entry = GptPartitionEntry {
            partition_type_guid: partition.kind,
            unique_partition_guid: partition.uuid,
            starting_lba: LbaLe::from_u64(partition.first),
            ending_lba: LbaLe::from_u64(partition.first + partition.blocks - 1),
            name: partition.name.parse().map_err(|_| anyhow::anyhow!("a name of 35 letters at most"))?,
            ..GptPartitionEntry::default()
        };
        place.copy_from_slice(bytemuck::bytes_of(&entry));
    }
    Ok(bytes)
}

fn crc32(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes)
}

fn record(kind: u8, first: u32, blocks: u32) -> MbrPartitionRecord {
    MbrPartitionRecord {
        os_indicator: kind,
        starting_lba: U32Le::from_u32(first),
        size_in_lba: U32Le::from_u32(blocks),
        ..MbrPartitionRecord::default()
    }
}

/// Writes an MBR to a disk of `block_bytes`: a primary partition, and an extended one with all others. The block before
/// each of those is taken by its record.
pub(crate) fn write_mbr(
    disk: &File,
    block_bytes: u64,
    signature: u32,
    partitions: &[NewPartition],
) -> Result<()> {
    /// Linux's own.
    const LINUX: u8 = 0x83;
    const EXTENDED: u8 = 0x0f;
    let [primary, logical @ ..] = partitions else { return Ok(()) };
    let (Some(first), Some(last)) = (logical.first(), logical.last()) else { return Ok(()) };
    let (start, end) = (first.first - 1, last.first + last.blocks);
    let number = |block: u64| u32::try_from(block).context("an MBR counts 32 bits");
    let write = |place: u64, records: [MbrPartitionRecord; 2]| -> Result<()> {
        let mut table = MasterBootRecord { signature: [0x55, 0xaa], ..MasterBootRecord::default() };
        table.partitions[..2].copy_from_slice(&records);
        if place == 0 {
            table.unique_mbr_disk_signature = signature.to_le_bytes();
        }
        Ok(disk.write_all_at(bytemuck::bytes_of(&table), place * block_bytes)?)
    };
    let primary = record(LINUX, number(primary.first)?, number(primary.blocks)?);
    write(0, [primary, record(EXTENDED, number(start)?, number(end - start)?)])?;
    for (index, partition) in logical.iter().enumerate() {
        let next = match logical.get(index + 1) {
            // Links count from the start of the extended partition, and cover the partition with its record.
            Some(next) => record(EXTENDED, number(next.first - 1 - start)?, number(next.blocks + 1)?),
            None => MbrPartitionRecord::default(),
        };
        write(partition.first - 1, [record(LINUX, 1, number(partition.blocks)?), next])?;
    }
    Ok(())
}
