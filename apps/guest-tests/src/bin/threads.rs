//! `std`'s threads and what keeps them apart.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use guest_tests::{check, check_eq, raw_syscall};

fn main() {
    join_returns_values();
    many_threads_one_after_another();
    mutex_counts_right();
    condvar_hands_over();
    channels_keep_order();
    thread_locals_are_apart();
    busy_loop_is_preempted();
    park_and_unpark();
    scoped_threads_and_barrier();
    rwlock_lets_readers_in();
    storage_out_of_the_address_space_is_refused();
}

/// A base that the processor would not take must be refused while there is somebody to tell.
fn storage_out_of_the_address_space_is_refused() {
    const FLAGS: i32 = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS;
    let mut stack = vec![0_u64; 1024];
    let top = stack.as_mut_ptr_range().end as u64;
    for base in [1 << 47, 0x8000_0000_0000_0000, u64::MAX, 0xffff_8000_0000_0000] {
        let outcome = raw_syscall(libc::SYS_clone, [FLAGS as u64, top, 0, 0, base, 0]);
        check_eq!(outcome, -i64::from(libc::EPERM));
        // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
        let args = [FLAGS as u64, 0, 0, 0, 0, stack.as_mut_ptr() as u64, 8192, base];
        let outcome = raw_syscall(libc::SYS_clone3, [args.as_ptr() as u64, 64, 0, 0, 0, 0]);
        check_eq!(outcome, -i64::from(libc::EPERM));
    }
}

fn join_returns_values() {
    let threads: Vec<_> = (0..50u64).map(|n| thread::spawn(move || n * n)).collect();
    let sum: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    check_eq!(sum, (0..50).map(|n| n * n).sum());
}

fn many_threads_one_after_another() {
    for n in 0..500 {
        check_eq!(thread::spawn(move || n).join().unwrap(), n);
    }
}

fn mutex_counts_right() {
    let counter = Arc::new(Mutex::new(0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let counter = Arc::clone(&counter);
            thread::spawn(move || {
                for round in 0..2000 {
                    *counter.lock().unwrap() += 1;
                    if round % 100 == 0 {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    check_eq!(*counter.lock().unwrap(), 16_000);
}

fn condvar_hands_over() {
    let pair = Arc::new((Mutex::new(0u32), Condvar::new()));
    let other = Arc::clone(&pair);
    let pong = thread::spawn(move || {
        for round in 0..500 {
            let guard = other.0.lock().unwrap();
            let mut guard = other.1.wait_while(guard, |turn| *turn != 2 * round + 1).unwrap();
            *guard += 1;
            other.1.notify_all();
        }
    });
    for round in 0..500 {
        let guard = pair.0.lock().unwrap();
        let mut guard = pair.1.wait_while(guard, |turn| *turn != 2 * round).unwrap();
        *guard += 1;
        pair.1.notify_all();
    }
    pong.join().unwrap();
    check_eq!(*pair.0.lock().unwrap(), 1000);
    let guard = pair.0.lock().unwrap();
    let started = Instant::now();
    let (_guard, outcome) = pair.1.wait_timeout(guard, Duration::from_millis(30)).unwrap();
    check!(outcome.timed_out() && started.elapsed() >= Duration::from_millis(30));
}

fn channels_keep_order() {
    let (sender, receiver) = mpsc::sync_channel(4);
    let producer = thread::spawn(move || (0..3000).for_each(|n| sender.send(n).unwrap()));
    check!(receiver.iter().eq(0..3000));
    producer.join().unwrap();
}

fn thread_locals_are_apart() {
    thread_local!(static VALUE: Cell<u32> = const { Cell::new(7) });
    VALUE.set(1);
    let seen = thread::spawn(|| {
        VALUE.set(VALUE.get() + 1);
        VALUE.get()
    });
    check_eq!(seen.join().unwrap(), 8);
    check_eq!(VALUE.get(), 1);
}

/// One core, a thread that never gives way, and another that must run all the same.
fn busy_loop_is_preempted() {
    static STOP: AtomicBool = AtomicBool::new(false);
    static SPINS: AtomicU64 = AtomicU64::new(0);
    let spinner = thread::spawn(|| {
        while !STOP.load(Ordering::Relaxed) {
            SPINS.fetch_add(1, Ordering::Relaxed);
        }
    });
    let started = Instant::now();
    thread::sleep(Duration::from_millis(50));
    STOP.store(true, Ordering::Relaxed);
    spinner.join().unwrap();
    check!(SPINS.load(Ordering::Relaxed) > 0);
    check!(started.elapsed() < Duration::from_secs(5));
}

fn park_and_unpark() {
    let parked = thread::spawn(|| {
        thread::park();
        thread::park_timeout(Duration::from_millis(20));
    });
    thread::sleep(Duration::from_millis(5));
    parked.thread().unpark();
    parked.join().unwrap();
}

fn scoped_threads_and_barrier() {
    let (barrier, sum) = (Barrier::new(6), AtomicU64::new(0));
    thread::scope(|scope| {
        for n in 0..6 {
            let (barrier, sum) = (&barrier, &sum);
            scope.spawn(move || {
                sum.fetch_add(n, Ordering::SeqCst);
                barrier.wait();
                check_eq!(sum.load(Ordering::SeqCst), 15);
            });
        }
    });
}

fn rwlock_lets_readers_in() {
    let lock = RwLock::new(1);
    thread::scope(|scope| {
        let first = lock.read().unwrap();
        scope.spawn(|| check_eq!(*lock.read().unwrap(), 1)).join().unwrap();
        drop(first);
        scope.spawn(|| *lock.write().unwrap() = 2);
    });
    check_eq!(*lock.read().unwrap(), 2);
}
