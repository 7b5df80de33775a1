//! The `log` backend: lines on the serial console, with the time since boot, the level and the
//! room that speaks. Levels are set at boot, for everything and for single rooms:
//! `log=net:debug,info` shows the network's debug lines and everybody's information.

use core::fmt::Write;

use arrayvec::{ArrayString, ArrayVec};
use log::{LevelFilter, Metadata, Record};
use spin::Once;

use super::{console, time};

/// The level until the command line was read.
const DEFAULT_LEVEL: LevelFilter = LevelFilter::Info;
/// More rooms than this in one `log=` are an error.
const MAX_ROOMS: usize = 16;
/// A line longer than this is cut; it is formatted on the kernel's stack, in one piece, so that
/// lines of several cores never mix.
const LINE_BYTES: usize = 512;

/// Why a `log=` word was not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseLevelsError<'a> {
    /// This is not a level (`off`, `error`, `warn`, `info`, `debug`, `trace`).
    UnknownLevel(&'a str),
    /// More than 16 rooms are named.
    TooManyRooms,
}

#[derive(Clone)]
struct RoomLevel {
    room: ArrayString<24>,
    level: LevelFilter,
}

/// Which lines are shown.
#[derive(Clone)]
pub struct Levels {
    default: LevelFilter,
    rooms: ArrayVec<RoomLevel, MAX_ROOMS>,
}

impl Levels {
    /// Reads `[room:]level` words separated by commas.
    pub fn parse(text: &str) -> Result<Self, ParseLevelsError<'_>> {
        let mut levels = Self { default: DEFAULT_LEVEL, rooms: ArrayVec::new() };
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let (room, level) =
                word.rsplit_once(':').map_or((None, word), |(room, level)| (Some(room), level));
            let level = level.parse().map_err(|_| ParseLevelsError::UnknownLevel(level))?;
            match room {
                None => levels.default = level,
                Some(room) => levels.push_room(room, level)?,
            }
        }
        Ok(levels)
    }

    fn push_room(&mut self, room: &str, level: LevelFilter) -> Result<(), ParseLevelsError<'static>> {
        let room = ArrayString::from(room).map_err(|_| ParseLevelsError::TooManyRooms)?;
        self.rooms.try_push(RoomLevel { room, level }).map_err(|_| ParseLevelsError::TooManyRooms)
    }

    /// The level for a module path such as `unikernel_kernel::net::nic`.
    fn level_of(&self, path: &str) -> LevelFilter {
        self.rooms
            .iter()
            .find(|entry| is_in_room(path, &entry.room))
            .map_or(self.default, |entry| entry.level)
    }

    fn most_verbose(&self) -> LevelFilter {
        self.rooms.iter().map(|entry| entry.level).fold(self.default, Ord::max)
    }
}

/// True if a part of the path is `room`, or its crate is the pure one behind it
/// (`unikernel_net` for `net`).
fn is_in_room(path: &str, room: &str) -> bool {
    path.split("::").any(|part| part == room || part.strip_prefix("unikernel_") == Some(room))
}

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
        let _ = write!(line, "[{seconds:4}.{micros:06}] {:5} {room}: {}", record.level(), record.args());
        if line.is_full() {
            line.truncate(floor_char_boundary(&line, LINE_BYTES - 1));
        }
        line.push('\n');
        console::write(line.as_bytes());
    }

    fn flush(&self) {}
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|&index| text.is_char_boundary(index)).unwrap_or(0)
}

/// The room of a module path: `platform::acpi` of `unikernel_kernel::platform::acpi`.
fn short_target(target: &str) -> &str {
    target.strip_prefix("unikernel_kernel::").or_else(|| target.strip_prefix("unikernel_")).unwrap_or(target)
}
