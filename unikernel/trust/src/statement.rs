//! What a signature is over: some lines about the content.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use sha2::{Digest, Sha256};

/// What something is signed as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An archive of files, among them the app's program.
    Initrd,
    /// A file of a machine's configuration.
    Configuration,
    /// A module of the kernel's.
    Module,
    /// The root hash of a disk whose blocks are checked.
    Verity,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Initrd, Self::Configuration, Self::Module, Self::Verity];

    /// Its name, in statements and on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initrd => "initrd",
            Self::Configuration => "configuration",
            Self::Module => "module",
            Self::Verity => "verity",
        }
    }

    /// The one with a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its number in a trailer.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Initrd => 1,
            Self::Configuration => 2,
            Self::Module => 3,
            Self::Verity => 4,
        }
    }

    pub(crate) fn numbered(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// Bytes that are hashed between two pauses: some 100 microseconds.
const BYTES_WITHOUT_PAUSE: usize = 16 << 10;

/// The lines about a content, which may be long: `pause` is called now and then while it is hashed.
pub(crate) fn statement(kind: Kind, content: &[u8], mut pause: impl FnMut()) -> String {
    let mut text = format!("unikernel-signature 1\nkind {}\nbytes {}\nsha256 ", kind.name(), content.len());
    let mut hash = Sha256::new();
    for part in content.chunks(BYTES_WITHOUT_PAUSE) {
        hash.update(part);
        pause();
    }
    for byte in hash.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    text
}
