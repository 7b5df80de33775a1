//! Message queues (mq_overview(7)).

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{Answer, run, run_seeds};
use super::super::app::{join, spawn};
use super::{count, handle, handled, now_ns, timespec};

const MS: u64 = 1_000_000;

/// `struct mq_attr`: flags, most messages, their most bytes, messages now.
fn attributes(most: u64, bytes: u64) -> Room {
    Room::of_longs(&[0, most, bytes, 0, 0, 0, 0, 0])
}

fn new_queue(flags: u32) -> u64 {
    sys!(mq_open, "queue", O_RDWR | O_CREAT | flags, 0o600, &attributes(2, 16)).unwrap()
}

fn send(queue: u64, bytes: &[u8], priority: u32) -> Answer {
    sys!(mq_timedsend, queue, &Room::of(bytes), bytes.len(), priority, 0)
}

/// A message and its priority.
fn receive(queue: u64) -> Result<(std::vec::Vec<u8>, u32), u32> {
    let (room, priority) = (Room::new(16), Room::new(8));
    let len = sys!(mq_timedreceive, queue, &room, 16, &priority, 0)?;
    Ok((room.bytes(0, len as usize), priority.word(0)))
}

#[test]
fn messages_come_by_priority() {
    run(|| {
        let queue = sys!(mq_open, "queue", O_RDWR | O_CREAT | O_NONBLOCK, 0o600, &attributes(8, 16)).unwrap();
        for (bytes, priority) in [(b"low", 1), (b"top", 9), (b"mid", 5), (b"new", 9)] {
            assert_eq!(send(queue, bytes, priority), Ok(0));
        }
        for (bytes, priority) in [(b"top", 9), (b"new", 9), (b"mid", 5), (b"low", 1)] {
            assert_eq!(receive(queue), Ok((bytes.to_vec(), priority)));
        }
        assert_eq!(receive(queue), Err(EAGAIN));
    });
}

#[test]
fn queue_has_its_bounds() {
    run(|| {
        let queue = new_queue(O_NONBLOCK);
        assert_eq!(send(queue, &[0; 17], 0), Err(EMSGSIZE));
        assert_eq!(send(queue, b"x", 32_768), Err(EINVAL));
        assert_eq!(
            (send(queue, b"1", 0), send(queue, b"2", 0), send(queue, b"3", 0)),
            (Ok(0), Ok(0), Err(EAGAIN))
        );
        let told = Room::new(64);
        assert_eq!(sys!(mq_getsetattr, queue, 0, &told), Ok(0));
        assert_eq!((told.long(0), told.long(8), told.long(16), told.long(24)), (O_NONBLOCK.into(), 2, 16, 2));
        assert_eq!(sys!(mq_timedreceive, queue, &told, 15, 0, 0), Err(EMSGSIZE));
        assert_eq!(sys!(mq_getsetattr, queue, &attributes(0, 0), 0), Ok(0));
        sys!(mq_getsetattr, queue, 0, &told).unwrap();
        assert_eq!(told.long(0), 0);
    });
}

#[test]
fn names_of_queues() {
    run(|| {
        assert_eq!(sys!(mq_open, "none", O_RDWR, 0, 0), Err(ENOENT));
        let queue = new_queue(O_EXCL);
        assert_eq!(sys!(mq_open, "queue", O_RDWR | O_CREAT | O_EXCL, 0o600, 0), Err(EEXIST));
        assert_eq!(sys!(mq_open, "other", O_RDWR | O_CREAT, 0o600, &attributes(0, 16)), Err(EINVAL));
        let reader = sys!(mq_open, "queue", O_RDONLY, 0, 0).unwrap();
        assert_eq!(send(reader, b"x", 0), Err(EBADF));
        assert_eq!(sys!(mq_unlink, "queue"), Ok(0));
        assert_eq!(sys!(mq_unlink, "queue"), Err(ENOENT));
        // It lives until it is closed.
        assert_eq!(send(queue, b"x", 0), Ok(0));
        assert_eq!(receive(reader), Ok((b"x".to_vec(), 0)));
        assert_eq!(sys!(mq_open, "a/b", O_RDWR | O_CREAT, 0o600, 0), Err(EACCES));
        assert_eq!(send(1, b"x", 0), Err(EBADF));
    });
}

#[test]
fn receiver_waits_for_a_message_and_sender_for_room() {
    run_seeds(6, || {
        let queue = new_queue(0);
        let thread = spawn(move || {
            for number in 0..10 {
                assert_eq!(send(queue, &[number], 0), Ok(0));
            }
        });
        for number in 0..10 {
            assert_eq!(receive(queue), Ok((std::vec![number], 0)));
        }
        join(thread.unwrap());
    });
}

#[test]
fn waiting_ends_with_its_time() {
    run(|| {
        let queue = new_queue(0);
        let end = timespec(now_ns(CLOCK_REALTIME) + 5 * MS);
        assert_eq!(sys!(mq_timedreceive, queue, &Room::new(16), 16, 0, &end), Err(ETIMEDOUT));
        assert!(now_ns(CLOCK_REALTIME) >= end.long(0) * 1_000_000_000 + end.long(8));
        send(queue, b"1", 0).unwrap();
        send(queue, b"2", 0).unwrap();
        assert_eq!(sys!(mq_timedsend, queue, &Room::new(16), 1, 0, &end), Err(ETIMEDOUT));
        let bad = Room::of_longs(&[0, 1_000_000_000]);
        assert_eq!(sys!(mq_timedsend, queue, &Room::new(16), 1, 0, &bad), Err(EINVAL));
    });
}

#[test]
fn first_message_is_told_by_a_signal_once() {
    run(|| {
        let queue = new_queue(0);
        handle(SIGUSR1, 0, count);
        let event = Room::of_longs(&[0, SIGUSR1.into(), 0, 0, 0, 0, 0, 0]);
        assert_eq!(sys!(mq_notify, queue, &event), Ok(0));
        assert_eq!(sys!(mq_notify, queue, &event), Err(EBUSY));
        send(queue, b"1", 0).unwrap();
        send(queue, b"2", 0).unwrap();
        assert_eq!(handled(SIGUSR1), 1);
        assert_eq!(sys!(mq_notify, queue, &event), Ok(0));
        assert_eq!(sys!(mq_notify, queue, 0), Ok(0));
        receive(queue).unwrap();
        receive(queue).unwrap();
        send(queue, b"3", 0).unwrap();
        assert_eq!(handled(SIGUSR1), 1);
        assert_eq!(sys!(mq_notify, 1, &event), Err(EBADF));
        assert_eq!(sys!(mq_notify, queue, 1), Err(EFAULT));
    });
}
