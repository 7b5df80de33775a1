//! Memory that is no file's and that several mappings may show (`MAP_SHARED | MAP_ANONYMOUS`): mremap(2) makes further ones.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use unikernel_mm::PAGE_BYTES;

use super::{Description, PageSource, SpaceError, Supply, is_strict};
use crate::kmem::frames;
use crate::kmem::layout::page_up;
use crate::mem::shared::{self, SharedFrame};
use crate::sync::SpinLock;

/// The memory behind such mappings. Its pages come at the first touch, and stay until the last mapping is gone.
pub(crate) struct SharedMemory {
    pages: SpinLock<BTreeMap<u64, SharedFrame>>,
    page_count: u64,
    number: u64,
}

impl SharedMemory {
    /// Memory for `len` bytes. A strict promise is kept at once: nothing sets these pages aside.
    pub(crate) fn new(len: u64) -> Result<Arc<Self>, SpaceError> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let page_count = page_up(len) / PAGE_BYTES;
        if page_count > frames::total_pages() as u64 {
            return Err(SpaceError::OutOfMemory);
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let memory = Self { pages: SpinLock::new(BTreeMap::new()), page_count, number };
        let promised = if is_strict() { page_count } else { 0 };
        for index in 0..promised {
            let frame = SharedFrame::for_app().ok_or(SpaceError::OutOfMemory)?;
            memory.pages.lock().insert(index, frame);
        }
        Ok(Arc::new(memory))
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        shared::let_go(core::mem::take(self.pages.get_mut()));
    }
}

impl PageSource for SharedMemory {
    fn page(&self, index: u64) -> Supply {
        if index >= self.page_count {
            return Supply::None;
        }
        let mut pages = self.pages.lock();
        if let Some(page) = pages.get(&index) {
            return Supply::Page(page.clone());
        }
        let Some(page) = SharedFrame::for_app() else { return Supply::OutOfMemory };
        pages.insert(index, page.clone());
        Supply::Page(page)
    }

    /// Linux's name for it.
    fn describe(&self) -> Description {
        Description { name: String::from("/dev/zero (deleted)"), device: 1, inode: self.number }
    }
}
