//! Requests as clients send them (RESP2): arrays of bulk strings, or a line of words.
//!
//! [`Parser`] takes what has arrived of a request and goes on where it stopped, so that a request in many
//! pieces costs no more than one in one. It allocates for what has arrived, never for what is announced.
//! Errors have the texts of Redis.

use std::fmt;
use std::ops::Range;

use crate::inline;

/// The longest line: a request of words, or a count.
pub(crate) const MAX_LINE_BYTES: usize = 64 << 10;
/// The most arguments of a request.
pub(crate) const MAX_ARGUMENTS: i64 = 1 << 20;

/// Whether the front of the input holds a whole request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parsed {
    /// It does, of so many bytes. It may have no arguments, which is to be ignored.
    Request(usize),
    /// The rest is still to come.
    Partial,
}

/// What ends a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ProtocolError {
    BulkLength,
    MultibulkLength,
    ExpectedBulk(u8),
    LongCount(&'static str),
    LongLine,
    Quotes,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            Self::BulkLength => f.write_str("invalid bulk length"),
            Self::MultibulkLength => f.write_str("invalid multibulk length"),
            Self::ExpectedBulk(found) => write!(f, "expected '$', got '{}'", char::from(*found)),
            Self::LongCount(what) => write!(f, "too big {what} count string"),
            Self::LongLine => f.write_str("too big inline request"),
            Self::Quotes => f.write_str("unbalanced quotes in request"),
        }
    }
}

/// The arguments of a request, the command's name first.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a> {
    bytes: &'a [u8],
    spans: &'a [Range<usize>],
}

impl<'a> Arguments<'a> {
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Argument number `index`, which there must be.
    pub(crate) fn get(&self, index: usize) -> &'a [u8] {
        &self.bytes[self.spans[index].clone()]
    }

    /// Those from number `first` on.
    pub(crate) fn from(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        self.spans[first..].iter().map(|span| &self.bytes[span.clone()])
    }

    /// True if a line ends behind each: the protocol wants it, but as in Redis nobody refuses a client
    /// that sends something else there.
    pub(crate) fn are_framed(&self) -> bool {
        self.spans.iter().all(|span| self.bytes.get(span.end..span.end + 2) == Some(b"\r\n"))
    }
}

/// A request in the making.
pub(crate) struct Parser {
    /// The longest bulk string that is taken.
    max_bulk: usize,
    /// Arguments that are still to come, once their number is known.
    missing: Option<usize>,
    /// How far the input has been read.
    position: usize,
    /// The length of the bulk string at `position`, once it is known.
    bulk: Option<usize>,
    spans: Vec<Range<usize>>,
    /// The words of a line, without their quotes. Spans of such a request point here.
    words: Option<Vec<u8>>,
}

impl Parser {
    /// A parser that refuses bulk strings of more than so many bytes.
    pub(crate) fn new(max_bulk: usize) -> Self {
        Self { max_bulk, missing: None, position: 0, bulk: None, spans: Vec::new(), words: None }
    }

    /// Looks for a request at the front of `input`, which holds at least what it held at the last call.
    pub(crate) fn parse(&mut self, input: &[u8]) -> Result<Parsed, ProtocolError> {
        match (self.missing, input.first()) {
            (None, None) => Ok(Parsed::Partial),
            (None, Some(b'*')) => self.parse_count(input),
            (None, Some(_)) => self.parse_words(input),
            (Some(_), _) => self.parse_bulks(input),
        }
    }

    /// The arguments of the request that [`Self::parse`] has found in the same input.
    pub(crate) fn arguments<'a>(&'a self, input: &'a [u8]) -> Arguments<'a> {
        Arguments { bytes: self.words.as_deref().unwrap_or(input), spans: &self.spans }
    }

    /// Makes ready for the next request.
    pub(crate) fn reset(&mut self) {
        (self.missing, self.position, self.bulk, self.words) = (None, 0, None, None);
        self.spans.clear();
        self.spans.shrink_to(64);
    }

    /// Memory that it holds.
    pub(crate) fn held_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Range<usize>>() + self.words.as_ref().map_or(0, Vec::capacity)
    }

    fn parse_count(&mut self, input: &[u8]) -> Result<Parsed, ProtocolError> {
        let Some((line, next)) = line(input, 1).ok_or(ProtocolError::LongCount("mbulk"))? else {
            return Ok(Parsed::Partial);
        };
        let count = number(line).filter(|&count| count <= MAX_ARGUMENTS);
        let count = count.ok_or(ProtocolError::MultibulkLength)?;
        self.position = next;
        self.missing = Some(usize::try_from(count).unwrap_or(0));
        self.parse_bulks(input)
    }

    fn parse_bulks(&mut self, input: &[u8]) -> Result<Parsed, ProtocolError> {
        while self.missing != Some(0) {
            let len = match self.bulk {
                Some(len) => len,
                None => match self.bulk_len(input)? {
                    Some(len) => *self.bulk.insert(len),
                    None => return Ok(Parsed::Partial),
                },
            };
            let end = self.position + len;
            if input.len() < end + 2 {
                return Ok(Parsed::Partial);
            }
            self.spans.push(self.position..end);
            self.position = end + 2;
            self.bulk = None;
            self.missing = self.missing.map(|missing| missing - 1);
        }
        Ok(Parsed::Request(self.position))
    }

    /// Reads `$LENGTH` and steps behind it.
    fn bulk_len(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        match input.get(self.position) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
        }
        let Some((line, next)) = line(input, self.position + 1).ok_or(ProtocolError::LongCount("bulk"))?
        else {
            return Ok(None);
        };
        let len = number(line).and_then(|len| usize::try_from(len).ok()).filter(|&len| len <= self.max_bulk);
        self.position = next;
        Ok(Some(len.ok_or(ProtocolError::BulkLength)?))
    }

    fn parse_words(&mut self, input: &[u8]) -> Result<Parsed, ProtocolError> {
        let Some(end) = input.iter().take(MAX_LINE_BYTES + 1).position(|&byte| byte == b'\n') else {
            let is_long = input.len() > MAX_LINE_BYTES;
            return if is_long { Err(ProtocolError::LongLine) } else { Ok(Parsed::Partial) };
        };
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        let words = self.words.insert(Vec::new());
        inline::split(line, words, &mut self.spans).ok_or(ProtocolError::Quotes)?;
        Ok(Parsed::Request(end + 1))
    }
}

/// The line that begins at `start`, and where the next one does: `Some(None)` if it has not ended yet,
/// `None` if it is too long.
fn line(input: &[u8], start: usize) -> Option<Option<(&[u8], usize)>> {
    let rest = &input[start..];
    match rest.iter().take(MAX_LINE_BYTES).position(|&byte| byte == b'\r') {
        Some(len) if rest.len() >= len + 2 => Some(Some((&rest[..len], start + len + 2))),
        None if rest.len() >= MAX_LINE_BYTES => None,
        _ => Some(None),
    }
}

/// A decimal number as Redis takes it: no plus, no blanks, no needless zeros.
pub(crate) fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_plain = match digits {
        b"0" => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_plain {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX_BULK: usize = 1000;

    fn request(arguments: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        crate::reply::request(&mut bytes, arguments.iter().map(Vec::as_slice));
        bytes
    }

    fn parse(input: &[u8]) -> Result<Option<Vec<Vec<u8>>>, ProtocolError> {
        let mut parser = Parser::new(MAX_BULK);
        Ok(match parser.parse(input)? {
            Parsed::Request(_) => Some(parser.arguments(input).from(0).map(<[u8]>::to_vec).collect()),
            Parsed::Partial => None,
        })
    }

    #[test]
    fn numbers_are_plain() {
        assert_eq!(number(b"-9223372036854775808"), Some(i64::MIN));
        for bad in ["", "-", "+1", "01", " 1", "1 ", "-0", "9223372036854775808", "1.0", "0x1"] {
            assert_eq!(number(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn bad_requests_have_the_texts_of_redis() {
        let text = |input: &[u8]| parse(input).unwrap_err().to_string();
        assert_eq!(text(b"*1048577\r\n"), "Protocol error: invalid multibulk length");
        assert_eq!(text(b"*x\r\n"), "Protocol error: invalid multibulk length");
        assert_eq!(text(b"*1\r\n:1\r\n"), "Protocol error: expected '$', got ':'");
        assert_eq!(text(b"*1\r\n$-1\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(text(b"*1\r\n$1001\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(text(&[b'x'; MAX_LINE_BYTES + 1]), "Protocol error: too big inline request");
        let long_count = [b"*".as_slice(), &[b'1'; MAX_LINE_BYTES]].concat();
        assert_eq!(text(&long_count), "Protocol error: too big mbulk count string");
        assert_eq!(text(b"get \"a\r\n"), "Protocol error: unbalanced quotes in request");
    }

    #[test]
    fn empty_requests_are_requests() {
        for empty in ["*0\r\n", "*-1\r\n", "\r\n", "\n"] {
            assert_eq!(parse(empty.as_bytes()), Ok(Some(Vec::new())), "{empty:?}");
        }
    }

    #[test]
    fn words_are_a_request() {
        let words = parse(b"SET 'a key' \"\\x00\\n\"\r\nrest").unwrap().unwrap();
        assert_eq!(words, [b"SET".to_vec(), b"a key".to_vec(), vec![0, b'\n']]);
    }

    #[test]
    fn announcements_allocate_nothing() {
        let mut parser = Parser::new(512 << 20);
        assert_eq!(parser.parse(b"*1048576\r\n$536870912\r\nx"), Ok(Parsed::Partial));
        assert!(parser.held_bytes() < 1024);
    }

    proptest! {
        #[test]
        fn requests_come_back(
            arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            tail in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let bytes = request(&arguments);
            let input = [bytes.clone(), tail].concat();
            let mut parser = Parser::new(MAX_BULK);
            prop_assert_eq!(parser.parse(&input), Ok(Parsed::Request(bytes.len())));
            let found: Vec<Vec<u8>> = parser.arguments(&input).from(0).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(found, arguments);
        }

        /// In pieces it is the same request, and no byte too early.
        #[test]
        fn pieces_make_the_whole(
            arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
        ) {
            let bytes = request(&arguments);
            let mut parser = Parser::new(MAX_BULK);
            for len in 0..bytes.len() {
                prop_assert_eq!(parser.parse(&bytes[..len]), Ok(Parsed::Partial));
            }
            prop_assert_eq!(parser.parse(&bytes), Ok(Parsed::Request(bytes.len())));
            prop_assert_eq!(parser.arguments(&bytes).len(), arguments.len());
        }

        /// Nonsense is an error or waits for more; it never panics, and a piece more changes no verdict.
        #[test]
        fn nonsense_is_survived(input in prop::collection::vec(prop::sample::select(b"*$-19\r\nx\"'\\ ".to_vec()), 0..60)) {
            let whole = parse(&input);
            let mut parser = Parser::new(MAX_BULK);
            let mut by_piece = Ok(Parsed::Partial);
            for len in 0..=input.len() {
                by_piece = parser.parse(&input[..len]);
                if by_piece != Ok(Parsed::Partial) {
                    break;
                }
            }
            prop_assert_eq!(whole.is_err(), by_piece.is_err());
        }
    }
}
