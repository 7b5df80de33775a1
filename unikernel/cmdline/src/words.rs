//! Splitting into words, with double quotes.

use alloc::string::String;
use alloc::vec::Vec;

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
