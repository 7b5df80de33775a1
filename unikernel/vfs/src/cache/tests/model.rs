//! What a file should be: as the app sees it, and as a power cut may leave it. Bytes are looked at in cells, each of which
//! holds one number all over: which write it comes from.

use std::vec::Vec;

/// Bytes that are written together.
pub(super) const CELL_BYTES: usize = 128;
/// Cells of the longest file.
pub(super) const CELLS: usize = 6 * 4096 / CELL_BYTES;

/// A set of numbers.
type Numbers = u64;

/// One cell.
#[derive(Clone, Copy)]
pub(super) struct Cell {
    /// What the app sees there.
    pub(super) now: u8,
    /// What may be there after a power cut.
    may: Numbers,
    /// Of those, what came since a sync began.
    since: Numbers,
    /// It is of a page that could not be written: the app may see older content when the page has left memory.
    is_suspect: bool,
}

/// How far an open file description was told of errors.
#[derive(Clone)]
pub(super) struct Opened {
    /// Cells of which it knows that they may be lost.
    excused: Vec<bool>,
}

#[derive(Clone)]
pub(super) struct Model {
    pub(super) size: usize,
    cells: Vec<Cell>,
    /// Lengths, in cells, that the file may have after a power cut; and since a sync began.
    sizes: Vec<usize>,
    sizes_since: usize,
    /// Cells of a sync in progress.
    at_sync: Option<(usize, Vec<u8>)>,
}

fn bit(number: u8) -> Numbers {
    1 << number
}

impl Model {
    pub(super) fn new() -> Self {
        let cell = Cell { now: 0, may: bit(0), since: 0, is_suspect: false };
        Self { size: 0, cells: std::vec![cell; CELLS], sizes: std::vec![0], sizes_since: 0, at_sync: None }
    }

    fn put(&mut self, cells: std::ops::Range<usize>, number: u8) {
        for cell in &mut self.cells[cells] {
            *cell = Cell {
                now: number,
                may: cell.may | bit(number),
                since: cell.since | bit(number),
                is_suspect: false,
            };
        }
    }

    fn set_size(&mut self, size: usize) {
        self.size = size;
        self.sizes.push(size);
    }

    /// A write begins: some of it may reach the disk before it ends.
    pub(super) fn begin_write(&mut self, first: usize, count: usize, number: u8) {
        for cell in &mut self.cells[first..first + count] {
            cell.may |= bit(number);
            cell.since |= bit(number);
        }
        self.sizes.extend(self.size + 1..=first + count);
    }

    /// So many cells were written.
    pub(super) fn write(&mut self, first: usize, count: usize, number: u8) {
        self.put(first..first + count, number);
        if count > 0 {
            self.set_size(self.size.max(first + count));
        }
    }

    pub(super) fn resize(&mut self, size: usize) {
        self.put(size..CELLS, 0);
        self.set_size(size);
    }

    /// A change of length begins, or of blocks.
    pub(super) fn begin_clear(&mut self, cells: std::ops::Range<usize>, size: usize) {
        for cell in &mut self.cells[cells] {
            cell.may |= bit(0);
            cell.since |= bit(0);
        }
        self.sizes.push(size);
    }

    pub(super) fn punch(&mut self, cells: std::ops::Range<usize>) {
        let end = cells.end.min(self.size);
        self.put(cells.start.min(end)..end, 0);
    }

    /// Write-back has lost these pages.
    pub(super) fn note_lost(&mut self, is_lost: impl Fn(u64) -> bool) {
        for (index, cell) in self.cells.iter_mut().enumerate() {
            let page = index * CELL_BYTES / super::super::PAGE_BYTES;
            cell.is_suspect |= cell.may != bit(cell.now) && is_lost(page as u64);
        }
    }

    fn suspects(&self) -> Vec<bool> {
        self.cells.iter().map(|cell| cell.is_suspect).collect()
    }

    /// The file is opened; who does so need not be told of what others were told of.
    pub(super) fn open(&self, is_told: bool) -> Opened {
        let excused = if is_told { self.suspects() } else { std::vec![false; CELLS] };
        Opened { excused }
    }

    pub(super) fn begin_sync(&mut self) {
        self.cells.iter_mut().for_each(|cell| cell.since = 0);
        self.sizes_since = self.sizes.len();
        self.at_sync = Some((self.size, self.cells.iter().map(|cell| cell.now).collect()));
    }

    /// A sync has ended, and says whether all is durable now that was written before it began.
    pub(super) fn end_sync(&mut self, opened: &mut Opened, is_good: bool) {
        let (size, content) = self.at_sync.take().expect("it has begun");
        if !is_good {
            opened.excused = self.suspects();
            return;
        }
        let mut is_whole = true;
        for ((cell, now), excused) in self.cells.iter_mut().zip(content).zip(&opened.excused) {
            if cell.is_suspect {
                assert!(excused, "fsync says that all is well, and never spoke of an error");
                is_whole = false;
            } else {
                cell.may = bit(now) | cell.since;
            }
        }
        if is_whole {
            self.sizes.drain(..self.sizes_since);
            self.sizes.push(size);
        }
    }

    /// What the app reads must be what it wrote.
    pub(super) fn check_read(&self, first: usize, bytes: &[u8]) {
        for (index, bytes) in bytes.chunks(CELL_BYTES).enumerate() {
            let cell = self.cells[first + index];
            let number = number_in(bytes);
            let is_right = number == cell.now || cell.is_suspect && cell.may & bit(number) != 0;
            assert!(is_right, "cell {} reads {number}, not {}", first + index, cell.now);
        }
    }

    /// What a power cut has left.
    pub(super) fn check_durable(&self, size: u64, content: &[u8]) {
        let cells = size as usize / CELL_BYTES;
        assert!(
            (size as usize).is_multiple_of(CELL_BYTES) && self.sizes.contains(&cells),
            "{cells} of {:?}",
            self.sizes
        );
        for (index, bytes) in content.chunks(CELL_BYTES).enumerate() {
            let number = number_in(bytes);
            let may = self.cells[index].may;
            assert!(may & bit(number) != 0, "cell {index} has {number} after the power cut, of {may:b}");
        }
    }
}

/// The number that a cell holds.
fn number_in(bytes: &[u8]) -> u8 {
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a cell is torn");
    assert!(bytes[0] < 64, "memory that nobody has cleared");
    bytes[0]
}
