//! Prints the wall clock, in milliseconds, ten times a second, for as many seconds as the argument says.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() {
    let seconds = std::env::args().nth(1).expect("seconds").parse().expect("a number");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        println!("at {} ms", SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis());
        thread::sleep(Duration::from_millis(100));
    }
}
