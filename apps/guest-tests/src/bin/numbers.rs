//! Vector registers belong to their thread, however often the core changes hands.

use std::arch::asm;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use guest_tests::{check, check_eq};

static STOP: AtomicBool = AtomicBool::new(false);

/// Keeps a value in the lanes of a register for a while, with nothing that saves it.
fn hold(value: u64) {
    while !STOP.load(Ordering::Relaxed) {
        let (low, high): (u64, u64);
        // SAFETY: touches declared registers only.
        unsafe {
            asm!(
                "movq xmm5, {value}",
                "punpcklqdq xmm5, xmm5",
                "mov {count}, 200000",
                "2: dec {count}",
                "jnz 2b",
                "movq {low}, xmm5",
                "psrldq xmm5, 8",
                "movq {high}, xmm5",
                value = in(reg) value,
                count = out(reg) _,
                low = out(reg) low,
                high = out(reg) high,
                out("xmm5") _,
            );
        }
        check_eq!((low, high), (value, value));
    }
}

/// Rounding is part of the state too.
fn sum_of_thirds() -> f64 {
    (1..1000).map(|n| f64::from(n) / 3.0).sum()
}

fn main() {
    let expected = sum_of_thirds();
    let holders: Vec<_> = (1..4).map(|n| thread::spawn(move || hold(n * 0x0101_0101_0101_0101))).collect();
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(400) {
        check_eq!(sum_of_thirds(), expected);
        thread::yield_now();
    }
    STOP.store(true, Ordering::Relaxed);
    holders.into_iter().for_each(|holder| holder.join().unwrap());
    check!(expected > 0.0);
}
