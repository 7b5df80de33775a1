//! Faults that have been, and what must come of them, one by one.

use std::rc::Rc;
use std::vec::Vec;

use super::super::{
    ALL, Backend, ErrorCursor, FileCache, Frame, PAGE_BYTES, allocate, forget_pages, load, page, resize,
    sync, write, write_back,
};
use super::faults::Fault;
use super::file::{Mount, TestFile, TestFrame};
use super::world::{Shape, World};
use crate::{Error, FileSystem, Sync, Timestamp};

const SHAPE: Shape =
    Shape { block_bytes: 4096, has_blocks: true, blocks: 64, most_dirty: 100, has_others: false };
const SECTORS_PER_PAGE: usize = 8;

fn files(shape: Shape, fault: Fault, at: usize) -> (Rc<Mount>, Vec<Rc<TestFile>>) {
    let world = World::new(shape, 1, fault, at);
    let mount = Rc::clone(world.mount());
    let files = mount.files.borrow().clone();
    (mount, files)
}

fn cursor(file: &TestFile) -> ErrorCursor {
    file.with(|cache| cache.sample_errors())
}

fn put(file: &TestFile, first_page: u64, pages: usize, byte: u8) {
    let (offset, len) = (first_page * PAGE_BYTES as u64, pages * PAGE_BYTES);
    let written = write(file, offset, len, |frame: &TestFrame, within, _, len| {
        frame.fill(within, &std::vec![byte; len]);
        Ok(())
    });
    assert_eq!(written, Ok(len));
}

/// What is durable of a file after a power cut: the first byte of each page.
fn durable(mount: &Mount, file: u64) -> Vec<u8> {
    let (_, content) = mount.filesystem.borrow().durable(file);
    content.chunks(PAGE_BYTES).map(|page| page[0]).collect()
}

#[test]
fn a_bad_sector_costs_its_own_page_and_each_description_is_told_once() {
    let (mount, files) = files(SHAPE, Fault::None, 0);
    let file = &*files[0];
    let (first, second) = (cursor(file), cursor(file));
    put(file, 0, 6, 1);
    mount.disk.set_bad(2 * SECTORS_PER_PAGE + 3, true);
    assert_eq!(sync(file, Sync::All, &first), Err(Error::Device));
    assert_eq!(file.with(|cache| cache.unwritten()), Some((1, 2)), "pages that the disk does not have");
    assert_eq!(durable(&mount, 0), [1, 1, 0, 1, 1, 1]);
    assert_eq!(sync(file, Sync::All, &first), Ok(()), "it was told");
    let late = cursor(file);
    assert_eq!(sync(file, Sync::All, &second), Err(Error::Device), "each is told");
    assert_eq!(sync(file, Sync::All, &late), Ok(()), "it was opened after others were told");
    // Who writes the page again gets it to the same place once that takes it.
    mount.disk.set_bad(2 * SECTORS_PER_PAGE + 3, false);
    put(file, 2, 1, 2);
    assert_eq!(sync(file, Sync::All, &first), Ok(()));
    assert_eq!(durable(&mount, 0), [1, 1, 2, 1, 1, 1]);
    assert_eq!(file.with(|cache| cache.unwritten()), None);
}

#[test]
fn an_error_that_the_flusher_met_is_told_by_the_next_sync() {
    let (mount, files) = files(SHAPE, Fault::None, 0);
    let file = &*files[0];
    let opened = cursor(file);
    put(file, 0, 1, 1);
    mount.disk.set_bad(1, true);
    assert_eq!(write_back(file, ALL), Err(Error::Device));
    assert!(!file.with(|cache| cache.is_dirty()), "as on Linux, it is not tried again and again");
    let late = cursor(file);
    assert_eq!(sync(file, Sync::Data, &opened), Err(Error::Device));
    assert_eq!(sync(file, Sync::Data, &late), Err(Error::Device), "nobody was told before it was opened");
}

#[test]
fn a_sync_after_the_journal_has_failed_says_so_to_everybody() {
    let (mount, files) = files(SHAPE, Fault::None, 0);
    let (file, opened) = (&*files[0], cursor(&files[0]));
    put(file, 0, 1, 1);
    assert_eq!(write_back(file, ALL), Ok(()));
    mount.faults.fail_metadata();
    assert!(mount.filesystem.borrow_mut().commit(Timestamp::default()).is_err());
    mount.faults.restore();
    // The page went to the disk without an error, but what leads to it did not.
    assert_eq!(sync(file, Sync::All, &opened), Err(Error::ReadOnly));
    assert_eq!(sync(file, Sync::All, &opened), Err(Error::ReadOnly));
    assert_eq!(durable(&mount, 0), []);
}

#[test]
fn allocating_takes_nothing_that_is_reserved() {
    let (mount, files) = files(Shape { blocks: 8, ..SHAPE }, Fault::None, 0);
    let (file, other) = (&*files[0], &*files[1]);
    put(file, 0, 5, 1);
    assert_eq!(allocate(other, 0, 4 * PAGE_BYTES as u64, false), Err(Error::NoSpace));
    assert_eq!(allocate(other, 0, 3 * PAGE_BYTES as u64, false), Ok(()));
    put(other, 0, 3, 2);
    assert_eq!(sync(file, Sync::All, &cursor(file)), Ok(()));
    assert_eq!(sync(other, Sync::All, &cursor(other)), Ok(()));
    assert_eq!((durable(&mount, 0), durable(&mount, 1)), (std::vec![1; 5], std::vec![2; 3]));
    let refused = write(file, 5 * PAGE_BYTES as u64, 1, |_: &TestFrame, _, _, _| Ok(()));
    assert_eq!(refused, Err(Error::NoSpace.into()), "the disk is full, and a write says so at once");
}

#[test]
fn reading_a_page_that_cannot_be_read_costs_no_other() {
    let (mount, files) = files(SHAPE, Fault::None, 0);
    let file = &*files[0];
    put(file, 0, 4, 7);
    assert_eq!(sync(file, Sync::All, &cursor(file)), Ok(()));
    *file.cache.borrow_mut() = FileCache::new(4 * PAGE_BYTES as u64);
    mount.disk.set_unreadable(SECTORS_PER_PAGE, true);
    assert_eq!(load(file, 0, 4), Err(Error::Device));
    assert_eq!([0, 1, 2, 3].map(|page| file.with(|cache| cache.is_ready(page))), [true, false, true, true]);
    mount.disk.set_unreadable(SECTORS_PER_PAGE, false);
    let page = page(file, 1, 1, None).expect("it can be read again");
    let mut bytes = [0; 2];
    page.frame().read(PAGE_BYTES - 2, &mut bytes);
    assert_eq!(bytes, [7, 7]);
}

#[test]
fn what_a_truncation_has_removed_does_not_come_back() {
    let (_, files) = files(SHAPE, Fault::None, 0);
    let file = &*files[0];
    put(file, 0, 1, 7);
    assert_eq!(sync(file, Sync::All, &cursor(file)), Ok(()));
    assert_eq!(resize(file, 100), Ok(()));
    forget_pages(file, 0..1);
    // The file grows, of which the filesystem hears when this page is written back.
    put(file, 1, 1, 8);
    let mut bytes = [0; 200];
    page(file, 0, 1, None).expect("no error").frame().read(0, &mut bytes);
    assert_eq!((bytes[99], bytes[100]), (7, 0));
    // So it is after it has heard of that.
    assert_eq!(write_back(file, ALL), Ok(()));
    forget_pages(file, 0..1);
    page(file, 0, 1, None).expect("no error").frame().read(0, &mut bytes);
    assert_eq!((bytes[99], bytes[100]), (7, 0));
}
