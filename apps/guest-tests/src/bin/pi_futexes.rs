//! Futexes with an owner (futex(2), "Priority-inheritance futexes"): who gets a lock, what the word says, what is
//! refused, and what becomes of the locks of a thread that has ended.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use guest_tests::{check_eq, raw_syscall};

const PRIVATE: i32 = libc::FUTEX_PRIVATE_FLAG;
const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const OWNER: u32 = 0x3fff_ffff;
const LOCK_PI2: i32 = 13;
/// A thread that there never is.
const NOBODY: u32 = 0x3fff_fff0;

fn futex(
    word: &AtomicU32,
    operation: i32,
    value: u32,
    fourth: u64,
    word2: Option<&AtomicU32>,
    value3: u32,
) -> i64 {
    let second = word2.map_or(0, |word| word.as_ptr().addr() as u64);
    let operation = (operation ^ PRIVATE) as u32;
    let first = word.as_ptr().addr() as u64;
    raw_syscall(libc::SYS_futex, [first, operation.into(), value.into(), fourth, second, value3.into()])
}

fn simple(word: &AtomicU32, operation: i32) -> i64 {
    futex(word, operation, 0, 0, None, 0)
}

fn lock(word: &AtomicU32) -> i64 {
    simple(word, libc::FUTEX_LOCK_PI)
}

fn unlock(word: &AtomicU32) -> i64 {
    simple(word, libc::FUTEX_UNLOCK_PI)
}

fn refused(error: i32) -> i64 {
    -i64::from(error)
}

fn own_id() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() as u32 }
}

fn pause_ms(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

/// Waits until somebody waits for a lock.
fn until_waited_for(word: &AtomicU32) {
    while word.load(Ordering::SeqCst) & WAITERS == 0 {
        pause_ms(1);
    }
}

/// A time-out on a clock, so many milliseconds from now.
fn deadline(clock: libc::clockid_t, milliseconds: i64) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a structure of our own.
    check_eq!(unsafe { libc::clock_gettime(clock, &raw mut time) }, 0);
    let total = time.tv_nsec + milliseconds * 1_000_000;
    libc::timespec {
        tv_sec: time.tv_sec + total.div_euclid(1_000_000_000),
        tv_nsec: total.rem_euclid(1_000_000_000),
    }
}

fn address_of(time: &libc::timespec) -> u64 {
    (&raw const *time).addr() as u64
}

fn main() {
    alone();
    times_out();
    many_threads_count();
    served_in_order();
    plain_calls_are_refused();
    signal_does_not_end_the_wait();
    owner_that_ends();
    condition();
    condition_refusals();
    mutexes_of_the_library();
}

fn alone() {
    let word = AtomicU32::new(0);
    check_eq!(lock(&word), 0);
    check_eq!(word.load(Ordering::SeqCst), own_id());
    check_eq!(lock(&word), refused(libc::EDEADLK));
    check_eq!(simple(&word, libc::FUTEX_TRYLOCK_PI), refused(libc::EDEADLK));
    check_eq!(unlock(&word), 0);
    check_eq!(word.load(Ordering::SeqCst), 0);
    check_eq!(unlock(&word), refused(libc::EPERM));
    check_eq!(simple(&word, libc::FUTEX_TRYLOCK_PI), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            check_eq!(simple(&word, libc::FUTEX_TRYLOCK_PI), refused(libc::EAGAIN));
            check_eq!(unlock(&word), refused(libc::EPERM));
        });
    });
    check_eq!(unlock(&word), 0);
    word.store(NOBODY, Ordering::SeqCst);
    check_eq!(lock(&word), refused(libc::ESRCH));
    word.store(OWNER_DIED, Ordering::SeqCst);
    check_eq!(lock(&word), 0);
    check_eq!(word.load(Ordering::SeqCst), OWNER_DIED | own_id());
    check_eq!(unlock(&word), 0);
    check_eq!(
        futex(&word, libc::FUTEX_LOCK_PI | libc::FUTEX_CLOCK_REALTIME, 0, 0, None, 0),
        refused(libc::ENOSYS)
    );
    for operation in [libc::FUTEX_LOCK_PI, libc::FUTEX_TRYLOCK_PI, LOCK_PI2] {
        let call = |address| raw_syscall(libc::SYS_futex, [address, operation as u64, 0, 0, 0, 0]);
        check_eq!(call(8), refused(libc::EFAULT));
        check_eq!(call(word.as_ptr().addr() as u64 + 1), refused(libc::EINVAL));
    }
    let nonsense = libc::timespec { tv_sec: 0, tv_nsec: -1 };
    check_eq!(futex(&word, libc::FUTEX_LOCK_PI, 0, address_of(&nonsense), None, 0), refused(libc::EINVAL));
}

fn times_out() {
    let word = AtomicU32::new(0);
    check_eq!(lock(&word), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let wall = deadline(libc::CLOCK_REALTIME, 20);
            check_eq!(
                futex(&word, libc::FUTEX_LOCK_PI, 0, address_of(&wall), None, 0),
                refused(libc::ETIMEDOUT)
            );
            let past = deadline(libc::CLOCK_REALTIME, -1000);
            check_eq!(
                futex(&word, libc::FUTEX_LOCK_PI, 0, address_of(&past), None, 0),
                refused(libc::ETIMEDOUT)
            );
            let monotonic = deadline(libc::CLOCK_MONOTONIC, 20);
            check_eq!(futex(&word, LOCK_PI2, 0, address_of(&monotonic), None, 0), refused(libc::ETIMEDOUT));
        });
    });
    // Nobody waits any more.
    check_eq!(unlock(&word), 0);
    check_eq!(word.load(Ordering::SeqCst), 0);
}

/// A lock as libraries have it: the kernel is asked only when there is somebody else.
fn locked(word: &AtomicU32, work: impl FnOnce()) {
    let id = own_id();
    if word.compare_exchange(0, id, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        check_eq!(lock(word), 0);
        check_eq!(word.load(Ordering::SeqCst) & OWNER, id);
    }
    work();
    if word.compare_exchange(id, 0, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        check_eq!(unlock(word), 0);
    }
}

fn many_threads_count() {
    let (word, count) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..300 {
                    locked(&word, || {
                        let before = count.load(Ordering::Relaxed);
                        if round % 16 == 0 {
                            thread::yield_now();
                        }
                        count.store(before + 1, Ordering::Relaxed);
                    });
                }
            });
        }
    });
    check_eq!((count.load(Ordering::SeqCst), word.load(Ordering::SeqCst)), (2400, 0));
}

fn served_in_order() {
    let (word, turn) = (AtomicU32::new(0), AtomicU32::new(0));
    check_eq!(lock(&word), 0);
    thread::scope(|scope| {
        for place in 0..4 {
            let (word, turn) = (&word, &turn);
            scope.spawn(move || {
                check_eq!(lock(word), 0);
                check_eq!(turn.fetch_add(1, Ordering::SeqCst), place);
                check_eq!(unlock(word), 0);
            });
            // Long enough for it to be waiting.
            pause_ms(60);
        }
        check_eq!(unlock(&word), 0);
    });
    check_eq!(word.load(Ordering::SeqCst), 0);
}

fn plain_calls_are_refused() {
    let (word, other) = (AtomicU32::new(0), AtomicU32::new(0));
    check_eq!(lock(&word), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            check_eq!(lock(&word), 0);
            check_eq!(unlock(&word), 0);
        });
        until_waited_for(&word);
        pause_ms(30);
        check_eq!(futex(&word, libc::FUTEX_WAKE, 1, 0, None, 0), refused(libc::EINVAL));
        check_eq!(futex(&word, libc::FUTEX_REQUEUE, 1, 1, Some(&other), 0), refused(libc::EINVAL));
        check_eq!(unlock(&word), 0);
    });
}

static SIGNALS: AtomicI32 = AtomicI32::new(0);

extern "C" fn count_signal(_signal: i32) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

/// A handler without SA_RESTART runs, and the wait goes on.
fn signal_does_not_end_the_wait() {
    // SAFETY: an all-zero structure is a valid start; the handler has the right signature.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as *const () as usize;
        check_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    let (word, waiter) = (AtomicU32::new(0), AtomicI32::new(0));
    check_eq!(lock(&word), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            waiter.store(own_id() as i32, Ordering::SeqCst);
            check_eq!(lock(&word), 0);
            check_eq!(SIGNALS.load(Ordering::SeqCst), 1);
            check_eq!(unlock(&word), 0);
        });
        until_waited_for(&word);
        pause_ms(30);
        let id = waiter.load(Ordering::SeqCst);
        check_eq!(
            raw_syscall(
                libc::SYS_tgkill,
                [u64::from(std::process::id()), id as u64, libc::SIGUSR1 as u64, 0, 0, 0]
            ),
            0
        );
        while SIGNALS.load(Ordering::SeqCst) == 0 {
            pause_ms(1);
        }
        pause_ms(30);
        check_eq!(unlock(&word), 0);
    });
}

/// Without a list of robust futexes, too: those who wait when the owner ends get the lock, and are told.
fn owner_that_ends() {
    let word = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            check_eq!(lock(&word), 0);
            until_waited_for(&word);
            pause_ms(50);
        });
        while word.load(Ordering::SeqCst) == 0 {
            pause_ms(1);
        }
        check_eq!(lock(&word), 0);
    });
    check_eq!(word.load(Ordering::SeqCst) & !WAITERS, OWNER_DIED | own_id());
    check_eq!(unlock(&word), 0);
    check_eq!(word.load(Ordering::SeqCst), 0);
}

fn wait_requeue(condition: &AtomicU32, value: u32, time: Option<&libc::timespec>, word: &AtomicU32) -> i64 {
    futex(condition, libc::FUTEX_WAIT_REQUEUE_PI, value, time.map_or(0, address_of), Some(word), 0)
}

fn requeue(condition: &AtomicU32, wake: u32, count: u32, word: &AtomicU32, expected: u32) -> i64 {
    futex(condition, libc::FUTEX_CMP_REQUEUE_PI, wake, count.into(), Some(word), expected)
}

/// All that wait for a condition get the lock one after the other.
fn condition() {
    for is_locked in [false, true] {
        let (condition, word) = (AtomicU32::new(7), AtomicU32::new(0));
        let (inside, done) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    check_eq!(wait_requeue(&condition, 7, None, &word), 0);
                    check_eq!(word.load(Ordering::SeqCst) & OWNER, own_id());
                    check_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    pause_ms(2);
                    inside.store(0, Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                    check_eq!(unlock(&word), 0);
                });
            }
            pause_ms(100);
            if is_locked {
                check_eq!(lock(&word), 0);
            }
            check_eq!(requeue(&condition, 1, i32::MAX as u32, &word, 6), refused(libc::EAGAIN));
            check_eq!(requeue(&condition, 1, 1, &word, 7), 2);
            check_eq!(requeue(&condition, 1, i32::MAX as u32, &word, 7), 2);
            check_eq!(requeue(&condition, 1, i32::MAX as u32, &word, 7), 0);
            if is_locked {
                pause_ms(30);
                check_eq!(done.load(Ordering::SeqCst), 0);
                check_eq!(unlock(&word), 0);
            }
        });
        check_eq!((done.load(Ordering::SeqCst), word.load(Ordering::SeqCst)), (4, 0));
    }
}

fn condition_refusals() {
    let (condition, word, other) = (AtomicU32::new(7), AtomicU32::new(0), AtomicU32::new(0));
    check_eq!(wait_requeue(&condition, 6, None, &word), refused(libc::EAGAIN));
    check_eq!(wait_requeue(&condition, 7, None, &condition), refused(libc::EINVAL));
    let soon = deadline(libc::CLOCK_MONOTONIC, 20);
    check_eq!(wait_requeue(&condition, 7, Some(&soon), &word), refused(libc::ETIMEDOUT));
    check_eq!(requeue(&condition, 2, 1, &word, 7), refused(libc::EINVAL));
    check_eq!(requeue(&condition, 1, 1, &condition, 7), refused(libc::EINVAL));
    check_eq!(requeue(&condition, 1, u32::MAX, &word, 7), refused(libc::EINVAL));
    thread::scope(|scope| {
        scope.spawn(|| {
            let later = deadline(libc::CLOCK_MONOTONIC, 300);
            check_eq!(wait_requeue(&condition, 7, Some(&later), &word), refused(libc::ETIMEDOUT));
        });
        pause_ms(60);
        check_eq!(requeue(&condition, 1, 1, &other, 7), refused(libc::EINVAL));
        check_eq!(futex(&condition, libc::FUTEX_WAKE, 1, 0, None, 0), refused(libc::EINVAL));
        // Its time is over while it waits for the lock.
        check_eq!(lock(&word), 0);
        check_eq!(requeue(&condition, 1, 0, &word, 7), 1);
    });
    check_eq!(unlock(&word), 0);
    check_eq!(word.load(Ordering::SeqCst), 0);
}

/// A mutex of the C library with PTHREAD_PRIO_INHERIT, robust: the next owner hears of the death.
fn mutexes_of_the_library() {
    struct Shared(std::cell::UnsafeCell<libc::pthread_mutex_t>);
    // SAFETY: a mutex is for several threads.
    unsafe impl Sync for Shared {}
    // SAFETY: all-zero memory is a place for both structures; they are initialised before use.
    let shared = Shared(unsafe { std::mem::zeroed() });
    let mutex = shared.0.get();
    // SAFETY: the mutex lives to the end of the function, as do the threads.
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        check_eq!(libc::pthread_mutexattr_init(&raw mut attributes), 0);
        check_eq!(libc::pthread_mutexattr_setprotocol(&raw mut attributes, libc::PTHREAD_PRIO_INHERIT), 0);
        check_eq!(libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST), 0);
        check_eq!(libc::pthread_mutex_init(mutex, &raw const attributes), 0);
    }
    for is_waited_for in [false, true] {
        let begun = AtomicU32::new(0);
        thread::scope(|scope| {
            let (shared, begun) = (&shared, &begun);
            scope.spawn(move || {
                // SAFETY: as above.
                check_eq!(unsafe { libc::pthread_mutex_lock(shared.0.get()) }, 0);
                begun.store(1, Ordering::SeqCst);
                pause_ms(if is_waited_for { 100 } else { 0 });
            });
            while begun.load(Ordering::SeqCst) == 0 {
                pause_ms(1);
            }
            pause_ms(if is_waited_for { 0 } else { 100 });
            // SAFETY: as above.
            unsafe {
                check_eq!(libc::pthread_mutex_lock(shared.0.get()), libc::EOWNERDEAD);
                check_eq!(libc::pthread_mutex_consistent(shared.0.get()), 0);
                check_eq!(libc::pthread_mutex_unlock(shared.0.get()), 0);
                check_eq!(libc::pthread_mutex_trylock(shared.0.get()), 0);
                check_eq!(libc::pthread_mutex_unlock(shared.0.get()), 0);
            }
        });
    }
}
