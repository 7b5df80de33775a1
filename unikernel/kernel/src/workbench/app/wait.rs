//! Waiting for files: poll(2), epoll(7).

use alloc::vec::Vec;

use linux_raw_sys::general as linux;

use super::files::{Buffer, int};
use super::run::{Answer, sys};

/// poll(2) of several: what has come of each.
pub(crate) fn poll_all(entries: &[(u64, u32)], timeout_ms: i32) -> Answer<Vec<u32>> {
    let entry = |&(fd, events): &(u64, u32)| {
        [&(fd as i32).to_ne_bytes()[..], &(events as u16).to_ne_bytes(), &[0; 2]].concat()
    };
    let bytes: Vec<u8> = entries.iter().flat_map(entry).collect();
    let buffer = Buffer::new(&bytes);
    let count = sys(linux::__NR_poll, &[buffer.address, entries.len() as u64, u64::from(timeout_ms as u32)])?
        as usize;
    let bytes = buffer.bytes(bytes.len());
    let events: Vec<u32> =
        bytes.chunks(8).map(|entry| u16::from_ne_bytes([entry[6], entry[7]]).into()).collect();
    assert_eq!(events.iter().filter(|events| **events != 0).count(), count);
    Ok(events)
}

/// poll(2) of one.
pub(crate) fn poll(fd: u64, events: u32, timeout_ms: i32) -> u32 {
    poll_all(&[(fd, events)], timeout_ms).expect("poll")[0]
}

/// epoll_create1(2).
pub(crate) fn epoll() -> u64 {
    sys(linux::__NR_epoll_create1, &[0]).expect("an instance")
}

fn control(operation: u32, epoll: u64, fd: u64, events: u32, data: u64) -> Answer {
    let event = Buffer::new(&[&events.to_ne_bytes()[..], &data.to_ne_bytes()].concat());
    sys(linux::__NR_epoll_ctl, &[epoll, operation.into(), fd, event.address])
}

/// `EPOLL_CTL_ADD`.
pub(crate) fn add(epoll: u64, fd: u64, events: u32, data: u64) -> Answer {
    control(linux::EPOLL_CTL_ADD, epoll, fd, events, data)
}

/// `EPOLL_CTL_MOD`.
pub(crate) fn modify(epoll: u64, fd: u64, events: u32, data: u64) -> Answer {
    control(linux::EPOLL_CTL_MOD, epoll, fd, events, data)
}

/// `EPOLL_CTL_DEL`.
pub(crate) fn delete(epoll: u64, fd: u64) -> Answer {
    control(linux::EPOLL_CTL_DEL, epoll, fd, 0, 0)
}

/// Bytes of a `struct epoll_event`, which is packed.
const EVENT_BYTES: usize = 12;

/// Events and data, as epoll_wait(2) leaves them.
pub(crate) fn events_of(buffer: &Buffer, count: usize) -> Vec<(u32, u64)> {
    let event = |bytes: &[u8]| {
        let data = u64::from_ne_bytes(bytes[4..].try_into().expect("eight bytes"));
        (int(bytes) as u32, data)
    };
    buffer.bytes(count * EVENT_BYTES).chunks(EVENT_BYTES).map(event).collect()
}

/// epoll_wait(2).
pub(crate) fn wait(epoll: u64, most: usize, timeout_ms: i32) -> Answer<Vec<(u32, u64)>> {
    let buffer = Buffer::zeroed(most * EVENT_BYTES);
    let arguments = [epoll, buffer.address, most as u64, u64::from(timeout_ms as u32)];
    let count = sys(linux::__NR_epoll_wait, &arguments)?;
    Ok(events_of(&buffer, count as usize))
}
