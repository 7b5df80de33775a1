//! Mappings of objects that have pages: files, rings. A shared mapping shows the object's own pages,
//! a private one gets copies at the first touch.

use alloc::sync::Arc;

use unikernel_mm::{ObjectPart, PAGE_BYTES};
use x86_64::VirtAddr;
use x86_64::structures::paging::PageTableFlags as Flags;

use super::{
    Placement, Protection, RegionKind, SHARED_PAGE, SPACE, Space, SpaceError, page_table, take_app_frame,
};
use crate::mem::fault::Failure;
use crate::mem::layout;
use crate::mem::shared::SharedFrame;

/// An object whose pages can be mapped. It is asked with the address space locked: it must not touch
/// the app's memory, and takes locks below the address space's only.
pub trait PageSource: Send + Sync {
    /// Page `index` of the object; `None` beyond its end, or if memory is short.
    fn page(&self, index: u64) -> Option<SharedFrame>;
}

/// How a mapping relates to its object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Writes reach the object (`MAP_SHARED`).
    Shared,
    /// Writes stay in the mapping (`MAP_PRIVATE`).
    Private,
}

/// Maps `len` bytes of an object from `offset` on; answers where.
pub fn map_object(
    placement: Placement,
    len: u64,
    protection: Protection,
    object: Arc<dyn PageSource>,
    offset: u64,
    sharing: Sharing,
) -> Result<u64, SpaceError> {
    let mut space = SPACE.lock();
    let object = space.number_of(object);
    let is_shared = sharing == Sharing::Shared;
    let kind = |start| RegionKind::Object(ObjectPart::new(object, offset, start, is_shared));
    let outcome = space.map_kind(placement, len, protection, kind);
    if outcome.is_err() {
        space.forget_unused_objects();
    }
    outcome
}

impl Space {
    fn number_of(&mut self, object: Arc<dyn PageSource>) -> u32 {
        let is_it = |slot: &Option<Arc<dyn PageSource>>| {
            slot.as_ref().is_some_and(|other| Arc::ptr_eq(other, &object))
        };
        if let Some(index) = self.objects.iter().position(is_it) {
            return index as u32;
        }
        let index = self.objects.iter().position(Option::is_none).unwrap_or_else(|| {
            self.objects.push(None);
            self.objects.len() - 1
        });
        self.objects[index] = Some(object);
        index as u32
    }

    /// Lets go of the objects that no region shows any more.
    pub(super) fn forget_unused_objects(&mut self) {
        for index in 0..self.objects.len() {
            let shows = |kind| matches!(kind, RegionKind::Object(part) if part.object as usize == index);
            if !self.regions.iter().any(|region| shows(region.kind)) {
                self.objects[index] = None;
            }
        }
    }

    /// Maps the page of an object at `address`.
    pub(super) fn bring_in_object(
        &mut self,
        address: u64,
        part: ObjectPart,
        flags: Flags,
    ) -> Result<(), Failure> {
        let page = layout::page_down(address);
        let virt = VirtAddr::new(page);
        if page_table::lookup(virt).is_some() {
            // Another thread was faster, or the processor remembered what the page was before.
            x86_64::instructions::tlb::flush(virt);
            return Ok(());
        }
        let object = self.objects[part.object as usize].as_ref().ok_or(Failure::NotMapped)?;
        // Beyond the end of a file the answer is SIGBUS, as it is when memory is short.
        let shared = object.page(part.offset_of(page) / PAGE_BYTES).ok_or(Failure::OutOfMemory)?;
        let (frame, flags) = if part.is_shared {
            (shared.address(), flags | SHARED_PAGE)
        } else {
            let copy = take_app_frame().ok_or(Failure::OutOfMemory)?;
            // SAFETY: the frame is fresh, and nobody else knows it.
            let bytes = unsafe { &mut *layout::phys_to_virt(copy).as_mut_ptr::<[u8; layout::PAGE_BYTES]>() };
            shared.read(0, bytes);
            (copy, flags)
        };
        page_table::map(virt, frame, flags).map_err(|_| Failure::OutOfMemory)?;
        if part.is_shared {
            self.shared_pages.insert(page, shared);
        }
        self.resident_pages += 1;
        Ok(())
    }
}
