//! One segment: which pages of memory show which bytes of the file.

use core::ops::Range;

use crate::fields::Fields;
use crate::{ElfError, PAGE_BYTES};

const EXECUTABLE: u32 = 1;
const WRITABLE: u32 = 2;
const READABLE: u32 = 4;

/// A run of memory, of which the first bytes are in the file and the others zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Its first byte, counted from the program's place.
    pub address: u64,
    /// Where a loader without virtual addresses puts that byte, as far from the start of a page.
    pub physical_address: u64,
    /// Its bytes in memory, at least one.
    pub memory_bytes: u64,
    /// Where its bytes begin in the file; as far from the start of a page as the address is.
    pub offset: u64,
    /// How many are in the file.
    pub file_bytes: u64,
    /// May be read.
    pub is_readable: bool,
    /// May be written.
    pub is_writable: bool,
    /// May be executed.
    pub is_executable: bool,
}

impl Segment {
    /// Reads a header; `None` for a segment of no bytes.
    pub(crate) fn parse(fields: &Fields<'_>, file_bytes: u64) -> Result<Option<Self>, ElfError> {
        let flags = fields.int(4);
        let segment = Self {
            address: fields.word(16),
            physical_address: fields.word(24),
            memory_bytes: fields.word(40),
            offset: fields.word(8),
            file_bytes: fields.word(32),
            is_readable: flags & READABLE != 0,
            is_writable: flags & WRITABLE != 0,
            is_executable: flags & EXECUTABLE != 0,
        };
        segment.check(file_bytes)?;
        Ok((segment.memory_bytes != 0).then_some(segment))
    }

    fn check(&self, file_bytes: u64) -> Result<(), ElfError> {
        let end = self.address.checked_add(self.memory_bytes);
        let is_congruent = self.address % PAGE_BYTES == self.offset % PAGE_BYTES || self.file_bytes == 0;
        // The last page ends in the address space, too.
        let has_end = end.is_some_and(|end| end <= u64::MAX - PAGE_BYTES);
        if !has_end || !is_congruent || self.file_bytes > self.memory_bytes {
            return Err(ElfError::BadSegment(self.address));
        }
        if self.file_bytes != 0 && self.offset.checked_add(self.file_bytes).is_none_or(|end| end > file_bytes)
        {
            return Err(ElfError::Truncated);
        }
        if self.is_writable && self.is_executable {
            return Err(ElfError::WritableAndExecutable(self.address));
        }
        Ok(())
    }

    /// The pages that it takes.
    pub const fn pages(&self) -> Range<u64> {
        page_down(self.address)..page_up(self.address + self.memory_bytes)
    }

    /// True if the byte is in it.
    pub fn contains(&self, address: u64) -> bool {
        (self.address..self.address + self.memory_bytes).contains(&address)
    }

    /// Where a byte of the file is in memory, if it is in this segment.
    pub(crate) fn address_of(&self, offset: u64) -> Option<u64> {
        let within = offset.checked_sub(self.offset).filter(|&within| within < self.file_bytes)?;
        Some(self.address + within)
    }

    /// Pages that show the file as it is, from [`Self::shown_offset`] on.
    pub const fn shown(&self) -> Range<u64> {
        let start = page_down(self.address);
        if self.file_bytes == 0 {
            start..start
        } else if self.file_bytes == self.memory_bytes {
            start..page_up(self.file_end())
        } else {
            start..page_down(self.file_end())
        }
    }

    /// Which byte of the file is the first of [`Self::shown`].
    pub const fn shown_offset(&self) -> u64 {
        page_down(self.offset)
    }

    /// The bytes of the file with which the first of its own pages begins, where zeros share a page with them. Fewer
    /// than a page; empty if there are none.
    pub const fn edge(&self) -> Range<u64> {
        let end = self.offset + self.file_bytes;
        if self.file_bytes == 0 || self.file_bytes == self.memory_bytes {
            end..end
        } else {
            page_down(end)..end
        }
    }

    /// Pages of its own: zeros, but for the bytes at the [`Self::edge`], which is the first of them.
    pub const fn own(&self) -> Range<u64> {
        self.shown().end..self.pages().end
    }

    /// One past the bytes that are in the file.
    const fn file_end(&self) -> u64 {
        self.address + self.file_bytes
    }
}

const fn page_down(address: u64) -> u64 {
    address & !(PAGE_BYTES - 1)
}

const fn page_up(address: u64) -> u64 {
    page_down(address + (PAGE_BYTES - 1))
}
