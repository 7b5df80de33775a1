//! What the server answers, ready to be sent.

/// Answer to `/`.
pub(crate) const HELLO: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
/// Answer to `/json`.
pub(crate) const JSON: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"message\":\"Hello, World!\"}";
/// Answer to any other path.
pub(crate) const NOT_FOUND: &[u8] =
    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nNot Found\n";
/// Answer to a method that is not served.
pub(crate) const BAD_METHOD: &[u8] =
    b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\nContent-Length: 0\r\n\r\n";
/// Answer to what is no HTTP; the connection ends.
pub(crate) const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
/// Answer to a request with a body, which no route takes; the connection ends.
pub(crate) const TOO_LARGE: &[u8] =
    b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
/// Answer to a head that does not fit the buffer; the connection ends.
pub(crate) const HEAD_TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// The head of a response, up to and with the empty line, for `HEAD` requests.
pub(crate) fn head_of(response: &[u8]) -> &[u8] {
    let end =
        response.windows(4).position(|window| window == b"\r\n\r\n").map_or(response.len(), |at| at + 4);
    &response[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_lengths_are_right() {
        for response in [HELLO, JSON, NOT_FOUND, BAD_METHOD, BAD_REQUEST, TOO_LARGE, HEAD_TOO_LARGE] {
            let head = std::str::from_utf8(head_of(response)).unwrap();
            let stated = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            assert_eq!(stated.parse::<usize>().unwrap(), response.len() - head.len());
        }
    }
}
