//! Partition tables: GPT (UEFI specification 2.10, chapter 5) and MBR with extended partitions, as they are found on a
//! disk, checked. Nothing is written.
//!
//! - here: [`read`], and what it answers; `gpt`, `mbr`: the two kinds; `layout`: which partitions may be used.
//!
//! A table may say anything. A partition that reaches out of the disk, over another or over the table itself is
//! refused, and the [`Complaint`] says so; the others can be used. Loops and counts are bounded.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
mod gpt;
mod layout;
mod mbr;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

pub use error::{Complaint, GptFault, Refusal, TableError};

/// Bytes of a sector, in which partitions are counted here whatever the disk's blocks are.
pub const SECTOR_BYTES: u64 = 512;
/// Partitions of a disk at most (Linux: `DISK_MAX_PARTS`).
pub const MAX_PARTITIONS: usize = 256;

/// A block could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadError;

/// A disk, in blocks: what it reads at once.
pub trait Disk {
    /// Bytes of a block: a power of two, 512 to 4,096.
    fn block_bytes(&self) -> usize;

    /// How many blocks it has.
    fn blocks(&self) -> u64;

    /// Fills `into`, a whole number of blocks, with those from `block` on, which are all on the disk.
    fn read(&self, block: u64, into: &mut [u8]) -> Result<(), ReadError>;
}

/// Which kind of table it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableKind {
    /// GUID partition table.
    Gpt,
    /// Master boot record.
    Mbr,
}

/// A partition that can be used: within the disk, over no other and not over the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// As Linux numbers them: the place in the table from 1 on; logical ones in an MBR from 5 on.
    pub number: u32,
    /// Where it begins.
    pub first_sector: u64,
    /// How long it is; not 0.
    pub sectors: u64,
    /// `PARTUUID`, in Linux's spelling: with lower-case digits, for an MBR made of the disk's signature and the number.
    pub uuid: String,
    /// `PARTLABEL`; none in an MBR.
    pub label: String,
}

/// A table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// Its kind.
    pub kind: TableKind,
    /// What can be used, by number.
    pub partitions: Vec<Partition>,
    /// What is wrong with it.
    pub complaints: Vec<Complaint>,
}

/// Reads a disk's table; `None` if it has none: a filesystem may cover all of it.
pub fn read(disk: &impl Disk) -> Result<Option<Table>, TableError> {
    if disk.blocks() == 0 {
        return Ok(None);
    }
    let block = read_block(disk, 0).map_err(|ReadError| TableError::Unreadable)?;
    let Some(record) = mbr::parse(&block) else { return Ok(None) };
    if mbr::is_protective(&record) { gpt::read(disk).map(Some) } else { Ok(mbr::read(disk, &record)) }
}

fn read_block(disk: &impl Disk, block: u64) -> Result<Vec<u8>, ReadError> {
    if block >= disk.blocks() {
        return Err(ReadError);
    }
    let mut bytes = alloc::vec![0; disk.block_bytes()];
    disk.read(block, &mut bytes)?;
    Ok(bytes)
}

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
