//! Mappings of objects that have pages: files, rings. A shared mapping shows the object's own pages,
//! a private one gets copies at the first touch.

use alloc::string::String;
use alloc::sync::Arc;
use core::ops::ControlFlow;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use unikernel_mm::{ObjectPart, PAGE_BYTES};
use x86_64::VirtAddr;
use x86_64::structures::paging::PageTableFlags as Flags;

use super::cut::Copies;
use super::pieces::in_pieces;
use super::{
    FaultError, Placement, Protection, Region, RegionKind, SHARED_PAGE, SPACE, Space, SpaceError, Terms,
    change, check_range, discard_replaced, page_table,
};
use crate::abi::Errno;
use crate::arch::tlb;
use crate::kmem::layout::{self, USER_END};
use crate::kmem::room;
use crate::mem::fault::{Access, Failure};
use crate::mem::shared::SharedFrame;

/// An object whose pages can be mapped. It is asked with the address space locked: it must not touch
/// the app's memory, and takes locks below the address space's only.
pub(crate) trait PageSource: Send + Sync {
    /// The same for all objects that show the same pages: a file may be mapped through several descriptions.
    fn identity(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Page `index` of the object.
    fn page(&self, index: u64) -> Supply;

    /// Gets a page that was [`Supply::Absent`]; called without locks, and may sleep. It stays in memory for as long as
    /// the answer is kept. `ENOMEM` if memory is short, which may change; another error if it cannot be read, or is not there.
    fn load(&self, _index: u64) -> Result<SharedFrame, Errno> {
        Err(Errno::EIO)
    }

    /// True if what the app writes to a page in memory will have a place, such as blocks of a disk. Only such pages are
    /// mapped for writing. Called like [`Self::page`].
    fn has_place(&self, _index: u64) -> bool {
        true
    }

    /// Sees to it that a page has one; called without locks, and may sleep. `ENOMEM` as above; another error if there is none.
    fn reserve(&self, _index: u64) -> Result<(), Errno> {
        Ok(())
    }

    /// What it is called.
    fn describe(&self) -> Description;

    /// False if no new shared mapping may be written through (a sealed file). Called like [`Self::page`].
    fn allows_writing(&self) -> bool {
        true
    }

    /// True if pages may be [`Supply::Absent`].
    fn is_paged(&self) -> bool {
        false
    }

    /// True if each first store to a page that is clean is to be noticed ([`Self::note_store`]): until then, the page is
    /// mapped for reading.
    fn notices_first_stores(&self) -> bool {
        false
    }

    /// The app is about to write to a page that it could not write to before: it was not mapped, or it was clean. Called
    /// like [`Self::page`].
    fn note_store(&self) {}

    /// The app has written to a page through a mapping, since this was asked last or the mapping was made.
    fn note_dirty(&self, _index: u64) {}

    /// Makes what was written through mappings as safe as the object can (`MS_SYNC`); called without locks, and
    /// may sleep. False if that failed.
    fn sync(&self) -> bool {
        true
    }
}

/// An object's answer.
pub(crate) enum Supply {
    /// Here it is.
    Page(SharedFrame),
    /// It has to be loaded first.
    Absent,
    /// There is none, and waiting does not help: beyond the object's end, or the object has all the pages that it
    /// may have.
    None,
    /// Memory is short.
    OutOfMemory,
}

/// An object as `/proc/self/maps` names it.
pub(crate) struct Description {
    /// Its path, or what stands for one.
    pub name: String,
    /// `st_dev` of the file.
    pub device: u64,
    /// `st_ino` of the file.
    pub inode: u64,
}

/// How a mapping relates to its object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing {
    /// Writes reach the object (`MAP_SHARED`).
    Shared,
    /// Writes stay in the mapping (`MAP_PRIVATE`).
    Private,
}

/// Maps `len` bytes of an object from `offset` on; answers where.
pub(crate) fn map_object(
    placement: Placement,
    len: u64,
    protection: Protection,
    mut allowed: Protection,
    object: Arc<dyn PageSource>,
    offset: u64,
    sharing: Sharing,
) -> Result<u64, SpaceError> {
    let is_shared = sharing == Sharing::Shared;
    if allowed.contains(protection) && (!is_shared || object.allows_writing()) {
        discard_replaced(placement, len);
    }
    change(|space| {
        // With the address space locked: who seals a file looks for mappings afterwards.
        if is_shared && !object.allows_writing() {
            allowed -= Protection::WRITE;
        }
        if !allowed.contains(protection) {
            return Err(SpaceError::Sealed);
        }
        space.check_limits(placement, len, !is_shared && protection.contains(Protection::WRITE))?;
        let object = space.number_of(object)?;
        let kind = |start| RegionKind::Object(ObjectPart::new(object, offset, start, is_shared));
        let is_charged = protection.contains(Protection::WRITE) && !is_shared;
        let terms = Terms { protection, allowed, is_charged, is_locked: space.locks_new(), moving: 0 };
        let outcome = space.map_kind(placement, len, terms, kind);
        if outcome.is_err() {
            space.note_lost_region(object);
            space.forget_unused_objects();
        }
        outcome
    })
}

/// True if the app may ever write to an object through one of its mappings.
pub(crate) fn has_writable_mapping(object: &dyn PageSource) -> bool {
    let space = SPACE.lock();
    let identity = object.identity();
    // A node of a filesystem and its content are two objects, with the same pages.
    let mut numbers = 0..space.objects.len() as u32;
    numbers.any(|number| space.regions.is_writable(number) && space.is_object(number, identity))
}

/// Objects in the address space whose pages may be absent.
static PAGED_OBJECTS: AtomicUsize = AtomicUsize::new(0);

/// True if a copy from or to the app might have to wait for a page.
pub(crate) fn has_paged_objects() -> bool {
    PAGED_OBJECTS.load(Ordering::Relaxed) > 0
}

impl Space {
    fn number_of(&mut self, object: Arc<dyn PageSource>) -> Result<u32, SpaceError> {
        let address = Arc::as_ptr(&object).addr();
        if let Some(&number) = self.object_numbers.get(&address) {
            return Ok(number);
        }
        let index = match self.free_numbers.pop() {
            Some(index) => index as usize,
            None => {
                room::push(&mut self.objects, None).map_err(|_| SpaceError::OutOfMemory)?;
                self.objects.len() - 1
            }
        };
        let is_known = self.regions.know_object(index as u32).is_ok();
        // There is room for all numbers to be free: so none is lost.
        let has_room = self.free_numbers.try_reserve(self.objects.len() - self.free_numbers.len()).is_ok();
        if !is_known || !has_room {
            self.forget_number(index as u32);
            return Err(SpaceError::OutOfMemory);
        }
        if object.is_paged() {
            PAGED_OBJECTS.fetch_add(1, Ordering::Relaxed);
        }
        self.object_numbers.insert(address, index as u32);
        self.objects[index] = Some(object);
        Ok(index as u32)
    }

    /// A number has no object (any more).
    fn forget_number(&mut self, number: u32) {
        if self.free_numbers.try_reserve(1).is_ok() {
            self.free_numbers.push(number);
        }
    }

    /// A region is gone that showed an object, perhaps the last.
    pub(super) fn note_lost_region(&mut self, number: u32) {
        if self.regions.shown(number) > 0 {
            return;
        }
        if self.lost_objects.try_reserve(1).is_ok() {
            self.lost_objects.push(number);
        } else {
            self.has_lost_object = true;
        }
    }

    /// True if the object of this number shows the pages of this identity.
    pub(super) fn is_object(&self, number: u32, identity: usize) -> bool {
        self.objects[number as usize].as_ref().is_some_and(|object| object.identity() == identity)
    }

    /// Tells the object behind `page` that the app wrote there.
    pub(super) fn note_dirty(&self, page: u64) {
        if let Some(Region { kind: RegionKind::Object(part), .. }) = self.regions.find(page)
            && let Some(object) = &self.objects[part.object as usize]
        {
            object.note_dirty(part.offset_of(page) / PAGE_BYTES);
        }
    }

    /// Lets go of the objects that no region shows any more, if there may be some.
    pub(super) fn forget_unused_objects(&mut self) {
        while let Some(number) = self.lost_objects.pop() {
            self.forget_if_unused(number);
        }
        if core::mem::take(&mut self.has_lost_object) {
            (0..self.objects.len() as u32).for_each(|number| self.forget_if_unused(number));
        }
    }

    fn forget_if_unused(&mut self, number: u32) {
        if self.regions.shown(number) > 0 {
            return;
        }
        let Some(gone) = self.objects[number as usize].take() else { return };
        if gone.is_paged() {
            PAGED_OBJECTS.fetch_sub(1, Ordering::Relaxed);
        }
        self.object_numbers.remove(&Arc::as_ptr(&gone).addr());
        self.forget_number(number);
        self.departed.push(gone);
    }

    /// Maps the page of an object at `address`.
    pub(super) fn fault_in_object(
        &mut self,
        address: u64,
        part: ObjectPart,
        is_charged: bool,
        mut flags: Flags,
        access: Access,
    ) -> Result<(), FaultError> {
        let page = layout::page_down(address);
        let virt = VirtAddr::new(page);
        let held = page_table::lookup(virt);
        if held.is_some_and(|held| !access.is_write || held.flags.contains(Flags::WRITABLE)) {
            // Another thread was faster, or the processor remembered what the page was before.
            crate::arch::paging::forget(virt);
            return Ok(());
        }
        let object = self.objects[part.object as usize].as_ref().ok_or(Failure::NotMapped)?;
        let index = part.offset_of(page) / PAGE_BYTES;
        let shared = match object.page(index) {
            Supply::Page(shared) => shared,
            Supply::Absent => return Err(FaultError::NotLoaded(Arc::clone(object), index)),
            Supply::None => return Err(Failure::NoPage.into()),
            Supply::OutOfMemory => return Err(Failure::OutOfMemory.into()),
        };
        if part.is_shared && access.is_write {
            if !object.has_place(index) {
                return Err(FaultError::NoPlace(Arc::clone(object), index));
            }
        } else if part.is_shared && (object.notices_first_stores() || !object.has_place(index)) {
            // It is mapped for reading until somebody writes.
            flags -= Flags::WRITABLE;
        }
        if held.is_some() {
            // As on Linux, a store is not noticed that needed no page.
            if object.notices_first_stores() {
                object.note_store();
            }
            allow_writing(virt);
            return Ok(());
        }
        if part.is_shared {
            page_table::map_shared(virt, shared.bytes(), flags).map_err(|_| Failure::OutOfMemory)?;
            if access.is_write {
                object.note_store();
            }
            self.shared_pages.insert(page, shared);
            self.resident_pages += 1;
            return Ok(());
        }
        self.map_own_page(virt, is_charged, flags, |copy| shared.read(0, copy))?;
        Ok(())
    }
}

/// Lets a page that is mapped for reading be written.
fn allow_writing(page: VirtAddr) {
    let start = page.as_u64();
    // No large page shows an object, so nothing is split and nothing can fail.
    let _ = page_table::for_each_entry(start, start + PAGE_BYTES, |_, mut entry, _| {
        entry.set_flags(entry.flags() | Flags::WRITABLE);
        ControlFlow::Continue(())
    });
    crate::arch::paging::forget(page);
}

/// Tells an object which of its pages the app has written to through shared mappings since this was asked last
/// ([`PageSource::note_dirty`]). It knows before the address space is free again: from then on, a page that is not known
/// to be dirty may go.
pub(crate) fn collect_dirty(object: &dyn PageSource) {
    visit_all(|space, at| {
        let next = space.next_shown(at, object.identity(), &(0..u64::MAX), Copies::Keep);
        match next {
            Ok((region, part)) => space.collect_some(object, &region, part, at.max(region.start)),
            Err(passed) => passed,
        }
    });
}

/// Passes at most over all addresses, should pages go on moving; what moves into the last is the app's own fault.
const MOST_PASSES: usize = 4;

/// Goes through all addresses in pieces; `step` answers where the next begins. If pages have moved meanwhile, they may have been
/// missed: once more.
pub(super) fn visit_all(mut step: impl FnMut(&mut Space, u64) -> u64) {
    for _ in 0..MOST_PASSES {
        let before = SPACE.lock().moves;
        let _ = in_pieces(0, USER_END, |space, at| Ok::<_, SpaceError>(step(space, at)));
        if SPACE.lock().moves == before {
            return;
        }
    }
}

impl Space {
    /// Tells an object which pages of a region, from `start` on, are dirty; as many as takes a fraction of a millisecond.
    /// Answers where the rest begins.
    fn collect_some(&self, object: &dyn PageSource, region: &Region, part: ObjectPart, start: u64) -> u64 {
        let end = page_table::piece_end(start, region.end, page_table::TABLES_TO_WORK_ON);
        let mut was_written = false;
        // No large page shows an object, so nothing is split and nothing can fail.
        let _ = page_table::for_each_entry(start, end, |virt, mut entry, _| {
            if entry.flags().contains(SHARED_PAGE | Flags::DIRTY) {
                entry.make_clean(object.notices_first_stores());
                object.note_dirty(part.offset_of(virt.as_u64()) / PAGE_BYTES);
                was_written = true;
            }
            ControlFlow::Continue(())
        });
        if was_written {
            // Processors remember that an entry was dirty, and would not mark it again.
            tlb::flush(start, end);
        }
        end
    }
}

/// Makes what is mapped in a range as safe as the objects behind it can (msync(2)).
pub(crate) fn sync(start: u64, len: u64) -> Result<bool, SpaceError> {
    let end = check_range(start, len)?;
    let (mut at, mut is_safe) = (start, true);
    while let Some((object, next)) = shared_behind(at, end) {
        is_safe &= object.sync();
        at = next;
    }
    Ok(is_safe)
}

/// The object of the first shared mapping in a range, and where that mapping ends.
fn shared_behind(start: u64, end: u64) -> Option<(Arc<dyn PageSource>, u64)> {
    let space = SPACE.lock();
    space.regions.overlapping(start, end).find_map(|region| match region.kind {
        RegionKind::Object(part) if part.is_shared => {
            Some((space.objects[part.object as usize].clone()?, region.end))
        }
        _ => None,
    })
}
