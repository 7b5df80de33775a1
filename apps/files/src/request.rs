//! The head of a request, as far as it matters here.

/// Room for heads. Longer ones are refused.
pub(crate) const HEAD_BYTES: usize = 8192;
const MOST_FIELDS: usize = 64;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method {
    Get,
    Head,
    /// Nothing that a server of files does.
    Other,
}

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// The target without its query, still encoded.
    pub(crate) path: String,
    /// The connection stays after it.
    pub(crate) keeps_alive: bool,
    pub(crate) range: Option<String>,
    pub(crate) if_range: Option<String>,
    pub(crate) if_match: Option<String>,
    pub(crate) if_none_match: Option<String>,
    pub(crate) if_modified_since: Option<String>,
    pub(crate) if_unmodified_since: Option<String>,
}

/// What the front of some bytes is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Parsed {
    /// A whole head of so many bytes.
    Request(Box<Request>, usize),
    /// The rest is still to come.
    Partial,
    /// Nothing that can be gone on from; the status to answer.
    Broken(u16),
}

/// Looks for a request's head.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES => return Parsed::Partial,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => return Parsed::Broken(431),
        Err(_) => return Parsed::Broken(400),
    };
    let is_current = head.version == Some(1);
    if is_current && all(&head, "host").is_none() {
        return Parsed::Broken(400);
    }
    let has_body = all(&head, "content-length").is_some_and(|len| len.trim() != "0");
    if has_body || all(&head, "transfer-encoding").is_some() {
        return Parsed::Broken(413);
    }
    Parsed::Request(Box::new(request(&head, is_current)), len)
}

/// All values of a field: several lines of a list are one list (RFC 9110, section 5.3).
fn all(head: &httparse::Request<'_, '_>, name: &str) -> Option<String> {
    let named = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    let values: Vec<&str> = named.filter_map(|field| std::str::from_utf8(field.value).ok()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn request(head: &httparse::Request<'_, '_>, is_current: bool) -> Request {
    let connection = all(head, "connection").unwrap_or_default().to_ascii_lowercase();
    let says = |word: &str| connection.split(',').any(|said| said.trim() == word);
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => Method::Other,
    };
    Request {
        method,
        path: path_of(head.path.unwrap_or_default()).to_owned(),
        keeps_alive: if is_current { !says("close") } else { says("keep-alive") },
        range: all(head, "range"),
        if_range: all(head, "if-range"),
        if_match: all(head, "if-match"),
        if_none_match: all(head, "if-none-match"),
        if_modified_since: all(head, "if-modified-since"),
        if_unmodified_since: all(head, "if-unmodified-since"),
    }
}

/// The path of a target: in the form that is sent to proxies, an authority comes before it (RFC 9112, section 3.2).
fn path_of(target: &str) -> &str {
    let path = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    path.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Request {
        match parse(head.as_bytes()) {
            Parsed::Request(request, len) if len == head.len() => *request,
            other => panic!("{head}: {other:?}"),
        }
    }

    #[test]
    fn heads_are_understood() {
        let found = request("GET /a%20b?c=d HTTP/1.1\r\nHost: x\r\nRANGE: bytes=0-1\r\nrange: 4-5\r\n\r\n");
        assert_eq!((found.method, found.path.as_str(), found.keeps_alive), (Method::Get, "/a%20b", true));
        assert_eq!(found.range.as_deref(), Some("bytes=0-1, 4-5"));
        assert!(!request("GET / HTTP/1.1\r\nHost: x\r\nConnection: TE, Close\r\n\r\n").keeps_alive);
        assert!(!request("HEAD / HTTP/1.0\r\n\r\n").keeps_alive);
        assert!(request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keeps_alive);
        assert_eq!(request("GET http://x/y?z HTTP/1.1\r\nHost: x\r\n\r\n").path, "/y");
        assert_eq!(request("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").method, Method::Other);
    }

    #[test]
    fn what_is_none_is_refused() {
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHos"), Parsed::Partial);
        assert_eq!(parse(b"GET / HTTP/1.1\r\n\r\n"), Parsed::Broken(400));
        assert_eq!(parse(b"nonsense\r\n\r\n"), Parsed::Broken(400));
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"), Parsed::Broken(413));
        let long = format!("GET / HTTP/1.1\r\nHost: {}", "x".repeat(HEAD_BYTES));
        assert_eq!(parse(long.as_bytes()), Parsed::Broken(431));
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(70));
        assert_eq!(parse(many.as_bytes()), Parsed::Broken(431));
    }
}
