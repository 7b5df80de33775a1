//! Splitting into words, with double quotes.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// A text without control characters, for messages: they could write over what stands around it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| {
            if character.is_control() {
                write!(f, "{}", character.escape_default())
            } else {
                f.write_char(character)
            }
        })
    }
}

/// A word of the line is no text, which is UTF-8 without zeros; here it is with escapes for what is not ASCII.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotUtf8(pub String);

/// The line as text, without zeros: no argument of a program can have one. An app would get other arguments than it was given
/// if what is no text were replaced.
pub fn text(line: &[u8]) -> Result<&str, NotUtf8> {
    let zero = line.iter().position(|&byte| byte == 0);
    let (checked, _) = line.split_at(zero.unwrap_or(line.len()));
    let bad = match core::str::from_utf8(checked) {
        Ok(text) if zero.is_none() => return Ok(text),
        Ok(text) => text.len(),
        Err(error) => error.valid_up_to(),
    };
    let (good, bad) = line.split_at(bad);
    let start = good.iter().rposition(u8::is_ascii_whitespace).map_or(0, |space| space + 1);
    let len = bad.iter().position(u8::is_ascii_whitespace).unwrap_or(bad.len());
    Err(NotUtf8(line[start..good.len() + len].escape_ascii().to_string()))
}

/// A quote was opened and not closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct UnclosedQuote;

/// Splits at white space outside of double quotes, which are removed. An empty pair of quotes is
/// an empty word.
pub(crate) fn split(line: &str) -> Result<Vec<String>, UnclosedQuote> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut is_quoted = false;
    for character in line.chars() {
        if character == '"' {
            is_quoted = !is_quoted;
            word.get_or_insert_default();
        } else if character.is_ascii_whitespace() && !is_quoted {
            words.extend(word.take());
        } else {
            word.get_or_insert_default().push(character);
        }
    }
    words.extend(word);
    if is_quoted { Err(UnclosedQuote) } else { Ok(words) }
}
