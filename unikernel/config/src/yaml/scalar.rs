//! Scalars: keys, and values on one line or behind `|` and `>`.

use alloc::borrow::ToOwned;
use alloc::string::String;

use super::{Parser, Problem, Value, WHITE};

/// The key that a line begins with, and how many bytes it takes with its `:`. None if the line has no key.
pub(super) fn split_key(line: &str) -> Result<Option<(String, usize)>, Problem> {
    if line.starts_with("? ") || line == "?" {
        return Err(Problem::NotSupported);
    }
    if line.starts_with(['"', '\'']) {
        let (key, len) = quoted(line)?;
        let behind = &line[len..];
        let skipped = behind.len() - behind.trim_start_matches(WHITE).len();
        let is_key = is_colon(behind.trim_start_matches(WHITE));
        return Ok(is_key.then_some((key, len + skipped + 1)));
    }
    if line.starts_with(['[', '{', '|', '>', '&', '*', '!', '#', '%', '@', '`']) {
        return Ok(None);
    }
    let end = line.match_indices(':').map(|(at, _)| at).find(|at| is_colon(&line[*at..]));
    // A comment is no key.
    let end = end.filter(|end| !line[..*end].contains(" #"));
    Ok(end.map(|end| (line[..end].trim_end_matches(WHITE).to_owned(), end + 1)))
}

/// True at a colon that ends a key.
fn is_colon(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// A value that takes the rest of its line.
pub(super) fn whole(line: &str) -> Result<Value, Problem> {
    if line.starts_with(['"', '\'']) {
        let (text, len) = quoted(line)?;
        let rest = line[len..].trim_start_matches(WHITE);
        return match rest.is_empty() || rest.starts_with('#') {
            true => Ok(Value::Text(text)),
            false => Err(Problem::NotClosed),
        };
    }
    let text = line.split_once(" #").map_or(line, |(text, _)| text).trim_matches(WHITE);
    let has_key = text.match_indices(':').any(|(at, _)| is_colon(&text[at..]));
    if has_key { Err(Problem::Colon) } else { Ok(plain(text)) }
}

/// What a plain scalar means.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        _ => Value::Text(text.to_owned()),
    }
}

/// A scalar in quotes, and how many bytes it takes with them.
pub(super) fn quoted(text: &str) -> Result<(String, usize), Problem> {
    let is_single = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' if is_single && characters.next_if(|(_, next)| *next == '\'').is_some() => value.push('\''),
            '\'' if is_single => return Ok((value, at + 1)),
            '"' if !is_single => return Ok((value, at + 1)),
            '\\' if !is_single => {
                let (_, escape) = characters.next().ok_or(Problem::NotClosed)?;
                value.push(escaped(escape, &mut characters)?);
            }
            other => value.push(other),
        }
    }
    Err(Problem::NotClosed)
}

fn escaped(escape: char, rest: &mut impl Iterator<Item = (usize, char)>) -> Result<char, Problem> {
    let mut hexadecimal = |digits: u32| -> Result<u32, Problem> {
        (0..digits).try_fold(0, |number, _| {
            let digit = rest.next().and_then(|(_, digit)| digit.to_digit(16)).ok_or(Problem::Escape)?;
            Ok(number << 4 | digit)
        })
    };
    let number = match escape {
        '0' => 0,
        'a' => 7,
        'b' => 8,
        't' => 9,
        'n' => 10,
        'v' => 11,
        'f' => 12,
        'r' => 13,
        'e' => 27,
        ' ' | '"' | '/' | '\\' => u32::from(escape),
        'x' => hexadecimal(2)?,
        'u' => hexadecimal(4)?,
        'U' => hexadecimal(8)?,
        _ => return Err(Problem::Escape),
    };
    char::from_u32(number).ok_or(Problem::Escape)
}

/// What `|` and `>` say of the line ends behind a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chomp {
    Clip,
    Strip,
    Keep,
}

impl Parser {
    /// The text behind `|` or `>`, whose lines are indented by `least` or more.
    pub(super) fn block(&mut self, header: &str, least: usize) -> Result<String, Problem> {
        let (mut chomp, mut given) = (Chomp::Clip, None);
        let words = header.split_once(" #").map_or(header, |(words, _)| words).trim_end_matches(WHITE);
        for character in words.chars().skip(1) {
            match character {
                '-' => chomp = Chomp::Strip,
                '+' => chomp = Chomp::Keep,
                '1'..='9' => given = character.to_digit(10),
                _ => return Err(Problem::NotClosed),
            }
        }
        // Counted from the parent's indentation, which is one less than the least.
        let given = given.map(|given| least.saturating_sub(1) + given as usize);
        let is_folded = header.starts_with('>');
        let mut text = String::new();
        let (mut indent, mut empty, mut was_more) = (given, 0, true);
        while let Some(line) = self.lines.get(self.at) {
            let spaces = line.len() - line.trim_start_matches(' ').len();
            let is_empty = spaces == line.len();
            let has_ended = !is_empty && spaces < indent.unwrap_or(least).max(usize::from(least > 0));
            if has_ended {
                break;
            }
            self.at += 1;
            let Some(line) = line.get(*indent.get_or_insert(spaces)..).filter(|_| !is_empty) else {
                if is_empty && text.is_empty() && given.is_none() {
                    indent = None;
                }
                empty += 1;
                continue;
            };
            // In `>`, a line end between two lines of text is a space; lines that are indented further stay as they are.
            let is_more = line.starts_with([' ', '\t']);
            if is_folded && !text.is_empty() && !is_more && !was_more {
                match empty {
                    0 => text.push(' '),
                    count => (0..count).for_each(|_| text.push('\n')),
                }
            } else {
                let ends = empty + usize::from(!text.is_empty());
                (0..ends).for_each(|_| text.push('\n'));
            }
            text.push_str(line);
            (empty, was_more) = (0, is_more);
        }
        match chomp {
            Chomp::Strip => {}
            Chomp::Clip if text.is_empty() => {}
            Chomp::Clip => text.push('\n'),
            Chomp::Keep => {
                // The last line of the file has no end of its own.
                let is_file_end = self.at == self.lines.len();
                let ends = (empty + usize::from(!text.is_empty()))
                    .saturating_sub(usize::from(is_file_end && empty > 0));
                (0..ends).for_each(|_| text.push('\n'));
            }
        }
        Ok(text)
    }
}
