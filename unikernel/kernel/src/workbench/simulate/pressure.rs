//! More pages than there is memory: a file on a disk, changed through a mapping and by calls, while other memory comes and goes.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use linux_raw_sys::general as linux;
use unikernel_hal::sim::app;
use unikernel_hal::sim::disk::{Disk, Faults};
use unikernel_hal::sim::engine::Random;

use super::disk::{open, read_all, with_disk, write_all};
use super::judge;
use crate::workbench::app::{Machine, call, get, join, map, put, spawn};

const PAGE: usize = 4096;
const DISK_BYTES: usize = 12 << 20;
/// As small as machines are that boot with room for an app.
const RAM_BYTES: usize = 16 << 20;
const FILE_PAGES: usize = 1_200;
/// Changes of the file.
const CHANGES: usize = 150;
/// What another thread maps at most at a time, in pages.
const OTHER_PAGES: u64 = 2_200;

/// A change of the file.
struct Change {
    at: usize,
    bytes: Vec<u8>,
    is_by_mapping: bool,
    /// The file is made safe after it.
    is_synced: bool,
}

/// The changes of a seed, in their order.
fn changes(seed: u64) -> impl Iterator<Item = Change> {
    let mut random = Random::new(seed ^ 0x5eed);
    (0..CHANGES).map(move |_| {
        let len = 1 + random.below(300) as usize;
        let at = random.below((FILE_PAGES * PAGE - len) as u64) as usize;
        let bytes = (0..len).map(|_| random.next_u64() as u8).collect();
        Change { at, bytes, is_by_mapping: random.one_in(2), is_synced: random.one_in(20) }
    })
}

fn first_content() -> Vec<u8> {
    (0..FILE_PAGES * PAGE).map(|at| (at / PAGE * 7 + at) as u8).collect()
}

/// Fills memory and gives it back; what is in it stays while it is mapped.
fn take_and_give(seed: u64) {
    let mut random = Random::new(seed ^ 0xa0);
    for round in 0..12 {
        let pages = OTHER_PAGES / 4 + random.below(OTHER_PAGES * 3 / 4);
        let memory = map(pages as usize * PAGE);
        let mark = |page: u64| (page * 31 + round).to_le_bytes();
        for page in 0..pages {
            app::write(memory + page * PAGE as u64, &mark(page));
        }
        for page in 0..pages {
            assert_eq!(get(memory + page * PAGE as u64, 8), mark(page), "page {page} of round {round}");
        }
        call(linux::__NR_munmap, &[memory, pages * PAGE as u64]).expect("memory goes");
    }
}

/// The file is what was written to it, at once, and on the disk after a clean end.
pub(super) fn pressure(seed: u64) -> Result<(), String> {
    let disk = Disk::new(DISK_BYTES);
    let small = |machine: Machine| Machine { ram_bytes: RAM_BYTES, ..machine };
    judge(&small(with_disk(seed, true)).run_with(
        || disk.plug_in(Faults { seed, ..Faults::default() }),
        move || {
            let file = open("/data/file", linux::O_CREAT | linux::O_RDWR);
            let mut model = first_content();
            write_all(file, &model);
            let other = spawn(move || take_and_give(seed)).expect("a thread");
            let protection = linux::PROT_READ | linux::PROT_WRITE;
            let len = model.len() as u64;
            let view =
                call(linux::__NR_mmap, &[0, len, protection.into(), linux::MAP_SHARED.into(), file, 0])
                    .expect("a view");
            for (number, change) in changes(seed).enumerate() {
                let (at, count) = (change.at, change.bytes.len());
                if change.is_by_mapping {
                    app::write(view + at as u64, &change.bytes);
                } else {
                    let from = put(&change.bytes);
                    let mut done = 0;
                    while done < count as u64 {
                        let arguments = [file, from + done, count as u64 - done, at as u64 + done];
                        done += call(linux::__NR_pwrite64, &arguments).expect("a write");
                    }
                    call(linux::__NR_munmap, &[from, PAGE as u64]).expect("a page goes");
                }
                model[at..at + count].copy_from_slice(&change.bytes);
                if change.is_synced {
                    call(linux::__NR_fdatasync, &[file]).expect("a sync");
                }
                let page = at / PAGE * PAGE;
                assert!(get(view + page as u64, PAGE) == model[page..page + PAGE], "change {number}");
            }
            join(other);
            call(linux::__NR_munmap, &[view, len]).expect("the view goes");
            call(linux::__NR_lseek, &[file, 0, 0]).expect("the start");
            check(&read_all(file, len), &model);
            call(linux::__NR_close, &[file]).expect("a close");
            0
        },
    ))?;
    judge(&small(with_disk(seed ^ 1 << 60, false)).run_with(
        || disk.plug_in(Faults { seed, ..Faults::default() }),
        move || {
            let mut model = first_content();
            for change in changes(seed) {
                model[change.at..change.at + change.bytes.len()].copy_from_slice(&change.bytes);
            }
            let file = open("/data/file", linux::O_RDONLY);
            check(&read_all(file, model.len() as u64), &model);
            0
        },
    ))
}

fn check(found: &[u8], model: &[u8]) {
    assert_eq!(found.len(), model.len());
    let mut wrong = vec![];
    for (page, (found, expected)) in found.chunks(PAGE).zip(model.chunks(PAGE)).enumerate() {
        if found != expected {
            wrong.push(page);
        }
    }
    assert!(wrong.is_empty(), "pages that are not as they were written: {wrong:?}");
}
