//! How the texts of `/proc` are made. Most are short; some list what the app has ([`LongText`]).

use alloc::string::String;
use core::fmt;

use crate::file::long_text::LongText;
use crate::kmem::room::OutOfMemory;

/// What makes a text.
#[derive(Clone, Copy)]
pub(crate) enum MakeText {
    /// A short one.
    Short(fn() -> String),
    /// A list that is as long as the app makes it.
    Long(fn(&mut LongText) -> fmt::Result),
}

impl MakeText {
    /// Makes it.
    pub(crate) fn make(self) -> Result<String, OutOfMemory> {
        match self {
            Self::Short(make) => Ok(make()),
            Self::Long(write) => {
                let mut text = LongText::default();
                // Nothing else can fail.
                write(&mut text).map_err(|fmt::Error| OutOfMemory)?;
                Ok(text.into())
            }
        }
    }
}
