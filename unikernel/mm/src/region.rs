//! One run of the app's address space.

use core::ops::Range;

use bitflags::bitflags;

use crate::PAGE_BYTES;

bitflags! {
    /// What the app may do with a region's bytes; empty for `PROT_NONE`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Protection: u8 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXECUTE = 4;
    }
}

/// Where a region's bytes come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionKind {
    /// Zeros at first touch.
    Anonymous,
    /// The same, but nobody was promised that there will be memory for it (`MAP_NORESERVE`).
    Unreserved,
    /// The first stack. Its pages are charged as they are touched, as it is mostly never used.
    Stack,
    /// The app's own image, present from the start.
    Image,
    /// Pages of the kernel's that the app may look at, and never change.
    Kernel,
    /// An object that gives pages, such as a file.
    Object(ObjectPart),
}

impl RegionKind {
    /// True if the region's pages are its own, and count against the memory that was promised once they can be written.
    pub const fn is_promised(self) -> bool {
        !matches!(self, Self::Unreserved | Self::Kernel | Self::Object(ObjectPart { is_shared: true, .. }))
    }
}

/// Which part of which object a region shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObjectPart {
    /// The object's number.
    pub object: u32,
    /// Offset in the object less the address, modulo 2^64: the same for all pieces of a region.
    pub delta: u64,
    /// True if the region shows the object's own pages, false if it gets copies of them.
    pub is_shared: bool,
}

impl ObjectPart {
    /// The part that begins at `offset` of the object when shown at `address`.
    pub const fn new(object: u32, offset: u64, address: u64, is_shared: bool) -> Self {
        Self { object, delta: offset.wrapping_sub(address), is_shared }
    }

    /// Where in the object `address` is.
    pub const fn offset_of(&self, address: u64) -> u64 {
        address.wrapping_add(self.delta)
    }

    /// Where in `region`, which shows this part, pages of the object are; empty if it shows none of them.
    pub fn addresses_of(&self, region: &Region, pages: Range<u64>) -> Range<u64> {
        let first = self.offset_of(region.start);
        let bytes = |page: u64| page.saturating_mul(PAGE_BYTES);
        let len = region.end - region.start;
        let address = |offset: u64| region.start + offset.saturating_sub(first).min(len);
        address(bytes(pages.start))..address(bytes(pages.end))
    }

    /// The same part of the object, shown `by` bytes higher (modulo 2^64).
    #[must_use]
    pub const fn moved(self, by: u64) -> Self {
        Self { delta: self.delta.wrapping_sub(by), ..self }
    }
}

/// A run of pages with the same attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// First byte, page-aligned.
    pub start: u64,
    /// One past the last byte, page-aligned.
    pub end: u64,
    /// What the app may do.
    pub protection: Protection,
    /// What it may ever be allowed to do: a file that was opened for reading cannot be written through a shared
    /// mapping, whatever becomes of that.
    pub allowed: Protection,
    /// Where bytes come from.
    pub kind: RegionKind,
    /// True if its pages count against the memory that was promised. A region that was never
    /// writable can have no pages of its own.
    pub is_charged: bool,
    /// True if the app has locked it (mlock(2)).
    pub is_locked: bool,
}

impl Region {
    /// Length in pages.
    pub const fn pages(&self) -> u64 {
        (self.end - self.start) / PAGE_BYTES
    }

    /// Pages that count against the memory that was promised.
    pub const fn charged_pages(&self) -> u64 {
        if self.is_charged { self.pages() } else { 0 }
    }

    /// True for private pages that can be written, but not the stack: what `RLIMIT_DATA` counts.
    pub fn is_data(&self) -> bool {
        let is_private = match self.kind {
            RegionKind::Anonymous | RegionKind::Unreserved | RegionKind::Image => true,
            RegionKind::Object(ObjectPart { is_shared, .. }) => !is_shared,
            RegionKind::Stack | RegionKind::Kernel => false,
        };
        is_private && self.protection.contains(Protection::WRITE)
    }

    /// True if the app may ever write to the object that the region shows.
    pub fn may_write_object(&self) -> bool {
        let is_shared = matches!(self.kind, RegionKind::Object(ObjectPart { is_shared: true, .. }));
        is_shared && self.allowed.contains(Protection::WRITE)
    }

    /// True if `address` lies inside.
    pub const fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    /// The part of it inside `[start, end)`.
    pub(crate) fn clip(&self, start: u64, end: u64) -> Self {
        Self { start: self.start.max(start), end: self.end.min(end), ..*self }
    }

    /// True if `next` could be the rest of this region.
    pub(crate) fn is_continued_by(&self, next: &Self) -> bool {
        self.end == next.start
            && self.protection == next.protection
            && self.allowed == next.allowed
            && self.kind == next.kind
            && self.is_charged == next.is_charged
            && self.is_locked == next.is_locked
    }
}
