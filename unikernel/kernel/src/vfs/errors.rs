//! What could not be written back: who is told of it, once each ([`ErrorCursor`]), and which files it cost something, which
//! is said when the disk is unmounted.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use unikernel_vfs::InodeNumber;
use unikernel_vfs::cache::ErrorCursor;

use super::inode::Inode;
use super::{Mount, errno};
use crate::abi::Errno;
use crate::kmem::PAGE_BYTES;

/// Files that are named when a disk is unmounted.
const MOST_NAMED: usize = 16;
/// Directories above a file that its path may have; a stale memory of names could make a circle.
const MOST_LEVELS: usize = 64;

/// Which errors an open file description was told of.
pub(super) struct Told {
    pub(super) file: ErrorCursor,
    mount: ErrorCursor,
}

impl Told {
    /// For who opens `inode` now.
    pub(super) fn new(inode: &Inode) -> Self {
        let file = inode.content.lock().sample_errors();
        let mount = inode.mount.errors.lock().sample();
        Self { file, mount }
    }

    /// The error of the file that this description was not told of yet.
    pub(super) fn check(&self, inode: &Inode) -> Result<(), Errno> {
        inode.content.lock().check_errors(&self.file).map_err(errno)
    }

    /// The same of any file of the filesystem.
    pub(super) fn check_mount(&self, mount: &Mount) -> Result<(), Errno> {
        mount.errors.lock().check(&self.mount).map_or(Ok(()), |error| Err(errno(error)))
    }
}

impl Mount {
    /// Says what of the files was not written, when nothing more will be.
    pub(super) fn report_unwritten(&self) {
        let inodes: Vec<_> = self.inodes.lock().values().cloned().collect();
        let unwritten =
            inodes.iter().filter_map(|inode| inode.content.lock().unwritten().map(|pages| (inode, pages)));
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
