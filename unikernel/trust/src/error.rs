//! What is wrong with what should be signed.

use core::fmt;

use crate::key::PublicKey;
use crate::statement::Kind;

/// Why something is not to be used, for people: what comes behind the name of it and a colon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TrustError {
    /// There is no signature.
    Unsigned(Kind),
    /// The signature is for something of another length: bytes were added or are missing.
    Length,
    /// It was signed as something else.
    OtherKind(Kind),
    /// By a key that nobody named.
    UnknownKey(PublicKey),
    /// It is not what was signed.
    Changed,
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(kind) => {
                write!(
                    f,
                    "it is not signed; `cargo unikernel sign FILE --as {} --key KEY` does it",
                    kind.name()
                )
            }
            Self::Length => {
                f.write_str("it is not as long as when it was signed: it was changed, or cut off")
            }
            Self::OtherKind(kind) => {
                write!(f, "it was signed as {}, and is used as something else", kind.name())
            }
            Self::UnknownKey(key) => write!(f, "it was signed with a key that is not trusted here, {key}"),
            Self::Changed => f.write_str("it is not what was signed: somebody has changed it"),
        }
    }
}
