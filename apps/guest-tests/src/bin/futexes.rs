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

fn main() {
    let tests: &[(&str, fn())] =
        &[("counts", counts), ("moves that compare", compared), ("wakes, moves and time-outs", storm)];
    for (name, test) in tests {
        println!("{name}");
        test();
    }
}
