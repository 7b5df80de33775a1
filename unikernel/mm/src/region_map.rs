//! The app's address space as an ordered map of disjoint regions.
//!
//! Every operation works on a page-aligned range, splits regions at its edges, and joins
//! neighbours with equal attributes, so that the map stays as small as the app's habits allow.

use alloc::collections::BTreeMap;

use crate::region::{Protection, Region};

#[cfg(test)]
mod tests;

/// Why a range cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RangeError {
    /// Some of it is taken.
    Overlap,
    /// Some of it is not mapped.
    Hole,
}

/// Disjoint regions by start address.
#[derive(Debug, Default)]
pub struct RegionMap {
    regions: BTreeMap<u64, Region>,
}

impl RegionMap {
    /// Makes an empty map.
    pub const fn new() -> Self {
        Self { regions: BTreeMap::new() }
    }

    /// All regions, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Region> {
        self.regions.values()
    }

    /// How many regions there are.
    pub fn len(&self) -> usize {
        self.regions.len()
    }

    /// True if nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// The region around `address`.
    pub fn find(&self, address: u64) -> Option<&Region> {
        let (_, region) = self.regions.range(..=address).next_back()?;
        region.contains(address).then_some(region)
    }

    /// The parts of regions inside `[start, end)`, lowest first; none in an empty range, also within a region.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = Region> + '_ {
        let end = end.max(start);
        let first = self.find(start).filter(|_| start < end).map_or(start, |region| region.start);
        self.regions.range(first..end).map(move |(_, region)| region.clip(start, end))
    }

    /// The lowest of [`Self::overlapping`]: to look at each while regions change.
    pub fn first_overlapping(&self, start: u64, end: u64) -> Option<Region> {
        self.overlapping(start, end).next()
    }

    /// True if nothing is mapped in `[start, end)`.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_none()
    }

    /// Adds a region to free space.
    pub fn insert(&mut self, region: Region) -> Result<(), RangeError> {
        if !self.is_free(region.start, region.end) {
            return Err(RangeError::Overlap);
        }
        self.join(region);
        Ok(())
    }

    /// Unmaps the lowest piece of a region inside `[start, end)`, which it answers: of a range with any number of regions
    /// there is no list.
    pub fn remove_first(&mut self, start: u64, end: u64) -> Option<Region> {
        let piece = self.first_overlapping(start, end)?;
        self.cut(&piece);
        Some(piece)
    }

    /// True if [`Self::remove_first`] would make two regions of one there.
    pub fn splits(&self, start: u64, end: u64) -> bool {
        self.find(start).is_some_and(|region| region.start < start && end < region.end)
    }

    /// Gives all of `[start, end)` a protection. A region that becomes writable is charged from
    /// then on. Answers by how many pages the charge grew.
    pub fn protect(&mut self, start: u64, end: u64, protection: Protection) -> Result<u64, RangeError> {
        if !self.is_covered(start, end) {
            return Err(RangeError::Hole);
        }
        let mut newly_charged = 0;
        let mut at = start;
        while let Some(piece) = self.first_overlapping(at, end) {
            at = piece.end;
            let is_charged =
                piece.is_charged || protection.contains(Protection::WRITE) && piece.kind.is_promised();
            newly_charged += if is_charged { piece.pages() - piece.charged_pages() } else { 0 };
            self.cut(&piece);
            self.join(Region { protection, is_charged, ..piece });
        }
        Ok(newly_charged)
    }

    /// True if all regions in `[start, end)` may ever be given a protection.
    pub fn allows(&self, start: u64, end: u64, protection: Protection) -> bool {
        self.overlapping(start, end).all(|piece| piece.allowed.contains(protection))
    }

    /// By how many pages [`Self::protect`] would grow the charge.
    pub fn charge_of_protect(&self, start: u64, end: u64, protection: Protection) -> u64 {
        if !protection.contains(Protection::WRITE) {
            return 0;
        }
        let own = self.overlapping(start, end).filter(|piece| piece.kind.is_promised());
        own.map(|piece| piece.pages() - piece.charged_pages()).sum()
    }

    /// True if every byte of `[start, end)` is mapped.
    pub fn is_covered(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for piece in self.overlapping(start, end) {
            if piece.start != at {
                return false;
            }
            at = piece.end;
        }
        at == end
    }

    /// The highest free run of `len` bytes inside `[low, high)` whose start is a multiple of
    /// `align` (a power of two).
    pub fn find_free(&self, len: u64, align: u64, low: u64, high: u64) -> Option<u64> {
        let mut ceiling = high;
        for region in self.regions.range(..high).rev().map(|(_, region)| region) {
            if let Some(start) = fit_below(ceiling, len, align, region.end.max(low)) {
                return Some(start);
            }
            ceiling = ceiling.min(region.start);
            if ceiling <= low {
                return None;
            }
        }
        fit_below(ceiling, len, align, low)
    }

    /// Puts a region into free space and joins it with its neighbours.
    fn join(&mut self, mut region: Region) {
        if let Some((_, below)) = self.regions.range(..region.start).next_back()
            && below.is_continued_by(&region)
        {
            region.start = below.start;
        }
        if let Some(above) = self.regions.get(&region.end)
            && region.is_continued_by(above)
        {
            let above = *above;
            self.regions.remove(&above.start);
            region.end = above.end;
        }
        self.regions.insert(region.start, region);
    }

    /// Takes `piece` out of the region that contains it.
    fn cut(&mut self, piece: &Region) {
        let Some(whole) = self.find(piece.start).copied() else { return };
        self.regions.remove(&whole.start);
        for rest in [whole.clip(whole.start, piece.start), whole.clip(piece.end, whole.end)] {
            if rest.start < rest.end {
                self.regions.insert(rest.start, rest);
            }
        }
    }
}

/// The highest aligned start of `len` bytes that end at or below `ceiling`, not below `floor`.
fn fit_below(ceiling: u64, len: u64, align: u64, floor: u64) -> Option<u64> {
    let start = ceiling.checked_sub(len)? & !(align - 1);
    (start >= floor).then_some(start)
}
