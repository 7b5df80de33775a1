//! The hash of a block: the salt, then the block (hash type 1).

use core::fmt;

use sha2::{Digest as _, Sha256, Sha512};

/// The longest digest.
pub(crate) const MOST_BYTES: usize = 64;

/// A hash algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// SHA-256, which `veritysetup` takes if nothing is said.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// By the name that a superblock has.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"sha256" => Some(Self::Sha256),
            b"sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of a digest: a power of two.
    pub fn digest_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The digest of a block.
    pub fn digest(self, salt: &[u8], block: &[u8]) -> Digest {
        match self {
            Self::Sha256 => {
                Digest::from_bytes(&Sha256::new().chain_update(salt).chain_update(block).finalize())
            }
            Self::Sha512 => {
                Digest::from_bytes(&Sha512::new().chain_update(salt).chain_update(block).finalize())
            }
        }
    }
}

/// The hash of a block, as it is in the tree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    bytes: [u8; MOST_BYTES],
    len: usize,
}

impl Digest {
    /// One of these bytes; of more than there is room for, the first.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let len = bytes.len().min(MOST_BYTES);
        let mut digest = Self { bytes: [0; MOST_BYTES], len };
        digest.bytes[..len].copy_from_slice(&bytes[..len]);
        digest
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As `veritysetup` writes it.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
