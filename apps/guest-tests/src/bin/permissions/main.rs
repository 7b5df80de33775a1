//! Who may do what, call by call: users of all kinds use files and directories of all modes, and become somebody else. Each line has
//! the answers of several calls, and must be the same on Linux and booted: the runner compares.
//!
//! - [`somebody`]: whom the program acts as, and how it becomes root again; [`objects`]: files and directories, made anew for each call;
//! - [`contents`], [`directories`], [`attributes`]: what is asked about them; [`identities`]: setuid(2) and its family, capabilities;
//!   [`others`]: ports, queues, priorities.
//!
//! On Linux it has to be root, to become others; it works in a folder of its own and touches nothing else. Who is not root has
//! nothing to compare.

mod attributes;
mod contents;
mod directories;
mod identities;
mod objects;
mod others;
mod somebody;

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use guest_tests::raw_syscall;
use objects::Folder;

/// How many answers there were.
static ANSWERS: AtomicUsize = AtomicUsize::new(0);
/// What cannot be opened in part: a word behind a name in a line.
const NONE: u64 = 0;

/// A line of answers about one subject.
struct Line(String);

impl Line {
    fn new(subject: &str) -> Self {
        Self(format!("| {subject}:"))
    }

    /// Notes an answer; of success it is only noted that it was one.
    fn answer(&mut self, call: &str, result: i64) {
        ANSWERS.fetch_add(1, Ordering::Relaxed);
        let shown = result.min(0);
        let _ = write!(self.0, " {call}={shown}");
    }

    /// Notes an answer that is more than success.
    fn value(&mut self, call: &str, value: impl std::fmt::Display) {
        ANSWERS.fetch_add(1, Ordering::Relaxed);
        let _ = write!(self.0, " {call}={value}");
    }

    fn print(self) {
        println!("{}", self.0);
    }
}

/// A system call with up to six arguments.
fn call(number: i64, arguments: &[u64]) -> i64 {
    let mut all = [NONE; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    raw_syscall(number, all)
}

fn main() {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        println!("| who is not root has nothing to compare");
        return;
    }
    // SAFETY: a value only.
    unsafe { libc::umask(0o022) };
    somebody::equalise();
    let folder = Folder::new();
    contents::ask(&folder);
    directories::ask(&folder);
    attributes::ask(&folder);
    folder.remove();
    identities::ask();
    others::ask();
    println!("{} answers", ANSWERS.load(Ordering::Relaxed));
}
