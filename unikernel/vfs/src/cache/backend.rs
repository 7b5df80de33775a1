//! What the cache of a file needs of the kernel: locks, sleep, memory, the filesystem, the disk.

use alloc::vec::Vec;
use core::ops::Range;

use super::counts::Counts;
use super::file_cache::FileCache;
use super::page::Frame;
use super::reservations::Reservations;
use crate::{BlockMap, ByteStorage, Error, FileSystem, InodeNumber, Storage, Timestamp};

/// Which way content moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the disk to memory.
    Read,
    /// From memory to the disk.
    Write,
}

/// How pieces become requests to a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Requests {
    /// Pieces that lie together go together.
    Joined,
    /// Each piece has requests of its own: what is known of one that fails is known of its piece.
    Apart,
}

/// Memory of a page, and the sectors (of 512 bytes) that it comes from or goes to.
#[derive(Debug)]
pub struct Piece<'a, F> {
    /// The page's number in the file.
    pub index: u64,
    /// The first sector.
    pub sector: u64,
    /// The page's memory.
    pub frame: &'a F,
    /// Where the piece begins in it.
    pub offset: usize,
    /// Its length in bytes: whole sectors.
    pub len: usize,
}

/// What a private mapping has copied of pages that go out of mappings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copies {
    /// It stays: the bytes changed, but the page is still the file's.
    Keep,
    /// It goes, too: the file ends before it.
    Drop,
}

/// What all files of a filesystem share.
#[derive(Debug)]
pub struct Shared {
    /// Bytes in a block: a power of two, from a sector up to a page.
    pub block_bytes: usize,
    /// Content lies in blocks of a disk; else the filesystem moves it itself.
    pub has_blocks: bool,
    /// Space that is reserved for dirty pages.
    pub reservations: Reservations,
}

/// One file of a mounted filesystem, for the functions of this module.
pub trait Backend {
    /// Memory of a page.
    type Frame: Frame;
    /// Holds a sleeping lock.
    type Guard<'a>
    where
        Self: 'a;

    /// Runs `work` on the state of the file's content, with a lock that is held for as long as that takes. `work` neither
    /// sleeps nor calls anything of the backend.
    fn with<T>(&self, work: impl FnOnce(&mut FileCache<Self::Frame>) -> T) -> T;

    /// Takes the sleeping lock that is held while blocks of the file are in use or change hands, so that none is freed under a
    /// transfer.
    fn lock_io(&self) -> Self::Guard<'_>;

    /// Sleeps until `is_over` says so; it is asked again after each [`Self::wake`].
    fn wait(&self, is_over: impl FnMut() -> bool);

    /// Wakes those who wait for pages to be read.
    fn wake(&self);

    /// Lets others run. No spin lock is held.
    fn yield_now(&self);

    /// The same, now and then, in a loop of which so many rounds are done that took about a microsecond each.
    fn breathe(&self, done: usize);

    /// Memory for a page, with whatever is in it. Other pages of the cache may go for it.
    fn new_frame(&self) -> Option<Self::Frame>;

    /// Makes room for a page where nothing could go at once; may write back other files. False if there is none after all.
    fn make_room(&self) -> bool;

    /// Memory for bytes that the filesystem moves.
    fn buffer(&self, len: usize) -> Result<Vec<u8>, Error>;

    /// The counts of the whole cache.
    fn counts(&self) -> &Counts;

    /// Pages have entered the file's list: from now on they may be evicted.
    fn note_added(&self, pages: Range<u64>);

    /// True if there are, or have been, shared mappings of the file.
    fn is_mapped(&self) -> bool;

    /// Has the pages marked dirty that were written through mappings ([`super::mark_dirty`]).
    fn collect_mapped(&self);

    /// Takes pages out of all mappings: the next touch asks for them anew. When this returns, nobody reaches the old ones.
    fn unmap(&self, pages: Range<u64>, copies: Copies);

    /// The file's number in its filesystem.
    fn number(&self) -> InodeNumber;

    /// What it shares with the other files of its filesystem.
    fn shared(&self) -> &Shared;

    /// True if the filesystem was mounted read-only: nothing of it was ever changed here.
    fn is_read_only(&self) -> bool;

    /// True if errors have made the filesystem read-only: what is not durable by now will never be.
    fn has_failed(&self) -> bool;

    /// Runs an operation of the filesystem, one at a time. Space that is free afterwards becomes known to
    /// [`Reservations::set_free_pages`].
    fn with_filesystem<T>(
        &self,
        work: impl FnOnce(&mut dyn FileSystem) -> Result<T, Error>,
    ) -> Result<T, Error>;

    /// Moves pieces between memory and the disk, all of them in flight together. All have ended when this returns. The error has
    /// the places of those in `pieces` that may have failed; the others are done.
    fn transfer(
        &self,
        direction: Direction,
        requests: Requests,
        pieces: &[Piece<'_, Self::Frame>],
    ) -> Result<(), Vec<usize>>;

    /// Now.
    fn now(&self) -> Timestamp;

    /// When the content was changed last.
    fn modified(&self) -> Timestamp;

    /// The content changes now.
    fn note_write(&self);

    /// The filesystem has set the length, and the times with it.
    fn note_resize(&self);

    /// A page became dirty: the file is to be written back in time.
    fn note_dirty(&self);

    /// What is dirty is about to be written, with [`Self::lock_io`] held: all pages or some.
    fn note_write_back(&self, is_all: bool);

    /// Tells the filesystem of the times, if they are newer than it knows.
    fn store_times(&self) -> Result<(), Error>;

    /// The filesystem has changed the file's attributes: asks for all that are not kept here.
    fn refresh(&self) -> Result<(), Error>;

    /// Notes an error of write-back for whoever syncs the filesystem.
    fn record_error(&self, error: Error);

    /// Says that a pass of write-back has lost pages.
    fn report_losses(&self, pages: usize, error: Error);

    /// True if more pages are dirty than there may be.
    fn has_too_many_dirty(&self) -> bool;

    /// Asks the filesystem for its free space.
    fn refresh_space(&self);

    /// Writes back all files of the filesystem. Who syncs one is told if that fails.
    fn write_back_others(&self);
}

/// Runs an operation on the filesystem's map of blocks.
pub(super) fn with_blocks<B: Backend + ?Sized, T>(
    file: &B,
    work: impl FnOnce(&mut dyn BlockMap) -> Result<T, Error>,
) -> Result<T, Error> {
    file.with_filesystem(|filesystem| match filesystem.storage() {
        Storage::Blocks(blocks) => work(blocks),
        Storage::Bytes(_) => Err(Error::Unsupported),
    })
}

/// Has the filesystem move bytes.
pub(super) fn with_bytes<B: Backend + ?Sized, T>(
    file: &B,
    work: impl FnOnce(&mut dyn ByteStorage) -> Result<T, Error>,
) -> Result<T, Error> {
    file.with_filesystem(|filesystem| match filesystem.storage() {
        Storage::Bytes(bytes) => work(bytes),
        Storage::Blocks(_) => Err(Error::Unsupported),
    })
}
