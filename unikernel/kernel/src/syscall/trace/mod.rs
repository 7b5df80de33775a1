//! `trace=syscalls`: each call in one line, as `strace` prints it: thread, name, decoded arguments,
//! result, time spent. Everything comes from the dispatcher's table, so a new call is traced as
//! soon as it has a line there.
//!
//! A call that sleeps is shown when it begins to (`<unfinished ...>`) and again when it is done
//! (`<... accept4 resumed>`): where a program hangs is what one wants to know most.

mod args;
mod structs;

use core::fmt::Write;

use alloc::string::String;
use alloc::vec::Vec;

use unikernel_report::calls;

use super::watch::{self, Watchers};
use super::{Entry, TABLE, dispatch};
use crate::abi::SysResult;
use crate::platform::{console, time};
use crate::sync::SpinLock;
use crate::task::{self, scheduler};

/// A call that has begun.
struct Pending {
    thread: i32,
    line: String,
    has_slept: bool,
}

static PENDING: SpinLock<Vec<Pending>> = SpinLock::new(Vec::new());

/// Turns the tracer on.
pub(crate) fn turn_on(on: bool) {
    if on {
        watch::add(Watchers::TRACER);
        scheduler::set_sleep_observer(before_sleep);
    }
}

/// Writes the name of a call and what it was given, up to the first argument that it fills in.
pub(crate) fn write_call(out: &mut impl Write, number: u64, args: &[u64; 6]) -> core::fmt::Result {
    let entry = entry_of(number);
    let mut line = alloc::format!("{}(", name_of(entry, number));
    write_inputs(&mut line, entry, number, args)?;
    write!(out, "{line})")
}

fn entry_of(number: u64) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.number == number as u32)
}

fn name_of(entry: Option<&Entry>, number: u64) -> &'static str {
    entry.map(|entry| entry.name).or_else(|| calls::name(number as u32)).unwrap_or("syscall")
}

fn write_inputs(line: &mut String, entry: Option<&Entry>, number: u64, args: &[u64; 6]) -> core::fmt::Result {
    match entry {
        Some(entry) => args::write_inputs(line, entry, args),
        None => write!(line, "number {number}, {args:x?}"),
    }
}

/// Runs a call and prints it.
pub(crate) fn call(number: u64, args: &[u64; 6]) -> SysResult {
    let entry = entry_of(number);
    let name = name_of(entry, number);
    let mut line = alloc::format!("{name}(");
    let _ = write_inputs(&mut line, entry, number, args);
    // A call that does not come back must show all the same.
    if name.starts_with("exit") {
        print(&alloc::format!("{line}) = ?"));
        return dispatch(number, args);
    }
    begin(line);
    let begin_ns = time::now_ns();
    let result = dispatch(number, args);
    let spent_ns = time::now_ns() - begin_ns;
    let mut line = end(name);
    let _ = entry.map(|entry| args::write_outputs(&mut line, entry, args, &result));
    let _ = write_result(&mut line, &result, spent_ns);
    print(&line);
    result
}

/// Shows the call of the current thread, which is about to sleep in it.
fn before_sleep() {
    let thread = task::current().id;
    let mut all = PENDING.lock();
    let Some(pending) = all.iter_mut().find(|pending| pending.thread == thread && !pending.has_slept) else {
        return;
    };
    pending.has_slept = true;
    let line = alloc::format!("{} <unfinished ...>", pending.line);
    drop(all);
    print(&line);
}

fn begin(line: String) {
    PENDING.lock().push(Pending { thread: task::current().id, line, has_slept: false });
}

/// The text that the call's line goes on from.
fn end(name: &str) -> String {
    let thread = task::current().id;
    let mut all = PENDING.lock();
    let index = all.iter().position(|pending| pending.thread == thread);
    match index.map(|index| all.swap_remove(index)) {
        Some(Pending { line, has_slept: false, .. }) => line,
        _ => alloc::format!("<... {name} resumed>"),
    }
}

fn write_result(line: &mut String, result: &SysResult, spent_ns: u64) -> core::fmt::Result {
    match result {
        Ok(value) if *value > 0xffff_ffff => write!(line, ") = {value:#x}")?,
        Ok(value) => write!(line, ") = {value}")?,
        Err(error) => write!(line, ") = -1 {}", error.name())?,
    }
    // In seconds with six decimals, as `strace -T` does.
    write!(line, " <{}.{:06}>", spent_ns / 1_000_000_000, spent_ns / 1000 % 1_000_000)
}

fn print(text: &str) {
    console::write(alloc::format!("[{}] {text}\n", task::current().id).as_bytes());
}
