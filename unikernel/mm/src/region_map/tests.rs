//! The map against a model: an array of pages.

use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::{PAGE_BYTES, RegionKind};

const PAGES: u64 = 64;

fn region(start: u64, end: u64, protection: Protection) -> Region {
    let is_charged = protection.contains(Protection::WRITE);
    let (start, end) = (start * PAGE_BYTES, end * PAGE_BYTES);
    let (allowed, kind) = (Protection::all(), RegionKind::Anonymous);
    Region { start, end, protection, allowed, kind, is_charged, is_locked: false }
}

#[test]
fn neighbours_with_equal_attributes_join() {
    let mut map = RegionMap::new();
    map.insert(region(1, 2, Protection::READ)).unwrap();
    map.insert(region(3, 4, Protection::READ)).unwrap();
    map.insert(region(2, 3, Protection::READ)).unwrap();
    assert_eq!(map.len(), 1);
    assert!(map.is_covered(PAGE_BYTES, 4 * PAGE_BYTES));
}

#[test]
fn insert_over_something_is_refused() {
    let mut map = RegionMap::new();
    map.insert(region(1, 5, Protection::READ)).unwrap();
    assert_eq!(map.insert(region(4, 6, Protection::READ)), Err(RangeError::Overlap));
}

#[test]
fn protect_over_a_hole_changes_nothing() {
    let mut map = RegionMap::new();
    map.insert(region(1, 2, Protection::READ)).unwrap();
    let result = map.protect(0, 2 * PAGE_BYTES, Protection::WRITE);
    assert_eq!(result, Err(RangeError::Hole));
    assert_eq!(map.find(PAGE_BYTES).unwrap().protection, Protection::READ);
}

#[test]
fn find_free_takes_the_highest_aligned_gap() {
    let mut map = RegionMap::new();
    map.insert(region(10, 20, Protection::READ)).unwrap();
    map.insert(region(24, 30, Protection::READ)).unwrap();
    let mut find = |pages, align| map.find_free(pages * PAGE_BYTES, align * PAGE_BYTES, 0, 30 * PAGE_BYTES);
    assert_eq!(find(4, 1), Some(20 * PAGE_BYTES));
    assert_eq!(find(5, 1), Some(5 * PAGE_BYTES));
    assert_eq!(find(2, 8), Some(8 * PAGE_BYTES));
    assert_eq!(find(11, 1), None);
}

#[derive(Clone, Debug)]
enum Operation {
    Insert(u64, u64, u8),
    Remove(u64, u64),
    Protect(u64, u64, u8),
    Lock(u64, u64, bool),
}

fn operations() -> impl Strategy<Value = vec::Vec<Operation>> {
    let range = (0..PAGES - 1).prop_flat_map(|start| (Just(start), start + 1..PAGES));
    let one = (0..4, range, 0u8..8).prop_map(|(which, (start, end), bits)| match which {
        0 => Operation::Insert(start, end, bits),
        1 => Operation::Remove(start, end),
        2 => Operation::Lock(start, end, bits % 2 == 0),
        _ => Operation::Protect(start, end, bits),
    });
    prop::collection::vec(one, 1..60)
}

/// Protection and charge of each page.
type Model = [Option<(Protection, bool)>; PAGES as usize];

fn apply(map: &mut RegionMap, model: &mut Model, operation: &Operation) {
    match *operation {
        Operation::Insert(start, end, bits) => {
            let new = region(start, end, Protection::from_bits_truncate(bits));
            let pages = &mut model[start as usize..end as usize];
            let is_free = pages.iter().all(Option::is_none);
            assert_eq!(map.insert(new).is_ok(), is_free);
            if is_free {
                pages.fill(Some((new.protection, new.is_charged)));
            }
        }
        Operation::Remove(start, end) => {
            let (from, to) = (start * PAGE_BYTES, end * PAGE_BYTES);
            let is_split = map.splits(from, to);
            assert!(!is_split || model[start as usize - 1].is_some() && model[end as usize].is_some());
            let removed = core::iter::from_fn(|| map.remove_first(from, to));
            let removed: u64 = removed.map(|piece| piece.pages()).sum();
            assert_eq!(map.first_overlapping(to, to), None);
            assert!(
                (0..=end).all(|page| map.overlapping(page * PAGE_BYTES, page * PAGE_BYTES).next().is_none())
            );
            let pages = &mut model[start as usize..end as usize];
            assert_eq!(removed, pages.iter().flatten().count() as u64);
            pages.fill(None);
        }
        Operation::Lock(start, end, is_locked) => {
            let is_covered = model[start as usize..end as usize].iter().all(Option::is_some);
            assert_eq!(map.lock(start * PAGE_BYTES, end * PAGE_BYTES, is_locked).is_ok(), is_covered);
        }
        Operation::Protect(start, end, bits) => {
            let protection = Protection::from_bits_truncate(bits);
            let pages = &mut model[start as usize..end as usize];
            let (start, end) = (start * PAGE_BYTES, end * PAGE_BYTES);
            let foretold = map.charge_of_protect(start, end, protection);
            let result = map.protect(start, end, protection);
            if pages.iter().any(Option::is_none) {
                return assert_eq!(result, Err(RangeError::Hole));
            }
            let writable = protection.contains(Protection::WRITE);
            let grows = pages.iter().flatten().filter(|(_, charged)| writable && !charged).count() as u64;
            assert_eq!((result, foretold), (Ok(grows), grows));
            for (old, charged) in pages.iter_mut().flatten() {
                *old = protection;
                *charged |= writable;
            }
        }
    }
}

proptest! {
    #[test]
    fn map_behaves_as_an_array_of_pages(operations in operations()) {
        let (mut map, mut model) = (RegionMap::new(), [None; PAGES as usize]);
        for operation in &operations {
            apply(&mut map, &mut model, operation);
            for (page, expected) in model.iter().enumerate() {
                let found = map.find(page as u64 * PAGE_BYTES).map(|r| (r.protection, r.is_charged));
                prop_assert_eq!(found, *expected);
            }
            // Disjoint, ordered, and nothing left to join.
            let all: vec::Vec<_> = map.iter().collect();
            prop_assert!(all.windows(2).all(|pair| pair[0].end <= pair[1].start));
            prop_assert!(!all.windows(2).any(|pair| pair[0].is_continued_by(pair[1])));
            let pages = |counts: fn(&Region) -> bool| {
                map.iter().filter(|region| counts(region)).map(Region::pages).sum::<u64>()
            };
            let totals = Totals {
                mapped: pages(|_| true),
                locked: pages(|region| region.is_locked),
                data: pages(Region::is_data),
                image: pages(|region| region.kind == RegionKind::Image),
            };
            prop_assert_eq!(map.totals(), totals);
        }
    }

    #[test]
    fn find_free_answers_free_aligned_space(operations in operations(), len in 1..8u64, align_log2 in 0..4u32) {
        let (mut map, mut model) = (RegionMap::new(), [None; PAGES as usize]);
        // After each step, so that what was learnt from an earlier search is used, or has to be forgotten.
        for (step, operation) in operations.iter().enumerate() {
            apply(&mut map, &mut model, operation);
            for (len, align) in [(len, 1usize << align_log2), (1 + step as u64 % 3, 1)] {
                let fits = |start: usize| {
                    start + len as usize <= PAGES as usize
                        && model[start..start + len as usize].iter().all(Option::is_none)
                };
                let expected = (0..PAGES as usize).rev().find(|&start| start % align == 0 && fits(start));
                let found = map.find_free(len * PAGE_BYTES, align as u64 * PAGE_BYTES, 0, PAGES * PAGE_BYTES);
                prop_assert_eq!(found, expected.map(|page| page as u64 * PAGE_BYTES));
            }
        }
    }
}

#[test]
fn many_searches_do_not_pass_all_regions_each() {
    const REGIONS: u64 = 65_000;
    let mut map = RegionMap::new();
    let high = 4 * REGIONS * PAGE_BYTES;
    // Of two protections in turn, so that none are joined, with a page between them from the middle on.
    for index in 0..REGIONS {
        let pages = if index < REGIONS / 2 { 1 } else { 2 };
        let start = map.find_free(pages * PAGE_BYTES, PAGE_BYTES, 0, high).unwrap() / PAGE_BYTES;
        let protection = if index % 2 == 0 { Protection::READ } else { Protection::empty() };
        map.insert(region(start, start + 1, protection)).unwrap();
    }
    assert_eq!(map.len(), REGIONS as usize);
    // A hole that is made again is found again.
    let last = map.iter().next_back().copied().unwrap();
    assert_eq!(map.remove_first(last.start, last.end), Some(last));
    assert_eq!(map.find_free(PAGE_BYTES, PAGE_BYTES, 0, high), Some(last.start));
}

#[test]
fn regions_that_show_an_object_are_counted() {
    let part = |start: u64| crate::ObjectPart::new(3, start * PAGE_BYTES, start * PAGE_BYTES, true);
    let shows = |start, end| Region {
        kind: RegionKind::Object(part(start)),
        is_charged: false,
        ..region(start, end, Protection::READ)
    };
    let mut map = RegionMap::new();
    map.know_object(3).unwrap();
    map.insert(shows(0, 8)).unwrap();
    map.insert(shows(8, 10)).unwrap();
    assert_eq!(map.shown(3), 1, "they are joined");
    map.protect(2 * PAGE_BYTES, 4 * PAGE_BYTES, Protection::empty()).unwrap();
    assert_eq!((map.shown(3), map.splits_at_edges(5 * PAGE_BYTES, 10 * PAGE_BYTES)), (3, 1));
    map.protect(2 * PAGE_BYTES, 4 * PAGE_BYTES, Protection::READ).unwrap();
    assert_eq!(map.shown(3), 1);
    while map.remove_first(PAGE_BYTES, 20 * PAGE_BYTES).is_some() {}
    assert_eq!(map.shown(3), 1);
    map.remove_first(0, PAGE_BYTES).unwrap();
    assert_eq!((map.shown(3), map.shown(7)), (0, 0));
}

#[test]
fn an_object_is_writable_while_a_region_may_write_to_it() {
    let shows = |start, is_shared, allowed| Region {
        kind: RegionKind::Object(crate::ObjectPart::new(0, 0, start * PAGE_BYTES, is_shared)),
        is_charged: false,
        allowed,
        ..region(start, start + 4, Protection::READ)
    };
    let mut map = RegionMap::new();
    map.know_object(0).unwrap();
    map.insert(shows(0, false, Protection::all())).unwrap();
    map.insert(shows(10, true, Protection::READ)).unwrap();
    assert!(!map.is_writable(0), "copies, and a mapping for reading");
    map.insert(shows(20, true, Protection::all())).unwrap();
    map.remove_first(21 * PAGE_BYTES, 22 * PAGE_BYTES).unwrap();
    map.remove_first(20 * PAGE_BYTES, 21 * PAGE_BYTES).unwrap();
    assert!(map.is_writable(0), "a piece of it is left");
    map.remove_first(22 * PAGE_BYTES, 24 * PAGE_BYTES).unwrap();
    assert!(!map.is_writable(0));
    assert!(!map.is_writable(7));
}

#[test]
fn what_may_never_be_allowed_stays_so_for_every_piece() {
    let read_only =
        Region { allowed: Protection::READ | Protection::EXECUTE, ..region(2, 6, Protection::READ) };
    let mut map = RegionMap::new();
    map.insert(region(0, 2, Protection::READ)).unwrap();
    map.insert(read_only).unwrap();
    assert_eq!(map.len(), 2, "neighbours with different rights stay apart");
    map.protect(3 * PAGE_BYTES, 4 * PAGE_BYTES, Protection::empty()).unwrap();
    assert!(map.allows(0, 2 * PAGE_BYTES, Protection::WRITE));
    for page in 2..6 {
        assert!(!map.allows(page * PAGE_BYTES, (page + 1) * PAGE_BYTES, Protection::WRITE));
    }
    assert!(!map.allows(0, 6 * PAGE_BYTES, Protection::WRITE));
    assert!(map.allows(0, 6 * PAGE_BYTES, Protection::READ | Protection::EXECUTE));
}

#[test]
fn what_is_locked_ends_at_a_hole() {
    let mut map = RegionMap::new();
    map.insert(region(0, 8, Protection::READ)).unwrap();
    map.insert(region(10, 12, Protection::READ)).unwrap();
    let locked = |map: &RegionMap| -> Vec<(u64, u64)> {
        let all = map.iter().filter(|region| region.is_locked);
        all.map(|region| (region.start / PAGE_BYTES, region.end / PAGE_BYTES)).collect()
    };
    map.lock(2 * PAGE_BYTES, 4 * PAGE_BYTES, true).unwrap();
    assert_eq!((locked(&map), map.len()), (vec![(2, 4)], 4));
    assert_eq!(map.lock(3 * PAGE_BYTES, 11 * PAGE_BYTES, true), Err(RangeError::Hole));
    assert_eq!((locked(&map), map.len()), (vec![(2, 8)], 3));
    map.protect(4 * PAGE_BYTES, 5 * PAGE_BYTES, Protection::empty()).unwrap();
    assert_eq!(locked(&map), [(2, 4), (4, 5), (5, 8)], "a protection says nothing about locks");
    map.lock(0, 8 * PAGE_BYTES, false).unwrap();
    map.protect(4 * PAGE_BYTES, 5 * PAGE_BYTES, Protection::READ).unwrap();
    assert_eq!((locked(&map), map.len()), (vec![], 2), "they are joined");
}
