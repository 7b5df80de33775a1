//! Requests, parsed where they lie.

use crate::response;

/// More header fields than this are refused.
const MAX_HEADERS: usize = 32;

/// What a client may ask with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method {
    Get,
    Head,
    Other,
}

/// One whole request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    /// The client, or its version of the protocol, wants no more answers on this connection.
    pub(crate) wants_close: bool,
    /// Bytes of it.
    pub(crate) len: usize,
}

/// What the front of a buffer holds.
pub(crate) enum Parsed<'a> {
    /// A whole request.
    Request(Request<'a>),
    /// The beginning of one.
    Partial,
    /// Nothing that can be gone on from, and the last answer.
    Broken(&'static [u8]),
}

/// Parses the front of a buffer (RFC 9112): a request line, header fields, an empty line. Lines may
/// end in a bare LF (section 2.2). What is not allowed is refused rather than guessed at.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let mut lines = Lines { bytes, at: 0 };
    let Some(line) = lines.next() else { return Parsed::Partial };
    let Some((method, path, is_old)) = request_line(line) else {
        return Parsed::Broken(response::BAD_REQUEST);
    };
    let mut request = Request { method, path, wants_close: is_old, len: 0 };
    for _ in 0..=MAX_HEADERS {
        let Some(line) = lines.next() else { return Parsed::Partial };
        if line.is_empty() {
            return Parsed::Request(Request { len: lines.at, ..request });
        }
        match header_field(line) {
            Some((name, value)) if name.eq_ignore_ascii_case(b"connection") => {
                let keeps = value.eq_ignore_ascii_case(b"keep-alive");
                request.wants_close = value.eq_ignore_ascii_case(b"close") || is_old && !keeps;
            }
            // No route takes a body, and guessing its end would let requests be smuggled in.
            Some((name, value)) if announces_body(name, value) => return Parsed::Broken(response::TOO_LARGE),
            Some(_) => {}
            None => return Parsed::Broken(response::BAD_REQUEST),
        }
    }
    Parsed::Broken(response::HEAD_TOO_LARGE)
}

/// The lines of a head, without their ends. Stops where a line is not complete.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        self.at += end + 1;
        let line = &rest[..end];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// Method, path, and whether the version is 1.0.
fn request_line(line: &[u8]) -> Option<(Method, &str, bool)> {
    let mut words = line.split(|&byte| byte == b' ');
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    let is_old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return None,
    };
    let is_token = !method.is_empty() && method.iter().all(|&byte| is_token_byte(byte));
    let is_path = path.starts_with(b"/") && path.iter().all(u8::is_ascii_graphic);
    if words.next().is_some() || !is_token || !(is_path || path == b"*") {
        return None;
    }
    let method = match method {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        _ => Method::Other,
    };
    Some((method, core::str::from_utf8(path).ok()?, is_old))
}

/// Name and trimmed value; no blank may stand before the colon (RFC 9112, section 5.1).
fn header_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let is_good = !name.is_empty()
        && name.iter().all(|&byte| is_token_byte(byte))
        && value.iter().all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f);
    is_good.then_some((name, value))
}

fn announces_body(name: &[u8], value: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"transfer-encoding")
        || name.eq_ignore_ascii_case(b"content-length") && value != b"0"
}

/// What a method or field name is made of (RFC 9110, section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
