//! `trace=syscalls`: each call in one line, as `strace` prints it: name, decoded arguments, result,
//! time spent. Everything comes from the dispatcher's table, so a new call is traced as soon as it
//! has a line there.

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use alloc::string::String;

use super::trace_args;
use crate::platform::{console, time};
use crate::syscall::{SysResult, TABLE, dispatch};

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Turns the tracer on.
pub fn turn_on(on: bool) {
    IS_ON.store(on, Ordering::Relaxed);
}

/// True if calls are traced.
#[inline]
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Runs a call and prints it.
pub fn call(number: u64, args: &[u64; 6]) -> SysResult {
    let Some(entry) = TABLE.iter().find(|entry| entry.number == number as u32) else {
        let result = dispatch(number, args);
        print(&alloc::format!("syscall_{number}(...)"), &result, 0);
        return result;
    };
    let mut line = String::new();
    let _ = write!(line, "{}(", entry.name);
    let _ = trace_args::write_inputs(&mut line, entry, args);
    // A call that does not come back must show all the same.
    if entry.name.starts_with("exit") {
        print_text(&alloc::format!("{line}) = ?\n"));
    }
    let begin_ns = time::now_ns();
    let result = dispatch(number, args);
    let spent_ns = time::now_ns() - begin_ns;
    let _ = trace_args::write_outputs(&mut line, entry, args, &result);
    line.push(')');
    print(&line, &result, spent_ns);
    result
}

fn print(call: &str, result: &SysResult, spent_ns: u64) {
    let id = crate::task::current().id;
    let time = Seconds(spent_ns);
    let text = match result {
        Ok(value) if *value > 0xffff_ffff => alloc::format!("[{id}] {call} = {value:#x} <{time}>\n"),
        Ok(value) => alloc::format!("[{id}] {call} = {value} <{time}>\n"),
        Err(error) => alloc::format!("[{id}] {call} = -1 {} <{time}>\n", error.name()),
    };
    print_text(&text);
}

fn print_text(text: &str) {
    console::write(text.as_bytes());
}

/// Nanoseconds, printed in seconds with six decimals as `strace -T` does.
struct Seconds(u64);

impl core::fmt::Display for Seconds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000_000, self.0 / 1000 % 1_000_000)
    }
}
