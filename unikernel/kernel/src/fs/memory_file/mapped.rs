//! Files in memory as mappings show them: their own pages.

use alloc::string::String;
use core::sync::atomic::Ordering;

use super::MemoryFile;
use crate::kmem::PAGE_BYTES;
use crate::mem::shared;
use crate::mem::space::{Description, PageSource, Supply};
use crate::platform::time;

impl PageSource for MemoryFile {
    fn page(&self, index: u64) -> Supply {
        let mut state = self.state.lock();
        if index >= state.size.div_ceil(PAGE_BYTES as u64) {
            return Supply::None;
        }
        match state.page(index) {
            Some(page) => Supply::Page(page),
            // Files have their share of memory: there is no place for the page, however much is free.
            None if shared::count() >= shared::limit() => Supply::None,
            None => Supply::OutOfMemory,
        }
    }

    fn allows_writing(&self) -> bool {
        self.state.lock().check_write().is_ok()
    }

    /// Of the tree, which has the times, nothing may be changed here.
    fn note_store(&self) {
        self.stored_ns.store(time::wall_ns(), Ordering::Relaxed);
    }

    /// A node knows more of it.
    fn describe(&self) -> Description {
        Description { name: String::new(), device: 0, inode: 0 }
    }
}

impl MemoryFile {
    /// When the app last stored to it through a mapping, if that is newer than its node's times.
    pub(crate) fn stored_ns(&self) -> Option<u64> {
        Some(self.stored_ns.load(Ordering::Relaxed)).filter(|&ns| ns != 0)
    }

    /// Its node gets newer times, or other ones.
    pub(crate) fn forget_store(&self) {
        self.stored_ns.store(0, Ordering::Relaxed);
    }
}
