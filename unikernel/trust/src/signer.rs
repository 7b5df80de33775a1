//! The other side: who signs.

use alloc::vec::Vec;

use base64::Engine;
use ed25519_compact::{KeyPair, Seed};

use crate::SIGNATURE_BYTES;
use crate::key::{BASE64, PublicKey};
use crate::statement::{Kind, statement};
use crate::trailer::Trailer;

/// What stands in front of a secret key in a file of `openssl genpkey -algorithm ed25519` (RFC 8410, section 7; PKCS #8), and in front of a public key
/// in one of `openssl pkey -pubout`.
const SECRET_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// A secret key.
pub struct Signer(KeyPair);

impl Signer {
    /// Reads a file of `openssl genpkey -algorithm ed25519`; `None` if it is none.
    pub fn from_pem(text: &str) -> Option<Self> {
        let bytes = from_pem(text, "PRIVATE KEY", &SECRET_PREFIX)?;
        Some(Self(KeyPair::from_seed(Seed::new(bytes))))
    }

    /// The key by which its signatures are checked.
    pub fn public(&self) -> PublicKey {
        PublicKey::new(*self.0.pk).expect("the key of a secret key can be")
    }

    /// The signature of a content.
    pub fn sign(&self, kind: Kind, content: &[u8]) -> [u8; SIGNATURE_BYTES] {
        *self.0.sk.sign(statement(kind, content, || {}), None)
    }

    /// A content with its signature behind it.
    pub fn seal(&self, kind: Kind, content: &[u8]) -> Vec<u8> {
        let trailer = Trailer {
            signature: self.sign(kind, content),
            key: *self.public().bytes(),
            len: content.len() as u64,
            kind: kind.number(),
        };
        [content, &trailer.bytes()].concat()
    }
}

impl PublicKey {
    /// Reads a file of `openssl pkey -pubout`; `None` if it is none.
    pub fn from_pem(text: &str) -> Option<Self> {
        Self::new(from_pem(text, "PUBLIC KEY", &PUBLIC_PREFIX)?)
    }
}

/// The 32 bytes behind a prefix, of a file in PEM (RFC 7468).
fn from_pem(text: &str, label: &str, prefix: &[u8]) -> Option<[u8; 32]> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| {
        line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) != Some(label)
    });
    lines.next()?;
    let body: Vec<u8> = lines.take_while(|line| !line.starts_with("-----")).flat_map(str::bytes).collect();
    let bytes = BASE64.decode(body).ok()?;
    bytes.strip_prefix(prefix)?.try_into().ok()
}
