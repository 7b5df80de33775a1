//! Prints a random number and the wall clock for ever, and listens, for `qemu/src/saved_state_tests.rs`, which goes on with it twice
//! from one saved state. Another thread waits for news of `/proc/unikernel/generation`.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

fn main() {
    let _listener = TcpListener::bind("0.0.0.0:8080").expect("the port is free");
    std::thread::spawn(watch);
    loop {
        let mut bytes = [0_u8; 8];
        // SAFETY: the buffer has that many bytes.
        let len = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        assert_eq!(len, 8, "getrandom");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        println!("random {:016x} at {}", u64::from_le_bytes(bytes), since.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Tells the generation, and each change of it as poll and epoll tell it.
fn watch() {
    let file = File::open("/proc/unikernel/generation").expect("the generation");
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll instance");
    epoll::add(&epoll, &file, epoll::EventData::new_u64(7), epoll::EventFlags::PRI).expect("a watch");
    let news = || {
        let mut events = Vec::with_capacity(4);
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&Timespec::default())).expect("events");
        let told = events.first().map(|event: &epoll::Event| event.flags);
        let mut polled = [PollFd::new(&file, PollFlags::PRI)];
        poll(&mut polled, Some(&Timespec::default())).expect("poll");
        let both = epoll::EventFlags::PRI | epoll::EventFlags::ERR;
        let is_told = told.is_some_and(|flags| flags == both);
        assert_eq!(polled[0].revents().contains(PollFlags::PRI | PollFlags::ERR), is_told, "poll and epoll");
        is_told
    };
    loop {
        let mut text = [0; 32];
        let len = file.read_at(&mut text, 0).expect("a number");
        print!("generation {}", std::str::from_utf8(&text[..len]).expect("text"));
        assert!(!news(), "it was read");
        let mut events = Vec::with_capacity(1);
        epoll::wait(&epoll, spare_capacity(&mut events), None).expect("an event");
        assert!(news(), "it stays until it is read");
    }
}
