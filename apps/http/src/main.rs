//! Under construction.
fn main() { println!("hello"); }
