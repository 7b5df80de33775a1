//! Requests of HTTP/1.1 (RFC 9112), as far as an owner's tools make them: `curl`, Prometheus, `go tool pprof`.

use alloc::format;
use alloc::string::String;

/// No request is longer: a line and what clients say of themselves.
pub const MAX_BYTES: usize = 4096;
/// Headers at most; curl sends three, Prometheus six, a browser fifteen.
const MAX_HEADERS: usize = 32;

/// What has arrived so far.
#[derive(PartialEq, Eq, Debug)]
pub enum Parsed<'a> {
    /// The beginning of a request.
    Partial,
    /// A request, and how many bytes it has.
    Whole(Request<'a>, usize),
    /// Nothing that is answered with more than this.
    Refused(Status),
}

/// A request for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    /// Before the `?`.
    pub path: &'a str,
    /// Behind it.
    pub query: &'a str,
    /// `HEAD`: the answer has no body.
    pub is_head: bool,
    /// The client wants to ask more on the same connection.
    pub is_persistent: bool,
}

impl<'a> Request<'a> {
    /// The value of `name=value` in the query. Nothing is decoded: no value that is understood needs it.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// How an answer begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// 200.
    Ok,
    /// 400.
    BadRequest,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 431.
    TooLarge,
    /// 503: there is no memory for the answer.
    Unavailable,
}

impl Status {
    /// Its number and reason.
    pub const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::TooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
        }
    }
}

/// Reads what has arrived.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_BYTES => return Parsed::Partial,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Parsed::Refused(Status::TooLarge);
        }
        Err(_) => return Parsed::Refused(Status::BadRequest),
    };
    let header = |name: &str| {
        let mut named = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named.next().map(|header| header.value)
    };
    // What would be a body is no request of its own: whoever took it for one could be made to ask in somebody's name.
    let has_body = header("content-length").is_some_and(|value| value != b"0");
    if has_body || header("transfer-encoding").is_some() {
        return Parsed::Refused(Status::BadRequest);
    }
    let is_head = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Parsed::Refused(Status::MethodNotAllowed),
    };
    let says = |word: &[u8]| header("connection").is_some_and(|value| value.eq_ignore_ascii_case(word));
    let is_persistent = if request.version == Some(1) { !says(b"close") } else { says(b"keep-alive") };
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Parsed::Whole(Request { path, query, is_head, is_persistent }, length)
}

/// The head of an answer with so many bytes.
pub fn head(status: Status, content_type: &str, length: usize, is_persistent: bool) -> String {
    let connection = if is_persistent { "keep-alive" } else { "close" };
    // What is true now is not to be shown later.
    format!(
        "HTTP/1.1 {}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\nConnection: {connection}\r\n\r\n",
        status.line()
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> (Request<'_>, usize) {
        match parse(text.as_bytes()) {
            Parsed::Whole(request, length) => (request, length),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn refusal(text: &str) -> Status {
        match parse(text.as_bytes()) {
            Parsed::Refused(status) => status,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn a_request_has_a_path_and_parameters() {
        let text = "GET /profile?seconds=3&hz=&x HTTP/1.1\r\nHost: a\r\n\r\nGET /";
        let (request, length) = whole(text);
        assert_eq!((request.path, &text[length..]), ("/profile", "GET /"));
        let parameters = ["seconds", "hz", "x", "second"].map(|name| request.parameter(name));
        assert_eq!(parameters, [Some("3"), Some(""), Some(""), None]);
    }

    #[test]
    fn who_wants_the_connection_to_stay_says_so_by_version_or_header() {
        let stays = |text: &str| whole(text).0.is_persistent;
        assert!(stays("GET / HTTP/1.1\r\n\r\n"));
        assert!(!stays("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n"));
        assert!(!stays("GET / HTTP/1.0\r\n\r\n"));
        assert!(stays("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn other_requests_are_refused() {
        assert_eq!(refusal("POST / HTTP/1.1\r\n\r\n"), Status::MethodNotAllowed);
        assert_eq!(refusal("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"), Status::BadRequest);
        assert_eq!(refusal("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), Status::BadRequest);
        assert_eq!(refusal("GET / HTTP/2.0\r\n\r\n"), Status::BadRequest);
        assert_eq!(refusal("\u{16}\u{3}\u{1} a TLS client"), Status::BadRequest);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(refusal(&many), Status::TooLarge);
        assert_eq!(refusal(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(MAX_BYTES))), Status::TooLarge);
    }

    #[test]
    fn a_head_says_how_long_the_answer_is() {
        let text = head(Status::NotFound, "text/plain", 12, false);
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n") && text.ends_with("\r\n\r\n"));
        assert!(text.contains("Content-Length: 12\r\n") && text.contains("Connection: close\r\n"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            if let Parsed::Whole(_, length) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }

        /// In whatever pieces a request arrives, it is the same one.
        #[test]
        fn a_beginning_is_no_request(cut in 0_usize..40) {
            let text = b"GET /threads?a=b HTTP/1.1\r\nHost: me\r\n\r\n";
            prop_assert_eq!(parse(&text[..cut.min(text.len() - 1)]), Parsed::Partial);
        }
    }
}
