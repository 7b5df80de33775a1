//! Frames with several owners: a file's pages, which calls read and write and mappings show. The last
//! owner gives the frame back.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use unikernel_hal::frame::{Frame, SharedBytes};
use x86_64::PhysAddr;

use super::reclaim;
use super::user::{Fault, UserSlice};
use crate::kmem::frames;
use crate::task::scheduler;

/// Frames that exist.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Frames that files hold, together.
pub(crate) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Frames that files may hold: half of RAM (Linux: tmpfs' default `size=50%`).
pub(crate) fn limit() -> usize {
    frames::total_pages() / 2
}

/// Whose pages they are: those of files in memory have a limit, a cache's can be given up, the app's own have neither.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    Memory,
    Cache,
    App,
}

struct Owned(SharedBytes, Purpose);

impl Drop for Owned {
    fn drop(&mut self) {
        if self.1 == Purpose::Memory {
            COUNT.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Lets go of the pages of an object, however many. Called without locks.
pub(crate) fn let_go(pages: BTreeMap<u64, SharedFrame>) {
    for (done, page) in pages.into_values().enumerate() {
        drop(page);
        scheduler::breathe_now_and_then(done);
    }
}

/// One owner's share of a frame.
///
/// The app may write the frame through a mapping at any time, so its bytes are only ever copied, never
/// borrowed.
#[derive(Clone)]
pub(crate) struct SharedFrame(Arc<Owned>);

impl SharedFrame {
    /// A frame of zeros; `None` if files hold their share of memory already, or it is exhausted.
    pub(crate) fn new_zeroed() -> Option<Self> {
        if count() >= limit() {
            return None;
        }
        reclaim::make_room(1);
        let frame = if frames::can_app_take(1) { Frame::alloc_zeroed() } else { None }?;
        COUNT.fetch_add(1, Ordering::Relaxed);
        Some(Self(Arc::new(Owned(SharedBytes::new(frame), Purpose::Memory))))
    }

    /// A frame of zeros for memory that the app shows at several places; `None` if memory is exhausted.
    pub(crate) fn for_app() -> Option<Self> {
        reclaim::make_room(1);
        let frame = if frames::can_app_take(1) { Frame::alloc_zeroed() } else { None }?;
        Some(Self(Arc::new(Owned(SharedBytes::new(frame), Purpose::App))))
    }

    /// A frame with whatever content it has, for a cache, which fills it before anybody sees it. A cache takes
    /// only memory that is plentiful.
    pub(crate) fn for_cache() -> Option<Self> {
        if !frames::can_app_take(frames::reserve_pages() / 2) {
            reclaim::make_room(frames::reserve_pages() / 2 + 64);
        }
        let frame = if frames::can_app_take(1) { Frame::alloc() } else { None }?;
        Some(Self(Arc::new(Owned(SharedBytes::new(frame), Purpose::Cache))))
    }

    /// True if a cache holds it, which can read it again.
    pub(crate) fn is_of_cache(&self) -> bool {
        self.0.1 == Purpose::Cache
    }

    /// True if there is no other owner: no mapping shows it, no call uses it.
    pub(crate) fn is_sole_owner(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Where it lies.
    pub(crate) fn address(&self) -> PhysAddr {
        self.bytes().address()
    }

    /// Copies from the frame to the app.
    pub(crate) fn copy_to(&self, offset: usize, len: usize, into: UserSlice) -> Result<(), Fault> {
        into.copy_with(len, |part, at| self.bytes().copy_to(offset + at, part.len().min(len), part))
    }

    /// Copies from the app to the frame.
    pub(crate) fn copy_from(&self, offset: usize, len: usize, from: UserSlice) -> Result<(), Fault> {
        from.copy_with(len, |part, at| self.bytes().copy_from(offset + at, part.len().min(len), part))
    }

    /// Copies the kernel's bytes to the frame.
    pub(crate) fn fill(&self, offset: usize, bytes: &[u8]) {
        self.bytes().fill(offset, bytes);
    }

    /// Copies bytes of the frame to the kernel.
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) {
        self.bytes().read(offset, into);
    }

    /// A word that the kernel and the app share, and change while the other looks.
    ///
    /// # Panics
    ///
    /// If it does not lie in the frame, at a multiple of its size.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        self.bytes().word(offset)
    }

    /// Sets a part of the frame to zero.
    pub(crate) fn clear(&self, offset: usize, len: usize) {
        self.bytes().clear(offset, len);
    }

    /// Its bytes, which are only copied.
    pub(super) fn bytes(&self) -> &SharedBytes {
        &self.0.0
    }
}
