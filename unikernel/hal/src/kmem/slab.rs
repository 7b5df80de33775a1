//! Small objects: a class cuts pages into objects of one size, and gives a page back when all of it is free.
//!
//! What is known of a page (its free objects, its neighbours on the class's list) lies in a table with an
//! entry for each page of RAM; the free objects of a page are chained through themselves.
//!
//! In front of that, a class has a few objects that were freed last (a magazine, as Bonwick's vmem paper of 2001 has it):
//! most are asked for again at once, and come and go by two stores without a look at their page.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use x86_64::{PhysAddr, VirtAddr};

use super::frames;
use super::layout::{PAGE_BYTES, phys_to_virt, virt_to_phys};

/// No page has this number, and no object.
const NO_PAGE: u32 = u32::MAX;
const NO_OBJECT: u16 = u16::MAX;
/// Free bytes that a class keeps, so that a page does not come and go with one object.
const KEEP_BYTES: usize = 16 * 1024;

/// Bytes, and objects, that the magazine of a class holds at most. To their pages they are in use: each may keep one
/// from being given back until [`Class::empty_magazine`].
const MAGAZINE_BYTES: usize = 8 * 1024;
const MAGAZINE_OBJECTS: usize = 32;

/// An object in a magazine holds the address of the next.
struct Loaded {
    next: Option<NonNull<Loaded>>,
}

/// What is known of a page that a class has.
struct Page {
    /// The neighbours on the list of pages with a free object.
    next: u32,
    previous: u32,
    first_free: u16,
    free: u16,
}

static TABLE: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());

/// Bytes of the table that [`init`] needs, for RAM that ends at `end`.
pub(super) fn table_bytes(end: u64) -> u64 {
    let page_bytes = PAGE_BYTES as u64;
    (end / page_bytes * size_of::<Page>() as u64).next_multiple_of(page_bytes)
}

/// Takes the memory of the table over.
///
/// # Safety
///
/// [`table_bytes`] from `table` on must be RAM for all of it, page-aligned, used by nobody, and mapped.
pub(super) unsafe fn init(table: PhysAddr) {
    TABLE.store(phys_to_virt(table).as_mut_ptr(), Ordering::Release);
}

fn number_of(address: *const u8) -> u32 {
    (virt_to_phys(VirtAddr::from_ptr(address)).as_u64() / PAGE_BYTES as u64) as u32
}

fn address_of(page: u32) -> PhysAddr {
    PhysAddr::new(u64::from(page) * PAGE_BYTES as u64)
}

fn frame() -> Option<PhysAddr> {
    frames::alloc().or_else(|| frames::alloc_from_last_resort(1))
}

/// Objects of 2^`log2` bytes, which is less than a page.
pub(super) struct Class {
    log2: u32,
    /// The first page with a free object.
    head: u32,
    /// Free objects of all pages.
    free: usize,
    magazine: Option<NonNull<Loaded>>,
    loaded: usize,
    /// How many fit into the magazine.
    capacity: usize,
}

// SAFETY: the objects in the magazine are free memory that only the lock's holder touches.
unsafe impl Send for Class {}

impl Class {
    /// A class without pages.
    pub(super) const fn new(log2: u32) -> Self {
        let fitting = MAGAZINE_BYTES >> log2;
        let capacity = if fitting < MAGAZINE_OBJECTS { fitting } else { MAGAZINE_OBJECTS };
        Self { log2, head: NO_PAGE, free: 0, magazine: None, loaded: 0, capacity }
    }

    fn objects_per_page(&self) -> usize {
        PAGE_BYTES >> self.log2
    }

    fn page(&mut self, page: u32) -> &mut Page {
        // SAFETY: the table has an entry for each page of RAM, and `page` is one. While the class has it,
        // nobody else looks at its entry; the answer borrows the class, so there is one at a time.
        unsafe { &mut *TABLE.load(Ordering::Relaxed).add(page as usize) }
    }

    fn object(&self, page: u32, index: u16) -> *mut u16 {
        (phys_to_virt(address_of(page)) + (u64::from(index) << self.log2)).as_mut_ptr()
    }

    /// Takes an object with whatever content it has.
    pub(super) fn alloc(&mut self) -> Option<NonNull<u8>> {
        let Some(object) = self.magazine else { return self.alloc_from_page() };
        // SAFETY: objects in the magazine hold a link, written by `free`.
        self.magazine = unsafe { object.read() }.next;
        self.loaded -= 1;
        Some(object.cast())
    }

    /// Gives an object back.
    ///
    /// # Safety
    ///
    /// It must come from [`Self::alloc`] of this class, and nothing may use it any more.
    pub(super) unsafe fn free(&mut self, object: NonNull<u8>) {
        if self.loaded == self.capacity {
            // SAFETY: as the caller says.
            return unsafe { self.free_to_page(object.as_ptr().cast()) };
        }
        let object = object.cast::<Loaded>();
        // SAFETY: the object is free memory, and the smallest class has room for a link, with its alignment.
        unsafe { object.write(Loaded { next: self.magazine }) };
        self.magazine = Some(object);
        self.loaded += 1;
    }

    /// Gives the objects of the magazine to their pages, when memory runs short.
    pub(super) fn empty_magazine(&mut self) {
        while let Some(object) = self.magazine {
            // SAFETY: objects in the magazine hold a link, written by `free`.
            self.magazine = unsafe { object.read() }.next;
            // SAFETY: the object came from this class, and is nobody's since it is off the list.
            unsafe { self.free_to_page(object.as_ptr().cast()) };
        }
        self.loaded = 0;
    }

    /// What happens once for a magazine: not in each place that allocates.
    #[cold]
    #[inline(never)]
    fn alloc_from_page(&mut self) -> Option<NonNull<u8>> {
        if self.head == NO_PAGE {
            self.add_page()?;
        }
        let head = self.head;
        let index = self.page(head).first_free;
        let object = self.object(head, index);
        // SAFETY: the object is free, so it holds the number of the next one, and nobody else looks at it.
        let next = unsafe { object.read() };
        let page = self.page(head);
        page.first_free = next;
        page.free -= 1;
        if page.free == 0 {
            self.unlink(head);
        }
        self.free -= 1;
        NonNull::new(object.cast())
    }

    /// # Safety
    ///
    /// The object must come from [`Self::alloc`] of this class, be on no list, and nothing may use it any more.
    #[cold]
    #[inline(never)]
    unsafe fn free_to_page(&mut self, object: *mut u8) {
        let number = number_of(object);
        let index = ((object as usize % PAGE_BYTES) >> self.log2) as u16;
        // SAFETY: the object is free memory of two bytes and more, aligned to its size.
        unsafe { object.cast::<u16>().write(self.page(number).first_free) };
        let page = self.page(number);
        page.first_free = index;
        page.free += 1;
        let free = usize::from(page.free);
        self.free += 1;
        if free == 1 {
            self.link(number);
        }
        let objects = self.objects_per_page();
        if free == objects && self.free - objects >= KEEP_BYTES >> self.log2 {
            self.unlink(number);
            self.free -= objects;
            // SAFETY: the frame came from `add_page`; all its objects are free and on no list.
            unsafe { frames::free(address_of(number)) };
        }
    }

    /// Cuts a fresh frame into objects.
    fn add_page(&mut self) -> Option<()> {
        let number = (frame()?.as_u64() / PAGE_BYTES as u64) as u32;
        let objects = self.objects_per_page() as u16;
        for index in 0..objects {
            let next = if index + 1 < objects { index + 1 } else { NO_OBJECT };
            // SAFETY: the frame is ours, and each object of it has room for a number.
            unsafe { self.object(number, index).write(next) };
        }
        *self.page(number) = Page { next: NO_PAGE, previous: NO_PAGE, first_free: 0, free: objects };
        self.free += usize::from(objects);
        self.link(number);
        Some(())
    }

    /// Puts a page on the list.
    fn link(&mut self, number: u32) {
        let next = core::mem::replace(&mut self.head, number);
        let page = self.page(number);
        (page.next, page.previous) = (next, NO_PAGE);
        if next != NO_PAGE {
            self.page(next).previous = number;
        }
    }

    /// Takes a page off the list.
    fn unlink(&mut self, number: u32) {
        let page = self.page(number);
        let (next, previous) = (page.next, page.previous);
        match previous {
            NO_PAGE => self.head = next,
            previous => self.page(previous).next = next,
        }
        if next != NO_PAGE {
            self.page(next).previous = previous;
        }
    }
}
