//! The `log` backend: lines on the serial console, with the time since boot, the level and the
//! room that speaks. Which lines are shown is set at boot (`log=`).

use core::fmt::Write;

use arrayvec::ArrayString;
use log::{Metadata, Record};
use spin::Once;
use unikernel_machine::levels::DEFAULT_LEVEL;
pub use unikernel_machine::levels::Levels;

use crate::platform::{console, records, time};

/// A line longer than this is cut; it is formatted on the kernel's stack, in one piece, so that
/// lines of several cores never mix.
const LINE_BYTES: usize = 512;

struct Logger;

static LEVELS: Once<Levels> = Once::new();

/// Sends `log`'s macros to the console.
pub fn init() {
    // An error means that it was set before, which does no harm.
    let _ = log::set_logger(&Logger);
    log::set_max_level(DEFAULT_LEVEL);
}

/// Sets which lines are shown, once, from the command line.
pub fn set_levels(levels: Levels) {
    log::set_max_level(levels.most_verbose());
    LEVELS.call_once(|| levels);
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = LEVELS.get().map_or(DEFAULT_LEVEL, |levels| levels.level_of(metadata.target()));
        metadata.level() <= level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now_us = time::now_ns() / 1000;
        let (seconds, micros) = (now_us / 1_000_000, now_us % 1_000_000);
        let room = short_target(record.target());
        let mut line = ArrayString::<LINE_BYTES>::new();
        // A line that does not fit is cut where it was full.
        let _ = write!(line, "[{seconds:4}.{micros:06}] {:5} {room}: ", record.level());
        let head_len = line.len();
        let _ = write!(line, "{}", record.args());
        if line.is_full() {
            line.truncate(floor_char_boundary(&line, LINE_BYTES - 1));
        }
        records::logged(record.level(), room, line[head_len.min(line.len())..].as_bytes());
        line.push('\n');
        console::write(line.as_bytes());
    }

    fn flush(&self) {}
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|&index| text.is_char_boundary(index)).unwrap_or(0)
}

/// The room of a module path: `vfs::flusher` of `unikernel_kernel::vfs::flusher`, `platform::acpi` of this crate's.
fn short_target(target: &str) -> &str {
    let known = [
        "unikernel_kernel::",
        "unikernel_hal::x86::",
        "unikernel_hal::common::",
        "unikernel_hal::",
        "unikernel_",
    ];
    known.iter().find_map(|prefix| target.strip_prefix(prefix)).unwrap_or(target)
}
