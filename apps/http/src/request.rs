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

/// Parses the front of a buffer.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(httparse::Error::TooManyHeaders) => return Parsed::Broken(response::HEAD_TOO_LARGE),
        Err(_) => return Parsed::Broken(response::BAD_REQUEST),
    };
    let mut wants_close = request.version == Some(0);
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("connection") {
            wants_close = header.value.eq_ignore_ascii_case(b"close")
                || wants_close && !header.value.eq_ignore_ascii_case(b"keep-alive");
        } else if header.name.eq_ignore_ascii_case("transfer-encoding")
            || header.name.eq_ignore_ascii_case("content-length") && header.value != b"0"
        {
            // No route takes a body, and guessing its end would let requests be smuggled in.
            return Parsed::Broken(response::TOO_LARGE);
        }
    }
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => Method::Other,
    };
    Parsed::Request(Request { method, path: request.path.unwrap_or("/"), wants_close, len })
}
