//! The GUID partition table: a header in block 1 with its entries, and a backup of both at the disk's end.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use crc::{CRC_32_ISO_HDLC, Crc, Table as CrcTable};
use gpt_disk_types::{GptHeader, GptPartitionEntry, GptPartitionType};

use crate::layout::{Candidate, Layout};
use crate::{Complaint, Disk, GptFault, ReadError, Table, TableError, TableKind, read_block};

/// As ext4's: by table, without the kernel's vector registers.
static CRC32: Crc<u32, CrcTable<1>> = Crc::<u32, CrcTable<1>>::new(&CRC_32_ISO_HDLC);

/// Where the first header lies.
const FIRST_HEADER: u64 = 1;
const HEADER_BYTES: usize = size_of::<GptHeader>();
const ENTRY_BYTES: usize = size_of::<GptPartitionEntry>();
/// The checksum of the header is made with zeros in its own place.
const CHECKSUM_AT: Range<usize> = 16..20;
/// The longest entry, and all entries together: 128 entries of 128 bytes are usual.
const MAX_ENTRY_BYTES: usize = 4096;
const MAX_ENTRIES_BYTES: usize = 1 << 20;

/// A header and its entries, whose checksums are right.
struct Gpt {
    header: GptHeader,
    entry_bytes: usize,
    entries: Vec<u8>,
    /// The blocks of the entries.
    place: Range<u64>,
}

/// Reads the table of a disk that should have one.
pub(crate) fn read(disk: &impl Disk) -> Result<Table, TableError> {
    let mut complaints = Vec::new();
    let gpt = match Gpt::read(disk, FIRST_HEADER) {
        Ok(gpt) => gpt,
        Err(first) => {
            let backup = Gpt::read(disk, disk.blocks().saturating_sub(1));
            let gpt = backup.map_err(|backup| TableError::NoGpt { first, backup })?;
            complaints.push(Complaint::BackupUsed(first));
            gpt
        }
    };
    let (partitions, more) = gpt.layout().finish(disk);
    complaints.extend(more);
    Ok(Table { kind: TableKind::Gpt, partitions, complaints })
}

impl Gpt {
    /// Reads the one whose header is at `place`.
    fn read(disk: &impl Disk, place: u64) -> Result<Self, GptFault> {
        let block = read_block(disk, place).map_err(|ReadError| GptFault::Unreadable)?;
        let header = check_header(&block, place)?;
        let last = disk.blocks().saturating_sub(1);
        let (first_usable, last_usable) = (header.first_usable_lba.to_u64(), header.last_usable_lba.to_u64());
        if first_usable > last_usable || last_usable > last {
            return Err(GptFault::OutsideDisk);
        }
        let entry_bytes = header.size_of_partition_entry.to_u32() as usize;
        if !(ENTRY_BYTES..=MAX_ENTRY_BYTES).contains(&entry_bytes) || !entry_bytes.is_power_of_two() {
            return Err(GptFault::EntrySize);
        }
        let bytes = (header.number_of_partition_entries.to_u32() as usize).checked_mul(entry_bytes);
        let bytes = bytes.filter(|bytes| *bytes <= MAX_ENTRIES_BYTES).ok_or(GptFault::EntryCount)?;
        let start = header.partition_entry_lba.to_u64();
        let blocks = bytes.div_ceil(disk.block_bytes()) as u64;
        let end =
            start.checked_add(blocks).filter(|end| *end <= disk.blocks()).ok_or(GptFault::OutsideDisk)?;
        let mut entries = alloc::vec![0; blocks as usize * disk.block_bytes()];
        if !entries.is_empty() {
            disk.read(start, &mut entries).map_err(|ReadError| GptFault::Unreadable)?;
        }
        entries.truncate(bytes);
        if CRC32.checksum(&entries) != u32::from_le_bytes(header.partition_entry_array_crc32.0.0) {
            return Err(GptFault::EntriesChecksum);
        }
        Ok(Self { header, entry_bytes, entries, place: start..end })
    }

    fn layout(&self) -> Layout {
        let mut layout = Layout::default();
        // The first two blocks are the MBR's and the first header's, be that good or not.
        layout.reserve(0..FIRST_HEADER + 1);
        layout.reserve(self.place.clone());
        for header in [self.header.my_lba.to_u64(), self.header.alternate_lba.to_u64()] {
            layout.reserve(header..header.saturating_add(1));
        }
        let room =
            self.header.first_usable_lba.to_u64()..self.header.last_usable_lba.to_u64().saturating_add(1);
        for (index, bytes) in self.entries.chunks_exact(self.entry_bytes).enumerate() {
            let entry: GptPartitionEntry = bytemuck::pod_read_unaligned(&bytes[..ENTRY_BYTES]);
            if { entry.partition_type_guid } == GptPartitionType::UNUSED {
                continue;
            }
            let end = entry.ending_lba.to_u64().saturating_add(1);
            let candidate = Candidate {
                number: index as u32 + 1,
                blocks: entry.starting_lba.to_u64()..end,
                uuid: { entry.unique_partition_guid }.to_string(),
                label: label(bytes),
            };
            if !layout.add(candidate, &room) {
                break;
            }
        }
        layout
    }
}

/// The header in a block, if it belongs to `place`.
fn check_header(block: &[u8], place: u64) -> Result<GptHeader, GptFault> {
    let header: GptHeader = bytemuck::pod_read_unaligned(&block[..HEADER_BYTES]);
    if !header.is_signature_valid() {
        return Err(GptFault::NoSignature);
    }
    let bytes = header.header_size.to_u32() as usize;
    if !(HEADER_BYTES..=block.len()).contains(&bytes) {
        return Err(GptFault::HeaderSize);
    }
    let mut digest = CRC32.digest();
    digest.update(&block[..CHECKSUM_AT.start]);
    digest.update(&[0; CHECKSUM_AT.end - CHECKSUM_AT.start]);
    digest.update(&block[CHECKSUM_AT.end..bytes]);
    if digest.finalize() != u32::from_le_bytes(header.header_crc32.0.0) {
        return Err(GptFault::HeaderChecksum);
    }
    if header.my_lba.to_u64() == place { Ok(header) } else { Err(GptFault::Misplaced) }
}

/// The name of an entry: UTF-16, up to a zero.
fn label(entry: &[u8]) -> String {
    let units = entry[56..ENTRY_BYTES].chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}
