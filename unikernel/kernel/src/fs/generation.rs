//! `/proc/unikernel/generation`: how often the machine has gone on from a saved state, for programs that have keys, tokens or
//! caches of their own to renew.
//!
//! A change is told as Linux tells it of attributes in `/sys` and of `/proc/mounts`: who has the file open finds `POLLPRI` and
//! `POLLERR` until it reads the file from its start.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::LazyLock;

use super::Handle;
use super::node::{metadata, name_of};
use crate::abi::SysResult;
use crate::file::{File, Metadata, NamedNode, PollSource, Readiness};
use crate::mem::user::UserSlice;
use crate::platform::generation;

static SOURCE: LazyLock<PollSource> = LazyLock::new(PollSource::new);
const CHANGED: Readiness = Readiness::PRI.union(Readiness::ERR);

/// Where it is.
pub(super) const PATH: &str = "/proc/unikernel/generation";

/// Tells who watches the file. Callable from an interrupt handler, with no lock held.
pub(crate) fn changed() {
    SOURCE.notify(CHANGED);
}

/// The text.
pub(crate) fn text() -> String {
    format!("{}\n", generation::number())
}

/// The file, opened.
pub(super) struct Generation {
    handle: Handle,
    /// The number that was read last, or that counted at the opening.
    known: AtomicU64,
}

/// Opens it.
pub(super) fn open(handle: Handle) -> Arc<dyn File> {
    Arc::new(Generation { handle, known: AtomicU64::new(generation::number()) })
}

impl File for Generation {
    fn node(&self) -> Option<&dyn NamedNode> {
        Some(&self.handle)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn read_at(&self, offset: u64, into: UserSlice) -> SysResult {
        if offset == 0 {
            self.known.store(generation::number(), Ordering::Relaxed);
        }
        // What is read in pieces is one number.
        let text = format!("{}\n", self.known.load(Ordering::Relaxed));
        let rest = text.as_bytes().get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into.write(&rest[..count])?;
        Ok(count)
    }

    fn readiness(&self) -> Readiness {
        let has_changed = self.known.load(Ordering::Relaxed) != generation::number();
        let always = Readiness::READABLE | Readiness::WRITABLE;
        if has_changed { always | CHANGED } else { always }
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&SOURCE)
    }

    fn metadata(&self) -> Metadata {
        metadata(self.handle.id)
    }

    fn name(&self) -> String {
        name_of(&self.handle)
    }
}
