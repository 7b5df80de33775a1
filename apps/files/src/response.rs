//! From a request to what is sent: bytes, and parts of a file.

use std::collections::VecDeque;
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::time::SystemTime;

use crate::condition::{self, Verdict};
use crate::place::{Found, Opened, Root};
use crate::range::{self, Wanted};
use crate::request::{Method, Request};
use crate::{kind, listing};

/// Between the parts of a body with several. No file is searched for it: a part's length says where it ends, and
/// the odds of these letters in a file are small (RFC 2046, section 5.1.1).
const BOUNDARY: &str = "unikernel-files-3d6b6a416f9b5";

/// A piece of what is to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    /// Of the response's file.
    File(Range<u64>),
}

/// What is to be sent.
pub(crate) struct Response {
    pub(crate) pieces: VecDeque<Piece>,
    pub(crate) file: Option<File>,
    /// The connection stays.
    pub(crate) keeps_alive: bool,
}

/// The answer to a request.
pub(crate) fn answer(request: &Request, root: &Root) -> Response {
    if request.method == Method::Other {
        return short(request, 405, "Allow: GET, HEAD\r\n");
    }
    match root.find(&request.path) {
        Ok(Found::File(opened)) => file(request, opened),
        Ok(Found::Folder(folder)) => match listing::page(&folder) {
            Ok(page) => whole(request, 200, "text/html; charset=utf-8", "", page.into_bytes()),
            Err(error) => failed(request, &error),
        },
        Ok(Found::NeedsSlash) => {
            short(request, 301, &format!("Location: {}/\r\n", same_origin(&request.path)))
        }
        Err(error) => failed(request, &error),
    }
}

/// The answer to what is no request; the connection ends.
pub(crate) fn broken(status: u16) -> Response {
    let mut head = head(status, "Content-Length: 0\r\nConnection: close\r\n");
    head.push_str("\r\n");
    Response { pieces: VecDeque::from([Piece::Bytes(head.into_bytes())]), file: None, keeps_alive: false }
}

/// Two slashes at the front would name another host.
fn same_origin(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}

fn failed(request: &Request, error: &io::Error) -> Response {
    let status = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => 404,
        io::ErrorKind::PermissionDenied => 403,
        // ELOOP has no name in std yet.
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => 404,
        _ => 500,
    };
    short(request, status, "")
}

/// A status with its name as body.
fn short(request: &Request, status: u16, fields: &str) -> Response {
    let body = format!("{status} {}\n", name_of(status)).into_bytes();
    whole(request, status, "text/plain; charset=utf-8", fields, body)
}

fn whole(request: &Request, status: u16, kind: &str, fields: &str, body: Vec<u8>) -> Response {
    let fields = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n{fields}", body.len());
    finish(request, status, &fields, VecDeque::from([Piece::Bytes(body)]), None)
}

fn finish(
    request: &Request,
    status: u16,
    fields: &str,
    mut pieces: VecDeque<Piece>,
    file: Option<File>,
) -> Response {
    if request.method == Method::Head {
        pieces.clear();
    }
    let mut head = head(status, fields);
    head.push_str(if request.keeps_alive {
        "Connection: keep-alive\r\n\r\n"
    } else {
        "Connection: close\r\n\r\n"
    });
    pieces.push_front(Piece::Bytes(head.into_bytes()));
    Response { pieces, file, keeps_alive: request.keeps_alive }
}

fn head(status: u16, fields: &str) -> String {
    let date = httpdate::fmt_http_date(SystemTime::now());
    format!("HTTP/1.1 {status} {}\r\nDate: {date}\r\n{fields}", name_of(status))
}

/// The reason phrases of RFC 9110, section 15.
fn name_of(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    }
}

fn file(request: &Request, opened: Opened) -> Response {
    let Opened { file, path, len, validators } = opened;
    let modified = httpdate::fmt_http_date(validators.modified);
    let about = format!("ETag: {}\r\nLast-Modified: {modified}\r\nAccept-Ranges: bytes\r\n", validators.tag);
    let with_range = match condition::judge(request, &validators) {
        Verdict::NotModified => return finish(request, 304, &about, VecDeque::new(), None),
        Verdict::Failed => return short(request, 412, &about),
        // Ranges are defined for GET alone (section 14.2).
        Verdict::GoOn { with_range } => with_range && request.method == Method::Get,
    };
    let wanted = request
        .range
        .as_deref()
        .filter(|_| with_range)
        .map_or(Wanted::Whole, |value| range::parse(value, len));
    let kind = kind::of(&path);
    match wanted {
        Wanted::Whole => {
            let fields = format!("Content-Type: {kind}\r\nContent-Length: {len}\r\n{about}");
            finish(request, 200, &fields, VecDeque::from([Piece::File(0..len)]), Some(file))
        }
        Wanted::Nothing => short(request, 416, &format!("Content-Range: bytes */{len}\r\n{about}")),
        Wanted::Parts(parts) => match &parts[..] {
            [part] => {
                let (range, count) = (content_range(part, len), part.end - part.start);
                let fields = format!("Content-Type: {kind}\r\nContent-Length: {count}\r\n{range}{about}");
                finish(request, 206, &fields, VecDeque::from([Piece::File(part.clone())]), Some(file))
            }
            parts => several(request, (parts, len, kind), &about, file),
        },
    }
}

fn content_range(part: &Range<u64>, len: u64) -> String {
    format!("Content-Range: bytes {}-{}/{len}\r\n", part.start, part.end - 1)
}

/// `multipart/byteranges` (section 14.6).
fn several(
    request: &Request,
    (parts, len, kind): (&[Range<u64>], u64, &str),
    about: &str,
    file: File,
) -> Response {
    let (mut pieces, mut count) = (VecDeque::new(), 0);
    let mut text = String::new();
    for part in parts {
        let range = content_range(part, len);
        // A `String` takes everything.
        let _ = write!(text, "\r\n--{BOUNDARY}\r\nContent-Type: {kind}\r\n{range}\r\n");
        count += text.len() as u64 + part.end - part.start;
        pieces.push_back(Piece::Bytes(std::mem::take(&mut text).into_bytes()));
        pieces.push_back(Piece::File(part.clone()));
    }
    let end = format!("\r\n--{BOUNDARY}--\r\n").into_bytes();
    count += end.len() as u64;
    pieces.push_back(Piece::Bytes(end));
    let fields = format!(
        "Content-Type: multipart/byteranges; boundary={BOUNDARY}\r\nContent-Length: {count}\r\n{about}"
    );
    finish(request, 206, &fields, pieces, Some(file))
}

#[cfg(test)]
mod tests;
