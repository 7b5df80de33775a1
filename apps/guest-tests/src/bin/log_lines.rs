//! Writes lines for a log server. The argument says which:
//!
//! - `few`: lines of different kinds, then exit code 3;
//! - `crash`: a line, then a fault;
//! - `many N`: N lines at once, then one a second.

use std::io::Write;
use std::thread;
use std::time::Duration;

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().expect("what to write").as_str() {
        "few" => few(),
        "crash" => {
            println!("about to crash");
            // SAFETY: nothing is there, which is what is wanted.
            unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
        }
        _ => many(arguments.next().expect("how many").parse().expect("a number")),
    }
}

fn few() {
    println!("plain");
    println!("<3>an error");
    println!("\x1b[1;32mgreen\x1b[0m\ttab \x07bell");
    eprintln!("Größe");
    println!("{}", "long".repeat(1000));
    print!("no end");
    std::io::stdout().flush().expect("the console");
    std::process::exit(3);
}

fn many(count: u32) {
    for number in 0..count {
        println!("line {number} with some words that make it as long as such lines are");
    }
    println!("written");
    for second in 0..60 {
        thread::sleep(Duration::from_secs(1));
        println!("second {second}");
    }
}
