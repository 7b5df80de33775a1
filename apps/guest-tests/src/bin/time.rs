//! Clocks go on and sleeping takes its time.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use guest_tests::{check, check_eq};

fn main() {
    let mut last = Instant::now();
    for _ in 0..20_000 {
        let now = Instant::now();
        check!(now >= last);
        last = now;
    }
    /// The year 2024, before which this was not written.
    const EPOCH_2024: Duration = Duration::from_secs(1_704_067_200);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    check!(wall > EPOCH_2024 && wall < EPOCH_2024 * 3);
    for milliseconds in [1, 10, 100] {
        let wanted = Duration::from_millis(milliseconds);
        let (started, wall) = (Instant::now(), SystemTime::now());
        thread::sleep(wanted);
        check!(started.elapsed() >= wanted);
        check!(started.elapsed() < wanted + Duration::from_secs(1));
        check!(wall.elapsed().unwrap() >= wanted - Duration::from_millis(1));
    }
    processor_time_counts_work_only();
}

fn processor_time_counts_work_only() {
    let read = |clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes one `timespec`.
        check_eq!(unsafe { libc::clock_gettime(clock, &mut time) }, 0);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let before = read(libc::CLOCK_PROCESS_CPUTIME_ID);
    thread::sleep(Duration::from_millis(60));
    let slept = read(libc::CLOCK_PROCESS_CPUTIME_ID) - before;
    check!(slept < Duration::from_millis(50));
    // Work counts, however long a busy host takes to let it be done.
    let started = Instant::now();
    let has_worked = || read(libc::CLOCK_THREAD_CPUTIME_ID) > Duration::from_millis(10);
    while !has_worked() && started.elapsed() < Duration::from_secs(10) {}
    check!(has_worked());
}
