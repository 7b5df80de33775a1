//! Ways to end that are not success: `ends panic|abort|overflow|exit`.

use std::process;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("panic") => panic!("on purpose"),
        Some("abort") => process::abort(),
        // In a thread, whose guard page `std` knows, so that it can say what happened.
        Some("overflow") => drop(std::thread::spawn(|| overflow(&[0; 512])).join()),
        Some("exit") => process::exit(42),
        other => {
            eprintln!("which end? {other:?}");
            process::exit(2);
        }
    }
}

/// Uses up the stack.
#[inline(never)]
#[expect(unconditional_recursion, reason = "it is the point")]
fn overflow(above: &[u8; 512]) -> u8 {
    let mut frame = [above[0].wrapping_add(1); 512];
    std::hint::black_box(&mut frame);
    overflow(&frame).wrapping_add(frame[1])
}
