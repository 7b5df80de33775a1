//! A program that ends while what it wrote is on its way to a slow disk: all of it is there after the next boot.

use std::fs;
use std::thread;
use std::time::Duration;

use guest_tests::data_folder;
use guest_tests::random::Random;

/// More than may be dirty for long in a small machine.
const BYTES: usize = 6 << 20;

fn main() {
    let path = data_folder().join("late");
    let content = Random::new(1).bytes(BYTES);
    if std::env::var("BOOT").is_ok_and(|boot| boot != "1") {
        let read = fs::read(&path).expect("the first boot wrote it");
        assert!(read == content, "{} of {BYTES} bytes, or others", read.len());
        return;
    }
    fs::write(&path, content).expect("there is room");
    // By now the kernel has begun to write back on its own, and is far from done.
    thread::sleep(Duration::from_millis(1500));
}
