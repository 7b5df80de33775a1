//! Prints a random number and the wall clock for ever, and listens, for `qemu/src/saved_state_tests.rs`, which goes on with it twice
//! from one saved state.

use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() {
    let _listener = TcpListener::bind("0.0.0.0:8080").expect("the port is free");
    loop {
        let mut bytes = [0_u8; 8];
        // SAFETY: the buffer has that many bytes.
        let len = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        assert_eq!(len, 8, "getrandom");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        println!("random {:016x} at {}", u64::from_le_bytes(bytes), since.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}
