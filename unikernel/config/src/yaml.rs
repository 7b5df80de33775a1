//! The part of YAML 1.2 that such files are written in, read strictly:
//!
//! - mappings and sequences by indentation, or in `{}` and `[]` (so JSON is understood, too);
//! - scalars on one line, plain or in quotes; texts behind `|` and `>`;
//! - comments, and one document.
//!
//! Anchors, aliases, tags, `? ` keys, and scalars without `|` or `>` that go over several lines are refused by name, and so are
//! keys that come twice. Nothing is guessed: a scalar is a text, whatever it looks like.

mod flow;
mod scalar;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// How deep values may be nested.
const MAX_DEPTH: usize = 32;
/// The largest text, in bytes and lines, and the longest sequence or mapping.
const MAX_BYTES: usize = 256 << 10;
const MAX_LINES: usize = 16 << 10;
const MAX_ENTRIES: usize = 4096;

/// A value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar.
    Text(String),
    /// A sequence.
    List(Vec<Value>),
    /// A mapping, in order.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// What a mapping has for a key; `Null` if it has none, or this is no mapping.
    pub fn get(&self, key: &str) -> &Self {
        let Self::Map(entries) = self else { return &Self::Null };
        entries.iter().find(|(own, _)| own == key).map_or(&Self::Null, |(_, value)| value)
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The values of a sequence; a scalar is one value, nothing is none.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(values) => values,
            Self::Text(_) => core::slice::from_ref(self),
            Self::Null | Self::Map(_) => &[],
        }
    }

    /// The entries of a mapping.
    pub fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    /// True for what YAML 1.1, which cloud-init reads, takes for true.
    pub fn is_true(&self) -> bool {
        self.text()
            .is_some_and(|text| ["true", "yes", "on"].iter().any(|word| text.eq_ignore_ascii_case(word)))
    }
}

/// What is white within a line (YAML 1.2, `s-white`), and nothing else: places in a line are counted by it.
const WHITE: [char; 2] = [' ', '\t'];

/// What is wrong with a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// It is no UTF-8.
    NotText,
    /// It has more than 256 KiB, 16,384 lines, or 4,096 values in one.
    TooLarge,
    /// Values are nested too deep.
    TooDeep,
    /// A line begins with a tab.
    Tab,
    /// A line is indented as none of those above.
    Indentation,
    /// A key is missing, or its `:`.
    NoKey,
    /// A key comes twice.
    KeyTwice,
    /// A quote or a bracket is not closed, or something follows it.
    NotClosed,
    /// A `\` with a character that means nothing.
    Escape,
    /// A plain scalar with `: ` in it.
    Colon,
    /// Anchors, aliases, tags, directives, `? `.
    NotSupported,
    /// A second document.
    SecondDocument,
}

/// The problem and its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct YamlError {
    /// From 1 on.
    pub line: usize,
    /// What it is.
    pub problem: Problem,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.problem {
            Problem::NotText => "it is no text in UTF-8",
            Problem::TooLarge => "it is too large",
            Problem::TooDeep => "values are nested too deep",
            Problem::Tab => "a tab cannot be indentation",
            Problem::Indentation => "the indentation fits no line above",
            Problem::NoKey => "there is no `key:`",
            Problem::KeyTwice => "a key comes twice",
            Problem::NotClosed => "a quote or a bracket is not closed, or something follows it",
            Problem::Escape => "a `\\` with a character that means nothing",
            Problem::Colon => "a `: ` in a text without quotes",
            Problem::NotSupported => "anchors, aliases, tags and directives are not understood",
            Problem::SecondDocument => "there is a second document",
        };
        write!(f, "line {}: {text}", self.line)
    }
}

/// Reads a text.
pub fn parse(bytes: &[u8]) -> Result<Value, YamlError> {
    let at = |line, problem| YamlError { line, problem };
    if bytes.len() > MAX_BYTES || bytes.iter().filter(|byte| **byte == b'\n').count() >= MAX_LINES {
        return Err(at(1, Problem::TooLarge));
    }
    let text = core::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        at(before.iter().filter(|byte| **byte == b'\n').count() + 1, Problem::NotText)
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line).to_owned());
    let mut parser = Parser { lines: lines.collect(), at: 0, depth: 0 };
    parser.document().map_err(|problem| at(parser.at.min(parser.lines.len() - 1) + 1, problem))
}

/// A reader that goes from line to line. What is read of a line before the rest of it is replaced by spaces: the rest of
/// `- key: value` is a line of its own, indented by two more.
struct Parser {
    lines: Vec<String>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn document(&mut self) -> Result<Value, Problem> {
        if self.content()?.is_some_and(|(indent, line)| indent == 0 && line.starts_with('%')) {
            return Err(Problem::NotSupported);
        }
        if self.content()?.is_some() && self.lines[self.at].starts_with("---") {
            self.lines[self.at].replace_range(..3, "   ");
        }
        let value = self.node(0)?;
        match self.content()? {
            Some((0, line)) if line.starts_with("---") => Err(Problem::SecondDocument),
            Some((0, "...")) => Ok(value),
            Some(_) => Err(Problem::Indentation),
            None => Ok(value),
        }
    }

    /// The indentation and the content of the next line that has some.
    fn content(&mut self) -> Result<Option<(usize, &str)>, Problem> {
        while let Some(line) = self.lines.get(self.at) {
            let content = line.trim_start_matches(' ');
            if content.starts_with('\t') && !content.trim_start_matches(WHITE).is_empty() {
                return Err(Problem::Tab);
            }
            if !content.trim_start_matches(WHITE).is_empty() && !content.starts_with('#') {
                break;
            }
            self.at += 1;
        }
        let line = self.lines.get(self.at);
        Ok(line.map(|line| (line.len() - line.trim_start_matches(' ').len(), line.trim_matches(WHITE))))
    }

    /// A value that is indented by so much at least.
    fn node(&mut self, least: usize) -> Result<Value, Problem> {
        let Some((indent, line)) = self.content()? else { return Ok(Value::Null) };
        let is_end = indent == 0 && (line.starts_with("---") || line == "...");
        if indent < least || is_end {
            return Ok(Value::Null);
        }
        let (is_item, is_entry) = (is_item(line), scalar::split_key(line)?.is_some());
        if self.depth == MAX_DEPTH {
            return Err(Problem::TooDeep);
        }
        self.depth += 1;
        let value = if is_item {
            self.sequence(indent)?
        } else if is_entry {
            self.mapping(indent)?
        } else {
            self.value(indent, least)?
        };
        self.depth -= 1;
        Ok(value)
    }

    fn sequence(&mut self, indent: usize) -> Result<Value, Problem> {
        let mut values = Vec::new();
        while let Some((own, line)) = self.content()? {
            if own < indent || own == indent && !is_item(line) {
                break;
            }
            if own > indent {
                return Err(Problem::Indentation);
            }
            let rest = line[1..].trim_start_matches(WHITE);
            if rest.is_empty() || rest.starts_with('#') {
                self.at += 1;
            } else {
                self.lines[self.at].replace_range(indent..=indent, " ");
            }
            if values.len() == MAX_ENTRIES {
                return Err(Problem::TooLarge);
            }
            values.push(self.node(indent + 1)?);
        }
        Ok(Value::List(values))
    }

    fn mapping(&mut self, indent: usize) -> Result<Value, Problem> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        while let Some((own, line)) = self.content()? {
            let is_end = own == 0 && (line.starts_with("---") || line == "...");
            if own < indent || is_end || is_item(line) && own == indent {
                break;
            }
            if own > indent {
                return Err(Problem::Indentation);
            }
            let (key, len) = scalar::split_key(line)?.ok_or(Problem::NoKey)?;
            check_new(&entries, &key)?;
            let rest = line[len..].trim_start_matches(WHITE);
            let value = if rest.is_empty() || rest.starts_with('#') {
                self.at += 1;
                // The items of a sequence may stand below their key.
                let is_list = self.content()?.is_some_and(|(own, line)| own == indent && is_item(line));
                self.node(if is_list { indent } else { indent + 1 })?
            } else {
                self.lines[self.at].replace_range(..indent + len, &" ".repeat(indent + len));
                self.value(indent + len, indent + 1)?
            };
            entries.push((key, value));
        }
        Ok(Value::Map(entries))
    }

    /// The value that a line has from a column on; the lines of a text are indented by `least` or more.
    fn value(&mut self, column: usize, least: usize) -> Result<Value, Problem> {
        let line = self.lines[self.at][column..].trim_matches(WHITE);
        match line.as_bytes()[0] {
            b'|' | b'>' => {
                let header = line.to_owned();
                self.at += 1;
                self.block(&header, least).map(Value::Text)
            }
            b'[' | b'{' => self.flow(column),
            b'&' | b'*' | b'!' | b'%' | b'@' | b'`' => Err(Problem::NotSupported),
            _ => {
                let value = scalar::whole(line)?;
                self.at += 1;
                Ok(value)
            }
        }
    }
}

/// A mapping may be that long, and has each key once.
fn check_new(entries: &[(String, Value)], key: &str) -> Result<(), Problem> {
    if entries.len() == MAX_ENTRIES {
        return Err(Problem::TooLarge);
    }
    let is_there = entries.iter().any(|(known, _)| known == key);
    if is_there { Err(Problem::KeyTwice) } else { Ok(()) }
}

/// True for an item of a sequence.
fn is_item(line: &str) -> bool {
    line == "-" || line.starts_with("- ")
}
