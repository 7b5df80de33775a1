//! Which lines of the log are shown: a level for everything and levels for single rooms of the
//! kernel. `net:debug,info` shows the network's debug lines and everybody's information.

use core::fmt;

use arrayvec::{ArrayString, ArrayVec};
use log::LevelFilter;

/// The level until the command line was read.
pub const DEFAULT_LEVEL: LevelFilter = LevelFilter::Info;
/// More rooms than this in one `log=` are an error.
const MAX_ROOMS: usize = 16;
/// Why a `log=` word was not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseLevelsError<'a> {
    /// This is not a level (`off`, `error`, `warn`, `info`, `debug`, `trace`).
    UnknownLevel(&'a str),
    /// More than 16 rooms are named, or one by a name longer than any room's.
    TooManyRooms,
}

impl fmt::Display for ParseLevelsError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLevel(word) => {
                write!(f, "`{word}` is no level: expected `off`, `error`, `warn`, `info`, `debug` or `trace`")
            }
            Self::TooManyRooms => write!(f, "too many rooms, or too long a name of one"),
        }
    }
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
    pub fn level_of(&self, path: &str) -> LevelFilter {
        self.rooms
            .iter()
            .find(|entry| is_in_room(path, &entry.room))
            .map_or(self.default, |entry| entry.level)
    }

    /// The most verbose of all levels: what can be dropped before anything is formatted.
    pub fn most_verbose(&self) -> LevelFilter {
        self.rooms.iter().map(|entry| entry.level).fold(self.default, Ord::max)
    }
}

/// True if a part of the path is `room`, or its crate is the pure one behind it
/// (`unikernel_net` for `net`).
fn is_in_room(path: &str, room: &str) -> bool {
    path.split("::").any(|part| part == room || part.strip_prefix("unikernel_") == Some(room))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;
    use std::string::String;

    use super::*;

    fn level(text: &str, path: &str) -> LevelFilter {
        Levels::parse(text).unwrap().level_of(path)
    }

    #[test]
    fn bare_level_holds_for_everything() {
        assert_eq!(level("warn", "unikernel_kernel::net"), LevelFilter::Warn);
        assert_eq!(level("", "unikernel_kernel::net"), DEFAULT_LEVEL);
    }

    #[test]
    fn room_level_holds_for_the_room_its_parts_and_its_crate() {
        let text = "net:debug,warn";
        assert_eq!(level(text, "unikernel_kernel::net::socket"), LevelFilter::Debug);
        assert_eq!(level(text, "unikernel_net::flow"), LevelFilter::Debug);
        assert_eq!(level(text, "unikernel_kernel::fs"), LevelFilter::Warn);
        assert_eq!(level(text, "unikernel_kernel::internet"), LevelFilter::Warn);
        assert_eq!(Levels::parse(text).unwrap().most_verbose(), LevelFilter::Debug);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(Levels::parse("net:loud").err(), Some(ParseLevelsError::UnknownLevel("loud")));
        let many: String = (0..17).map(|_| "a:info,").collect();
        assert_eq!(Levels::parse(&many).err(), Some(ParseLevelsError::TooManyRooms));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = Levels::parse(&text);
        }
    }
}
