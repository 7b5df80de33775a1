//! Repeats what is typed at the console, line by line, until `end`.

use std::io::{Write, stdin, stdout};

fn main() {
    print!("type: ");
    stdout().flush().unwrap();
    for line in stdin().lines() {
        let line = line.unwrap();
        println!("heard {line:?}");
        if line == "end" {
            return;
        }
    }
}
