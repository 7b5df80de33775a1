//! Pages and the sectors that they go to. Those of a request that fails are written again alone: a bad sector costs its own
//! page only.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::backend::{Backend, Direction, Piece, Requests};
use super::page::PAGE_BYTES;
use super::store::DirtyRange;

const SECTOR_BYTES: usize = 512;

pub(super) fn sectors_per_block(block_bytes: usize) -> u64 {
    (block_bytes / SECTOR_BYTES) as u64
}

/// The memory of ranges whose blocks are prepared, and where it goes.
pub(super) fn pieces_of<'a, F>(ranges: &'a [DirtyRange<'a, F>], block_bytes: usize) -> Vec<Piece<'a, F>> {
    let per_page = (PAGE_BYTES / block_bytes) as u64;
    let mut pieces = Vec::new();
    for (range, run) in ranges.iter().flat_map(|range| range.runs.iter().map(move |run| (range, run))) {
        let mut done = 0;
        while done < u64::from(run.blocks) {
            let block = run.file_block + done;
            let page = &range.pages[((block - range.first) / per_page) as usize];
            let within = (block % per_page) as usize;
            let count = (per_page - within as u64).min(u64::from(run.blocks) - done);
            pieces.push(Piece {
                index: page.index,
                sector: (run.start + done) * sectors_per_block(block_bytes),
                frame: page.page.frame(),
                offset: within * block_bytes,
                len: count as usize * block_bytes,
            });
            done += count;
        }
    }
    pieces
}

/// Writes pieces, together where they lie together; those that may have failed are tried again alone. Answers the pages
/// that the disk did not take.
pub(super) fn write_pieces<B: Backend + ?Sized>(file: &B, pieces: &[Piece<'_, B::Frame>]) -> BTreeSet<u64> {
    let Err(doubtful) = file.transfer(Direction::Write, Requests::Joined, pieces) else {
        return BTreeSet::new();
    };
    let mut again: Vec<Piece<'_, B::Frame>> = doubtful.iter().map(|&place| copy_of(&pieces[place])).collect();
    // Of neighbours on the disk only one is in flight at a time: the device would join their requests (QEMU does, and the host's
    // block layer), and all would fail with the bad one.
    again.sort_unstable_by_key(|piece| piece.sector);
    let (mut even, mut odd) = (Vec::new(), Vec::new());
    for (place, piece) in again.into_iter().enumerate() {
        if place % 2 == 0 { even.push(piece) } else { odd.push(piece) }
    }
    let mut bad = BTreeSet::new();
    for pieces in [even, odd] {
        if let Err(failed) = file.transfer(Direction::Write, Requests::Apart, &pieces) {
            // One by one: a set that is collected is sorted first, with 4 KiB of the stack.
            bad.extend(failed.into_iter().map(|place| pieces[place].index));
        }
    }
    bad
}

fn copy_of<'a, F>(piece: &Piece<'a, F>) -> Piece<'a, F> {
    let Piece { index, sector, frame, offset, len } = *piece;
    Piece { index, sector, frame, offset, len }
}
