//! The backend of the tests: locks that panic where a thread would wait for itself, frames, a mapping.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::vec::Vec;

use super::super::{
    ALL, Backend, Copies, Counts, Direction, ErrorSequence, FileCache, Frame, PAGE_BYTES, Piece, Reclaim,
    Requests, Shared, mark_dirty, page, reserve, split, write_back,
};
use super::disk::Disk;
use super::faults::{Faults, Operation};
use super::filesystem::MemoryFs;
use crate::{Error, FileSystem, InodeNumber, Timestamp};

/// A page's memory.
#[derive(Clone)]
pub(super) struct TestFrame(Rc<RefCell<Vec<u8>>>);

impl TestFrame {
    /// With what was there before, which nobody may see.
    fn new() -> Self {
        Self(Rc::new(RefCell::new(std::vec![0xEE; PAGE_BYTES])))
    }
}

impl Frame for TestFrame {
    fn clear(&self, offset: usize, len: usize) {
        self.0.borrow_mut()[offset..offset + len].fill(0);
    }

    fn fill(&self, offset: usize, bytes: &[u8]) {
        self.0.borrow_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.0.borrow()[offset..offset + into.len()]);
    }

    fn is_sole_owner(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

/// What the files of one filesystem share.
pub(super) struct Mount {
    pub(super) filesystem: RefCell<MemoryFs>,
    pub(super) disk: Arc<Disk>,
    pub(super) faults: Arc<Faults>,
    pub(super) shared: Shared,
    pub(super) counts: Counts,
    /// Pages in the order in which the clock's hand would pass them.
    pub(super) clock: RefCell<Vec<(u64, u64)>>,
    pub(super) files: RefCell<Vec<Rc<TestFile>>>,
    pub(super) errors: RefCell<ErrorSequence<Error>>,
    /// Dirty pages that there may be.
    pub(super) most_dirty: usize,
    /// What others do while a request is on its way.
    pub(super) others: RefCell<Option<std::boxed::Box<dyn FnMut()>>>,
}

impl Mount {
    /// What others do.
    fn let_others_run(&self) {
        // Taken out meanwhile: what they do is not interrupted.
        let others = self.others.borrow_mut().take();
        if let Some(mut others) = others {
            others();
            *self.others.borrow_mut() = Some(others);
        }
    }

    /// Pages that could be had of what is free and not reserved.
    pub(super) fn unreserved_pages(&self) -> u64 {
        let free = self.filesystem.borrow_mut().statistics().expect("no operation");
        let bytes = free.available_blocks * u64::from(free.block_bytes);
        (bytes / PAGE_BYTES as u64).saturating_sub(self.shared.reservations.delayed_pages())
    }

    /// Has the reservations know what is free.
    pub(super) fn note_space(&self) {
        if self.shared.has_blocks {
            let free = self.filesystem.borrow_mut().statistics().expect("no operation");
            let bytes = free.available_blocks * u64::from(free.block_bytes);
            self.shared.reservations.set_free_pages(bytes / PAGE_BYTES as u64);
        }
    }

    /// Lets go of up to `wanted` pages.
    pub(super) fn shrink(&self, wanted: usize) {
        let mut freed = 0;
        let pages = std::mem::take(&mut *self.clock.borrow_mut());
        let files = self.files.borrow().clone();
        for (file, index) in pages {
            let cache = &files[file as usize].cache;
            let verdict = match cache.try_borrow_mut() {
                Ok(mut cache) if freed < wanted => cache.evict(index, &self.counts),
                _ => Reclaim::Keep,
            };
            match verdict {
                Reclaim::Keep => self.clock.borrow_mut().push((file, index)),
                Reclaim::Freed => freed += 1,
                Reclaim::Gone => {}
            }
        }
    }
}

/// A file.
pub(super) struct TestFile {
    pub(super) mount: Rc<Mount>,
    pub(super) number: u64,
    pub(super) cache: RefCell<FileCache<TestFrame>>,
    is_io_locked: Cell<bool>,
    is_mapped: Cell<bool>,
    /// Pages that a mapping shows, and of those what the page table says is dirty.
    mapped: RefCell<BTreeMap<u64, TestFrame>>,
    mapped_dirty: RefCell<BTreeSet<u64>>,
    has_new_times: Cell<bool>,
    /// It is noted as dirty, for who writes all back.
    is_noted: Cell<bool>,
    /// There was an error after the last sync.
    pub(super) has_untold_error: Cell<bool>,
    /// There was one that the model does not know of yet.
    pub(super) has_new_error: Cell<bool>,
}

/// Holds the lock of blocks.
pub(super) struct IoGuard<'a>(&'a TestFile);

impl Drop for IoGuard<'_> {
    fn drop(&mut self) {
        self.0.is_io_locked.set(false);
    }
}

impl TestFile {
    pub(super) fn new(mount: Rc<Mount>, number: u64) -> Rc<Self> {
        Rc::new(Self {
            mount,
            number,
            cache: RefCell::new(FileCache::new(0)),
            is_io_locked: Cell::new(false),
            is_mapped: Cell::new(false),
            mapped: RefCell::default(),
            mapped_dirty: RefCell::default(),
            has_new_times: Cell::new(false),
            is_noted: Cell::new(false),
            has_untold_error: Cell::new(false),
            has_new_error: Cell::new(false),
        })
    }

    pub(super) fn is_io_locked(&self) -> bool {
        self.is_io_locked.get()
    }

    /// True if a page is on its way in.
    pub(super) fn is_loading(&self, index: u64) -> bool {
        self.cache.borrow().pages.get(&index).is_some_and(|page| page.is_loading())
    }

    /// The app stores bytes through a mapping of the whole file; false if it gets `SIGBUS`.
    pub(super) fn store(&self, offset: u64, bytes: &[u8]) -> bool {
        self.is_mapped.set(true);
        let (index, within) = split(offset);
        let known = self.mapped.borrow().get(&index).cloned();
        let frame = match known {
            Some(frame) => frame,
            None => match page(self, index, 4, None) {
                Ok(page) => page.frame().clone(),
                Err(_) => return false,
            },
        };
        if !self.with(|cache| cache.has_place(index)) && reserve(self, index).is_err() {
            return false;
        }
        assert!(self.with(|cache| cache.is_ready(index)), "a page in use stays");
        frame.fill(within, bytes);
        self.mapped.borrow_mut().insert(index, frame);
        self.mapped_dirty.borrow_mut().insert(index);
        true
    }

    /// True if a page was lost, and is as it was then.
    pub(super) fn is_lost(&self, index: u64) -> bool {
        let cache = self.cache.borrow();
        let is_changed = cache.dirty.contains(&index) || self.mapped_dirty.borrow().contains(&index);
        cache.failures.lost.contains(&index) && !is_changed
    }

    /// What is true between two steps: nothing is on its way, and a mapping shows the pages that calls see.
    pub(super) fn check(&self) {
        let cache = self.cache.borrow();
        assert!(cache.changing.is_none() && cache.write_end == 0, "a write is left half done");
        assert!(cache.pages.values().all(|page| page.is_ready()), "a page is on its way for ever");
        assert!(cache.dirty.iter().all(|index| cache.pages.contains_key(index)), "a page is dirty and gone");
        for (index, frame) in &*self.mapped.borrow() {
            let page = cache.pages.get(index).expect("a mapped page stays");
            assert!(Rc::ptr_eq(&page.frame().0, &frame.0), "a mapping shows an old page");
        }
    }

    /// `fsync` and others write it back.
    pub(super) fn write_back_if_noted(&self) {
        if self.is_noted.get() || self.is_mapped.get() {
            let _ = write_back(self, ALL);
        }
    }
}

impl Backend for TestFile {
    type Frame = TestFrame;
    type Guard<'a> = IoGuard<'a>;

    fn with<T>(&self, work: impl FnOnce(&mut FileCache<TestFrame>) -> T) -> T {
        work(&mut self.cache.borrow_mut())
    }

    fn lock_io(&self) -> IoGuard<'_> {
        assert!(!self.is_io_locked.replace(true), "it would wait for itself");
        IoGuard(self)
    }

    fn wait(&self, mut is_over: impl FnMut() -> bool) {
        assert!(is_over(), "it would wait for itself");
    }

    fn wake(&self) {}

    fn yield_now(&self) {
        drop(self.cache.borrow_mut());
    }

    fn breathe(&self, _: usize) {
        drop(self.cache.borrow_mut());
    }

    fn new_frame(&self) -> Option<TestFrame> {
        self.mount.faults.check(Operation::Memory).ok().map(|()| TestFrame::new())
    }

    fn make_room(&self) -> bool {
        self.mount.shrink(1);
        true
    }

    fn buffer(&self, len: usize) -> Result<Vec<u8>, Error> {
        self.mount.faults.check(Operation::Memory)?;
        Ok(std::vec![0; len])
    }

    fn counts(&self) -> &Counts {
        &self.mount.counts
    }

    fn note_added(&self, pages: Range<u64>) {
        self.mount.clock.borrow_mut().extend(pages.map(|index| (self.number, index)));
    }

    fn is_mapped(&self) -> bool {
        self.is_mapped.get()
    }

    fn collect_mapped(&self) {
        // From now on the first store to each is noticed: the page tables say clean.
        let dirty = std::mem::take(&mut *self.mapped_dirty.borrow_mut());
        dirty.into_iter().for_each(|index| mark_dirty(self, index));
    }

    fn unmap(&self, pages: Range<u64>, _: Copies) {
        self.mapped.borrow_mut().retain(|index, _| !pages.contains(index));
        let dirty: Vec<u64> = self.mapped_dirty.borrow().range(pages).copied().collect();
        for index in dirty {
            self.mapped_dirty.borrow_mut().remove(&index);
            mark_dirty(self, index);
        }
    }

    fn number(&self) -> InodeNumber {
        InodeNumber(self.number)
    }

    fn shared(&self) -> &Shared {
        &self.mount.shared
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn has_failed(&self) -> bool {
        self.mount.filesystem.borrow().is_read_only()
    }

    fn with_filesystem<T>(
        &self,
        work: impl FnOnce(&mut dyn FileSystem) -> Result<T, Error>,
    ) -> Result<T, Error> {
        drop(self.cache.borrow_mut());
        let outcome = work(&mut *self.mount.filesystem.borrow_mut());
        self.mount.note_space();
        outcome
    }

    /// Each piece is a request. If they are joined, who fails takes its neighbour along.
    fn transfer(
        &self,
        direction: Direction,
        requests: Requests,
        pieces: &[Piece<'_, TestFrame>],
    ) -> Result<(), Vec<usize>> {
        drop(self.cache.borrow_mut());
        let mut failed = BTreeSet::new();
        for (place, piece) in pieces.iter().enumerate() {
            self.mount.let_others_run();
            let mut bytes = std::vec![0; piece.len];
            let outcome = match direction {
                Direction::Read => self
                    .mount
                    .disk
                    .read(piece.sector, &mut bytes)
                    .map(|()| piece.frame.fill(piece.offset, &bytes)),
                Direction::Write => {
                    piece.frame.read(piece.offset, &mut bytes);
                    self.mount.disk.write(piece.sector, &bytes)
                }
            };
            if outcome.is_err() {
                failed.insert(place);
                if requests == Requests::Joined && place + 1 < pieces.len() {
                    failed.insert(place + 1);
                }
            }
            self.mount.let_others_run();
        }
        if failed.is_empty() { Ok(()) } else { Err(failed.into_iter().collect()) }
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn modified(&self) -> Timestamp {
        Timestamp::default()
    }

    fn note_write(&self) {
        self.has_new_times.set(true);
    }

    fn note_resize(&self) {
        self.has_new_times.set(false);
    }

    fn note_dirty(&self) {
        self.is_noted.set(true);
    }

    fn note_write_back(&self, is_all: bool) {
        assert!(self.is_io_locked(), "an inode that is neither noted nor locked has nothing to write");
        if is_all {
            self.is_noted.set(false);
        }
    }

    fn store_times(&self) -> Result<(), Error> {
        self.has_new_times.set(false);
        Ok(())
    }

    fn refresh(&self) -> Result<(), Error> {
        Ok(())
    }

    fn record_error(&self, error: Error) {
        self.has_untold_error.set(true);
        self.has_new_error.set(true);
        self.mount.errors.borrow_mut().record(error);
    }

    fn report_losses(&self, pages: usize, _: Error) {
        assert!(pages > 0, "losses of no pages");
    }

    fn has_too_many_dirty(&self) -> bool {
        !self.is_io_locked() && self.mount.counts.dirty() > self.mount.most_dirty
    }

    fn refresh_space(&self) {
        drop(self.cache.borrow_mut());
        self.mount.note_space();
    }

    fn write_back_others(&self) {
        let files = self.mount.files.borrow().clone();
        files.iter().filter(|file| !file.is_io_locked()).for_each(|file| file.write_back_if_noted());
    }
}
