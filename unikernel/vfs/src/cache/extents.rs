//! Where on the disk a file's blocks lie, as far as the filesystem was asked.

use alloc::collections::BTreeMap;

use crate::Run;

/// Runs of the file's blocks, by their first.
#[derive(Debug, Default)]
pub(super) struct ExtentCache {
    known: BTreeMap<u64, Run>,
    /// Changes when what was known is not true any more.
    generation: u64,
}

impl ExtentCache {
    const MOST: usize = 128;

    /// What [`Self::note`] wants to know of when the filesystem was asked.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The run that holds a block, cut so that it begins there.
    pub(super) fn find(&self, block: u64) -> Option<Run> {
        let (first, run) = self.known.range(..=block).next_back()?;
        let skip = block - first;
        let left = u64::from(run.blocks).checked_sub(skip).filter(|&left| left > 0)?;
        Some(Run { start: run.start.map(|start| start + skip), blocks: left as u32 })
    }

    /// Notes what the filesystem told, if nothing has changed since `generation`.
    pub(super) fn note(&mut self, block: u64, run: Run, generation: u64) {
        if generation == self.generation {
            if self.known.len() >= Self::MOST {
                self.known.clear();
            }
            self.known.insert(block, run);
        }
    }

    /// Forgets all: the file's blocks have changed.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.generation += 1;
    }
}
