//! What can be wrong with a table, in words.

use core::fmt;

/// Why a disk's table cannot be used at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableError {
    /// The first block cannot be read.
    Unreadable,
    /// The disk says that it has a GPT; neither the first one nor the backup is good.
    NoGpt {
        /// What is wrong with the first one.
        first: GptFault,
        /// And with the backup.
        backup: GptFault,
    },
}

/// What is wrong with a GPT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GptFault {
    /// The disk is too small for it, or a block cannot be read.
    Unreadable,
    /// There is none.
    NoSignature,
    /// Its header has an impossible length.
    HeaderSize,
    /// Its header's checksum is wrong.
    HeaderChecksum,
    /// Its header was made for another block.
    Misplaced,
    /// It speaks of blocks that the disk does not have.
    OutsideDisk,
    /// Entries of an impossible length.
    EntrySize,
    /// More entries than any disk has.
    EntryCount,
    /// The entries' checksum is wrong.
    EntriesChecksum,
}

/// Why a partition is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It ends before it begins.
    Backwards,
    /// It reaches out of the disk, or out of where the table lets partitions be.
    Outside,
    /// It has blocks in common with another one or with the table.
    Overlaps,
}

/// What is wrong with a table that can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Complaint {
    /// The first GPT is bad, the backup is not.
    BackupUsed(GptFault),
    /// A partition cannot be used.
    Refused(u32, Refusal),
    /// There are more than `MAX_PARTITIONS`.
    TooMany,
    /// The chain of an extended partition ends where it should not: at a block outside or one that cannot be read, at
    /// what is no table, at a table that was there before, or never.
    BrokenChain,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("the first block cannot be read"),
            Self::NoGpt { first, backup } => {
                write!(f, "no good GPT: the first has {first}, the backup {backup}")
            }
        }
    }
}

impl fmt::Display for GptFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "blocks that cannot be read",
            Self::NoSignature => "no signature",
            Self::HeaderSize => "a header of an impossible length",
            Self::HeaderChecksum => "a wrong checksum of the header",
            Self::Misplaced => "a header that belongs elsewhere",
            Self::OutsideDisk => "blocks that are not on the disk",
            Self::EntrySize => "entries of an impossible length",
            Self::EntryCount => "too many entries",
            Self::EntriesChecksum => "a wrong checksum of the entries",
        })
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BackupUsed(fault) => {
                write!(f, "the first GPT has {fault}: the backup at the disk's end is used")
            }
            Self::Refused(number, refusal) => {
                let reason = match refusal {
                    Refusal::Backwards => "it ends before it begins",
                    Refusal::Outside => "it reaches out of its place",
                    Refusal::Overlaps => "it overlaps with another one or with the table",
                };
                write!(f, "partition {number} is refused: {reason}")
            }
            Self::TooMany => write!(f, "more than {} partitions", crate::MAX_PARTITIONS),
            Self::BrokenChain => {
                f.write_str("the chain of an extended partition is broken: what comes after is not found")
            }
        }
    }
}
