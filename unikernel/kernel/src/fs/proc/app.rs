//! Texts about the app.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;

use linux_raw_sys::general::RLIMIT_SIGPENDING;
use unikernel_mm::PAGE_BYTES;
use unikernel_sched::CoreSet;
use unikernel_vfs::access::{Capabilities, Ids};

use super::{NANOS_PER_TICK, line, machine};
use crate::arch::cpu;
use crate::file::table;
use crate::fs;
use crate::kmem::room::{self, OutOfMemory};
use crate::mem::space;
use crate::sync::SpinLock;
use crate::task::credentials::{self, Credentials};
use crate::task::limits;
use crate::task::process::{PROCESS_ID, process};
use crate::task::signal::{DEFAULT, IGNORE, MAX_SIGNAL, SignalSet, set_of};
use crate::task::signal_queue;
use crate::task::thread::{Thread, ThreadId};
use crate::task::{current, scheduler};

/// What the app was started with.
struct Start {
    /// The command line of the machine.
    words: String,
    /// The app's arguments, each ended by a NUL.
    arguments: String,
    /// The app's environment, each variable ended by a NUL.
    environment: String,
}

static START: SpinLock<Start> =
    SpinLock::new(Start { words: String::new(), arguments: String::new(), environment: String::new() });

/// The longest text about a program, which is in the kernel's memory; Linux reads the program's.
const MOST_TEXT_BYTES: usize = 128 << 10;
/// Bytes of a group in a list, with what divides it from the next.
const GROUP_BYTES: usize = 11;

/// What `/proc/self/cmdline` and `/proc/self/environ` show.
pub(crate) struct Texts {
    arguments: String,
    environment: String,
}

/// Makes them for a program.
pub(crate) fn texts_of(arguments: &[&[u8]], environment: &[&[u8]]) -> Result<Texts, OutOfMemory> {
    Ok(Texts { arguments: each_ended(arguments)?, environment: each_ended(environment)? })
}

/// Each string with a NUL behind it; what is no text has question marks.
fn each_ended(strings: &[&[u8]]) -> Result<String, OutOfMemory> {
    let bytes: usize = strings.iter().map(|string| string.len() + 1).sum();
    let mut text = room::with_capacity(bytes.min(MOST_TEXT_BYTES))?;
    let all = strings.iter().flat_map(|string| string.iter().copied().chain([0]));
    text.extend(all.take(MOST_TEXT_BYTES));
    String::from_utf8(text).or_else(|error| {
        let mut text = error.into_bytes();
        text.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
        String::from_utf8(text).map_err(|_| OutOfMemory)
    })
}

/// Sets them.
pub(crate) fn set_texts(texts: Texts) {
    let mut start = START.lock();
    let before = (
        core::mem::replace(&mut start.arguments, texts.arguments),
        core::mem::replace(&mut start.environment, texts.environment),
    );
    drop(start);
    drop(before);
}

/// Sets what `/proc/cmdline` shows.
pub(crate) fn set_words(words: &str) {
    START.lock().words = words.into();
}

pub(super) fn kernel_words() -> String {
    format!("{}\n", START.lock().words)
}

pub(super) fn arguments() -> String {
    START.lock().arguments.clone()
}

pub(super) fn environment() -> String {
    START.lock().environment.clone()
}

/// The name of a thread; the first one's is the program's until the app changes it (prctl(2), `PR_SET_NAME`).
pub(super) fn name_of(thread: &Thread) -> String {
    thread.with_name(|name| String::from_utf8_lossy(name).into_owned())
}

/// The first thread, or the calling one where that has ended.
fn first_thread() -> Arc<Thread> {
    process().thread(PROCESS_ID).unwrap_or_else(|| Arc::clone(&current()))
}

pub(super) fn stat() -> String {
    stat_of(PROCESS_ID, &first_thread(), process().cpu_time_ns())
}

pub(super) fn thread_stat(thread: &Arc<Thread>) -> String {
    stat_of(thread.id, thread, scheduler::cpu_time_ns(thread))
}

fn stat_of(id: ThreadId, thread: &Thread, time_ns: u64) -> String {
    let usage = space::usage();
    let ticks = time_ns / NANOS_PER_TICK;
    // The fields of proc_pid_stat(5): state, parent, group, session, terminal, its group, flags,
    // four fault counts, user and system time, those of children, priority, nice, threads, one
    // field of no use, start time, size, resident pages, and the limit on them; the rest is 0.
    let zeros = " 0".repeat(27);
    format!(
        "{id} ({}) {} 0 {PROCESS_ID} {PROCESS_ID} 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 {} 0 0 {} {} {}{zeros}\n",
        name_of(thread),
        if thread.runs() { 'R' } else { 'S' },
        process().thread_count(),
        usage.mapped_pages * PAGE_BYTES,
        usage.resident_pages,
        u64::MAX,
    )
}

pub(super) fn statm() -> String {
    let usage = space::usage();
    format!("{} {} 0 0 0 {} 0\n", usage.mapped_pages, usage.resident_pages, usage.charged_pages)
}

pub(super) fn kibibytes(pages: u64) -> u64 {
    pages * PAGE_BYTES / 1024
}

pub(super) fn process_status() -> String {
    status(&first_thread())
}

pub(super) fn status(thread: &Arc<Thread>) -> String {
    let usage = space::usage();
    let mut text = String::new();
    let state = if thread.runs() { "R (running)" } else { "S (sleeping)" };
    line!(text, "Name:\t{}\nUmask:\t{:04o}\nState:\t{state}", name_of(thread), fs::mask());
    line!(text, "Tgid:\t{PROCESS_ID}\nNgid:\t0\nPid:\t{}\nPPid:\t0\nTracerPid:\t0", thread.id);
    let who = credentials::of(thread);
    let ids = |ids: Ids, fs| format!("{}\t{}\t{}\t{fs}", ids.real, ids.effective, ids.saved);
    let (user, group) = (ids(who.user, who.user_fs), ids(who.group, who.group_fs));
    line!(text, "Uid:\t{user}\nGid:\t{group}\nFDSize:\t{}", table::span());
    list_groups(&mut text, &who);
    line!(text, "VmSize:\t{:8} kB", kibibytes(usage.mapped_pages));
    line!(text, "VmLck:\t{:8} kB", kibibytes(usage.locked_pages));
    line!(text, "VmRSS:\t{:8} kB", kibibytes(usage.resident_pages));
    line!(text, "Threads:\t{}", process().thread_count());
    let [ignored, caught] = handled_signals();
    let (pending, blocked) = {
        let signals = thread.signals.lock();
        (signals.pending.set(), signals.mask)
    };
    line!(text, "SigQ:\t{}/{}", signal_queue::queued(), limits::soft(RLIMIT_SIGPENDING));
    line!(text, "SigPnd:\t{pending:016x}\nShdPnd:\t{:016x}", process().pending.set());
    line!(text, "SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}");
    let Capabilities { effective, permitted, inheritable, bounding, ambient } = who.capabilities;
    let sets =
        [("Inh", inheritable), ("Prm", permitted), ("Eff", effective), ("Bnd", bounding), ("Amb", ambient)];
    for (name, set) in sets {
        line!(text, "Cap{name}:\t{:016x}", set.bits());
    }
    line!(text, "NoNewPrivs:\t{}", u8::from(thread.settings.lock().has_no_new_privileges));
    let seccomp = thread.confinement.lock().seccomp.clone();
    line!(text, "Seccomp:\t{}\nSeccomp_filters:\t{}", seccomp.mode(), seccomp.filters());
    let allowed = CoreSet::first(cpu::online());
    line!(text, "Cpus_allowed:\t{:x}\nCpus_allowed_list:\t{}", allowed.0, machine::cores().trim_end());
    text
}

/// Appends the line with the groups that the app is in.
fn list_groups(text: &mut String, who: &Credentials) {
    let groups: &[u32] = &who.groups;
    text.push_str("Groups:\t");
    // There may be tens of thousands. Without memory for them the line stays empty.
    if text.try_reserve(groups.len() * GROUP_BYTES + 2).is_ok() {
        for (index, group) in groups.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            let _ = write!(text, "{separator}{group}");
        }
    }
    text.push_str(" \n");
}

/// The signals that the app ignores, and those it has handlers for.
fn handled_signals() -> [SignalSet; 2] {
    let mut dispositions = process().dispositions.lock();
    let mut sets = [0; 2];
    for signal in 1..=MAX_SIGNAL {
        match dispositions.get_mut(signal).handler {
            DEFAULT => {}
            IGNORE => sets[0] |= set_of(signal),
            _ => sets[1] |= set_of(signal),
        }
    }
    sets
}

/// Names and units of the limits, by their numbers (getrlimit(2)).
const LIMITS: [(&str, &str); limits::COUNT] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

pub(super) fn limits() -> String {
    let shown =
        |limit| if limit == limits::UNLIMITED { String::from("unlimited") } else { format!("{limit}") };
    let mut text = String::new();
    line!(text, "{:<26}{:<21}{:<21}{:<10}", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (number, (name, unit)) in LIMITS.iter().enumerate() {
        let Some(limit) = limits::get(number as u32) else { continue };
        let (soft, hard) = (shown(limit.soft), shown(limit.hard));
        line!(text, "{name:<26}{soft:<21}{hard:<21}{unit:<10}");
    }
    text
}
