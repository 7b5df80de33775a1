//! One page of a file in memory, and the memory it is in.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;

/// One share of a page's memory. Who has another share, such as a mapping, may read and change the bytes at any time.
pub trait Frame: Clone {
    /// Sets bytes to zero.
    fn clear(&self, offset: usize, len: usize);

    /// Copies bytes into the page.
    fn fill(&self, offset: usize, bytes: &[u8]);

    /// Copies bytes out of the page.
    fn read(&self, offset: usize, into: &mut [u8]);

    /// True if there is no other share.
    fn is_sole_owner(&self) -> bool;
}

const LOADING: u8 = 0;
const READY: u8 = 1;
const FAILED: u8 = 2;

/// One page of a file. What is atomic here may change while others have the page in hand, without the lock of its file.
#[derive(Debug)]
pub struct Page<F> {
    frame: F,
    state: AtomicU8,
    is_referenced: AtomicBool,
    /// It is dirty and has no blocks yet: blocks are reserved for it.
    pub(super) is_delayed: AtomicBool,
    /// All of it is known to have blocks.
    pub(super) has_blocks: AtomicBool,
}

impl<F> Page<F> {
    /// A page that is about to be read.
    pub(super) fn loading(frame: F) -> Arc<Self> {
        Self::new(frame, LOADING)
    }

    /// A page that holds what it should.
    pub(super) fn ready(frame: F) -> Arc<Self> {
        Self::new(frame, READY)
    }

    fn new(frame: F, state: u8) -> Arc<Self> {
        Arc::new(Self {
            frame,
            state: AtomicU8::new(state),
            is_referenced: AtomicBool::new(false),
            is_delayed: AtomicBool::new(false),
            has_blocks: AtomicBool::new(false),
        })
    }

    /// Its bytes.
    pub fn frame(&self) -> &F {
        &self.frame
    }

    /// It was read, or could not be. What was read into it is visible to who sees that it is ready.
    pub(super) fn finish(&self, is_good: bool) {
        self.state.store(if is_good { READY } else { FAILED }, Ordering::Release);
    }

    pub(super) fn is_loading(&self) -> bool {
        self.state.load(Ordering::Acquire) == LOADING
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state.load(Ordering::Acquire) == READY
    }

    /// True if what is written to it will find blocks.
    pub(super) fn has_place(&self) -> bool {
        self.is_delayed.load(Ordering::Relaxed) || self.has_blocks.load(Ordering::Relaxed)
    }

    /// Notes that somebody uses it.
    #[inline]
    pub(super) fn touch(&self) {
        if !self.is_referenced.load(Ordering::Relaxed) {
            self.is_referenced.store(true, Ordering::Relaxed);
        }
    }

    /// True if somebody has used it since this was asked last.
    pub(super) fn take_reference(&self) -> bool {
        self.is_referenced.swap(false, Ordering::Relaxed)
    }
}
