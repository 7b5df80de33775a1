//! What is logged and what the app writes to the console, line by line, for a service that sends it elsewhere (`syslog=`).
//! Nothing is kept unless [`keep`] was called.
//!
//! Whoever writes may be in an interrupt handler and hold any lock. So nothing here waits or takes memory, and the service is
//! woken on the way out of the kernel.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use log::Level;
use unikernel_syslog::{Lines, Origin, Queue, Record, Severity};

use crate::arch::cpu::{exit_work, this_cpu};
use crate::platform::{console, time};
use crate::sync::SpinLock;

/// What waits is bounded by this.
const QUEUE_BYTES: usize = 128 << 10;
/// No core.
const NONE: usize = usize::MAX;

struct Kept {
    queue: Queue,
    /// What the app writes, and what the kernel reports of its end.
    app: Lines,
    report: Lines,
}

static KEPT: SpinLock<Option<Kept>> = SpinLock::new(None);
static IS_KEEPING: AtomicBool = AtomicBool::new(false);
static HAS_NEWS: AtomicBool = AtomicBool::new(false);
/// The core that sends just now, whose log lines are about sending.
static SENDER: AtomicUsize = AtomicUsize::new(NONE);

/// From now on lines are kept. Needs the heap.
pub fn keep() -> Result<(), TryReserveError> {
    let kept = Kept { queue: Queue::new(QUEUE_BYTES)?, app: Lines::new()?, report: Lines::new()? };
    *KEPT.lock() = Some(kept);
    IS_KEEPING.store(true, Ordering::Release);
    Ok(())
}

/// A line of the kernel's log.
pub fn logged(level: Level, room: &str, text: &[u8]) {
    let severity = match level {
        Level::Error => Severity::Error,
        Level::Warn => Severity::Warning,
        Level::Info => Severity::Informational,
        Level::Debug | Level::Trace => Severity::Debug,
    };
    let record = Record { at_ns: time::now_ns(), origin: Origin::Kernel, severity, topic: room, text };
    with_kept(|kept| kept.queue.push(&record));
}

/// What the app wrote to the console.
pub fn wrote(bytes: &[u8]) {
    with_kept(|Kept { queue, app, .. }| {
        app.write(bytes, |severity, text| queue.push(&of_app(severity, text)));
    });
}

/// The app writes no more: what it began is a line.
pub fn end_line() {
    with_kept(|Kept { queue, app, .. }| app.end(|severity, text| queue.push(&of_app(severity, text))));
}

fn of_app(severity: Severity, text: &[u8]) -> Record<'_> {
    Record { at_ns: time::now_ns(), origin: Origin::App, severity, topic: "", text }
}

fn with_kept(change: impl FnOnce(&mut Kept)) {
    if !IS_KEEPING.load(Ordering::Acquire) || SENDER.load(Ordering::Relaxed) == this_cpu().index() {
        return;
    }
    if let Some(kept) = &mut *KEPT.lock() {
        change(kept);
    }
    HAS_NEWS.store(true, Ordering::Release);
    this_cpu().request(exit_work::LOG);
}

/// Formats to the console what the kernel reports of the app's death, and keeps it.
pub struct Report;

impl fmt::Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        console::write(text.as_bytes());
        with_kept(|Kept { queue, report, .. }| {
            report.write(text.as_bytes(), |_, text| {
                let (at_ns, severity) = (time::now_ns(), Severity::Critical);
                queue.push(&Record { at_ns, origin: Origin::Kernel, severity, topic: "crash", text });
            });
        });
        Ok(())
    }
}

/// True, once, if lines were kept since the last call.
#[inline]
pub fn take_news() -> bool {
    HAS_NEWS.load(Ordering::Relaxed) && HAS_NEWS.swap(false, Ordering::Acquire)
}

/// True if lines wait.
pub fn has_any() -> bool {
    KEPT.lock().as_ref().is_some_and(|kept| !kept.queue.is_empty())
}

/// Takes the first line out ([`Queue::pop`]).
pub fn pop(buffer: &mut Vec<u8>) -> Option<Record<'_>> {
    KEPT.lock().as_mut()?.queue.pop(buffer)
}

/// Does something of which no line is kept, lest sending a line made another. `work` must not sleep.
pub fn quietly<T>(work: impl FnOnce() -> T) -> T {
    SENDER.store(this_cpu().index(), Ordering::Relaxed);
    let result = work();
    SENDER.store(NONE, Ordering::Relaxed);
    result
}
