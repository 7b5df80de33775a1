//! Prints a random number and the wall clock for ever, for `qemu/src/boot_tests.rs`, which goes on with it twice from one
//! saved state.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() {
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
