//! The app's address space as an ordered map of disjoint regions.
//!
//! Every operation works on a page-aligned range, splits regions at its edges, and joins
//! neighbours with equal attributes, so that the map stays as small as the app's habits allow.

use alloc::collections::{BTreeMap, TryReserveError};
use alloc::vec::Vec;

use crate::region::{Protection, Region, RegionKind};

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
    /// The regions that show each object, by its number.
    shown: Vec<Shown>,
    totals: Totals,
    /// Where a search for free space has ended that took long.
    ended: Option<SearchEnd>,
}

/// Pages of all regions together. They are counted as regions come and go: there may be a million, which are not walked
/// with the address space locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Of all.
    pub mapped: u64,
    /// Of those that are locked.
    pub locked: u64,
    /// Of those that are data ([`Region::is_data`]).
    pub data: u64,
    /// Of the app's image.
    pub image: u64,
}

impl Totals {
    const NONE: Self = Self { mapped: 0, locked: 0, data: 0, image: 0 };

    /// What a region adds to each.
    fn of(region: &Region) -> Self {
        let pages_if = |counts| if counts { region.pages() } else { 0 };
        Self {
            mapped: region.pages(),
            locked: pages_if(region.is_locked),
            data: pages_if(region.is_data()),
            image: pages_if(region.kind == RegionKind::Image),
        }
    }

    fn change(&mut self, region: &Region, change: impl Fn(u64, u64) -> u64) {
        let Self { mapped, locked, data, image } = Self::of(region);
        self.mapped = change(self.mapped, mapped);
        self.locked = change(self.locked, locked);
        self.data = change(self.data, data);
        self.image = change(self.image, image);
    }
}

/// How many regions show an object.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    all: u32,
    /// Those through which the app may ever write to it.
    writable: u32,
}

impl Shown {
    fn change(&mut self, region: &Region, change: impl Fn(u32) -> u32) {
        self.all = change(self.all);
        if region.may_write_object() {
            self.writable = change(self.writable);
        }
    }
}

/// What is known from a search: between `top` and `high` there is no free run of `len` bytes.
#[derive(Clone, Copy, Debug)]
struct SearchEnd {
    len: u64,
    top: u64,
    high: u64,
}

/// A search that has passed more regions than this is remembered.
const SHORT_SEARCH: usize = 16;

impl RegionMap {
    /// Makes an empty map.
    pub const fn new() -> Self {
        Self { regions: BTreeMap::new(), shown: Vec::new(), totals: Totals::NONE, ended: None }
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

    /// Pages of all regions together.
    pub fn totals(&self) -> Totals {
        self.totals
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

    /// Notes that all of `[start, end)` is locked, or is not; up to a hole, if there is one.
    pub fn lock(&mut self, start: u64, end: u64, is_locked: bool) -> Result<(), RangeError> {
        let mut at = start;
        while at < end {
            let piece =
                self.first_overlapping(at, end).filter(|piece| piece.start == at).ok_or(RangeError::Hole)?;
            at = piece.end;
            // The kernel's pages stay whatever anybody does.
            if piece.is_locked != is_locked && piece.kind != RegionKind::Kernel {
                self.cut(&piece);
                self.join(Region { is_locked, ..piece });
            }
        }
        Ok(())
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

    /// Makes room for the count of an object, before a region shows it.
    pub fn know_object(&mut self, object: u32) -> Result<(), TryReserveError> {
        let more = (object as usize + 1).saturating_sub(self.shown.len());
        self.shown.try_reserve(more)?;
        self.shown.resize(self.shown.len() + more, Shown::default());
        Ok(())
    }

    /// How many regions show an object.
    pub fn shown(&self, object: u32) -> u32 {
        self.shown.get(object as usize).map_or(0, |shown| shown.all)
    }

    /// True if the app may ever write to an object through a region.
    pub fn is_writable(&self, object: u32) -> bool {
        self.shown.get(object as usize).is_some_and(|shown| shown.writable > 0)
    }

    /// How many regions more there can be after a change of `[start, end)` alone: its edges may split some.
    pub fn splits_at_edges(&self, start: u64, end: u64) -> usize {
        let is_split = |at: u64| self.find(at).is_some_and(|region| region.start < at);
        usize::from(is_split(start)) + usize::from(is_split(end))
    }

    /// The highest free run of `len` bytes inside `[low, high)` whose start is a multiple of
    /// `align` (a power of two). Many in a row of one length do not look at all regions each time.
    pub fn find_free(&mut self, len: u64, align: u64, low: u64, high: u64) -> Option<u64> {
        let known = self.ended.filter(|known| known.high == high && known.len <= len);
        let mut ceiling = known.map_or(high, |known| known.top);
        let mut passed = 0;
        let mut found = None;
        for region in self.regions.range(..ceiling).rev().map(|(_, region)| region) {
            found = fit_below(ceiling, len, align, region.end.max(low));
            ceiling = ceiling.min(region.start);
            if found.is_some() || ceiling <= low {
                break;
            }
            passed += 1;
        }
        if found.is_none() && ceiling > low {
            found = fit_below(ceiling, len, align, low);
        }
        // What fits nowhere because of its alignment says nothing about space.
        if passed > SHORT_SEARCH && align <= crate::PAGE_BYTES {
            let top = found.map_or(low, |start| start + len);
            self.ended = Some(SearchEnd { len, top, high });
        }
        found
    }

    fn add(&mut self, region: Region) {
        if let RegionKind::Object(part) = region.kind {
            debug_assert!((part.object as usize) < self.shown.len(), "an unknown object");
            if let Some(shown) = self.shown.get_mut(part.object as usize) {
                shown.change(&region, |count| count + 1);
            }
        }
        self.totals.change(&region, |total, pages| total + pages);
        self.regions.insert(region.start, region);
    }

    fn take(&mut self, start: u64) -> Option<Region> {
        let region = self.regions.remove(&start)?;
        if let RegionKind::Object(part) = region.kind
            && let Some(shown) = self.shown.get_mut(part.object as usize)
        {
            shown.change(&region, |count| count - 1);
        }
        self.totals.change(&region, |total, pages| total - pages);
        // The run of free space that it becomes a part of ends there at the highest.
        if let Some(known) = &mut self.ended
            && region.end >= known.top
        {
            let above = self.regions.range(region.end..).next().map_or(known.high, |(&start, _)| start);
            known.top = known.high.min(above.max(known.top));
        }
        Some(region)
    }

    /// Puts a region into free space and joins it with its neighbours.
    fn join(&mut self, mut region: Region) {
        let mut joined = None;
        if let Some((_, below)) = self.regions.range(..region.start).next_back()
            && below.is_continued_by(&region)
        {
            joined = Some(below.start);
            region.start = below.start;
        }
        if let Some(above) = self.regions.get(&region.end)
            && region.is_continued_by(above)
        {
            let above = *above;
            self.take(above.start);
            region.end = above.end;
        }
        if let Some(below) = joined {
            self.take(below);
        }
        self.add(region);
    }

    /// Takes `piece` out of the region that contains it.
    fn cut(&mut self, piece: &Region) {
        let Some(whole) = self.find(piece.start).copied() else { return };
        self.take(whole.start);
        for rest in [whole.clip(whole.start, piece.start), whole.clip(piece.end, whole.end)] {
            if rest.start < rest.end {
                self.add(rest);
            }
        }
    }
}

/// The highest aligned start of `len` bytes that end at or below `ceiling`, not below `floor`.
fn fit_below(ceiling: u64, len: u64, align: u64, floor: u64) -> Option<u64> {
    let start = ceiling.checked_sub(len)? & !(align - 1);
    (start >= floor).then_some(start)
}
