//! Texts that list what the app has (mappings, sockets): as long as it likes, and made only while there is memory.

use alloc::string::String;
use core::fmt::{self, Write};

use crate::kmem::room;

/// A text that grows while there is room.
#[derive(Default)]
pub struct LongText(String);

impl From<LongText> for String {
    fn from(text: LongText) -> Self {
        text.0
    }
}

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
pub(crate) type List = (&'static str, fn(&mut LongText) -> fmt::Result);
