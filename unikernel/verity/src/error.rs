//! What is wrong with a hash area, or with a block.

use core::fmt;

/// A block could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadError;

/// Why a hash area cannot be used, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormatError {
    /// There is none where it was said to be.
    NoSuperblock,
    /// Another version of the superblock.
    Version(u32),
    /// Another type than 1, in which the salt comes first.
    HashType(u32),
    /// Another algorithm than SHA-256 and SHA-512.
    Algorithm,
    /// Blocks of a size that cannot be.
    BlockBytes(u32),
    /// The salt is longer than there is room for it.
    Salt,
    /// The root hash is not as long as the algorithm's are.
    Root,
    /// No blocks, or more than a disk can have.
    Blocks(u64),
    /// The disk with the data is shorter than the superblock says.
    ShortData,
    /// The hash area is shorter than it must be for so many blocks.
    ShortHashes,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuperblock => f.write_str(
                "there is no hash area of `veritysetup format` at that place (see `--hash-offset`)",
            ),
            Self::Version(version) => write!(f, "its superblock has version {version}, and 1 is known"),
            Self::HashType(kind) => {
                write!(f, "it has hash type {kind}; make it with `veritysetup format --format=1`")
            }
            Self::Algorithm => f.write_str(
                "its hash algorithm is not known; make it with `veritysetup format --hash=sha256`",
            ),
            Self::BlockBytes(bytes) => write!(
                f,
                "its blocks have {bytes} bytes; make it with `veritysetup format --data-block-size=4096 --hash-block-size=4096`"
            ),
            Self::Salt => f.write_str("its salt is too long"),
            Self::Root => f.write_str("the root hash that was given is not as long as its hashes are"),
            Self::Blocks(count) => write!(f, "it is for {count} blocks, which no disk has"),
            Self::ShortData => f.write_str("it is for more data than the disk has"),
            Self::ShortHashes => f.write_str("it ends before its hashes do"),
        }
    }
}

/// Why a block is not to be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckError {
    /// Its hash is another.
    Data,
    /// The hash of this block of the hash area, which leads to it, is another.
    Hash(u64),
    /// This block of the hash area could not be read.
    Read(u64),
    /// There is no such block.
    Beyond,
    /// There is no memory for a block of hashes.
    NoMemory,
}
