//! Sequences and mappings in brackets, which may go over several lines.

use alloc::string::String;
use alloc::vec::Vec;

use super::scalar::{plain, quoted};
use super::{MAX_DEPTH, MAX_ENTRIES, Parser, Problem, Value, WHITE, check_new};

/// What ends a plain scalar in brackets.
const ENDS: [char; 5] = [',', ']', '}', '[', '{'];

impl Parser {
    /// The value in brackets that begins at a column; nothing may follow it on its last line.
    pub(super) fn flow(&mut self, column: usize) -> Result<Value, Problem> {
        let mut column = column;
        let value = self.flow_value(&mut column)?;
        let rest = self.lines[self.at][column..].trim_start_matches(WHITE);
        if !rest.is_empty() && !rest.starts_with('#') {
            return Err(Problem::NotClosed);
        }
        self.at += 1;
        Ok(value)
    }

    /// The text from the next character on that is no space and in no comment.
    fn flow_rest(&mut self, column: &mut usize) -> Result<&str, Problem> {
        loop {
            let line = self.lines.get(self.at).ok_or(Problem::NotClosed)?;
            let rest = line[*column..].trim_start_matches(WHITE);
            if !rest.is_empty() && !rest.starts_with('#') {
                *column = line.len() - rest.len();
                break;
            }
            (self.at, *column) = (self.at + 1, 0);
        }
        Ok(&self.lines[self.at][*column..])
    }

    /// Goes over a character if it is the next.
    fn flow_take(&mut self, column: &mut usize, wanted: char) -> Result<bool, Problem> {
        let is_next = self.flow_rest(column)?.starts_with(wanted);
        *column += usize::from(is_next);
        Ok(is_next)
    }

    fn flow_value(&mut self, column: &mut usize) -> Result<Value, Problem> {
        if self.depth == MAX_DEPTH {
            return Err(Problem::TooDeep);
        }
        self.depth += 1;
        let value = if self.flow_take(column, '[')? {
            self.flow_list(column)
        } else if self.flow_take(column, '{')? {
            self.flow_map(column)
        } else {
            self.flow_scalar(column)
        };
        self.depth -= 1;
        value
    }

    fn flow_list(&mut self, column: &mut usize) -> Result<Value, Problem> {
        let mut values = Vec::new();
        while !self.flow_take(column, ']')? {
            if values.len() == MAX_ENTRIES {
                return Err(Problem::TooLarge);
            }
            values.push(self.flow_value(column)?);
            if !self.flow_take(column, ',')? && !self.flow_rest(column)?.starts_with(']') {
                return Err(Problem::NotClosed);
            }
        }
        Ok(Value::List(values))
    }

    fn flow_map(&mut self, column: &mut usize) -> Result<Value, Problem> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        while !self.flow_take(column, '}')? {
            let Value::Text(key) = self.flow_scalar(column)? else { return Err(Problem::NoKey) };
            check_new(&entries, &key)?;
            let has_value = self.flow_take(column, ':')?;
            let rest = self.flow_rest(column)?;
            let value = match has_value && !rest.starts_with([',', '}']) {
                true => self.flow_value(column)?,
                false => Value::Null,
            };
            entries.push((key, value));
            if !self.flow_take(column, ',')? && !self.flow_rest(column)?.starts_with('}') {
                return Err(Problem::NotClosed);
            }
        }
        Ok(Value::Map(entries))
    }

    fn flow_scalar(&mut self, column: &mut usize) -> Result<Value, Problem> {
        let rest = self.flow_rest(column)?;
        if rest.starts_with(['&', '*', '!', '|', '>', '%', '@', '`']) {
            return Err(Problem::NotSupported);
        }
        if rest.starts_with(['"', '\'']) {
            let (text, len) = quoted(rest)?;
            *column += len;
            return Ok(Value::Text(text));
        }
        let ends_key = |at: usize| {
            let behind = &rest[at + 1..];
            behind.is_empty() || behind.starts_with([' ', '\t']) || behind.starts_with(ENDS)
        };
        let end = rest.char_indices().find(|(at, character)| match character {
            ':' => ends_key(*at),
            '#' => rest[..*at].ends_with(' '),
            other => ENDS.contains(other),
        });
        let len = end.map_or(rest.len(), |(at, _)| at);
        if len == 0 {
            return Err(Problem::NotClosed);
        }
        let value = plain(rest[..len].trim_end_matches(WHITE));
        *column += len;
        Ok(value)
    }
}
