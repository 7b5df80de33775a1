//! What is sent: replies to clients, and requests as the log has them (RESP2).

use std::fmt::Display;
use std::io::Write;

/// `+text`
pub(crate) fn simple(out: &mut Vec<u8>, text: &str) {
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    end_line(out);
}

/// `-text`, in one line whatever it is.
pub(crate) fn error(out: &mut Vec<u8>, text: &dyn Display) {
    out.push(b'-');
    let start = out.len();
    // A `Vec` takes everything.
    let _ = write!(out, "{text}");
    out[start..].iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
    end_line(out);
}

/// `:number`
pub(crate) fn integer(out: &mut Vec<u8>, number: i64) {
    prefixed(out, b':', number);
}

/// `:count`
pub(crate) fn count(out: &mut Vec<u8>, count: usize) {
    integer(out, i64::try_from(count).unwrap_or(i64::MAX));
}

/// A string of any bytes.
pub(crate) fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 32);
    prefixed(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    end_line(out);
}

/// A string, or that there is none.
pub(crate) fn bulk_or_null(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => bulk(out, bytes),
        None => out.extend_from_slice(b"$-1\r\n"),
    }
}

/// Begins an array of so many elements.
pub(crate) fn array(out: &mut Vec<u8>, len: usize) {
    prefixed(out, b'*', len);
}

/// An array of strings: a request.
pub(crate) fn request<'a>(out: &mut Vec<u8>, arguments: impl ExactSizeIterator<Item = &'a [u8]>) {
    array(out, arguments.len());
    arguments.for_each(|argument| bulk(out, argument));
}

fn prefixed(out: &mut Vec<u8>, kind: u8, number: impl itoa::Integer) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    end_line(out);
}

fn end_line(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_framed() {
        let mut out = Vec::new();
        array(&mut out, 5);
        simple(&mut out, "OK");
        error(&mut out, &"ERR two\r\nlines");
        integer(&mut out, -7);
        bulk(&mut out, b"a\r\n");
        bulk_or_null(&mut out, None);
        assert_eq!(out, b"*5\r\n+OK\r\n-ERR two  lines\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n");
    }
}
