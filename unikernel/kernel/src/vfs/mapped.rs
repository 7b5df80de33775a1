//! Files of disks as mappings show them: pages of the cache, for writing only where what is written will have blocks.

use alloc::string::String;

use unikernel_vfs::Sync;
use unikernel_vfs::cache;

use super::errno;
use super::file::Opened;
use super::inode::Inode;
use crate::abi::Errno;
use crate::file::Metadata;
use crate::kmem::PAGE_BYTES;
use crate::mem::shared::SharedFrame;
use crate::mem::space::{Description, PageSource, Supply};

impl PageSource for Inode {
    fn page(&self, index: u64) -> Supply {
        if index >= self.size().div_ceil(PAGE_BYTES as u64) {
            return Supply::None;
        }
        self.content.lock().ready_page(index).map_or(Supply::Absent, Supply::Page)
    }

    fn load(&self, index: u64) -> Result<SharedFrame, Errno> {
        let inode = self.mount.inode(self.number)?;
        if index >= self.size().div_ceil(PAGE_BYTES as u64) {
            return Err(Errno::EFAULT);
        }
        Ok(cache::page(&*inode, index, 4, None).map_err(errno)?.frame().clone())
    }

    fn has_place(&self, index: u64) -> bool {
        self.content.lock().has_place(index)
    }

    fn reserve(&self, index: u64) -> Result<(), Errno> {
        self.mount.inode(self.number)?.reserve_page(index)
    }

    fn is_paged(&self) -> bool {
        true
    }

    fn notices_first_stores(&self) -> bool {
        true
    }

    fn note_store(&self) {
        self.note_change();
    }

    fn note_dirty(&self, index: u64) {
        cache::mark_dirty(self, index);
    }

    /// Who has it open knows the name.
    fn describe(&self) -> Description {
        let Metadata { device, inode, .. } = self.metadata();
        Description { name: String::new(), device, inode }
    }
}

/// What a mapping shows are the inode's pages; `msync` tells of errors as `fsync` on the mapped file would.
impl PageSource for Opened {
    fn identity(&self) -> usize {
        self.inode.identity()
    }

    fn page(&self, index: u64) -> Supply {
        PageSource::page(&*self.inode, index)
    }

    fn load(&self, index: u64) -> Result<SharedFrame, Errno> {
        PageSource::load(&*self.inode, index)
    }

    fn has_place(&self, index: u64) -> bool {
        self.inode.has_place(index)
    }

    fn reserve(&self, index: u64) -> Result<(), Errno> {
        self.inode.reserve(index)
    }

    fn is_paged(&self) -> bool {
        self.inode.is_paged()
    }

    fn notices_first_stores(&self) -> bool {
        self.inode.notices_first_stores()
    }

    fn note_store(&self) {
        self.inode.note_store();
    }

    fn note_dirty(&self, index: u64) {
        self.inode.note_dirty(index);
    }

    fn describe(&self) -> Description {
        Description { name: self.name(), ..self.inode.describe() }
    }

    fn sync(&self) -> bool {
        Opened::sync(self, Sync::All).is_ok()
    }
}
