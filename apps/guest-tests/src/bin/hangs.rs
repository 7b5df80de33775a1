//! An app that hangs, each way by its name, for `observe_tests` in the runner.

use std::hint::black_box;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

fn main() {
    let how = std::env::args().nth(1).unwrap_or_default();
    println!("ready");
    match how.as_str() {
        "spin" => spins_for_ever(),
        "deadlock" => deadlock(),
        other => panic!("no way to hang: `{other}`"),
    }
}

/// Never comes to the kernel.
#[inline(never)]
fn spins_for_ever() {
    let mut count = 0_u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

/// Two threads, each with the mutex that the other wants.
fn deadlock() {
    let (first, second) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
    let both = Arc::new(Barrier::new(2));
    let other = {
        let (first, second, both) = (Arc::clone(&first), Arc::clone(&second), Arc::clone(&both));
        let other = thread::Builder::new().name("other".to_owned());
        other.spawn(move || holds_one_and_wants_another(&second, &both, &first)).unwrap()
    };
    holds_one_and_wants_another(&first, &both, &second);
    other.join().unwrap();
}

#[inline(never)]
fn holds_one_and_wants_another(held: &Mutex<()>, both: &Barrier, wanted: &Mutex<()>) {
    let _held = held.lock().unwrap();
    both.wait();
    let _wanted = wanted.lock().unwrap();
}
