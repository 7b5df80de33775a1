//! Write-back: dirty pages go to the filesystem, a batch at a time. A batch that fails says nothing about the next, and
//! pages near what failed are tried again alone.

use alloc::sync::Arc;
use core::ops::RangeInclusive;

use super::backend::Backend;
use super::error_sequence::ErrorCursor;
use super::page::Page;
use super::store::store_batch;
use crate::{Error, Sync};

/// Pages written back at a time.
const BATCH_PAGES: usize = 512;

/// All pages of a file.
pub const ALL: RangeInclusive<u64> = 0..=u64::MAX;

/// A page to be written.
#[derive(Debug)]
pub(super) struct DirtyPage<F> {
    /// Which of the file it is.
    pub(super) index: u64,
    pub(super) page: Arc<Page<F>>,
    /// Blocks are reserved for it, as it may have none.
    pub(super) is_delayed: bool,
}

impl<F> Clone for DirtyPage<F> {
    fn clone(&self) -> Self {
        Self { index: self.index, page: Arc::clone(&self.page), is_delayed: self.is_delayed }
    }
}

/// What a pass over a file could not write.
#[derive(Debug, Default)]
pub(super) struct Losses {
    pub(super) pages: usize,
    pub(super) first_error: Option<Error>,
}

/// Writes the dirty pages of a range to the disk, as blocks of the file; perhaps only into the disk's own
/// cache.
pub fn write_back<B: Backend + ?Sized>(file: &B, range: RangeInclusive<u64>) -> Result<(), Error> {
    let _turn = file.lock_io();
    write_back_in_turn(file, range)
}

/// The same for who holds [`Backend::lock_io`].
pub(super) fn write_back_in_turn<B: Backend + ?Sized>(
    file: &B,
    range: RangeInclusive<u64>,
) -> Result<(), Error> {
    if file.is_mapped() {
        file.collect_mapped();
    }
    // Not before the lock is held: a file that is neither noted nor locked has nothing on its way to the disk.
    file.note_write_back(range == ALL);
    let (mut next, last) = (*range.start(), *range.end());
    let mut losses = Losses::default();
    let is_mapped = file.is_mapped();
    let reservations = &file.shared().reservations;
    let take = |next| {
        file.with(|cache| cache.take_dirty(next..=last, BATCH_PAGES, is_mapped, reservations, file.counts()))
    };
    while let Some((batch, end)) = take(next) {
        store_batch(file, &batch, &mut losses);
        next = end;
    }
    let Some(error) = losses.first_error else { return Ok(()) };
    file.report_losses(losses.pages, error);
    Err(error)
}

/// Makes a regular file durable (fsync(2), fdatasync(2)), for who was told of the errors up to `cursor`.
pub fn sync<B: Backend + ?Sized>(file: &B, what: Sync, cursor: &ErrorCursor) -> Result<(), Error> {
    // What fails is told below, with what has failed before.
    let _ = write_back(file, ALL);
    let written = file.with(|cache| cache.check_errors(cursor));
    written.and(sync_inode(file, what))
}

/// Makes an inode durable of which nothing is dirty, or that has no content here.
pub fn sync_inode<B: Backend + ?Sized>(file: &B, what: Sync) -> Result<(), Error> {
    // As on Linux, for all files: which of them are durable is not known.
    if file.has_failed() {
        return Err(Error::ReadOnly);
    }
    if file.is_read_only() {
        return Ok(());
    }
    let times = if what == Sync::All { file.store_times() } else { Ok(()) };
    let synced = file.with_filesystem(|filesystem| filesystem.sync_inode(file.number(), what, file.now()));
    times.and(synced)
}
