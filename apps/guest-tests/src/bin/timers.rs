//! Timers that send signals, and signals that are read.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{mem, ptr, thread};

use guest_tests::{check, check_eq, errno, raw_syscall};

static COUNT: AtomicU32 = AtomicU32::new(0);
static VALUE: AtomicI32 = AtomicI32::new(0);

fn main() {
    itimer();
    itimers_of_processor_time();
    posix_timer();
    processor_time();
    wall_clock_in_the_past();
    wall_clock_timers_in_the_past();
    clocks_that_nobody_sleeps_by();
    timer_without_a_signal();
    signals_are_read();
    reader_waits_for_any_thread();
}

extern "C" fn note(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    COUNT.fetch_add(1, Ordering::SeqCst);
    // SAFETY: with SA_SIGINFO the kernel hands over a whole structure.
    VALUE.store(unsafe { (*info).si_value().sival_ptr.addr() as i32 }, Ordering::SeqCst);
}

fn handle(signal: i32) {
    // SAFETY: the action is whole, and the handler touches atomics only.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = note as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        check_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

/// Waits until the handler has run so often.
fn wait_for(count: u32) {
    let start = Instant::now();
    while COUNT.load(Ordering::SeqCst) < count {
        check!(start.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(1));
    }
}

fn itimer() {
    handle(libc::SIGALRM);
    COUNT.store(0, Ordering::SeqCst);
    let of = |micros| libc::timeval { tv_sec: 0, tv_usec: micros };
    let every = libc::itimerval { it_interval: of(5_000), it_value: of(5_000) };
    // SAFETY: whole structures; null means that the old setting is not wanted.
    check_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &every, ptr::null_mut()) }, 0);
    wait_for(5);
    let mut left = every;
    // SAFETY: as above.
    check_eq!(unsafe { libc::getitimer(libc::ITIMER_REAL, &mut left) }, 0);
    check!(left.it_value.tv_usec > 0 && left.it_value.tv_usec <= 5_000);
    let never = libc::itimerval { it_interval: of(0), it_value: of(0) };
    // SAFETY: as above.
    check_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &never, &mut left) }, 0);
    check_eq!(left.it_interval.tv_usec, 5_000);
    // SAFETY: takes a number.
    check_eq!(unsafe { (libc::alarm(100), libc::alarm(0), libc::alarm(0)) }, (0, 100, 0));
}

/// The timers that only run while the program does.
fn itimers_of_processor_time() {
    let of = |micros| libc::timeval { tv_sec: 0, tv_usec: micros };
    let never = libc::itimerval { it_interval: of(0), it_value: of(0) };
    for (which, signal) in [(libc::ITIMER_VIRTUAL, libc::SIGVTALRM), (libc::ITIMER_PROF, libc::SIGPROF)] {
        // SAFETY: whole structures; null means that the old setting is not wanted.
        let set = |new, old: &mut libc::itimerval| unsafe { libc::setitimer(which, new, old) };
        handle(signal);
        COUNT.store(0, Ordering::SeqCst);
        let mut left = never;
        check_eq!(set(&libc::itimerval { it_interval: of(20_000), it_value: of(30_000) }, &mut left), 0);
        check_eq!((left.it_value.tv_usec, left.it_interval.tv_usec), (0, 0));
        thread::sleep(Duration::from_millis(300));
        check_eq!(COUNT.load(Ordering::SeqCst), 0);
        let start = Instant::now();
        while COUNT.load(Ordering::SeqCst) < 5 {
            check!(start.elapsed() < Duration::from_secs(30));
        }
        check!(start.elapsed() >= Duration::from_millis(80));
        // SAFETY: as above.
        check_eq!(unsafe { libc::getitimer(which, &mut left) }, 0);
        check_eq!((left.it_value.tv_sec, left.it_interval.tv_usec), (0, 20_000));
        check!(left.it_value.tv_usec <= 30_000);
        check_eq!(set(&never, &mut left), 0);
        check_eq!(left.it_interval.tv_usec, 20_000);
        // SAFETY: as above.
        check_eq!(unsafe { libc::getitimer(which, &mut left) }, 0);
        check_eq!((left.it_value.tv_usec, left.it_interval.tv_usec), (0, 0));
        check_eq!(set(&libc::itimerval { it_interval: of(0), it_value: of(1_000_000) }, &mut left), -1);
        check_eq!(errno(), libc::EINVAL);
    }
    check_eq!(
        raw_syscall(libc::SYS_setitimer, [3, (&raw const never) as u64, 0, 0, 0, 0]),
        -i64::from(libc::EINVAL)
    );
    check_eq!(
        raw_syscall(libc::SYS_getitimer, [3, (&raw const never) as u64, 0, 0, 0, 0]),
        -i64::from(libc::EINVAL)
    );
}

/// Makes a timer; answers its number.
fn create(clock: i32, notify: i32, value: usize) -> i32 {
    let mut id = 0;
    let mut event = [0u64; 8];
    event[0] = value as u64;
    event[1] = libc::SIGUSR1 as u64 | (notify as u64) << 32;
    let place = &raw mut id as u64;
    check_eq!(raw_syscall(libc::SYS_timer_create, [clock as u64, event.as_ptr() as u64, place, 0, 0, 0]), 0);
    id
}

fn set(id: i32, first: Duration, interval: Duration) -> i64 {
    let words = [interval, first].map(|time| [time.as_secs(), u64::from(time.subsec_nanos())]);
    raw_syscall(libc::SYS_timer_settime, [id as u64, 0, words.as_ptr() as u64, 0, 0, 0])
}

fn posix_timer() {
    handle(libc::SIGUSR1);
    COUNT.store(0, Ordering::SeqCst);
    let id = create(libc::CLOCK_MONOTONIC, libc::SIGEV_SIGNAL, 77);
    check_eq!(set(id, Duration::from_millis(5), Duration::from_millis(5)), 0);
    wait_for(3);
    check_eq!(VALUE.load(Ordering::SeqCst), 77);
    // Expirations that nobody could be told of are counted.
    mask(libc::SIG_BLOCK, libc::SIGUSR1);
    thread::sleep(Duration::from_millis(50));
    mask(libc::SIG_UNBLOCK, libc::SIGUSR1);
    check!(raw_syscall(libc::SYS_timer_getoverrun, [id as u64, 0, 0, 0, 0, 0]) >= 0);
    check_eq!(raw_syscall(libc::SYS_timer_delete, [id as u64, 0, 0, 0, 0, 0]), 0);
    check_eq!(set(id, Duration::from_millis(5), Duration::ZERO), -i64::from(libc::EINVAL));
    let count = COUNT.load(Ordering::SeqCst);
    thread::sleep(Duration::from_millis(20));
    check_eq!(COUNT.load(Ordering::SeqCst), count);
}

/// Clocks of processor time by their numbers, and timers on them.
fn processor_time() {
    let pid = std::process::id() as i32;
    let numbers = [
        libc::CLOCK_PROCESS_CPUTIME_ID,
        libc::CLOCK_THREAD_CPUTIME_ID,
        -6,
        -2,
        (!pid << 3) | 2,
        (!pid << 3) | 6,
    ];
    for clock in numbers {
        let shown = || {
            let mut time = libc::timespec { tv_sec: -1, tv_nsec: -1 };
            // SAFETY: the place is our own.
            check_eq!(unsafe { libc::clock_gettime(clock, &raw mut time) }, 0);
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        };
        let (before, count) = (shown(), COUNT.load(Ordering::SeqCst));
        let id = create(clock, libc::SIGEV_SIGNAL, 0);
        check_eq!(set(id, Duration::from_millis(20), Duration::ZERO), 0);
        while COUNT.load(Ordering::SeqCst) == count {
            std::hint::spin_loop();
        }
        check!(shown() - before >= Duration::from_millis(20));
        check_eq!(raw_syscall(libc::SYS_timer_delete, [id as u64, 0, 0, 0, 0, 0]), 0);
    }
    // Of nobody, and no way of counting.
    for clock in [(!999_999 << 3) | 2, (!999_999 << 3) | 6, -5, -1] {
        let mut time = [0u64; 2];
        let answer =
            raw_syscall(libc::SYS_clock_gettime, [clock as u64, time.as_mut_ptr() as u64, 0, 0, 0, 0]);
        check_eq!(answer, -i64::from(libc::EINVAL));
    }
}

/// All that a clock has passed counts, from long before the machine was started.
fn wall_clock_in_the_past() {
    // SAFETY: places and descriptors are our own.
    unsafe {
        let fd = libc::timerfd_create(libc::CLOCK_REALTIME, 0);
        let mut count = 0u64;
        let mut set = |first, interval| {
            let time = |tv_sec| libc::timespec { tv_sec, tv_nsec: 0 };
            let setting = libc::itimerspec { it_interval: time(interval), it_value: time(first) };
            let null = std::ptr::null_mut();
            check_eq!(libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME, &raw const setting, null), 0);
            check_eq!(libc::read(fd, (&raw mut count).cast(), 8), 8);
            count
        };
        let now = libc::time(std::ptr::null_mut());
        check_eq!(set(1, 0), 1);
        check!((now as u64 / 10..=now as u64 / 10 + 2).contains(&set(10, 10)));
        check!((5..=7).contains(&set(now - 50, 10)));
        libc::close(fd);
    }
}

/// The same of timers with signals: the first comes at once, and tells of the others.
fn wall_clock_timers_in_the_past() {
    mask(libc::SIG_BLOCK, libc::SIGUSR1);
    // SAFETY: asks for the time.
    let now = unsafe { libc::time(ptr::null_mut()) } as u64;
    for (first, interval, others) in
        [(1, 0, 0), (10, 1000, now / 1000), (now - 50, 100, 0), (now - 500, 100, 5)]
    {
        let id = create(libc::CLOCK_REALTIME, libc::SIGEV_SIGNAL, 5);
        let words = [[interval, 0], [first, 0]];
        let setting = words.as_ptr() as u64;
        check_eq!(raw_syscall(libc::SYS_timer_settime, [id as u64, 1, setting, 0, 0, 0]), 0);
        // SAFETY: the places are whole.
        unsafe {
            let second = libc::timespec { tv_sec: 1, tv_nsec: 0 };
            check_eq!(libc::sigtimedwait(&set_of(libc::SIGUSR1), ptr::null_mut(), &second), libc::SIGUSR1);
        }
        let overrun = raw_syscall(libc::SYS_timer_getoverrun, [id as u64, 0, 0, 0, 0, 0]);
        check!((others as i64 - 1..=others as i64 + 1).contains(&overrun));
        check_eq!(raw_syscall(libc::SYS_timer_delete, [id as u64, 0, 0, 0, 0, 0]), 0);
    }
    mask(libc::SIG_UNBLOCK, libc::SIGUSR1);
}

fn clocks_that_nobody_sleeps_by() {
    let (event, mut id, moment) = ([0u64, libc::SIGUSR1 as u64, 0, 0, 0, 0, 0, 0], 0i32, [0u64; 2]);
    for clock in [libc::CLOCK_MONOTONIC_RAW, libc::CLOCK_MONOTONIC_COARSE, libc::CLOCK_REALTIME_COARSE] {
        let make = [clock as u64, event.as_ptr() as u64, &raw mut id as u64, 0, 0, 0];
        check_eq!(raw_syscall(libc::SYS_timer_create, make), -i64::from(libc::EOPNOTSUPP));
        let sleep = [clock as u64, 0, moment.as_ptr() as u64, 0, 0, 0];
        check_eq!(raw_syscall(libc::SYS_clock_nanosleep, sleep), -i64::from(libc::EOPNOTSUPP));
    }
    // To the kernel, a signal that a thread of the C library waits for is one like others.
    let id = create(libc::CLOCK_MONOTONIC, libc::SIGEV_THREAD, 0);
    check_eq!(raw_syscall(libc::SYS_timer_delete, [id as u64, 0, 0, 0, 0, 0]), 0);
}

fn timer_without_a_signal() {
    let id = create(libc::CLOCK_REALTIME, libc::SIGEV_NONE, 0);
    check_eq!(set(id, Duration::from_secs(100), Duration::ZERO), 0);
    let mut left = [0u64; 4];
    check_eq!(raw_syscall(libc::SYS_timer_gettime, [id as u64, left.as_mut_ptr() as u64, 0, 0, 0, 0]), 0);
    check!(left[2] >= 98 && left[2] <= 100);
    check_eq!(raw_syscall(libc::SYS_timer_delete, [id as u64, 0, 0, 0, 0, 0]), 0);
}

fn set_of(signal: i32) -> libc::sigset_t {
    // SAFETY: the set is whole.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigaddset(&mut set, signal);
        set
    }
}

fn mask(how: i32, signal: i32) {
    // SAFETY: the set is whole.
    check_eq!(unsafe { libc::pthread_sigmask(how, &set_of(signal), ptr::null_mut()) }, 0);
}

fn signals_are_read() {
    mask(libc::SIG_BLOCK, libc::SIGUSR2);
    // SAFETY: makes a descriptor, which is this file's alone.
    let mut file = unsafe {
        let descriptor = libc::signalfd(-1, &set_of(libc::SIGUSR2), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
        check!(descriptor >= 0);
        File::from_raw_fd(descriptor)
    };
    let mut record = [0; 128];
    check_eq!(file.read(&mut record).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
    // SAFETY: sends a signal that is blocked.
    check_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGUSR2) }, 0);
    let mut fds = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one whole entry.
    check_eq!(unsafe { libc::poll(&mut fds, 1, 1000) }, 1);
    check_eq!(file.read(&mut record).unwrap(), 128);
    check_eq!(u32::from_ne_bytes(record[..4].try_into().unwrap()), libc::SIGUSR2 as u32);
    check_eq!(file.read(&mut record).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
    check_eq!(file.read(&mut record[..100]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    // SAFETY: a bad descriptor is what is tested.
    check_eq!(unsafe { libc::signalfd(1, &set_of(libc::SIGUSR2), 0) }, -1);
    check_eq!(errno(), libc::EINVAL);
}

fn reader_waits_for_any_thread() {
    // SAFETY: makes a descriptor, which is this file's alone.
    let mut file = unsafe { File::from_raw_fd(libc::signalfd(-1, &set_of(libc::SIGUSR2), 0)) };
    let reader = thread::spawn(move || {
        let mut record = [0; 128];
        check_eq!(file.read(&mut record).unwrap(), 128);
        record[0]
    });
    thread::sleep(Duration::from_millis(20));
    // SAFETY: sends a signal that every thread blocks.
    check_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGUSR2) }, 0);
    check_eq!(i32::from(reader.join().unwrap()), libc::SIGUSR2);
}
