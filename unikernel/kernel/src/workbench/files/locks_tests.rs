//! Locks on files: flock(2), and ranges by fcntl(2).

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{Answer, run_on_each_filesystem, run_seeds};
use super::super::app::{join, spawn};
use super::{open, write_file};

fn new_open() -> u64 {
    open("/tmp/file", O_RDWR | O_CREAT)
}

/// `struct flock`.
fn range(kind: u32, start: u64, len: u64) -> Room {
    Room::of_longs(&[kind.into(), start, len, 0])
}

fn set(file: u64, command: u32, kind: u32, start: u64, len: u64) -> Answer {
    sys!(fcntl, file, command, &range(kind, start, len))
}

#[test]
fn locks_of_whole_files_exclude_each_other() {
    run_on_each_filesystem(|| {
        let (first, second, third) = (new_open(), new_open(), new_open());
        assert_eq!(sys!(flock, first, LOCK_SH), Ok(0));
        assert_eq!(sys!(flock, second, LOCK_SH | LOCK_NB), Ok(0));
        assert_eq!(sys!(flock, third, LOCK_EX | LOCK_NB), Err(EAGAIN));
        assert_eq!(sys!(flock, first, LOCK_UN), Ok(0));
        // A copy is the same open file: to close one of them keeps the lock.
        let copy = sys!(dup, second).unwrap();
        sys!(close, copy).unwrap();
        assert_eq!(sys!(flock, third, LOCK_EX | LOCK_NB), Err(EAGAIN));
        sys!(close, second).unwrap();
        assert_eq!(sys!(flock, third, LOCK_EX | LOCK_NB), Ok(0));
        assert_eq!((sys!(flock, 99, LOCK_SH), sys!(flock, third, 0)), (Err(EBADF), Err(EINVAL)));
    });
}

#[test]
fn lock_waits_for_who_holds_it() {
    run_seeds(6, || {
        let (holder, waiter) = (new_open(), new_open());
        let order = Room::new(8);
        sys!(flock, holder, LOCK_EX).unwrap();
        let thread = spawn(move || {
            assert_eq!(sys!(flock, waiter, LOCK_EX), Ok(0));
            assert_eq!(order.word(0), 1, "the lock was held still");
        });
        let thread = thread.unwrap();
        for _ in 0..5 {
            sys!(sched_yield).unwrap();
        }
        order.put_word(0, 1);
        sys!(close, holder).unwrap();
        join(thread);
    });
}

#[test]
fn ranges_of_open_files_exclude_each_other() {
    run_on_each_filesystem(|| {
        let (first, second) = (new_open(), new_open());
        assert_eq!(set(first, F_OFD_SETLK, F_WRLCK, 10, 10), Ok(0));
        assert_eq!(set(second, F_OFD_SETLK, F_WRLCK, 0, 10), Ok(0));
        assert_eq!(set(second, F_OFD_SETLK, F_RDLCK, 19, 0), Err(EAGAIN));
        assert_eq!(set(first, F_OFD_SETLK, F_UNLCK, 15, 0), Ok(0));
        assert_eq!(set(second, F_OFD_SETLK, F_RDLCK, 19, 0), Ok(0));
        sys!(close, second).unwrap();
        assert_eq!(set(first, F_OFD_SETLK, F_WRLCK, 0, 0), Ok(0));
    });
}

#[test]
fn who_is_in_the_way_is_told() {
    run_on_each_filesystem(|| {
        let (first, second) = (new_open(), new_open());
        set(first, F_OFD_SETLK, F_WRLCK, 5, 10).unwrap();
        let asked = range(F_RDLCK, 0, 0);
        assert_eq!(sys!(fcntl, second, F_OFD_GETLK, &asked), Ok(0));
        assert_eq!(
            (asked.word(0), asked.long(8), asked.long(16), asked.word(24)),
            (F_WRLCK, 5, 10, u32::MAX)
        );
        let asked = range(F_RDLCK, 15, 0);
        assert_eq!(sys!(fcntl, second, F_OFD_GETLK, &asked), Ok(0));
        assert_eq!(asked.word(0), F_UNLCK);
        // For OFD locks the process field is zero.
        let asked = range(F_RDLCK, 15, 0);
        asked.put_word(24, 7);
        assert_eq!(sys!(fcntl, second, F_OFD_GETLK, &asked), Err(EINVAL));
    });
}

#[test]
fn process_has_one_set_of_locks() {
    run_on_each_filesystem(|| {
        let (first, second) = (new_open(), new_open());
        assert_eq!(set(first, F_SETLK, F_WRLCK, 0, 5), Ok(0));
        assert_eq!(set(second, F_SETLK, F_WRLCK, 0, 5), Ok(0));
        assert_eq!(set(second, F_OFD_SETLK, F_WRLCK, 4, 1), Err(EAGAIN));
        let asked = range(F_WRLCK, 0, 0);
        assert_eq!(sys!(fcntl, second, F_OFD_GETLK, &asked), Ok(0));
        assert_eq!((asked.word(0), asked.word(24)), (F_WRLCK, 1));
        // To close any descriptor of the file drops them all.
        sys!(close, first).unwrap();
        assert_eq!(set(second, F_OFD_SETLK, F_WRLCK, 4, 1), Ok(0));
    });
}

#[test]
fn ranges_go_to_the_last_byte_and_no_further() {
    run_on_each_filesystem(|| {
        let (first, second) = (new_open(), new_open());
        let end = i64::MAX as u64;
        assert_eq!(set(first, F_OFD_SETLK, F_RDLCK, 1 << 62, end - (1 << 62) + 1), Ok(0));
        let asked = range(F_WRLCK, end, 1);
        assert_eq!(sys!(fcntl, second, F_OFD_GETLK, &asked), Ok(0));
        assert_eq!((asked.word(0), asked.long(8), asked.long(16)), (F_RDLCK, 1 << 62, 0));
        assert_eq!(set(first, F_OFD_SETLK, F_RDLCK, 2, end), Err(EOVERFLOW));
        assert_eq!(set(first, F_OFD_SETLK, 9, 0, 1), Err(EINVAL));
        // A negative length is what lies before.
        assert_eq!(set(first, F_OFD_SETLK, F_WRLCK, 10, (-5_i64) as u64), Ok(0));
        let asked = range(F_WRLCK, 0, 20);
        sys!(fcntl, second, F_OFD_GETLK, &asked).unwrap();
        assert_eq!((asked.long(8), asked.long(16)), (5, 5));
        assert_eq!(set(first, F_OFD_SETLK, F_WRLCK, 4, (-5_i64) as u64), Err(EINVAL));
    });
}

#[test]
fn locks_ask_for_the_access_they_name() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"x");
        let (reader, writer) = (open("/tmp/file", O_RDONLY), open("/tmp/file", O_WRONLY));
        assert_eq!(set(reader, F_OFD_SETLK, F_WRLCK, 0, 1), Err(EBADF));
        assert_eq!(set(writer, F_OFD_SETLK, F_RDLCK, 0, 1), Err(EBADF));
        assert_eq!(set(reader, F_SETLK, F_RDLCK, 0, 1), Ok(0));
        assert_eq!(sys!(fcntl, reader, F_SETLK, 1), Err(EFAULT));
    });
}

#[test]
fn waiting_for_a_range_ends_with_its_lock() {
    run_seeds(6, || {
        let (holder, waiter) = (new_open(), new_open());
        set(holder, F_OFD_SETLK, F_WRLCK, 0, 10).unwrap();
        let order = Room::new(8);
        let thread = spawn(move || {
            assert_eq!(set(waiter, F_OFD_SETLKW, F_WRLCK, 5, 1), Ok(0));
            assert_eq!(order.word(0), 1, "the range was locked still");
        });
        let thread = thread.unwrap();
        for _ in 0..5 {
            sys!(sched_yield).unwrap();
        }
        order.put_word(0, 1);
        set(holder, F_OFD_SETLK, F_UNLCK, 5, 1).unwrap();
        join(thread);
    });
}
