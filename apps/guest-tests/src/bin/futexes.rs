//! futex(2) under load: wakes, moves and time-outs against each other. As many threads find that they were woken as wakers
//! answer, and no thread is left in a queue that waits no more.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use guest_tests::errno;

const ALL: i32 = i32::MAX;

fn futex(word: &AtomicU32, operation: i32, value: i32, fourth: usize, second: *mut u32, third: u32) -> i64 {
    let operation = operation | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the words are alive, and so is a time-out that `fourth` points to.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, fourth, second, third) }
}

/// True if the thread was woken, false if its time was over.
fn wait(word: &AtomicU32, time: Duration) -> bool {
    let time = libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    match futex(word, libc::FUTEX_WAIT, 0, (&raw const time).addr(), std::ptr::null_mut(), 0) {
        0 => true,
        _ if errno() == libc::ETIMEDOUT => false,
        result => panic!("{result}, {}", std::io::Error::last_os_error()),
    }
}

fn wake(word: &AtomicU32, count: i32) -> usize {
    futex(word, libc::FUTEX_WAKE, count, 0, std::ptr::null_mut(), 0) as usize
}

fn requeue(from: &AtomicU32, to: &AtomicU32, wakes: i32, moves: i32) -> usize {
    futex(from, libc::FUTEX_REQUEUE, wakes, moves as usize, to.as_ptr(), 0) as usize
}

fn nap(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

/// Waiters with short time-outs, which come and go while others wake and move them.
fn storm() {
    static WORDS: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    static WOKEN: AtomicUsize = AtomicUsize::new(0);
    let waiters: Vec<_> = (1..5_u64)
        .map(|seed| {
            thread::spawn(move || {
                let mut random = seed;
                while !IS_OVER.load(Ordering::Relaxed) {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let time = Duration::from_nanos(1_000 + (random >> 40) % 60_000);
                    WOKEN.fetch_add(usize::from(wait(&WORDS[0], time)), Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mover = thread::spawn(|| {
        while !IS_OVER.load(Ordering::Relaxed) {
            requeue(&WORDS[0], &WORDS[1], 0, 64);
            requeue(&WORDS[1], &WORDS[2], 0, 1);
            requeue(&WORDS[2], &WORDS[0], 0, 64);
        }
    });
    let (end, mut counted) = (Instant::now() + Duration::from_millis(1500), 0);
    while Instant::now() < end {
        counted += WORDS.iter().map(|word| wake(word, 1)).sum::<usize>();
        thread::yield_now();
    }
    IS_OVER.store(true, Ordering::Relaxed);
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    mover.join().unwrap();
    let left: usize = WORDS.iter().map(|word| wake(word, ALL)).sum();
    assert_eq!((left, WOKEN.load(Ordering::Relaxed)), (0, counted), "entries left, threads woken");
    assert!(counted > 0);
    // The one that waits next is the one that is woken.
    let late = thread::spawn(|| wait(&WORDS[1], Duration::from_secs(5)));
    nap(100);
    assert_eq!(wake(&WORDS[1], 1), 1);
    assert!(late.join().unwrap());
}

/// How many are woken, moved and left, for words in all positions to each other.
fn counts() {
    static WORDS: [AtomicU32; 200] = [const { AtomicU32::new(0) }; 200];
    for (from, to) in [(0, 1), (1, 0), (0, 64), (0, 128), (3, 3)] {
        let waiters: Vec<_> =
            (0..5).map(|_| thread::spawn(move || wait(&WORDS[from], Duration::from_secs(10)))).collect();
        nap(200);
        // What was woken and what was moved, together.
        assert_eq!(requeue(&WORDS[from], &WORDS[to], 1, 3), 4, "{from} to {to}");
        if from == to {
            assert_eq!(requeue(&WORDS[from], &WORDS[to], 0, ALL), 4);
            assert_eq!(wake(&WORDS[to], ALL), 4);
        } else {
            assert_eq!(wake(&WORDS[to], ALL), 3, "{from} to {to}");
            assert_eq!(wake(&WORDS[from], ALL), 1, "{from} to {to}");
        }
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
    }
}

/// Nothing is moved if the word has changed.
fn compared() {
    static WORDS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
    let waiter = thread::spawn(|| wait(&WORDS[0], Duration::from_secs(10)));
    nap(100);
    let compare = |expected| futex(&WORDS[0], libc::FUTEX_CMP_REQUEUE, 0, 1, WORDS[1].as_ptr(), expected);
    assert_eq!((compare(1), errno()), (-1, libc::EAGAIN));
    assert_eq!(wake(&WORDS[1], 1), 0);
    assert_eq!(compare(0), 1);
    assert_eq!(wake(&WORDS[1], 1), 1);
    assert!(waiter.join().unwrap());
    let bad = std::ptr::without_provenance_mut(0xffff_8000_0000_0000);
    assert_eq!((futex(&WORDS[0], libc::FUTEX_REQUEUE, 0, 1, bad, 0), errno()), (-1, libc::EFAULT));
}

/// One word of futex_waitv(2).
#[repr(C)]
struct Word {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// Words of 32 bits, of one process.
const USUAL: u32 = 2 | 128;

fn words<const N: usize>(all: &[AtomicU32; N], values: [u64; N]) -> [Word; N] {
    std::array::from_fn(|index| {
        let (value, address) = (values[index], all[index].as_ptr().addr() as u64);
        Word { value, address, flags: USUAL, reserved: 0 }
    })
}

fn wait_for(list: &[Word], flags: u32, until: Option<&libc::timespec>, clock: i32) -> Result<i64, i32> {
    let until = until.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the list and the time are alive.
    let result =
        unsafe { libc::syscall(libc::SYS_futex_waitv, list.as_ptr(), list.len(), flags, until, clock) };
    if result < 0 { Err(errno()) } else { Ok(result) }
}

fn soon(clock: i32, millis: i64) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is alive.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    let nanos = now.tv_nsec + millis * 1_000_000;
    libc::timespec { tv_sec: now.tv_sec + nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 }
}

/// futex_waitv(2): what it refuses, its time-outs, and which of the words woke it; then many rounds of waking while it goes to sleep.
fn several() {
    static WORDS: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];
    let good = || words(&WORDS, [0; 3]);
    assert_eq!(wait_for(&[], 0, None, 1), Err(libc::EINVAL));
    assert_eq!(wait_for(&good(), 1, None, 1), Err(libc::EINVAL));
    let many: Vec<Word> = (0..129).map(|_| words(&WORDS, [0; 3])).flat_map(|[first, ..]| [first]).collect();
    assert_eq!(wait_for(&many, 0, None, 1), Err(libc::EINVAL));
    for change in [
        |word: &mut Word| word.flags = 128,
        |word: &mut Word| word.flags = USUAL | 64,
        |word: &mut Word| word.reserved = 1,
        |word: &mut Word| word.address += 1,
    ] {
        let mut list = good();
        change(&mut list[2]);
        assert_eq!(wait_for(&list, 0, None, 1), Err(libc::EINVAL));
    }
    assert_eq!(wait_for(&words(&WORDS, [0, 0, 1]), 0, None, 1), Err(libc::EAGAIN));
    let past = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(wait_for(&good(), 0, Some(&past), libc::CLOCK_BOOTTIME), Err(libc::EINVAL));
    let wrong = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    assert_eq!(wait_for(&good(), 0, Some(&wrong), 1), Err(libc::EINVAL));
    for clock in [libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME] {
        assert_eq!(wait_for(&good(), 0, Some(&past), clock), Err(libc::ETIMEDOUT));
        let started = Instant::now();
        assert_eq!(wait_for(&good(), 0, Some(&soon(clock, 20)), clock), Err(libc::ETIMEDOUT));
        assert!(started.elapsed() >= Duration::from_millis(19));
    }
    for round in 0..2000_u32 {
        let index = (round % 3) as usize;
        let waker = thread::spawn(move || {
            // At first as fast as it can, so that both meet.
            if round > 1980 {
                nap(2);
            }
            WORDS[index].store(1, Ordering::SeqCst);
            wake(&WORDS[index], ALL)
        });
        match wait_for(&good(), 0, Some(&soon(libc::CLOCK_MONOTONIC, 10_000)), libc::CLOCK_MONOTONIC) {
            Ok(woken) => assert_eq!((woken, waker.join().unwrap()), (index as i64, 1)),
            // The word had changed before.
            Err(libc::EAGAIN) => assert_eq!(waker.join().unwrap(), 0),
            Err(error) => panic!("{error}"),
        }
        WORDS[index].store(0, Ordering::SeqCst);
    }
    // Nobody is left in a queue.
    assert!(WORDS.iter().all(|word| wake(word, ALL) == 0));
}

fn main() {
    let tests: &[(&str, fn())] = &[
        ("counts", counts),
        ("moves that compare", compared),
        ("several words at once", several),
        ("wakes, moves and time-outs", storm),
    ];
    for (name, test) in tests {
        println!("{name}");
        test();
    }
}
