//! Changing which blocks a file has, and how long it is.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::inode::Inode;
use super::load::split;
use super::now;
use super::write_back::ALL;
use crate::fs::memory_file::MAX_FILE_BYTES;
use crate::mem::PAGE_BYTES;
use crate::syscall::Errno;

impl Inode {
    /// Makes the file shorter or longer (truncate(2)).
    pub fn resize(self: &Arc<Self>, size: u64) -> Result<(), Errno> {
        self.mount.check_writable()?;
        if size > MAX_FILE_BYTES {
            return Err(Errno::EFBIG);
        }
        let _turn = self.writers.lock();
        let _transfers = self.transfers.lock();
        let old = self.size();
        if size < old {
            let (index, within) = split(size);
            self.set_size(size);
            self.drop_pages(if within == 0 { index } else { index + 1 });
            if let Some(page) = self.pages.lock().all.get(&index) {
                page.frame.clear(within, PAGE_BYTES - within);
            }
        }
        self.mount.with(|ext4| ext4.set_size(self.number, size, now()))?;
        self.set_size(size);
        self.runs.lock().forget();
        self.has_new_times.store(false, Ordering::Relaxed);
        self.refresh()
    }

    /// Gives a range blocks, so that writes there will not run out of space (fallocate(2)).
    pub fn allocate(self: &Arc<Self>, offset: u64, len: u64, keep_size: bool) -> Result<(), Errno> {
        self.mount.check_writable()?;
        let _turn = self.writers.lock();
        let _transfers = self.transfers.lock();
        let outcome = self.mount.with(|ext4| ext4.allocate_range(self.number, offset, len, keep_size, now()));
        self.runs.lock().forget();
        outcome?;
        if !keep_size {
            self.set_size(self.size().max(offset + len));
        }
        self.refresh()
    }

    /// Sets a range to zeros and gives its blocks back (`FALLOC_FL_PUNCH_HOLE`).
    pub fn punch(self: &Arc<Self>, offset: u64, len: u64) -> Result<(), Errno> {
        self.mount.check_writable()?;
        let _turn = self.writers.lock();
        let _transfers = self.transfers.lock();
        self.write_back_in_turn(ALL)?;
        let end = (offset + len).min(self.size());
        if offset >= end {
            return Ok(());
        }
        let outcome = self.mount.with(|ext4| ext4.punch(self.number, offset, end - offset, now()));
        self.runs.lock().forget();
        outcome?;
        let page_bytes = PAGE_BYTES as u64;
        for (index, page) in self.pages.lock().all.range(offset / page_bytes..end.div_ceil(page_bytes)) {
            let from = offset.max(index * page_bytes);
            let to = end.min((index + 1) * page_bytes);
            page.frame.clear((from % page_bytes) as usize, (to - from) as usize);
        }
        self.refresh()
    }
}
