//! epoll(7): level and edge, one-shot, exclusive, watches whose files are closed, sleeping threads.

use alloc::vec::Vec;

use linux_raw_sys::{errno, general as linux, net};

use crate::workbench::app::files::{Buffer, close, now_ms, pipe, read, sleep_ms, timespec, words, write};
use crate::workbench::app::net::{connect, listener, shutdown, socket, tcp_pair, unix_pair};
use crate::workbench::app::run::{run, run_seeds, sys};
use crate::workbench::app::wait::{add, delete, epoll, events_of, modify, poll, wait};
use crate::workbench::app::{join, map, spawn, text, word};

const IN: u32 = linux::EPOLLIN;
const OUT: u32 = linux::EPOLLOUT;
const NONBLOCK: u32 = linux::O_NONBLOCK;

#[test]
fn level_is_told_as_long_as_it_lasts() {
    run(|| {
        let (epoll, (reader, writer)) = (epoll(), pipe(NONBLOCK));
        assert_eq!(add(epoll, reader, IN, 7), Ok(0));
        assert_eq!(wait(epoll, 4, 0), Ok(Vec::new()));
        write(writer, b"ab").unwrap();
        assert_eq!(wait(epoll, 4, -1), Ok([(IN, 7)].to_vec()));
        assert_eq!(wait(epoll, 4, 0), Ok([(IN, 7)].to_vec()));
        read(reader, 9).unwrap();
        assert_eq!(wait(epoll, 4, 0), Ok(Vec::new()));
    });
}

#[test]
fn edge_is_told_once() {
    run(|| {
        let (epoll, (reader, writer)) = (epoll(), pipe(NONBLOCK));
        add(epoll, reader, IN | linux::EPOLLET, 1).unwrap();
        for _ in 0..2 {
            write(writer, b"a").unwrap();
            assert_eq!(wait(epoll, 4, 0), Ok([(IN, 1)].to_vec()));
            assert_eq!(wait(epoll, 4, 0), Ok(Vec::new()));
        }
    });
}

#[test]
fn edge_of_a_writer_is_room_again() {
    run(|| {
        let (epoll, (reader, writer)) = (epoll(), pipe(NONBLOCK));
        add(epoll, writer, OUT | linux::EPOLLET, 5).unwrap();
        assert_eq!(wait(epoll, 4, 0), Ok([(OUT, 5)].to_vec()));
        while write(writer, &[0; 65_536]).is_ok() {}
        assert_eq!(wait(epoll, 4, 0), Ok(Vec::new()));
        while read(reader, 65_536).is_ok() {}
        assert_eq!(wait(epoll, 4, 0), Ok([(OUT, 5)].to_vec()));
        close(reader);
        assert_eq!(wait(epoll, 4, 0).unwrap()[0].0 & linux::EPOLLERR, linux::EPOLLERR);
    });
}

#[test]
fn one_shot_is_armed_again_by_a_change() {
    run(|| {
        let (epoll, (reader, writer)) = (epoll(), pipe(NONBLOCK));
        write(writer, b"a").unwrap();
        add(epoll, reader, IN | linux::EPOLLONESHOT, 1).unwrap();
        assert_eq!(wait(epoll, 4, 0), Ok([(IN, 1)].to_vec()));
        write(writer, b"b").unwrap();
        assert_eq!(wait(epoll, 4, 0), Ok(Vec::new()));
        assert_eq!(modify(epoll, reader, IN | linux::EPOLLONESHOT, 2), Ok(0));
        assert_eq!(wait(epoll, 4, 0), Ok([(IN, 2)].to_vec()));
    });
}

#[test]
fn changed_and_removed_watches() {
    run(|| {
        let (epoll, (reader, writer)) = (epoll(), pipe(NONBLOCK));
        assert_eq!(modify(epoll, reader, IN, 0), Err(errno::ENOENT));
        assert_eq!(delete(epoll, reader), Err(errno::ENOENT));
        add(epoll, reader, 0, 1).unwrap();
        assert_eq!(add(epoll, reader, IN, 1), Err(errno::EEXIST));
        write(writer, b"a").unwrap();
        assert_eq!(wait(epoll, 4, 0), Ok(Vec::new()));
        modify(epoll, reader, IN, 9).unwrap();
        assert_eq!(wait(epoll, 4, 0), Ok([(IN, 9)].to_vec()));
        assert_eq!(delete(epoll, reader), Ok(0));
        assert_eq!(wait(epoll, 4, 0), Ok(Vec::new()));
    });
}

#[test]
fn ends_are_told_unasked() {
    run(|| {
        let (epoll, (reader, writer)) = (epoll(), pipe(NONBLOCK));
        add(epoll, reader, 0, 1).unwrap();
        close(writer);
        assert_eq!(wait(epoll, 4, 0), Ok([(linux::EPOLLHUP, 1)].to_vec()));
    });
}

#[test]
fn ready_files_take_turns() {
    run(|| {
        let epoll = epoll();
        for index in 0..8 {
            let (reader, writer) = pipe(NONBLOCK);
            add(epoll, reader, IN, index).unwrap();
            write(writer, b"x").unwrap();
        }
        let mut seen: Vec<u64> =
            (0..4).flat_map(|_| wait(epoll, 2, 0).unwrap()).map(|(_, data)| data).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..8));
    });
}

#[test]
fn closing_the_last_descriptor_removes() {
    run(|| {
        let (epoll, (reader, writer)) = (epoll(), pipe(NONBLOCK));
        let copy = sys(linux::__NR_dup, &[reader]).unwrap();
        add(epoll, reader, IN, 1).unwrap();
        add(epoll, copy, IN, 2).unwrap();
        write(writer, b"a").unwrap();
        assert_eq!(wait(epoll, 4, 0).unwrap().len(), 2);
        close(reader);
        // The open file lives on, and with it what was added under the closed number.
        assert_eq!(wait(epoll, 4, 0).unwrap().len(), 2);
        close(copy);
        assert_eq!(wait(epoll, 4, 0), Ok(Vec::new()));
    });
}

#[test]
fn number_of_a_closed_file_can_be_added_again() {
    run(|| {
        let (epoll, (reader, writer)) = (epoll(), pipe(NONBLOCK));
        add(epoll, reader, IN, 1).unwrap();
        close(reader);
        close(writer);
        let (again, writer) = pipe(NONBLOCK);
        assert_eq!(again, reader);
        assert_eq!(add(epoll, again, IN, 2), Ok(0));
        write(writer, b"x").unwrap();
        assert_eq!(wait(epoll, 4, 0), Ok([(IN, 2)].to_vec()));
    });
}

#[test]
fn what_cannot_be_watched_is_refused() {
    run(|| {
        let (epoll, (reader, _)) = (epoll(), pipe(NONBLOCK));
        let null = sys(linux::__NR_open, &[text("/dev/null"), 0, 0]).unwrap();
        assert_eq!(add(epoll, null, IN, 0), Err(errno::EPERM));
        assert_eq!(add(epoll, epoll, IN, 0), Err(errno::EINVAL));
        assert_eq!(add(reader, epoll, IN, 0), Err(errno::EINVAL));
        assert_eq!(add(epoll, 99, IN, 0), Err(errno::EBADF));
        assert_eq!(sys(linux::__NR_epoll_ctl, &[epoll, 1, reader, 8]), Err(errno::EFAULT));
    });
}

#[test]
fn room_for_events_is_minded() {
    run(|| {
        let epoll = epoll();
        for most in [0_u64, 0xffff_ffff, 1 << 30] {
            assert_eq!(sys(linux::__NR_epoll_wait, &[epoll, 0, most, 0]), Err(errno::EINVAL), "{most}");
        }
        assert_eq!(sys(linux::__NR_epoll_create, &[0]), Err(errno::EINVAL));
        assert_eq!(sys(linux::__NR_epoll_create1, &[1]), Err(errno::EINVAL));
        assert!(sys(linux::__NR_epoll_create, &[1]).is_ok());
    });
}

#[test]
fn exclusive_watch_has_rules() {
    run(|| {
        let (epoll, (reader, _)) = (epoll(), pipe(NONBLOCK));
        let exclusive = IN | linux::EPOLLEXCLUSIVE;
        assert_eq!(add(epoll, reader, exclusive | linux::EPOLLONESHOT, 0), Err(errno::EINVAL));
        assert_eq!(add(epoll, reader, exclusive, 0), Ok(0));
        assert_eq!(modify(epoll, reader, IN, 0), Err(errno::EINVAL));
    });
}

#[test]
fn exclusive_watches_wake_one_at_least() {
    run_seeds(10, || {
        let (reader, writer) = pipe(NONBLOCK);
        let woken = map(4096);
        let sleepers = [0, 1].map(|index| {
            let epoll = epoll();
            add(epoll, reader, IN | linux::EPOLLEXCLUSIVE, index).unwrap();
            let job = move || {
                if !wait(epoll, 1, 500).unwrap().is_empty() {
                    unikernel_hal::sim::app::write(woken + index * 4, &1_u32.to_ne_bytes());
                }
            };
            spawn(job).unwrap()
        });
        sleep_ms(10);
        write(writer, b"x").unwrap();
        sleepers.into_iter().for_each(join);
        assert!([0, 4].map(|at| word(woken + at)).contains(&1));
    });
}

#[test]
fn time_out_is_kept() {
    run(|| {
        let (epoll, (reader, _writer)) = (epoll(), pipe(NONBLOCK));
        add(epoll, reader, IN, 1).unwrap();
        let begin = now_ms();
        assert_eq!(wait(epoll, 1, 300), Ok(Vec::new()));
        assert!((300..310).contains(&(now_ms() - begin)));
    });
}

#[test]
fn pwait2_takes_nanoseconds() {
    run(|| {
        let (epoll, events) = (epoll(), Buffer::zeroed(48));
        let limit = Buffer::new(&timespec(20_000_000));
        let begin = now_ms();
        let call = |limit| sys(linux::__NR_epoll_pwait2, &[epoll, events.address, 4, limit, 0, 8]);
        assert_eq!(call(limit.address), Ok(0));
        assert!((20..25).contains(&(now_ms() - begin)));
        let bad = Buffer::new(&words(&[0, 1_000_000_000]));
        assert_eq!(call(bad.address), Err(errno::EINVAL));
    });
}

#[test]
fn pwait_minds_the_size_of_its_mask() {
    run(|| {
        let ((reader, writer), epoll, events) = (pipe(0), epoll(), Buffer::zeroed(48));
        add(epoll, reader, IN, 3).unwrap();
        write(writer, b"x").unwrap();
        let mask = Buffer::new(&words(&[u64::MAX]));
        let call = |size| sys(linux::__NR_epoll_pwait, &[epoll, events.address, 4, 0, mask.address, size]);
        assert_eq!(call(4), Err(errno::EINVAL));
        assert_eq!(call(8), Ok(1));
        assert_eq!(events_of(&events, 1), [(IN, 3)]);
    });
}

#[test]
fn edges_reach_every_sleeper() {
    run_seeds(20, || {
        let (epoll, (first, one), (second, two)) = (epoll(), pipe(NONBLOCK), pipe(NONBLOCK));
        add(epoll, first, IN | linux::EPOLLET, 1).unwrap();
        add(epoll, second, IN | linux::EPOLLET, 2).unwrap();
        let sleepers =
            [(); 2].map(|()| spawn(move || assert_eq!(wait(epoll, 1, 5000).unwrap().len(), 1)).unwrap());
        sleep_ms(5);
        write(one, b"x").unwrap();
        write(two, b"x").unwrap();
        sleepers.into_iter().for_each(join);
    });
}

#[test]
fn sleeper_gets_what_another_thread_left() {
    run_seeds(20, || {
        let (epoll, (first, one), (second, two)) = (epoll(), pipe(NONBLOCK), pipe(NONBLOCK));
        add(epoll, first, IN, 1).unwrap();
        add(epoll, second, IN, 2).unwrap();
        let sleeper = spawn(move || assert!(!wait(epoll, 4, 5000).unwrap().is_empty())).unwrap();
        sleep_ms(5);
        write(one, b"x").unwrap();
        write(two, b"x").unwrap();
        assert_eq!(wait(epoll, 1, 5000).unwrap().len(), 1);
        join(sleeper);
    });
}

#[test]
fn watch_removed_by_another_thread_is_silent() {
    run_seeds(20, || {
        let (epoll, (reader, writer)) = (epoll(), pipe(NONBLOCK));
        add(epoll, reader, IN, 1).unwrap();
        let sleeper = spawn(move || assert_eq!(wait(epoll, 4, 200), Ok(Vec::new()))).unwrap();
        sleep_ms(5);
        delete(epoll, reader).unwrap();
        write(writer, b"x").unwrap();
        join(sleeper);
    });
}

#[test]
fn listener_is_watched() {
    run(|| {
        let (epoll, (listener, address)) = (epoll(), listener());
        add(epoll, listener, IN, 1).unwrap();
        assert_eq!(wait(epoll, 4, 0), Ok(Vec::new()));
        connect(socket(net::AF_INET, net::SOCK_STREAM), &address).unwrap();
        assert_eq!(wait(epoll, 4, 1000), Ok([(IN, 1)].to_vec()));
    });
}

#[test]
fn end_of_a_stream_is_an_edge() {
    run(|| {
        for (one, other) in [tcp_pair(), unix_pair(net::SOCK_STREAM)] {
            let epoll = epoll();
            add(epoll, one, IN | linux::EPOLLRDHUP | linux::EPOLLET, 1).unwrap();
            assert_eq!(wait(epoll, 4, 0), Ok(Vec::new()));
            shutdown(other, net::SHUT_WR).unwrap();
            assert_eq!(wait(epoll, 4, 1000), Ok([(IN | linux::EPOLLRDHUP, 1)].to_vec()));
            assert_eq!(wait(epoll, 4, 0), Ok(Vec::new()));
        }
    });
}

#[test]
fn instance_is_readable_when_it_has_events() {
    run(|| {
        let (epoll, (reader, writer)) = (epoll(), pipe(NONBLOCK));
        add(epoll, reader, IN, 1).unwrap();
        assert_eq!(poll(epoll, linux::POLLIN, 0), 0);
        write(writer, b"x").unwrap();
        assert_eq!(poll(epoll, linux::POLLIN, 0), linux::POLLIN);
    });
}
