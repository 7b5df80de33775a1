//! A disk or a partition: as a run of bytes in the kernel's memory, which is what the filesystem's own structures want,
//! and as sectors, for file content, which goes straight between the disk and the page cache ([`Volume::transfer`]).
//! Offsets and sectors count from the partition's start, and nothing reaches past its end.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use unikernel_vfs::ReadError;

use super::device::{
    BlockDevice, DiskError, FailedRequests, Limits, Operation, SECTOR_BYTES, Transfer, memory,
};
use super::verity::Verity;
use crate::kmem::layout::STACKS_BASE;

/// A disk or a partition.
#[derive(Clone)]
pub(crate) struct Volume {
    disk: Arc<dyn BlockDevice>,
    /// Where it begins on the disk, in sectors.
    first_sector: u64,
    /// How long it is; `None` for all of a disk, which may grow.
    part_sectors: Option<u64>,
    /// What checks its blocks, and is its content then.
    verity: Option<&'static Verity>,
}

impl Volume {
    /// The whole of a disk.
    pub(crate) fn new(disk: &Arc<dyn BlockDevice>) -> Self {
        Self { disk: Arc::clone(disk), first_sector: 0, part_sectors: None, verity: None }
    }

    /// A partition of a whole disk, or all of it from a sector on.
    pub(crate) fn part(&self, first_sector: u64, sectors: Option<u64>) -> Self {
        Self { first_sector, part_sectors: sectors, ..Self::new(&self.disk) }
    }

    /// See [`BlockDevice::hold`].
    pub(crate) fn hold(&self) -> bool {
        self.disk.hold()
    }

    /// The same with blocks that are checked, as far as there are hashes; read-only.
    pub(crate) fn checked_by(&self, verity: &'static Verity) -> Self {
        Self { part_sectors: Some(verity.size_bytes() / SECTOR_BYTES), verity: Some(verity), ..self.clone() }
    }

    /// True if its blocks are checked, and come by [`Self::read`] only.
    pub(crate) fn is_checked(&self) -> bool {
        self.verity.is_some()
    }

    fn sectors(&self) -> u64 {
        self.part_sectors.unwrap_or_else(|| self.disk.sectors())
    }

    /// Its size in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.sectors() * SECTOR_BYTES
    }

    /// What requests must keep to.
    pub(crate) fn limits(&self) -> &Limits {
        self.verity.map_or(self.disk.limits(), Verity::limits)
    }

    /// True if it cannot be written.
    pub(crate) fn is_read_only(&self) -> bool {
        self.disk.is_read_only() || self.is_checked()
    }

    /// True if the two have a sector in common.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let end = |volume: &Self| volume.first_sector.saturating_add(volume.sectors());
        core::ptr::addr_eq(Arc::as_ptr(&self.disk), Arc::as_ptr(&other.disk))
            && self.first_sector < end(other)
            && other.first_sector < end(self)
    }

    /// Where sectors lie on the disk, if they are all within.
    fn place_of(&self, sector: u64, count: u64) -> Option<u64> {
        let is_within = sector.checked_add(count).is_some_and(|end| end <= self.sectors());
        self.first_sector.checked_add(sector).filter(|_| is_within)
    }

    /// Reads or writes sectors: see [`BlockDevice::transfer`]. Not of one that [is checked](Self::is_checked).
    pub(crate) fn transfer(
        &self,
        operation: Operation,
        mut transfers: Vec<Transfer>,
    ) -> Result<(), FailedRequests> {
        if self.is_checked() {
            return Err(FailedRequests((0..transfers.len()).collect()));
        }
        for transfer in &mut transfers {
            let Some(place) = self.place_of(transfer.sector, transfer.bytes().div_ceil(SECTOR_BYTES)) else {
                log::error!("{}: {operation:?} past the end of the partition or disk", self.disk.place());
                return Err(FailedRequests((0..transfers.len()).collect()));
            };
            transfer.sector = place;
        }
        self.disk.transfer(operation, &transfers)
    }

    /// Fills `into` with what lies at `offset`; both are multiples of 512.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        if let Some(verity) = self.verity {
            return verity.read(offset, into);
        }
        if !self.is_aligned(offset, into.len()) {
            let (start, mut copy) = self.blocks_around(offset, into.len())?;
            self.read(start, &mut copy)?;
            let at = (offset - start) as usize;
            into.copy_from_slice(&copy[at..at + into.len()]);
            return Ok(());
        }
        if !is_in_ram(into) {
            let mut copy = vec![0; into.len()];
            self.read(offset, &mut copy)?;
            into.copy_from_slice(&copy);
            return Ok(());
        }
        let mut transfers = Vec::new();
        self.add(&mut transfers, offset, into)?;
        Ok(self.transfer(Operation::Read, transfers)?)
    }

    /// Writes all of `writes`, in no order; offsets and lengths are multiples of 512.
    pub(crate) fn write(&self, writes: &[(u64, &[u8])]) -> Result<(), DiskError> {
        if let Some(odd) = writes.iter().position(|(offset, bytes)| !self.is_aligned(*offset, bytes.len())) {
            self.write(&writes[..odd])?;
            self.write_within_blocks(writes[odd].0, writes[odd].1)?;
            return self.write(&writes[odd + 1..]);
        }
        let copies: Vec<Vec<u8>> =
            writes.iter().filter(|(_, bytes)| !is_in_ram(bytes)).map(|(_, bytes)| bytes.to_vec()).collect();
        let mut copies = copies.iter();
        let mut transfers = Vec::new();
        for &(offset, bytes) in writes {
            let bytes = if is_in_ram(bytes) { bytes } else { copies.next().map_or(bytes, Vec::as_slice) };
            self.add(&mut transfers, offset, bytes)?;
        }
        Ok(self.transfer(Operation::Write, transfers)?)
    }

    /// True if the disk takes a run of bytes as it is.
    fn is_aligned(&self, offset: u64, len: usize) -> bool {
        let block_bytes = self.limits().block_bytes as usize;
        offset.is_multiple_of(block_bytes as u64) && len.is_multiple_of(block_bytes)
    }

    /// Room for the whole blocks around a run of bytes, and where they begin.
    fn blocks_around(&self, offset: u64, len: usize) -> Result<(u64, Vec<u8>), DiskError> {
        let block_bytes = u64::from(self.limits().block_bytes);
        let end = offset.checked_add(len as u64).and_then(|end| end.checked_next_multiple_of(block_bytes));
        let start = offset / block_bytes * block_bytes;
        let bytes = usize::try_from(end.ok_or(DiskError)? - start).map_err(|_| DiskError)?;
        Ok((start, vec![0; bytes]))
    }

    /// Writes what is no whole number of blocks: the superblock, on a disk with larger ones.
    fn write_within_blocks(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let (start, mut copy) = self.blocks_around(offset, bytes.len())?;
        self.read(start, &mut copy)?;
        let at = (offset - start) as usize;
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        self.write(&[(start, &copy)])
    }

    /// Returns when all that was written before survives a power cut.
    pub(crate) fn flush(&self) -> Result<(), DiskError> {
        self.disk.flush()
    }

    /// Tells the disk that a range is not needed any more, if it wants to know.
    pub(crate) fn discard(&self, offset: u64, len: u64) -> Result<(), DiskError> {
        match self.limits().max_discard {
            0 => Ok(()),
            most => self.clear(Operation::Discard, offset, len, most),
        }
    }

    /// True if the disk sets ranges to zero by itself.
    pub(crate) fn can_zero(&self) -> bool {
        self.limits().max_write_zeroes > 0
    }

    /// Has the disk set a range to zero, which it must be able to.
    pub(crate) fn zero(&self, offset: u64, len: u64) -> Result<(), DiskError> {
        self.clear(Operation::WriteZeroes, offset, len, self.limits().max_write_zeroes)
    }

    /// Requests without content, of up to `most` sectors each.
    fn clear(&self, operation: Operation, offset: u64, len: u64, most: u32) -> Result<(), DiskError> {
        let end = offset.checked_add(len).ok_or(DiskError)? / SECTOR_BYTES;
        let mut sector = offset.div_ceil(SECTOR_BYTES);
        while sector < end {
            let count = (end - sector).min(u64::from(most));
            let place = self.place_of(sector, count).ok_or(DiskError)?;
            self.disk.clear(operation, place, count as u32)?;
            sector += count;
        }
        Ok(())
    }

    /// Adds the transfer of `bytes` at `offset`, as part of the last one where it goes on there.
    fn add(&self, transfers: &mut Vec<Transfer>, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if !offset.is_multiple_of(SECTOR_BYTES) || !bytes.len().is_multiple_of(SECTOR_BYTES as usize) {
            return Err(DiskError);
        }
        self.disk.limits().add(transfers, offset / SECTOR_BYTES, memory(bytes));
        Ok(())
    }
}

/// As filesystems that are only read see it.
impl unikernel_vfs::Volume for Volume {
    fn size_bytes(&self) -> u64 {
        Self::size_bytes(self)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        Self::read(self, offset, into).map_err(|_| ReadError)
    }
}

/// True for memory that is one run for a device, too: all but stacks.
fn is_in_ram(bytes: &[u8]) -> bool {
    (bytes.as_ptr().addr() as u64) < STACKS_BASE
}
