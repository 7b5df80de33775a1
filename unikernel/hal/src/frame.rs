//! Frames that a value owns.
//!
//! [`Frame`] and [`Block`] belong to one owner, who may look at their bytes, and give the frame to a page table. [`SharedBytes`] are those of a
//! frame that the app can see: they are only copied, as it may write them at any time. [`Lent`] is a frame that the host
//! has. Each is given back when its value is dropped, and by nothing else; so no frame has two owners, and none is used after it
//! was given back.

use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::sync::atomic::AtomicU32;

use x86_64::structures::paging::PageTableFlags as Flags;
use x86_64::{PhysAddr, VirtAddr};

use crate::arch::memory;
use crate::kmem::frames;
use crate::kmem::layout::{LARGE_PAGE_BYTES, PAGE_BYTES, USER_END, phys_to_virt};
use crate::kmem::page_table::{self, OutOfFrames};
use crate::user::{CopyError, UserBytes};

/// One frame. It cannot be misused: it is nobody else's until it is dropped, or a page table has it.
#[derive(Debug)]
pub struct Frame(PhysAddr);

impl Frame {
    /// Takes a frame with whatever content it has.
    pub fn alloc() -> Option<Self> {
        if memory::is_refused() { None } else { frames::alloc().map(Self) }
    }

    /// Takes a frame of zeros.
    pub fn alloc_zeroed() -> Option<Self> {
        if memory::is_refused() { None } else { frames::alloc_zeroed().map(Self) }
    }

    /// Where it lies.
    #[inline]
    pub fn address(&self) -> PhysAddr {
        self.0
    }

    /// Its bytes.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8; PAGE_BYTES] {
        // SAFETY: the frame is ours alone, and the direct map shows it; the result borrows us.
        unsafe { &mut *phys_to_virt(self.0).as_mut_ptr() }
    }

    /// Gives it to the app's page table, which owns it from then on ([`TakenPages`](crate::kmem::page_table::TakenPages)).
    ///
    /// # Errors
    ///
    /// If there is no frame for a table: then it is given back.
    #[inline]
    pub fn map(self, virt: VirtAddr, flags: Flags) -> Result<(), OutOfFrames> {
        page_table::map_app(virt, self.0, flags - page_table::SHARED)?;
        core::mem::forget(self);
        Ok(())
    }

    /// Gives it to the kernel's half of the page table, where none is mapped. Whoever takes the entry out has the frame then.
    #[cfg(target_os = "none")]
    pub(crate) fn map_for_kernel(self, virt: VirtAddr, flags: Flags) -> Result<(), OutOfFrames> {
        page_table::map(virt, self.0, flags)?;
        core::mem::forget(self);
        Ok(())
    }

    /// Takes its number, for the host to use it. `Err` if it is beyond what a number can name.
    ///
    /// # Errors
    ///
    /// The frame.
    pub fn lend(self) -> Result<Lent, Self> {
        match u32::try_from(self.0.as_u64() / PAGE_BYTES as u64) {
            Ok(number) => {
                core::mem::forget(self);
                Ok(Lent(number))
            }
            Err(_) => Err(self),
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: it came from `frames`, this was its one owner, and no page table has it (`map` forgets it then).
        unsafe { frames::free(self.0) };
    }
}

/// The frames of a large page. It cannot be misused, as [`Frame`].
#[derive(Debug)]
pub struct LargeFrame(PhysAddr);

impl LargeFrame {
    const PAGES: usize = LARGE_PAGE_BYTES as usize / PAGE_BYTES;

    /// Takes frames of zeros.
    pub fn alloc_zeroed() -> Option<Self> {
        let block = if memory::is_refused() { None } else { frames::alloc_block(Self::PAGES) }?;
        frames::zero(block, Self::PAGES);
        Some(Self(block))
    }

    /// Gives them to the app's page table where no table is; false, and they are given back, if small pages are there already.
    ///
    /// # Errors
    ///
    /// If there is no frame for a table: then they are given back.
    pub fn map(self, virt: VirtAddr, flags: Flags) -> Result<bool, OutOfFrames> {
        assert!(virt.as_u64() < USER_END, "the kernel's half is not the app's");
        let is_mapped = page_table::map_large(virt, self.0, flags - page_table::SHARED)?;
        if is_mapped {
            core::mem::forget(self);
        }
        Ok(is_mapped)
    }
}

impl Drop for LargeFrame {
    fn drop(&mut self) {
        // SAFETY: allocated as this many frames, this was their one owner, and no page table has them.
        unsafe { frames::free_block(self.0, Self::PAGES) };
    }
}

/// A frame that the host has. It cannot be misused: nobody else can have it before it is taken back, and one that is dropped stays the
/// host's.
#[derive(Debug)]
#[repr(transparent)]
pub struct Lent(u32);

impl Lent {
    /// Takes the frame back, which the host may go on writing until it has been told: so its content is not to be relied on
    /// before.
    pub fn take_back(self) -> Frame {
        Frame(PhysAddr::new(u64::from(self.0) * PAGE_BYTES as u64))
    }

    /// Takes many frames back, which are free from then on. Answers their numbers, in the list's own memory.
    pub fn take_all_back(frames: Vec<Self>) -> Vec<u32> {
        let mut frames = ManuallyDrop::new(frames);
        let (len, capacity) = (frames.len(), frames.capacity());
        for lent in &*frames {
            drop(Self(lent.0).take_back());
        }
        // SAFETY: the memory of a vector that nobody drops, of numbers: a `Lent` is a `u32` (`repr(transparent)`), and has nothing to drop.
        unsafe { Vec::from_raw_parts(frames.as_mut_ptr().cast(), len, capacity) }
    }

    /// The numbers of frames, for a message to the host.
    pub fn numbers(frames: &[Self]) -> &[u32] {
        // SAFETY: a `Lent` is a `u32` (`repr(transparent)`).
        unsafe { core::slice::from_raw_parts(frames.as_ptr().cast(), frames.len()) }
    }
}

/// A frame's bytes that the app can see and write at any time. They are only ever copied, never borrowed, so it cannot be misused:
/// what is copied may be torn, and is never more than bytes.
#[derive(Debug)]
pub struct SharedBytes(Frame);

impl SharedBytes {
    /// The bytes of a frame.
    pub fn new(frame: Frame) -> Self {
        Self(frame)
    }

    /// Where it lies.
    #[inline]
    pub fn address(&self) -> PhysAddr {
        self.0.address()
    }

    #[inline]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= PAGE_BYTES && len <= PAGE_BYTES - offset, "within one page");
        (phys_to_virt(self.address()) + offset as u64).as_mut_ptr()
    }

    /// Copies `len` bytes from the frame to the app.
    ///
    /// # Errors
    ///
    /// See [`CopyError`].
    ///
    /// # Panics
    ///
    /// If they do not lie in the frame; as all functions here.
    #[inline]
    pub fn copy_to(&self, offset: usize, len: usize, into: UserBytes<'_>) -> Result<(), CopyError> {
        // SAFETY: the range lies in the frame by the check in `at`, and we own the frame.
        unsafe { into.write_raw(self.at(offset, len), len) }
    }

    /// Copies `len` bytes from the app to the frame.
    ///
    /// # Errors
    ///
    /// See [`CopyError`].
    #[inline]
    pub fn copy_from(&self, offset: usize, len: usize, from: UserBytes<'_>) -> Result<(), CopyError> {
        // SAFETY: as above.
        unsafe { from.read_raw(self.at(offset, len), len) }
    }

    /// Copies the kernel's bytes to the frame.
    #[inline]
    pub fn fill(&self, offset: usize, bytes: &[u8]) {
        // SAFETY: as above; the source is a slice of that length and not in the frame, to which there
        // are no references.
        unsafe { self.at(offset, bytes.len()).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Copies bytes of the frame to the kernel.
    #[inline]
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        // SAFETY: as above.
        unsafe { into.as_mut_ptr().copy_from_nonoverlapping(self.at(offset, into.len()), into.len()) }
    }

    /// A word that the kernel and the app share, and change while the other looks.
    ///
    /// # Panics
    ///
    /// If it does not lie in the frame, at a multiple of its size.
    #[inline]
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(align_of::<AtomicU32>()), "words are aligned");
        // SAFETY: four bytes in the frame by the check in `at`, aligned by the one above; the frame lives at
        // least as long as we do, whom the result borrows. All access to the word is atomic: here by
        // the type, in the app by the processor.
        unsafe { AtomicU32::from_ptr(self.at(offset, size_of::<AtomicU32>()).cast()) }
    }

    /// Sets a part of the frame to zero.
    #[inline]
    pub fn clear(&self, offset: usize, len: usize) {
        // SAFETY: as above.
        unsafe { self.at(offset, len).write_bytes(0, len) }
    }
}

/// Gives back what an entry of the app's page table owned.
///
/// # Safety
///
/// The entry was made by [`Frame::map`] or [`LargeFrame::map`], or has a frame of the image, it is gone, and no core remembers it.
#[inline]
pub(crate) unsafe fn give_back(first: PhysAddr, is_large: bool) {
    if is_large {
        drop(LargeFrame(first));
    } else {
        drop(Frame(first));
    }
}
