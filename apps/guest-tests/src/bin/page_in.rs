//! Calls whose arguments and results lie in pages of a mapped file that are not in memory: each is done once, as if the
//! pages were there. `DATA` names the folder for the file. The calls of sockets and rings are in `page_in_sockets`.

use std::fs::File;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{io, thread};

use guest_tests::cold::{self, PAGE, check, cold, cold_before, owned, read_cold};

fn nap(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

static NO_TIME: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };

fn counters() {
    // SAFETY: plain calls with places that are mapped.
    unsafe {
        let event = owned(libc::eventfd(5, libc::EFD_NONBLOCK));
        assert_eq!(read_cold(event.as_raw_fd(), 8), 5_u64.to_ne_bytes());
        // What is written is read from such a page, too.
        let place = cold::<u64>();
        assert_eq!(libc::write(event.as_raw_fd(), place.cast(), 8), 8);

        let timer = owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK));
        let soon = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let (setting, old) = (cold::<libc::itimerspec>(), cold::<libc::itimerspec>());
        setting.write(libc::itimerspec { it_interval: NO_TIME, it_value: soon });
        assert_eq!(libc::timerfd_settime(timer.as_raw_fd(), 0, setting, old), 0);
        nap(30);
        assert_eq!(read_cold(timer.as_raw_fd(), 8), 1_u64.to_ne_bytes());
    }
}

fn signals() {
    extern "C" fn handler(_: i32) {}
    // SAFETY: the set and the actions are valid; the handler does nothing.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, null_mut());
        let signals = owned(libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK));
        libc::raise(libc::SIGUSR1);
        assert_eq!(read_cold(signals.as_raw_fd(), 128)[0], libc::SIGUSR1 as u8);

        libc::raise(libc::SIGUSR1);
        let info = cold::<libc::siginfo_t>();
        let wait = libc::SYS_rt_sigtimedwait;
        assert_eq!(libc::syscall(wait, &raw const set, info, &raw const NO_TIME, 8), 10);
        assert_eq!((*info).si_signo, libc::SIGUSR1);

        // The old value is what was there before, and the mask as well.
        let action = [handler as *const () as u64, 0x0400_0000, handler as *const () as u64, 0];
        let old = cold::<[u64; 4]>();
        assert_eq!(libc::syscall(libc::SYS_rt_sigaction, libc::SIGUSR2, &raw const action, old, 8), 0);
        assert_eq!((*old)[0], 0);
        let (new, old) = (cold::<u64>(), cold::<u64>());
        assert_eq!(libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new, old, 8), 0);
        assert_eq!(*old, 1 << 9);
    }
}

/// A handler's frame goes to a stack of such pages.
fn signal_stack() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn count(_: i32) {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the stack is mapped and nobody else's; the handler only counts.
    unsafe {
        let size = 16 * PAGE;
        let stack = libc::stack_t { ss_sp: cold_before::<u8>(size).cast(), ss_flags: 0, ss_size: size };
        assert_eq!(libc::sigaltstack(&raw const stack, null_mut()), 0);
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = count as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &raw const action, null_mut()), 0);
        libc::raise(libc::SIGUSR2);
        libc::raise(libc::SIGUSR2);
        assert_eq!(CALLS.load(Ordering::Relaxed), 2);
        let off = libc::stack_t { ss_flags: libc::SS_DISABLE, ..stack };
        assert_eq!(libc::sigaltstack(&raw const off, null_mut()), 0);
    }
}

fn pipes() {
    let ends = cold::<[i32; 2]>();
    // SAFETY: the places are mapped and large enough; the descriptors are new.
    unsafe {
        assert_eq!(libc::pipe2(ends.cast(), libc::O_NONBLOCK), 0);
        let [read, write] = (*ends).map(owned);
        assert_eq!(libc::write(write.as_raw_fd(), cold_before::<u8>(100).cast(), 10_000), 10_000);
        let buffers = cold::<[libc::iovec; 3]>();
        let places = [cold_before::<u8>(1), cold::<u8>(), cold_before::<u8>(50)];
        let lens = [10, 4000, 10_000];
        let mut all = lens.iter();
        buffers
            .write(places.map(|place| libc::iovec { iov_base: place.cast(), iov_len: *all.next().unwrap() }));
        assert_eq!(libc::readv(read.as_raw_fd(), buffers.cast(), 3), 10_000);
        // Nothing came twice.
        assert_eq!(libc::read(read.as_raw_fd(), cold::<u8>().cast(), 10), -1);
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EAGAIN));
        // A sleeper is woken with its buffer still on disk.
        let flags = libc::fcntl(read.as_raw_fd(), libc::F_GETFL);
        assert_eq!(libc::fcntl(read.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK), 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                nap(50);
                libc::write(write.as_raw_fd(), b"late".as_ptr().cast(), 4)
            });
            assert_eq!(read_cold(read.as_raw_fd(), 100), b"late");
        });
    }
}

/// Events of epoll, in an array over the edge of a page, and sets of poll.
fn events() {
    // SAFETY: the places are mapped and large enough.
    unsafe {
        let epoll = owned(libc::epoll_create1(0));
        let counters: Vec<OwnedFd> = (0..5).map(|_| owned(libc::eventfd(1, libc::EFD_NONBLOCK))).collect();
        for (index, counter) in counters.iter().enumerate() {
            let edge = if index % 2 == 0 { libc::EPOLLET } else { 0 };
            let event = cold::<libc::epoll_event>();
            event.write(libc::epoll_event { events: (libc::EPOLLIN | edge) as u32, u64: index as u64 });
            let (add, fd) = (libc::EPOLL_CTL_ADD, counter.as_raw_fd());
            assert_eq!(libc::epoll_ctl(epoll.as_raw_fd(), add, fd, event), 0);
        }
        let found = |expected: &[u64]| {
            let events = cold_before::<libc::epoll_event>(2 * size_of::<libc::epoll_event>() + 5);
            let count = check(libc::epoll_wait(epoll.as_raw_fd(), events, 8, 100) as isize) as usize;
            let mut found: Vec<u64> = (0..count).map(|at| events.add(at).read_unaligned().u64).collect();
            found.sort_unstable();
            assert_eq!(found, expected);
        };
        found(&[0, 1, 2, 3, 4]);
        // The edges are gone, each once.
        found(&[1, 3]);
        let entries = cold_before::<libc::pollfd>(size_of::<libc::pollfd>());
        for (index, counter) in counters[..2].iter().enumerate() {
            entries.add(index).write(libc::pollfd {
                fd: counter.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            });
        }
        assert_eq!(libc::poll(entries, 2, 0), 2);
        assert_eq!((*entries.add(1)).revents, libc::POLLIN);
    }
}

fn futexes() {
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let (word, soon) = (cold::<u32>(), libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 });
    let outcome = |expected: u32, word: *mut u32| {
        // SAFETY: the word is mapped.
        let result = unsafe { libc::syscall(libc::SYS_futex, word, operation, expected, &raw const soon) };
        assert_eq!(result, -1);
        io::Error::last_os_error().raw_os_error()
    };
    assert_eq!(outcome(1, word), Some(libc::EAGAIN));
    assert_eq!(outcome(0, cold()), Some(libc::ETIMEDOUT));
    // Adds one to a word, and tells what it was: once.
    let (add, compare_equal) = (1_u32 << 28, 0);
    let second = cold::<u32>();
    let encoded = add | compare_equal << 24 | 1 << 12;
    // SAFETY: the words are mapped.
    unsafe {
        let wake = libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG;
        assert_eq!(libc::syscall(libc::SYS_futex, word, wake, 1, 1, second, encoded), 0);
        assert_eq!(*second, 1);
    }
}

fn listings() {
    let folder = PathBuf::from(std::env::var("DATA").unwrap()).join("listed");
    std::fs::create_dir_all(&folder).unwrap();
    let watched = std::ffi::CString::new(folder.to_str().unwrap()).unwrap();
    // SAFETY: plain calls.
    let events = unsafe { owned(libc::inotify_init1(libc::IN_NONBLOCK)) };
    // SAFETY: the path ends with a NUL.
    assert!(unsafe { libc::inotify_add_watch(events.as_raw_fd(), watched.as_ptr(), libc::IN_CREATE) } > 0);
    (0..3).for_each(|number| _ = File::create(folder.join(format!("{number}"))).unwrap());
    assert_eq!(read_cold(events.as_raw_fd(), 1000).len(), 3 * 32);
    let opened = File::open(&folder).unwrap();
    let place = cold_before::<u8>(40);
    // SAFETY: the place is mapped.
    unsafe {
        let len = check(libc::syscall(libc::SYS_getdents64, opened.as_raw_fd(), place, PAGE) as isize);
        assert!(len >= 5 * 24, "all of them at once: {len}");
        assert_eq!(libc::syscall(libc::SYS_getdents64, opened.as_raw_fd(), place, PAGE), 0);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

fn main() {
    cold::prepare(24 << 20);
    let tests: &[(&str, fn())] = &[
        ("counters and timers", counters),
        ("signals that are read, and old actions", signals),
        ("a signal's stack", signal_stack),
        ("pipes", pipes),
        ("events", events),
        ("futexes", futexes),
        ("listings", listings),
    ];
    for (name, test) in tests {
        println!("{name}");
        test();
    }
    println!("page_in: all well");
}
