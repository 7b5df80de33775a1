//! What could not be written back: who is told of it, once each ([`ErrorSequence`]), and which pages it cost, which
//! is said when the disk is unmounted.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use unikernel_vfs::InodeNumber;
use unikernel_vfs::cache::{ErrorCursor, ErrorSequence};

use super::Mount;
use super::inode::Inode;
use super::write_back::DirtyPage;
use crate::abi::Errno;
use crate::kmem::PAGE_BYTES;
use crate::sync::SpinLock;

/// Lost pages that are remembered of a file.
const MOST_LOST: usize = 1024;
/// Files that are named when a disk is unmounted.
const MOST_NAMED: usize = 16;
/// Directories above a file that its path may have; a stale memory of names could make a circle.
const MOST_LEVELS: usize = 64;

/// What of one file could not be written.
#[derive(Default)]
pub(super) struct Failures {
    errors: ErrorSequence<Errno>,
    /// Pages that the disk does not have as they were written.
    lost: BTreeSet<u64>,
}

impl Failures {
    /// How many pages are lost, and the first.
    pub(super) fn lost_pages(&self) -> Option<(usize, u64)> {
        self.lost.first().map(|&first| (self.lost.len(), first))
    }

    /// Pages from `first` on are not the file's any more.
    pub(super) fn forget_from(&mut self, first: u64) {
        self.lost.split_off(&first);
    }

    /// These pages were written after all.
    pub(super) fn note_written(&mut self, pages: &[DirtyPage]) {
        if !self.lost.is_empty() {
            self.lost.retain(|lost| pages.iter().all(|page| page.index != *lost));
        }
    }

    fn note_lost(&mut self, pages: &[DirtyPage], error: Errno) {
        self.errors.record(error);
        let room = MOST_LOST.saturating_sub(self.lost.len());
        self.lost.extend(pages.iter().map(|page| page.index).take(room));
    }
}

/// Which errors an open file description was told of.
pub(super) struct Told {
    file: SpinLock<ErrorCursor>,
    mount: SpinLock<ErrorCursor>,
}

impl Told {
    /// For who opens `inode` now.
    pub(super) fn new(inode: &Inode) -> Self {
        let file = inode.failures.lock().errors.sample();
        let mount = inode.mount.errors.lock().sample();
        Self { file: SpinLock::new(file), mount: SpinLock::new(mount) }
    }

    /// The error of the file that this description was not told of yet.
    pub(super) fn check(&self, inode: &Inode) -> Result<(), Errno> {
        let mut cursor = self.file.lock();
        inode.failures.lock().errors.check(&mut cursor).map_or(Ok(()), Err)
    }

    /// The same of any file of the filesystem.
    pub(super) fn check_mount(&self, mount: &Mount) -> Result<(), Errno> {
        let mut cursor = self.mount.lock();
        mount.errors.lock().check(&mut cursor).map_or(Ok(()), Err)
    }
}

impl Inode {
    /// Pages could not be written: whoever has the file or its filesystem open will be told.
    pub(super) fn note_lost(&self, pages: &[DirtyPage], error: Errno) {
        self.failures.lock().note_lost(pages, error);
        self.mount.errors.lock().record(error);
    }

    /// Pages that the disk does not have, lost or still to be written: how many, and the first.
    fn unwritten(&self) -> Option<(usize, u64)> {
        let dirty = {
            let pages = self.pages.lock();
            pages.dirty.first().map(|&first| (pages.dirty.len(), first))
        };
        let lost = self.failures.lock().lost_pages();
        match (lost, dirty) {
            (Some((lost, first)), Some((dirty, other))) => Some((lost + dirty, first.min(other))),
            (lost, dirty) => lost.or(dirty),
        }
    }
}

impl Mount {
    /// Says what of the files was not written, when nothing more will be.
    pub(super) fn report_unwritten(&self) {
        let inodes: Vec<_> = self.inodes.lock().values().cloned().collect();
        let unwritten = inodes.iter().filter_map(|inode| inode.unwritten().map(|pages| (inode, pages)));
        let mut files = 0;
        for (inode, (pages, first)) in unwritten {
            files += 1;
            if files <= MOST_NAMED {
                let (path, at) = (self.path_of(inode.number), first * PAGE_BYTES as u64);
                log::error!(
                    "{}: {path}: {pages} page(s) were not written, the first at byte {at}",
                    self.disk
                );
            }
        }
        if files > MOST_NAMED {
            log::error!("{}: {} more files were not written in full", self.disk, files - MOST_NAMED);
        }
    }

    /// A path of an inode, as far as its names are remembered.
    pub(super) fn path_of(&self, number: InodeNumber) -> String {
        let names = self.names.lock();
        let mut path = String::new();
        let mut at = number.0;
        for _ in 0..MOST_LEVELS {
            if at == self.root.0 {
                return format!("{}{path}", self.path.trim_end_matches('/'));
            }
            let Some((key, _)) = names.iter().find(|(_, inode)| **inode == at) else { break };
            path = format!("/{}{path}", String::from_utf8_lossy(&key.1));
            at = key.0;
        }
        format!("inode {}", number.0)
    }
}
