//! Prints the wall clock in seconds since 1970, for `qemu/src/boot_tests.rs`, which sets the machine's.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    println!("wall clock {}", since.as_secs());
}
