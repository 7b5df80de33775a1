//! Signals for the whole app: whichever thread lets one in takes it. Real-time signals and timers that queue.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{mem, ptr, thread};

use guest_tests::{check, check_eq, errno, raw_syscall};

const SIGNALS: [i32; 2] = [libc::SIGUSR1, libc::SIGUSR2];
/// Real-time signals that no C library keeps for itself.
const REALTIME: [i32; 3] = [40, 41, 42];

fn main() {
    for signal in SIGNALS.into_iter().chain(REALTIME) {
        handle(signal, note as *const () as usize);
        mask(libc::SIG_BLOCK, &[signal]);
    }
    taken_by_the_thread_that_unblocks();
    fetched_by_any_thread();
    read_by_any_thread();
    one_threads_signal_is_its_own();
    lowest_first();
    handlers_nest();
    standard_signals_merge();
    queue_is_bounded();
    ignoring_drops_what_waits();
    overruns_are_counted();
    short_interval_does_no_harm();
    none_is_lost();
}

static HANDLED: [AtomicUsize; 65] = [const { AtomicUsize::new(0) }; 65];
/// The signals of the handlers that ran, as digits after 40.
static ORDER: AtomicUsize = AtomicUsize::new(0);
static THREAD: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: i32) {
    HANDLED[signal as usize].fetch_add(1, Ordering::SeqCst);
    ORDER.store(ORDER.load(Ordering::SeqCst) % 1000 * 10 + (signal - 30) as usize % 10, Ordering::SeqCst);
    THREAD.store(thread_id(), Ordering::SeqCst);
}

fn handled(signal: i32) -> usize {
    HANDLED[signal as usize].swap(0, Ordering::SeqCst)
}

fn thread_id() -> i32 {
    raw_syscall(libc::SYS_gettid, [0; 6]) as i32
}

fn handle(signal: i32, handler: usize) {
    // SAFETY: the action is whole, and the handler touches atomics only.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART;
        check_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: the set is whole.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        signals.iter().for_each(|&signal| {
            libc::sigaddset(&mut set, signal);
        });
        set
    }
}

fn mask(how: i32, signals: &[i32]) {
    // SAFETY: the set is whole.
    check_eq!(unsafe { libc::pthread_sigmask(how, &set_of(signals), ptr::null_mut()) }, 0);
}

fn kill(signal: i32) {
    // SAFETY: no pointers.
    check_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
}

fn queue(signal: i32, value: usize) -> i32 {
    // SAFETY: no pointers: the value is a number.
    unsafe {
        libc::sigqueue(libc::getpid(), signal, libc::sigval { sival_ptr: ptr::without_provenance_mut(value) })
    }
}

fn is_pending(signal: i32) -> bool {
    let mut set = set_of(&[]);
    // SAFETY: the set is whole.
    unsafe { libc::sigpending(&mut set) == 0 && libc::sigismember(&set, signal) == 1 }
}

/// Fetches a signal: its number and `siginfo_t`.
fn fetch(signals: &[i32], wait: Duration) -> Option<(i32, libc::siginfo_t)> {
    let time = libc::timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
    // SAFETY: all are whole.
    unsafe {
        let mut info = mem::zeroed();
        let signal = libc::sigtimedwait(&set_of(signals), &mut info, &time);
        check!(signal > 0 || errno() == libc::EAGAIN);
        (signal > 0).then_some((signal, info))
    }
}

fn value(info: &libc::siginfo_t) -> usize {
    // SAFETY: the signal was queued with a value.
    unsafe { info.si_value().sival_ptr.addr() }
}

fn taken_by_the_thread_that_unblocks() {
    let (go, wait) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        check_eq!(wait.recv(), Ok(()));
        check!(is_pending(libc::SIGUSR1) && is_pending(40));
        mask(libc::SIG_UNBLOCK, &[libc::SIGUSR1, 40]);
        (thread_id(), THREAD.load(Ordering::SeqCst), handled(libc::SIGUSR1), handled(40))
    });
    kill(libc::SIGUSR1);
    check_eq!(queue(40, 1), 0);
    check_eq!(queue(40, 2), 0);
    thread::sleep(Duration::from_millis(20));
    check!(is_pending(libc::SIGUSR1) && is_pending(40));
    go.send(()).unwrap();
    let (id, taker, standard, realtime) = thread.join().unwrap();
    check_eq!((taker, standard, realtime), (id, 1, 2));
    check!(!is_pending(libc::SIGUSR1) && !is_pending(40));
}

fn fetched_by_any_thread() {
    kill(libc::SIGUSR2);
    check_eq!(queue(41, 7), 0);
    let late =
        || fetch(&[libc::SIGUSR2, 41], Duration::from_secs(10)).map(|(signal, info)| (signal, value(&info)));
    let thread = thread::spawn(move || (late(), late()));
    let (first, second) = thread.join().unwrap();
    check_eq!(first.map(|(signal, _)| signal), Some(libc::SIGUSR2));
    check_eq!(second, Some((41, 7)));
    // To one that waits already.
    let thread = thread::spawn(late);
    thread::sleep(Duration::from_millis(20));
    check_eq!(queue(41, 8), 0);
    check_eq!(thread.join().unwrap(), Some((41, 8)));
    check!(fetch(&[libc::SIGUSR2, 41], Duration::ZERO).is_none());
}

fn read_by_any_thread() {
    // SAFETY: makes a descriptor, which is this file's alone.
    let mut file = unsafe { File::from_raw_fd(libc::signalfd(-1, &set_of(&REALTIME), libc::SFD_NONBLOCK)) };
    for (signal, value) in [(42, 1), (40, 2), (42, 3)] {
        check_eq!(queue(signal, value), 0);
    }
    let thread = thread::spawn(move || {
        let mut polled = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one whole entry.
        check_eq!(unsafe { libc::poll(&mut polled, 1, 10_000) }, 1);
        let mut records = [0; 4 * 128];
        check_eq!(file.read(&mut records).unwrap(), 3 * 128);
        let word = |at: usize| u32::from_ne_bytes(records[at..at + 4].try_into().unwrap());
        [0, 128, 256].map(|at| (word(at), word(at + 44)))
    });
    check_eq!(thread.join().unwrap(), [(40, 2), (42, 1), (42, 3)]);
}

fn one_threads_signal_is_its_own() {
    // SAFETY: sends to this thread.
    check_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
    let thread = thread::spawn(|| {
        // SAFETY: makes a descriptor, which is this file's alone.
        let mut file =
            unsafe { File::from_raw_fd(libc::signalfd(-1, &set_of(&SIGNALS), libc::SFD_NONBLOCK)) };
        check_eq!(file.read(&mut [0; 128]).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        is_pending(libc::SIGUSR1) || fetch(&[libc::SIGUSR1], Duration::from_millis(10)).is_some()
    });
    check!(!thread.join().unwrap());
    check!(is_pending(libc::SIGUSR1));
    // One for the thread and one for the app are two.
    kill(libc::SIGUSR1);
    for _ in 0..2 {
        check!(fetch(&[libc::SIGUSR1], Duration::ZERO).is_some());
    }
    check!(fetch(&[libc::SIGUSR1], Duration::ZERO).is_none());
}

fn lowest_first() {
    for (signal, value) in [(42, 1), (41, 2), (40, 3), (41, 4), (libc::SIGUSR2, 5), (libc::SIGUSR1, 6)] {
        check_eq!(queue(signal, value), 0);
    }
    let all = [40, 41, 42, libc::SIGUSR1, libc::SIGUSR2];
    let order: Vec<_> = std::iter::from_fn(|| fetch(&all, Duration::ZERO))
        .map(|(signal, info)| (signal, value(&info)))
        .collect();
    check_eq!(order, [(libc::SIGUSR1, 6), (libc::SIGUSR2, 5), (40, 3), (41, 2), (41, 4), (42, 1)]);
}

/// The lowest signal's frame is pushed first, so the highest signal's handler is the first to run.
fn handlers_nest() {
    ORDER.store(0, Ordering::SeqCst);
    for signal in [41, 40, 42, 40] {
        check_eq!(queue(signal, 0), 0);
    }
    mask(libc::SIG_UNBLOCK, &REALTIME);
    check_eq!(ORDER.load(Ordering::SeqCst), 2100);
    mask(libc::SIG_BLOCK, &REALTIME);
    for signal in REALTIME {
        handled(signal);
    }
}

fn standard_signals_merge() {
    for round in 0..5 {
        kill(libc::SIGUSR1);
        check_eq!(queue(libc::SIGUSR2, round), 0);
    }
    // The first one's value stays.
    check_eq!(fetch(&[libc::SIGUSR2], Duration::ZERO).map(|(_, info)| value(&info)), Some(0));
    mask(libc::SIG_UNBLOCK, &SIGNALS);
    mask(libc::SIG_BLOCK, &SIGNALS);
    check_eq!((handled(libc::SIGUSR1), handled(libc::SIGUSR2)), (1, 0));
}

fn queue_is_bounded() {
    // SAFETY: whole structures; the soft limit is put back at the end.
    let limit = unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        check_eq!(libc::getrlimit(libc::RLIMIT_SIGPENDING, &mut limit), 0);
        limit.rlim_cur as usize
    };
    check!((256..1 << 20).contains(&limit));
    let sent = (0..=limit).take_while(|&value| queue(42, value) == 0).count();
    check_eq!(errno(), libc::EAGAIN);
    check!(sent >= 256 && sent <= limit);
    // SAFETY: sends to this thread.
    check_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), 42) }, libc::EAGAIN);
    // Standard signals and what kill(2) sends are not refused.
    check_eq!(queue(libc::SIGUSR1, 1), 0);
    kill(41);
    check!(is_pending(libc::SIGUSR1) && is_pending(41));
    check_eq!(
        fetch(&[41], Duration::ZERO).map(|(signal, info)| (signal, info.si_code)),
        Some((41, libc::SI_USER))
    );
    check!(fetch(&[libc::SIGUSR1], Duration::ZERO).is_some());
    for wanted in 0..sent {
        check_eq!(fetch(&[42], Duration::ZERO).map(|(_, info)| value(&info)), Some(wanted));
    }
    check!(!is_pending(42));
    check_eq!(queue(42, 0), 0);
    check!(fetch(&[42], Duration::ZERO).is_some());
}

fn ignoring_drops_what_waits() {
    for handler in [libc::SIG_IGN, libc::SIG_DFL] {
        let signal = if handler == libc::SIG_IGN { 40 } else { libc::SIGURG };
        handle(signal, note as *const () as usize);
        mask(libc::SIG_BLOCK, &[signal]);
        kill(signal);
        // SAFETY: sends to this thread.
        check_eq!(unsafe { libc::raise(signal) }, 0);
        check!(is_pending(signal));
        handle(signal, handler);
        check!(!is_pending(signal));
    }
    // Kept, as it is blocked: it may be fetched.
    kill(40);
    check!(fetch(&[40], Duration::ZERO).is_some());
    handle(40, note as *const () as usize);
}

fn timer(signal: i32) -> i32 {
    let (mut id, mut event) = (0, [0u64; 8]);
    event[1] = signal as u64;
    let arguments = [libc::CLOCK_MONOTONIC as u64, event.as_ptr() as u64, &raw mut id as u64, 0, 0, 0];
    check_eq!(raw_syscall(libc::SYS_timer_create, arguments), 0);
    id
}

fn set(id: i32, first: Duration, interval: Duration) {
    let words = [interval, first].map(|time| [time.as_secs(), u64::from(time.subsec_nanos())]);
    check_eq!(raw_syscall(libc::SYS_timer_settime, [id as u64, 0, words.as_ptr() as u64, 0, 0, 0]), 0);
}

fn overrun(id: i32) -> i64 {
    raw_syscall(libc::SYS_timer_getoverrun, [id as u64, 0, 0, 0, 0, 0])
}

/// `si_timerid` and `si_overrun`.
fn timer_words(info: &libc::siginfo_t) -> [i32; 2] {
    check_eq!(info.si_code, libc::SI_TIMER);
    // SAFETY: both lie in the structure, behind three words and the padding.
    unsafe { ptr::from_ref(info).cast::<i32>().add(4).cast::<[i32; 2]>().read() }
}

fn overruns_are_counted() {
    let ids = [timer(41), timer(41)];
    let interval = Duration::from_millis(2);
    ids.iter().for_each(|&id| set(id, interval, interval));
    thread::sleep(Duration::from_millis(100));
    // One signal of each timer.
    for id in ids {
        let (_, info) = fetch(&[41], Duration::ZERO).unwrap();
        let [from, count] = timer_words(&info);
        check_eq!(from, id);
        check!(count >= 45);
        check_eq!(overrun(id), i64::from(count));
    }
    // One that is taken at once has no overrun: wait for it.
    let start = Instant::now();
    while timer_words(&fetch(&[41], Duration::from_secs(10)).unwrap().1)[1] != 0 {
        check!(start.elapsed() < Duration::from_secs(10));
    }
    // Its own signal waits besides another's of the same number.
    let standard = timer(libc::SIGUSR1);
    kill(libc::SIGUSR1);
    set(standard, Duration::from_millis(1), Duration::ZERO);
    thread::sleep(Duration::from_millis(10));
    let mut codes = [0; 2].map(|_| fetch(&[libc::SIGUSR1], Duration::ZERO).unwrap().1.si_code);
    codes.sort_unstable();
    check_eq!(codes, [libc::SI_TIMER, libc::SI_USER]);
    check_eq!(overrun(standard), 0);
    for id in ids.into_iter().chain([standard]) {
        check_eq!(raw_syscall(libc::SYS_timer_delete, [id as u64, 0, 0, 0, 0, 0]), 0);
    }
    while fetch(&[41], Duration::ZERO).is_some() {}
}

/// A timer of one nanosecond expires as often as its signal is taken.
fn short_interval_does_no_harm() {
    let id = timer(41);
    set(id, Duration::from_nanos(1), Duration::from_nanos(1));
    thread::sleep(Duration::from_millis(10));
    let (_, info) = fetch(&[41], Duration::from_secs(10)).unwrap();
    check!(timer_words(&info)[1] > 1_000_000);
    handle(41, libc::SIG_IGN);
    mask(libc::SIG_UNBLOCK, &[41]);
    thread::sleep(Duration::from_millis(10));
    mask(libc::SIG_BLOCK, &[41]);
    handle(41, note as *const () as usize);
    // It goes on, though its signals were ignored.
    check!(fetch(&[41], Duration::from_secs(10)).is_some());
    check_eq!(raw_syscall(libc::SYS_timer_delete, [id as u64, 0, 0, 0, 0, 0]), 0);
    while fetch(&[41], Duration::ZERO).is_some() {}
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Two threads sleep and handle, two send one signal each whenever the last one was handled.
fn none_is_lost() {
    let sleepers = [(); 2].map(|()| {
        thread::spawn(|| {
            mask(libc::SIG_UNBLOCK, &SIGNALS);
            while !STOP.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_micros(700));
            }
        })
    });
    let senders = SIGNALS.map(|signal| {
        thread::spawn(move || {
            let (start, mut rounds) = (Instant::now(), 0);
            while start.elapsed() < Duration::from_millis(700) {
                kill(signal);
                rounds += 1;
                let sent = Instant::now();
                while handled(signal) == 0 {
                    check!(sent.elapsed() < Duration::from_secs(5));
                    thread::yield_now();
                }
            }
            rounds
        })
    });
    check!(senders.map(|sender| sender.join().unwrap()).iter().all(|&rounds| rounds > 10));
    STOP.store(true, Ordering::SeqCst);
    sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
}
