//! How a signature stands behind a content, little-endian:
//!
//! ```text
//!   0  signature, 64 bytes       104  kind, 4 bytes
//!  64  public key, 32 bytes      108  version, 4 bytes: 1
//!  96  the content's length, 8   112  "unikernel-signed"
//! ```

use crate::SIGNATURE_BYTES;
use crate::key::PublicKey;
use crate::statement::Kind;

/// Its length.
pub const TRAILER_BYTES: usize = 128;

const MAGIC: &[u8; 16] = b"unikernel-signed";
const VERSION: u32 = 1;

/// A trailer, as it was found or is to be written.
pub(crate) struct Trailer {
    pub(crate) signature: [u8; SIGNATURE_BYTES],
    pub(crate) key: [u8; PublicKey::BYTES],
    pub(crate) len: u64,
    /// The kind's number, which may be none.
    pub(crate) kind: u32,
}

impl Trailer {
    /// Takes it off a file; `None` if there is none of this version.
    pub(crate) fn split(file: &[u8]) -> Option<(&[u8], Self)> {
        let (content, trailer) = file.split_last_chunk::<TRAILER_BYTES>()?;
        let (signature, rest) = trailer.split_first_chunk::<SIGNATURE_BYTES>()?;
        let (key, rest) = rest.split_first_chunk::<{ PublicKey::BYTES }>()?;
        let (len, rest) = rest.split_first_chunk::<8>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (version, magic) = rest.split_first_chunk::<4>()?;
        let is_one = magic == MAGIC && u32::from_le_bytes(*version) == VERSION;
        let trailer = Self {
            signature: *signature,
            key: *key,
            len: u64::from_le_bytes(*len),
            kind: u32::from_le_bytes(*kind),
        };
        is_one.then_some((content, trailer))
    }

    /// As it stands in a file.
    pub(crate) fn bytes(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..64].copy_from_slice(&self.signature);
        bytes[64..96].copy_from_slice(&self.key);
        bytes[96..104].copy_from_slice(&self.len.to_le_bytes());
        bytes[104..108].copy_from_slice(&self.kind.to_le_bytes());
        bytes[108..112].copy_from_slice(&VERSION.to_le_bytes());
        bytes[112..].copy_from_slice(MAGIC);
        bytes
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        Kind::numbered(self.kind)
    }
}

/// The content of a file, whether it is signed or not, for who does not ask by whom.
pub fn without_trailer(file: &[u8]) -> &[u8] {
    Trailer::split(file).map_or(file, |(content, _)| content)
}
