//! How the texts of `/proc` are made. Most are short. Those that list what the app has (mappings, sockets) are as long as it
//! likes, and made only while there is memory.

use alloc::string::String;
use core::fmt::{self, Write};

use crate::kmem::room::{self, OutOfMemory};

/// A text that grows while there is room.
#[derive(Default)]
pub struct LongText(String);

impl Write for LongText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !room::is_left() || self.0.try_reserve(text.len()).is_err() {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// A path and what writes its text, which is as long as the app makes it.
pub type List = (&'static str, fn(&mut LongText) -> fmt::Result);

/// What makes a text.
#[derive(Clone, Copy)]
pub enum MakeText {
    /// A short one.
    Short(fn() -> String),
    /// A list that is as long as the app makes it.
    Long(fn(&mut LongText) -> fmt::Result),
}

impl MakeText {
    /// Makes it.
    pub fn make(self) -> Result<String, OutOfMemory> {
        match self {
            Self::Short(make) => Ok(make()),
            Self::Long(write) => {
                let mut text = LongText::default();
                // Nothing else can fail.
                write(&mut text).map_err(|fmt::Error| OutOfMemory)?;
                Ok(text.0)
            }
        }
    }
}
