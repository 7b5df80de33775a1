//! Which pages are free, in blocks of 2^n pages (Knuth, The Art of Computer Programming vol. 1, section 2.5): a block that
//! is given back joins its *buddy*, the other half of the block it was cut from, if that is free. Both take
//! time for each order of size, however many blocks there are: their links lie in a table with an entry for each page.
//!
//! Pages are numbered from address 0 on.

/// A number that no page has.
const NONE: u32 = (1 << PAGE_BITS) - 1;
/// Bits of a page's number: 512 GiB.
const PAGE_BITS: u32 = 27;
/// Blocks have up to 2^(ORDERS - 1) pages.
const ORDERS: usize = PAGE_BITS as usize;

/// What is known of a page. All zeros if it is not the first of a free block.
#[derive(Clone, Copy, Default, Debug)]
pub struct PageEntry {
    /// The next free block of the same size.
    next: u32,
    /// The one before, in the low bits; above, one more than the block's order, or 0.
    previous_and_order: u32,
}

impl PageEntry {
    /// An entry for a page of which nothing is known.
    pub const UNKNOWN: Self = Self { next: 0, previous_and_order: 0 };

    fn new(next: u32, previous: u32, order: usize) -> Self {
        Self { next, previous_and_order: previous | (order as u32 + 1) << PAGE_BITS }
    }

    fn previous(self) -> u32 {
        self.previous_and_order & NONE
    }

    fn is_free_block(self, order: usize) -> bool {
        self.previous_and_order >> PAGE_BITS == order as u32 + 1
    }

    fn set_previous(&mut self, previous: u32) {
        self.previous_and_order = self.previous_and_order & !NONE | previous;
    }
}

/// The free blocks.
#[derive(Debug)]
pub struct Buddy<'t> {
    pages: &'t mut [PageEntry],
    /// The first free block of each order.
    heads: [u32; ORDERS],
}

impl<'t> Buddy<'t> {
    /// Knows no page.
    pub const fn empty() -> Self {
        Self { pages: &mut [], heads: [NONE; ORDERS] }
    }

    /// Knows as many pages as the table has entries, all [`PageEntry::UNKNOWN`]; none of them is free.
    pub const fn new(table: &'t mut [PageEntry]) -> Self {
        Self { pages: table, heads: [NONE; ORDERS] }
    }

    /// The order of the smallest block that has `pages`.
    pub fn order_of(pages: usize) -> usize {
        pages.next_power_of_two().trailing_zeros() as usize
    }

    /// Has the pages from `start` to before `end` be free, which the table covers.
    pub fn add(&mut self, start: usize, end: usize) {
        // The last number is no page's.
        let (mut at, end) = (start, end.min(NONE as usize));
        while at < end {
            let fits = (end - at).ilog2();
            let order = at.trailing_zeros().min(fits).min(ORDERS as u32 - 1) as usize;
            self.free(at, order);
            at += 1 << order;
        }
    }

    /// Takes a block of 2^`order` pages, which begins at a multiple of its size.
    pub fn alloc(&mut self, order: usize) -> Option<usize> {
        let from = (order..ORDERS).find(|from| self.heads[*from] != NONE)?;
        let block = self.heads[from] as usize;
        self.unlink(block, from);
        // What is too much is given back by halves, the upper first.
        (order..from).rev().for_each(|half| self.link(block + (1 << half), half));
        Some(block)
    }

    /// Gives a block of 2^`order` pages back, or a part of a larger one.
    pub fn free(&mut self, block: usize, order: usize) {
        let (mut block, mut order) = (block, order);
        while order < ORDERS - 1 {
            let buddy = block ^ 1 << order;
            if !self.pages.get(buddy).is_some_and(|entry| entry.is_free_block(order)) {
                break;
            }
            self.unlink(buddy, order);
            (block, order) = (block & buddy, order + 1);
        }
        self.link(block, order);
    }

    fn link(&mut self, block: usize, order: usize) {
        let next = core::mem::replace(&mut self.heads[order], block as u32);
        self.pages[block] = PageEntry::new(next, NONE, order);
        if next != NONE {
            self.pages[next as usize].set_previous(block as u32);
        }
    }

    fn unlink(&mut self, block: usize, order: usize) {
        let entry = core::mem::take(&mut self.pages[block]);
        match entry.previous() {
            NONE => self.heads[order] = entry.next,
            previous => self.pages[previous as usize].next = entry.next,
        }
        if entry.next != NONE {
            self.pages[entry.next as usize].set_previous(entry.previous());
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const PAGES: usize = 300;

    /// Every free block: where it begins, and how many pages it has.
    fn blocks(buddy: &Buddy<'_>) -> Vec<(usize, usize)> {
        let mut blocks = Vec::new();
        for (order, head) in buddy.heads.iter().enumerate() {
            let (mut at, mut previous) = (*head, NONE);
            while at != NONE {
                let entry = buddy.pages[at as usize];
                assert!(entry.is_free_block(order) && entry.previous() == previous);
                blocks.push((at as usize, 1 << order));
                (previous, at) = (at, entry.next);
            }
        }
        blocks.sort_unstable();
        blocks
    }

    #[test]
    fn ranges_become_the_largest_blocks() {
        let mut table = [PageEntry::UNKNOWN; PAGES];
        let mut buddy = Buddy::new(&mut table);
        buddy.add(3, 100);
        assert_eq!(blocks(&buddy), [(3, 1), (4, 4), (8, 8), (16, 16), (32, 32), (64, 32), (96, 4)]);
        buddy.add(100, 128);
        assert_eq!(blocks(&buddy), [(3, 1), (4, 4), (8, 8), (16, 16), (32, 32), (64, 64)]);
        assert_eq!(buddy.alloc(6), Some(64));
        assert_eq!(buddy.alloc(6), None);
    }

    #[test]
    fn blocks_are_cut_and_joined() {
        let mut table = [PageEntry::UNKNOWN; 16];
        let mut buddy = Buddy::new(&mut table);
        buddy.add(0, 16);
        let pages: Vec<usize> = core::iter::from_fn(|| buddy.alloc(0)).collect();
        assert_eq!(pages.len(), 16);
        for page in pages.iter().filter(|page| *page % 2 == 0) {
            buddy.free(*page, 0);
        }
        assert_eq!(buddy.alloc(1), None, "no two neighbours");
        for page in pages.iter().filter(|page| *page % 2 == 1) {
            buddy.free(*page, 0);
        }
        assert_eq!(blocks(&buddy), [(0, 16)]);
    }

    #[test]
    fn sizes_are_rounded_up() {
        assert_eq!([1, 2, 3, 4, 5, 512].map(Buddy::order_of), [0, 1, 2, 2, 3, 9]);
    }

    proptest! {
        /// Against a list of who has which page.
        #[test]
        fn no_page_is_had_twice_or_lost(
            start in 0..20_usize,
            steps in prop::collection::vec((any::<bool>(), 0..5_usize, any::<prop::sample::Index>()), 1..300),
        ) {
            let mut table = vec![PageEntry::UNKNOWN; PAGES];
            let mut buddy = Buddy::new(&mut table);
            buddy.add(start, PAGES);
            let mut had: Vec<(usize, usize)> = Vec::new();
            for (takes, order, which) in steps {
                if takes {
                    let is_there = blocks(&buddy).iter().any(|(_, pages)| *pages >= 1 << order);
                    let block = buddy.alloc(order);
                    prop_assert_eq!(block.is_some(), is_there);
                    had.extend(block.map(|block| (block, order)));
                } else if !had.is_empty() {
                    let (block, order) = had.swap_remove(which.index(had.len()));
                    buddy.free(block, order);
                }
                let mut owners = [0; PAGES];
                let taken = had.iter().map(|(block, order)| (*block, 1 << order));
                for (block, pages) in taken.chain(blocks(&buddy)) {
                    prop_assert_eq!(block % pages, 0);
                    owners[block..block + pages].iter_mut().for_each(|owner| *owner += 1);
                }
                prop_assert!(owners[start..].iter().all(|owner| *owner == 1) && owners[..start] == vec![0; start]);
            }
            had.into_iter().for_each(|(block, order)| buddy.free(block, order));
            let mut whole = vec![PageEntry::UNKNOWN; PAGES];
            let mut fresh = Buddy::new(&mut whole);
            fresh.add(start, PAGES);
            prop_assert_eq!(blocks(&buddy), blocks(&fresh));
        }
    }
}
