//! Files, their models, and the steps on both.

use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::vec::Vec;

use super::super::{
    ErrorCursor, ErrorSequence, Fault as MemoryFault, Frame, PAGE_BYTES, ReadAhead, Reservations, Shared,
    Window, allocate, forget_pages, punch, read, resize, sync, write, write_back,
};
use super::disk::Disk;
use super::faults::{Fault, Faults};
use super::file::{Mount, TestFile};
use super::filesystem::MemoryFs;
use super::model::{CELL_BYTES, CELLS, Model, Opened};
use super::random::Random;
use super::steps::{FILES, Step};
use crate::{FileSystem, Sync, Timestamp};

/// A filesystem's kind and size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) block_bytes: usize,
    /// Content lies in blocks; else the filesystem moves it.
    pub(super) has_blocks: bool,
    pub(super) blocks: u64,
    /// Dirty pages that there may be.
    pub(super) most_dirty: usize,
    /// Others run while a request is on its way.
    pub(super) has_others: bool,
}

/// What numbers a reader's window, for one thread.
pub(super) struct Reader(RefCell<ReadAhead>);

impl Window for Reader {
    fn hit(&self, first: u64, count: u32) {
        self.0.borrow_mut().hit(first, count);
    }

    fn miss(&self, first: u64, count: u32) -> u32 {
        self.0.borrow_mut().miss(first, count)
    }
}

/// An open file description.
struct Description {
    cursor: ErrorCursor,
    reader: Reader,
    opened: Opened,
}

/// What steps and others have in common.
struct State {
    mount: Rc<Mount>,
    models: RefCell<Vec<Model>>,
    /// The number that the next write writes.
    number: Cell<u8>,
    /// The file whose writes have their turn taken.
    writer: Cell<Option<usize>>,
}

pub(super) struct World {
    state: Rc<State>,
    descriptions: Vec<Vec<Description>>,
}

/// Numbers that a cell may hold.
const NUMBERS: u8 = 64;

impl State {
    fn file(&self, file: usize) -> Rc<TestFile> {
        Rc::clone(&self.mount.files.borrow()[file])
    }

    fn model<T>(&self, file: usize, work: impl FnOnce(&mut Model) -> T) -> T {
        work(&mut self.models.borrow_mut()[file])
    }

    fn is_writable(&self) -> bool {
        !self.mount.filesystem.borrow().is_read_only()
    }

    fn next_number(&self) -> Option<u8> {
        let number = self.number.get();
        (number < NUMBERS).then(|| {
            self.number.set(number + 1);
            number
        })
    }

    fn write(&self, file: usize, first: usize, count: usize, has_fault: bool) {
        if !self.is_writable() {
            return;
        }
        let Some(number) = self.next_number() else { return };
        let before = self.writer.replace(Some(file));
        self.model(file, |model| model.begin_write(first, count, number));
        let mut calls = 0;
        let (offset, len) = ((first * CELL_BYTES) as u64, count * CELL_BYTES);
        let outcome = write(&*self.file(file), offset, len, |frame, within, _, len| {
            calls += 1;
            if has_fault && calls == 2 {
                return Err(MemoryFault);
            }
            frame.fill(within, &std::vec![number; len]);
            Ok(())
        });
        let done = outcome.unwrap_or_default();
        self.model(file, |model| model.write(first, done / CELL_BYTES, number));
        self.writer.set(before);
    }

    fn resize(&self, file: usize, size: usize) {
        if !self.is_writable() {
            return;
        }
        let before = self.writer.replace(Some(file));
        self.model(file, |model| model.begin_clear(size.min(model.size)..CELLS, size));
        if resize(&*self.file(file), (size * CELL_BYTES) as u64).is_ok() {
            self.model(file, |model| model.resize(size));
        }
        self.writer.set(before);
    }

    fn store(&self, file: usize, first: usize) {
        if !self.is_writable() || first >= self.model(file, |model| model.size) {
            return;
        }
        let Some(number) = self.next_number() else { return };
        let before = self.writer.replace(Some(file));
        self.model(file, |model| model.begin_write(first, 1, number));
        if self.file(file).store((first * CELL_BYTES) as u64, &[number; CELL_BYTES]) {
            self.model(file, |model| model.write(first, 1, number));
        }
        self.writer.set(before);
    }

    fn note_lost(&self) {
        for (file, model) in self.mount.files.borrow().iter().zip(&mut *self.models.borrow_mut()) {
            if file.has_new_error.take() {
                model.note_lost(|page| file.is_lost(page));
            }
        }
    }

    /// What others do while a request of somebody is on its way.
    fn run_others(&self, random: &mut Random) {
        let file = random.below(FILES as u64) as usize;
        let own = self.file(file);
        let first = random.below(CELLS as u64) as usize;
        let pages = first * CELL_BYTES / PAGE_BYTES;
        let has_turn = self.writer.get() != Some(file);
        // Who would sleep until the request is over cannot be played here.
        let is_loading = (0..6).any(|page| own.is_loading(page));
        let has_room = self.mount.unreserved_pages() > 12;
        match random.below(12) {
            0 => self.mount.shrink(random.below(4) as usize + 1),
            1 if has_turn && !is_loading && has_room => {
                self.write(file, first, (CELLS - first).min(3), false);
            }
            2 if has_turn && !own.is_loading(pages as u64) && has_room => self.store(file, first),
            3 if has_turn && !own.is_io_locked() => {
                let behind = (first * CELL_BYTES).div_ceil(PAGE_BYTES) as u64;
                if !(behind..6).any(|page| own.is_loading(page)) {
                    self.resize(file, first);
                }
            }
            _ => {}
        }
    }
}

impl World {
    pub(super) fn new(shape: Shape, seed: u64, fault: Fault, at: usize) -> Self {
        let faults = Arc::new(Faults::new(fault, at));
        let Shape { block_bytes, has_blocks, blocks, most_dirty, has_others } = shape;
        let disk = Arc::new(Disk::new(Arc::clone(&faults)));
        let filesystem = MemoryFs::new(Arc::clone(&disk), FILES as u64, block_bytes, blocks, has_blocks);
        let shared = Shared { block_bytes, has_blocks, reservations: Reservations::new() };
        let mount = Rc::new(Mount {
            filesystem: RefCell::new(filesystem),
            disk,
            faults,
            shared,
            counts: super::super::Counts::new(),
            clock: RefCell::default(),
            files: RefCell::default(),
            errors: RefCell::new(ErrorSequence::default()),
            most_dirty,
            others: RefCell::default(),
        });
        let files = (0..FILES as u64).map(|number| TestFile::new(Rc::clone(&mount), number)).collect();
        *mount.files.borrow_mut() = files;
        mount.note_space();
        let state = Rc::new(State {
            mount,
            models: RefCell::new(std::vec![Model::new(); FILES]),
            number: Cell::new(1),
            writer: Cell::new(None),
        });
        if has_others {
            let (others, mut random) = (Rc::downgrade(&state), Random::new(seed ^ 0x5555));
            let run: Box<dyn FnMut()> = Box::new(move || {
                if let Some(state) = others.upgrade() {
                    state.run_others(&mut random);
                }
            });
            *state.mount.others.borrow_mut() = Some(run);
        }
        let mut world = Self { state, descriptions: (0..FILES).map(|_| Vec::new()).collect() };
        (0..FILES).for_each(|file| world.open(file));
        world
    }

    pub(super) fn mount(&self) -> &Rc<Mount> {
        &self.state.mount
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.state.mount.faults
    }

    fn open(&mut self, file: usize) {
        let cursor = self.state.file(file).cache.borrow().sample_errors();
        // What nobody was told of yet is told to who opens the file now, too.
        let is_told = !self.state.file(file).has_untold_error.get();
        let opened = self.state.model(file, |model| model.open(is_told));
        let reader = Reader(RefCell::new(ReadAhead::new(4)));
        let description = Description { cursor, reader, opened };
        self.descriptions[file].insert(0, description);
        self.descriptions[file].truncate(3);
    }

    fn read(&mut self, file: usize, first: usize, count: usize) {
        let mut bytes = std::vec![0; count * CELL_BYTES];
        let reader = &self.descriptions[file][0].reader;
        let others = self.state.mount.others.borrow_mut().take();
        let own = self.state.file(file);
        let outcome =
            read(&*own, (first * CELL_BYTES) as u64, bytes.len(), reader, |frame, within, done, len| {
                frame.read(within, &mut bytes[done..done + len]);
                Ok(())
            });
        *self.state.mount.others.borrow_mut() = others;
        let size = self.state.model(file, |model| model.size);
        if let Ok(done) = outcome {
            let is_short = done < count.min(size.saturating_sub(first)) * CELL_BYTES;
            assert!(!is_short || self.faults().failed() > 0, "a read ends before the file does");
            self.state.model(file, |model| model.check_read(first, &bytes[..done]));
        } else {
            assert!(self.faults().failed() > 0, "a read fails for no reason");
        }
    }

    /// Brings in what is not there, while others run; what is read is looked at when they have stopped.
    fn read_beside_others(&mut self, file: usize, first: usize, count: usize) {
        let reader = &self.descriptions[file][0].reader;
        let own = self.state.file(file);
        let _ = read(&*own, (first * CELL_BYTES) as u64, count * CELL_BYTES, reader, |_, _, _, _| Ok(()));
    }

    fn sync(&mut self, file: usize, opened: usize) {
        let opened = opened % self.descriptions[file].len();
        let description = &mut self.descriptions[file][opened];
        self.state.model(file, Model::begin_sync);
        let outcome = sync(&*self.state.file(file), Sync::All, &description.cursor);
        self.state.note_lost();
        self.state.file(file).has_untold_error.set(false);
        self.state.model(file, |model| model.end_sync(&mut description.opened, outcome.is_ok()));
        assert!(outcome.is_ok() || self.faults().failed() > 0, "fsync fails for no reason: {outcome:?}");
    }

    pub(super) fn step(&mut self, step: Step) {
        let state = Rc::clone(&self.state);
        match step {
            Step::Write { file, first, count, has_fault } => state.write(file, first, count, has_fault),
            Step::Append { file, count } => {
                let size = state.model(file, |model| model.size);
                state.write(file, size, count.min(CELLS - size), false);
            }
            Step::Read { file, first, count } => {
                self.read_beside_others(file, first, count);
                self.read(file, first, count);
            }
            Step::Store { file, first } => state.store(file, first),
            Step::Resize { file, size } => state.resize(file, size),
            Step::Punch { file, first, count } if state.is_writable() => {
                let range = first..first + count;
                state.writer.set(Some(file));
                state.model(file, |model| model.begin_clear(range.clone(), model.size));
                let bytes = (first * CELL_BYTES) as u64;
                if punch(&*state.file(file), bytes, (count * CELL_BYTES) as u64).is_ok() {
                    state.model(file, |model| model.punch(range));
                }
                state.writer.set(None);
            }
            Step::Allocate { file, first, count, keeps_size } if state.is_writable() => {
                let size = state.model(file, |model| model.size.max(first + count));
                state.writer.set(Some(file));
                state.model(file, |model| model.begin_clear(model.size..CELLS, size));
                let (offset, len) = ((first * CELL_BYTES) as u64, (count * CELL_BYTES) as u64);
                if allocate(&*state.file(file), offset, len, keeps_size).is_ok() && !keeps_size {
                    state.model(file, |model| model.resize(size));
                }
                state.writer.set(None);
            }
            Step::Punch { .. } | Step::Allocate { .. } => {}
            Step::Open { file } => self.open(file),
            Step::Sync { file, opened } => self.sync(file, opened),
            Step::WriteBack { file, first_page, last_page } => {
                let _ = write_back(&*state.file(file), first_page..=last_page);
            }
            Step::WriteBackAll => (0..FILES).for_each(|file| state.file(file).write_back_if_noted()),
            Step::Commit => {
                let _ = state.mount.filesystem.borrow_mut().commit(Timestamp::default());
                state.mount.note_space();
            }
            Step::Evict { pages } => state.mount.shrink(pages),
            Step::Forget { file, first_page, pages } => {
                forget_pages(&*state.file(file), first_page..first_page + pages);
            }
        }
        state.note_lost();
        self.check();
    }

    /// What is true between two steps.
    fn check(&self) {
        let mount = &self.state.mount;
        let (mut pages, mut dirty, mut delayed) = (0, 0, 0);
        for (number, file) in mount.files.borrow().iter().enumerate() {
            let cache = file.cache.borrow();
            pages += cache.page_count();
            dirty += cache.dirty.len();
            delayed += cache.pages.values().filter(|page| page.is_delayed.load(Ordering::Relaxed)).count();
            file.check();
            let size = self.state.model(number, |model| model.size);
            assert_eq!(cache.size(), (size * CELL_BYTES) as u64, "the length of file {number}");
        }
        assert_eq!(mount.counts.pages(), pages, "pages counted");
        assert_eq!(mount.counts.dirty(), dirty, "dirty pages counted");
        assert_eq!(mount.shared.reservations.delayed_pages(), delayed as u64, "reserved pages counted");
        mount.filesystem.borrow().check_blocks();
    }

    /// The sequence is over, and nothing goes wrong any more: syncs all that can be, reads all, and cuts the power.
    pub(super) fn end(mut self, seed: u64) {
        let state = Rc::clone(&self.state);
        if !self.faults().is_off() {
            self.faults().restore();
            state.mount.others.borrow_mut().take();
            for file in 0..FILES {
                (0..self.descriptions[file].len()).for_each(|opened| self.sync(file, opened));
                self.step(Step::Evict { pages: usize::MAX });
                self.read(file, 0, CELLS);
            }
        }
        self.faults().restore();
        state.mount.filesystem.borrow_mut().recover(&mut Random::new(seed ^ 0xAAAA));
        for file in 0..FILES {
            let (size, content) = state.mount.filesystem.borrow().durable(file as u64);
            state.model(file, |model| model.check_durable(size, &content));
        }
    }
}
