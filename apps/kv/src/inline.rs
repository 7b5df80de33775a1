//! A request as a line of words, as people type it: words may be quoted as Redis quotes them.

use std::ops::Range;

/// Splits a line: appends the words' bytes to `words` and their places there to `spans`. `None` if the
/// quotes do not match.
pub(crate) fn split(line: &[u8], words: &mut Vec<u8>, spans: &mut Vec<Range<usize>>) -> Option<()> {
    let mut rest = skip_blanks(line);
    while !rest.is_empty() {
        let start = words.len();
        rest = skip_blanks(word(rest, words)?);
        spans.push(start..words.len());
    }
    Some(())
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b || byte == 0
}

fn skip_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|&&byte| is_blank(byte)).count();
    &line[blanks..]
}

/// Reads one word; answers what follows it. A quoted part ends the word.
fn word<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match byte {
            b'"' => return closed(double_quoted(tail, out)?),
            b'\'' => return closed(single_quoted(tail, out)?),
            byte if is_blank(byte) => return Some(rest),
            byte => {
                out.push(byte);
                tail
            }
        };
    }
    Some(rest)
}

/// Behind a closing quote comes a blank or nothing.
fn closed(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(|&byte| is_blank(byte)).then_some(rest)
}

/// Up to the closing quote, with `\n`, `\xHH` and the like.
fn double_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex(*high) << 4 | hex(*low));
                tail
            }
            [b'\\', escaped, tail @ ..] => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                tail
            }
            [b'"', tail @ ..] => return Some(tail),
            [byte, tail @ ..] => {
                out.push(*byte);
                tail
            }
            [] => return None,
        }
    }
}

/// Up to the closing quote, in which only `\'` is special.
fn single_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, tail) = match rest {
            [b'\\', b'\'', tail @ ..] => (b'\'', tail),
            [b'\'', tail @ ..] => return Some(tail),
            [byte, tail @ ..] => (*byte, tail),
            [] => return None,
        };
        out.push(byte);
        rest = tail;
    }
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).map_or(0, |value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        split(line.as_bytes(), &mut bytes, &mut spans)?;
        Some(spans.into_iter().map(|span| String::from_utf8_lossy(&bytes[span]).into_owned()).collect())
    }

    #[test]
    fn words_are_split_at_blanks() {
        assert_eq!(words("  get\ta  ").unwrap(), ["get", "a"]);
        assert_eq!(words("").unwrap(), [""; 0]);
    }

    #[test]
    fn quotes_are_taken_off() {
        assert_eq!(words(r#"a"b c" 'd \' e' "\x41\n\q""#).unwrap(), ["ab c", "d ' e", "A\nq"]);
        assert_eq!(words(r#""" ''"#).unwrap(), ["", ""]);
    }

    #[test]
    fn open_quotes_are_refused() {
        for bad in [r#""a"#, "'a", r#""a"b"#, "'a'b", r#""a\""#] {
            assert_eq!(words(bad), None, "{bad}");
        }
    }
}
