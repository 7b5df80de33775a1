//! Public keys, and what they find good.

use alloc::vec::Vec;
use core::fmt;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use ed25519_compact::{PublicKey as Ed25519, Signature};

use crate::SIGNATURE_BYTES;
use crate::error::TrustError;
use crate::statement::{Kind, statement};
use crate::trailer::Trailer;

/// Base64 with or without its padding.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const HEX_DIGITS: usize = 2 * PublicKey::BYTES;

/// An Ed25519 key, by which signatures are checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; Self::BYTES]);

impl PublicKey {
    /// Bytes of a key.
    pub const BYTES: usize = 32;

    /// One of these bytes; `None` if no such key can be, or everybody could sign for it (RFC 8032, section 5.1.3; keys of small order).
    pub fn new(bytes: [u8; Self::BYTES]) -> Option<Self> {
        Ed25519::new(bytes).validate().ok().map(|()| Self(bytes))
    }

    /// Reads `ed25519:` and 64 hexadecimal digits or Base64.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("ed25519:")?;
        let mut bytes = [0; Self::BYTES];
        if text.len() == HEX_DIGITS {
            let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
            for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                *byte = digit(pair[0])? << 4 | digit(pair[1])?;
            }
        } else {
            let decoded = BASE64.decode(text).ok()?;
            bytes = decoded.try_into().ok()?;
        }
        Self::new(bytes)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Its frame is large, and allowed by this name (`unikernel_build::frames`).
    #[inline(never)]
    fn has_signed(&self, text: &str, signature: &[u8; SIGNATURE_BYTES]) -> bool {
        Ed25519::new(self.0).verify(text, &Signature::new(*signature)).is_ok()
    }
}

/// As it is said to `trust=`.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ed25519:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who may sign.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keys(Vec<PublicKey>);

impl Keys {
    /// These.
    pub const fn new(keys: Vec<PublicKey>) -> Self {
        Self(keys)
    }

    /// True if nobody may.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter()
    }

    /// The content of a signed file, if one of the keys has signed it as this kind.
    ///
    /// # Errors
    ///
    /// If it is not to be used.
    pub fn open<'a>(&self, kind: Kind, file: &'a [u8]) -> Result<&'a [u8], TrustError> {
        self.open_with(kind, file, || {})
    }

    /// The same for who has other things to do meanwhile: `pause` is called each 100 microseconds or so.
    ///
    /// # Errors
    ///
    /// If it is not to be used.
    pub fn open_with<'a>(
        &self,
        kind: Kind,
        file: &'a [u8],
        pause: impl FnMut(),
    ) -> Result<&'a [u8], TrustError> {
        let (content, trailer) = Trailer::split(file).ok_or(TrustError::Unsigned(kind))?;
        let signed_as = trailer.kind().ok_or(TrustError::Changed)?;
        if signed_as != kind {
            return Err(TrustError::OtherKind(signed_as));
        }
        if trailer.len != content.len() as u64 {
            return Err(TrustError::Length);
        }
        let key = self.0.iter().find(|key| key.0 == trailer.key);
        let key = key.ok_or(TrustError::UnknownKey(PublicKey(trailer.key)))?;
        let is_good = key.has_signed(&statement(kind, content, pause), &trailer.signature);
        if is_good { Ok(content) } else { Err(TrustError::Changed) }
    }

    /// True if one of the keys has signed this content as this kind, with a signature that stands elsewhere.
    pub fn has_signed(&self, kind: Kind, content: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        let text = statement(kind, content, || {});
        self.0.iter().any(|key| key.has_signed(&text, signature))
    }
}
