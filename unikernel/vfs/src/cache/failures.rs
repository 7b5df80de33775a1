//! What of one file could not be written: who is told of it, and which pages it cost.

use alloc::collections::BTreeSet;

use super::error_sequence::{ErrorCursor, ErrorSequence};
use crate::Error;

/// Lost pages that are remembered of a file.
const MOST_LOST: usize = 1024;

/// What of one file could not be written.
#[derive(Debug, Default)]
pub(super) struct Failures {
    errors: ErrorSequence<Error>,
    /// Pages that the disk does not have as they were written.
    pub(super) lost: BTreeSet<u64>,
}

impl Failures {
    /// For who opens the file now.
    pub(super) fn sample(&self) -> ErrorCursor {
        self.errors.sample()
    }

    /// The error that whoever has `cursor` was not told of yet.
    pub(super) fn check(&mut self, cursor: &ErrorCursor) -> Result<(), Error> {
        self.errors.check(cursor).map_or(Ok(()), Err)
    }

    /// How many pages are lost, and the first.
    pub(super) fn lost_pages(&self) -> Option<(usize, u64)> {
        self.lost.first().map(|&first| (self.lost.len(), first))
    }

    /// Pages from `first` on are not the file's any more.
    pub(super) fn forget_from(&mut self, first: u64) {
        self.lost.split_off(&first);
    }

    /// These pages were written after all.
    pub(super) fn note_written(&mut self, pages: impl Iterator<Item = u64>) {
        if !self.lost.is_empty() {
            pages.for_each(|page| {
                self.lost.remove(&page);
            });
        }
    }

    pub(super) fn note_lost(&mut self, pages: impl Iterator<Item = u64>, error: Error) {
        self.errors.record(error);
        let room = MOST_LOST.saturating_sub(self.lost.len());
        self.lost.extend(pages.take(room));
    }
}
