//! What is answered.

use alloc::format;

use crate::connection::Outbox;
use crate::files::Files;
use crate::metrics::Metrics;
use crate::request::{Method, Request};

const HELLO: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
const JSON: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"message\":\"Hello, World!\"}";
const NOT_FOUND: &[u8] =
    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nNot Found\n";
const BAD_METHOD: &[u8] = b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\nContent-Length: 0\r\n\r\n";
/// To what is no HTTP; the connection ends.
pub(crate) const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
/// To a request with a body; the connection ends.
pub(crate) const TOO_LARGE: &[u8] =
    b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
/// To a head that does not fit; the connection ends.
pub(crate) const HEAD_TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Answers one request.
pub(crate) fn answer(request: &Request<'_>, files: &Files, metrics: &Metrics, out: &mut Outbox<'_>) {
    if request.method == Method::Other {
        return out.push(BAD_METHOD);
    }
    let path = request.path.split('?').next().unwrap_or("/");
    match path {
        "/" => whole(request, HELLO, out),
        "/json" => whole(request, JSON, out),
        "/metrics" => {
            let text = metrics.render();
            if head(request, "text/plain; version=0.0.4", text.len(), out) {
                out.push(text.as_bytes());
            }
        }
        _ => match path.strip_prefix("/static/").and_then(|name| files.find(name)) {
            Some(file) => {
                if head(request, file.content_type, file.content.len(), out) {
                    out.push_shared(&file.content);
                }
            }
            None => whole(request, NOT_FOUND, out),
        },
    }
}

/// Sends a prepared answer, or its head.
fn whole(request: &Request<'_>, answer: &[u8], out: &mut Outbox<'_>) {
    if request.method == Method::Head {
        let end =
            answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        out.push(&answer[..end]);
    } else {
        out.push(answer);
    }
}

/// Sends a head made for a body of this length. True if the body is wanted, too.
fn head(request: &Request<'_>, content_type: &str, len: usize, out: &mut Outbox<'_>) -> bool {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\n\r\n");
    out.push(head.as_bytes());
    request.method != Method::Head
}
