//! Who may sign what the machine uses (`trust=`; `unikernel_trust` has the format). Without a key everything is taken as it is; with one, what comes
//! from outside the image is used only if one of the keys has signed it, and all others are an end of the boot, or of the module's loading.
//!
//! What asks here: the initrd and the configuration (`lib.rs`, `service::config`), modules, and disks whose blocks are checked (`vfs::table`); programs
//! are executed only from there (`may_execute` of `vfs::table`).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use spin::Once;
use unikernel_cmdline::{Shown, TrustOptions};
use unikernel_trust::{Keys, Kind, PublicKey, SIGNATURE_BYTES, TrustError, without_trailer};

use crate::task::{self, scheduler};

/// What checking a signature may take of the stack: a frame of up to 4 KiB (`unikernel_build::frames`), and what that calls. It is half of it in fact; a
/// checked kernel takes more. Threads have 16 KiB, so it is asked before whether there is so much; there is for who comes straight from a system call.
const STACK_BYTES: usize = 12 << 10;

/// Why a file is not to be used.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// It is not signed as it should be.
    Signature(TrustError),
    /// Its signature was not looked at: too much of the stack is in use.
    StackShort,
}

/// What comes behind the name of the file and a colon.
impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature(error) => write!(f, "{error}"),
            Self::StackShort => f.write_str("there is no room on the stack to check its signature"),
        }
    }
}

/// Keys, and where they come from.
struct Policy {
    keys: Keys,
    /// They are in the image: whoever wrote the command line need not be trusted.
    are_built_in: bool,
}

static POLICY: Once<Policy> = Once::new();

/// Takes the keys that the image and the command line name, before anything is used. An error is a text for people.
pub(crate) fn init(options: &TrustOptions) -> Result<(), String> {
    let key = |text: &String| {
        let key = PublicKey::parse(text);
        key.ok_or_else(|| {
            format!(
                "`trust={}`: expected `ed25519:` and a public key, in hexadecimal digits or Base64, as `cargo unikernel sign` shows it",
                Shown(text)
            )
        })
    };
    let keys: Vec<PublicKey> = options.keys.iter().map(key).collect::<Result<_, _>>()?;
    if let Some(key) = keys.first() {
        let place = if options.are_built_in { "the image's" } else { "the command line's" };
        log::info!("only what is signed is used: {} key(s), {place}; the first is {key}", keys.len());
        POLICY.call_once(|| Policy { keys: Keys::new(keys), are_built_in: options.are_built_in });
    }
    Ok(())
}

/// True if only what is signed may be used.
#[inline]
pub(crate) fn is_required() -> bool {
    POLICY.get().is_some()
}

/// The content of a file that may be signed: all of it but the signature. With keys, only if one of them has signed it as this kind.
pub(crate) fn open(kind: Kind, file: &[u8]) -> Result<&[u8], OpenError> {
    match POLICY.get() {
        Some(_) if !task::has_stack_for(STACK_BYTES) => Err(OpenError::StackShort),
        Some(policy) => policy.keys.open_with(kind, file, scheduler::breathe).map_err(OpenError::Signature),
        None => Ok(without_trailer(file)),
    }
}

/// True if what a disk has is as good as signed, by the root hash against which its blocks are checked. That is so if whoever named the keys named the
/// root, or if a key has signed it.
pub(crate) fn is_root_good(root: &[u8], signature: Option<&[u8; SIGNATURE_BYTES]>) -> bool {
    let Some(policy) = POLICY.get() else { return true };
    match signature {
        Some(signature) => policy.keys.has_signed(Kind::Verity, root, signature),
        None => !policy.are_built_in,
    }
}
