//! Instances of epoll(7) that watch instances.

use alloc::vec::Vec;

use linux_raw_sys::{errno, general as linux};

use crate::workbench::app::files::{close, pipe, read, sleep_ms, write};
use crate::workbench::app::run::{Answer, run, run_seeds};
use crate::workbench::app::wait::{add, delete, epoll, modify, wait};
use crate::workbench::app::{join, spawn};

const IN: u32 = linux::EPOLLIN;
const EDGE: u32 = linux::EPOLLIN | linux::EPOLLET;

/// Instances that watch each other, each the next one of the list.
fn chain(len: usize) -> Answer<Vec<u64>> {
    let all: Vec<u64> = (0..len).map(|_| epoll()).collect();
    for pair in all.windows(2) {
        add(pair[0], pair[1], IN, 1)?;
    }
    Ok(all)
}

#[test]
fn events_climb() {
    run(|| {
        let (outer, inner, (reader, writer)) = (epoll(), epoll(), pipe(0));
        add(outer, inner, IN, 3).unwrap();
        add(inner, reader, IN, 4).unwrap();
        assert_eq!(wait(outer, 1, 0), Ok(Vec::new()));
        write(writer, b"x").unwrap();
        assert_eq!(wait(outer, 1, 1000), Ok([(IN, 3)].to_vec()));
        assert_eq!(wait(inner, 1, 0), Ok([(IN, 4)].to_vec()));
        read(reader, 1).unwrap();
        assert_eq!(wait(outer, 1, 0), Ok(Vec::new()));
    });
}

#[test]
fn chains_are_five_long_at_most() {
    run(|| {
        let (reader, writer) = pipe(0);
        let five = chain(5).unwrap();
        add(five[4], reader, IN, 9).unwrap();
        write(writer, b"x").unwrap();
        assert_eq!(wait(five[0], 1, 1000).unwrap().len(), 1);
        assert_eq!(chain(6), Err(errno::ELOOP));
        assert_eq!(add(epoll(), five[0], IN, 1), Err(errno::ELOOP));
    });
}

#[test]
fn circles_are_refused() {
    run(|| {
        let three = chain(3).unwrap();
        for (from, to) in [(2, 0), (2, 1), (1, 0)] {
            assert_eq!(add(three[from], three[to], IN, 1), Err(errno::ELOOP));
        }
    });
}

#[test]
fn removed_links_do_not_count() {
    run(|| {
        let (low, high) = (chain(3).unwrap(), chain(3).unwrap());
        assert_eq!(add(high[2], low[0], IN, 1), Err(errno::ELOOP));
        delete(low[0], low[1]).unwrap();
        assert_eq!(add(high[2], low[0], IN, 1), Ok(0));
    });
}

#[test]
fn closed_instances_do_not_count() {
    run(|| {
        for _ in 0..20 {
            let three = chain(3).unwrap();
            close(three[1]);
            assert_eq!(add(three[2], three[0], IN, 1), Ok(0));
            close(three[0]);
            close(three[2]);
        }
    });
}

#[test]
fn outer_edge_is_told_of_each_event() {
    run(|| {
        for inner_events in [IN, EDGE] {
            let (outer, inner, (reader, writer)) = (epoll(), epoll(), pipe(0));
            add(outer, inner, EDGE, 3).unwrap();
            add(inner, reader, inner_events, 4).unwrap();
            for _ in 0..3 {
                write(writer, b"x").unwrap();
                assert_eq!(wait(outer, 1, 1000), Ok([(IN, 3)].to_vec()));
                assert_eq!(wait(outer, 1, 0), Ok(Vec::new()));
            }
        }
    });
}

#[test]
fn outer_edge_is_told_of_a_new_file() {
    run(|| {
        let (outer, inner, (reader, writer)) = (epoll(), epoll(), pipe(0));
        add(outer, inner, EDGE, 3).unwrap();
        write(writer, b"x").unwrap();
        add(inner, reader, IN, 5).unwrap();
        assert_eq!(wait(outer, 1, 1000), Ok([(IN, 3)].to_vec()));
        modify(inner, reader, IN, 5).unwrap();
        assert_eq!(wait(outer, 1, 0), Ok(Vec::new()));
    });
}

#[test]
fn sleeper_of_the_outer_is_woken() {
    run_seeds(20, || {
        let (outer, inner, (reader, writer)) = (epoll(), epoll(), pipe(0));
        add(outer, inner, EDGE, 3).unwrap();
        add(inner, reader, IN, 4).unwrap();
        let sleeper = spawn(move || assert_eq!(wait(outer, 1, 5000), Ok([(IN, 3)].to_vec()))).unwrap();
        sleep_ms(2);
        write(writer, b"x").unwrap();
        join(sleeper);
    });
}

#[test]
fn busy_inner_stays_ready_for_the_outer() {
    run_seeds(10, || {
        let (outer, inner, (reader, writer)) = (epoll(), epoll(), pipe(0));
        add(inner, reader, IN, 1).unwrap();
        add(outer, inner, IN, 2).unwrap();
        write(writer, b"stays").unwrap();
        let other = spawn(move || (0..100).for_each(|_| _ = wait(inner, 4, 0))).unwrap();
        for _ in 0..100 {
            assert_eq!(wait(outer, 4, 2000), Ok([(IN, 2)].to_vec()));
        }
        join(other);
    });
}
