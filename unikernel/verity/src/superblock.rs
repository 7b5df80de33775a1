//! The superblock of a hash area (cryptsetup, `lib/verity/verity.c`, `struct verity_sb`), little-endian:
//!
//! ```text
//!   0  "verity\0\0"          80  hash algorithm, its name ended by zeros: 32 bytes, at 32
//!   8  version, 4 bytes      64  data block size, 4 bytes
//!  12  hash type, 4 bytes    68  hash block size, 4 bytes
//!  16  UUID, 16 bytes        72  data blocks, 8 bytes
//!  32  algorithm, 32 bytes   80  salt size, 2 bytes; 88: salt, 256 bytes
//! ```

use alloc::vec::Vec;

use crate::digest::Algorithm;
use crate::error::FormatError;

/// Its length.
pub const SUPERBLOCK_BYTES: usize = 512;

const SIGNATURE: &[u8; 8] = b"verity\0\0";
const VERSION: u32 = 1;
/// The salt comes first, and digests have places of a power of two.
const HASH_TYPE: u32 = 1;
const SALT_AT: usize = 88;
const MOST_SALT: usize = 256;
/// A sector, and a page; blocks of hashes may be larger than pages.
const LEAST_BLOCK: u32 = 512;
const MOST_DATA_BLOCK: u32 = 4096;
const MOST_HASH_BLOCK: u32 = 65536;

/// What a hash area says of itself, as far as it can be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// By what blocks are hashed.
    pub algorithm: Algorithm,
    /// Bytes of a block of data: a power of two, up to a page.
    pub data_block_bytes: u32,
    /// Bytes of a block of hashes: a power of two.
    pub hash_block_bytes: u32,
    /// Blocks of data.
    pub data_blocks: u64,
    salt: Vec<u8>,
}

impl Superblock {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// If it is none, or says what cannot be, or what is not known.
    pub fn parse(bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<Self, FormatError> {
        let field = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let number = |at: usize| u32::from_le_bytes(field(at));
        if bytes[..8] != *SIGNATURE {
            return Err(FormatError::NoSuperblock);
        }
        if number(8) != VERSION {
            return Err(FormatError::Version(number(8)));
        }
        if number(12) != HASH_TYPE {
            return Err(FormatError::HashType(number(12)));
        }
        let name = bytes[32..64].split(|byte| *byte == 0).next().unwrap_or_default();
        let algorithm = Algorithm::named(name).ok_or(FormatError::Algorithm)?;
        let block = |at: usize, most: u32| {
            let bytes = number(at);
            let can_be = bytes.is_power_of_two() && (LEAST_BLOCK..=most).contains(&bytes);
            if can_be { Ok(bytes) } else { Err(FormatError::BlockBytes(bytes)) }
        };
        let salt_len = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        if salt_len > MOST_SALT {
            return Err(FormatError::Salt);
        }
        Ok(Self {
            algorithm,
            data_block_bytes: block(64, MOST_DATA_BLOCK)?,
            hash_block_bytes: block(68, MOST_HASH_BLOCK)?,
            data_blocks: u64::from(number(72)) | u64::from(number(76)) << 32,
            salt: bytes[SALT_AT..SALT_AT + salt_len].to_vec(),
        })
    }

    /// What is hashed in front of each block.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }
}
