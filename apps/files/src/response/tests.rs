//! Responses to requests about a real folder.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::request::{Parsed, parse};

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("files-response-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("sub")).unwrap();
        fs::write(path.join("ten.txt"), "0123456789").unwrap();
        Self(path)
    }

    /// Head and body.
    fn ask(&self, line: &str, fields: &str) -> (String, String) {
        let head = format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let Parsed::Request(request, _) = parse(head.as_bytes()) else { panic!("{head}") };
        let response = answer(&request, &Root::open(&self.0).unwrap());
        let mut bytes = Vec::new();
        for piece in response.pieces {
            match piece {
                Piece::Bytes(part) => bytes.extend(part),
                Piece::File(range) => {
                    let mut part = vec![0; (range.end - range.start) as usize];
                    response.file.as_ref().unwrap().read_exact_at(&mut part, range.start).unwrap();
                    bytes.extend(part);
                }
            }
        }
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn field<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
}

#[test]
fn files_are_sent_whole_and_in_parts() {
    let folder = Folder::new();
    let (head, body) = folder.ask("GET /ten.txt", "");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body == "0123456789", "{head}");
    assert_eq!((field(&head, "Content-Length"), field(&head, "Accept-Ranges")), ("10", "bytes"));
    let (head, body) = folder.ask("GET /ten.txt", "Range: bytes=2-4\r\n");
    assert!(head.starts_with("HTTP/1.1 206 ") && body == "234", "{head}");
    assert_eq!((field(&head, "Content-Length"), field(&head, "Content-Range")), ("3", "bytes 2-4/10"));
    let (head, _) = folder.ask("GET /ten.txt", "Range: bytes=10-\r\n");
    assert!(head.starts_with("HTTP/1.1 416 "), "{head}");
    assert_eq!(field(&head, "Content-Range"), "bytes */10");
    let (head, body) = folder.ask("HEAD /ten.txt", "Range: bytes=2-4\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && body.is_empty(), "{head}");
    assert_eq!(field(&head, "Content-Length"), "10");
}

#[test]
fn several_parts_are_one_body() {
    let folder = Folder::new();
    let (head, body) = folder.ask("GET /ten.txt", "Range: bytes=0-1,-2\r\n");
    assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
    let boundary = field(&head, "Content-Type").strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, content: &str| {
        let kind = "text/plain; charset=utf-8";
        format!(
            "\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: bytes {range}/10\r\n\r\n{content}"
        )
    };
    assert_eq!(body, format!("{}{}\r\n--{boundary}--\r\n", part("0-1", "01"), part("8-9", "89")));
    assert_eq!(field(&head, "Content-Length"), body.len().to_string());
}

#[test]
fn conditions_are_kept() {
    let folder = Folder::new();
    let (head, _) = folder.ask("GET /ten.txt", "");
    let (tag, date) = (field(&head, "ETag"), field(&head, "Last-Modified"));
    let (again, body) = folder.ask("GET /ten.txt", &format!("If-None-Match: {tag}\r\n"));
    assert!(again.starts_with("HTTP/1.1 304 ") && body.is_empty(), "{again}");
    assert_eq!(field(&again, "ETag"), tag);
    let (again, _) = folder.ask("GET /ten.txt", &format!("If-Modified-Since: {date}\r\n"));
    assert!(again.starts_with("HTTP/1.1 304 "), "{again}");
    let (rest, body) = folder.ask("GET /ten.txt", &format!("Range: bytes=5-\r\nIf-Range: {tag}\r\n"));
    assert!(rest.starts_with("HTTP/1.1 206 ") && body == "56789", "{rest}");
    fs::write(folder.0.join("ten.txt"), "changed").unwrap();
    let (rest, body) = folder.ask("GET /ten.txt", &format!("Range: bytes=5-\r\nIf-Range: {tag}\r\n"));
    assert!(rest.starts_with("HTTP/1.1 200 ") && body == "changed", "{rest}");
    let (rest, _) = folder.ask("GET /ten.txt", &format!("If-Match: {tag}\r\n"));
    assert!(rest.starts_with("HTTP/1.1 412 "), "{rest}");
}

#[test]
fn other_requests_are_answered() {
    let folder = Folder::new();
    let status = |line: &str| folder.ask(line, "").0[9..12].to_owned();
    assert_eq!(status("GET /nothing"), "404");
    assert_eq!(status("GET /ten.txt/below"), "404");
    assert_eq!(status("GET /../ten.txt"), "404");
    assert_eq!(status(&format!("GET /{}", "n".repeat(300))), "404");
    let (head, _) = folder.ask("DELETE /ten.txt", "");
    assert!(head.starts_with("HTTP/1.1 405 ") && field(&head, "Allow") == "GET, HEAD", "{head}");
    let (head, _) = folder.ask("GET //sub", "");
    assert!(head.starts_with("HTTP/1.1 301 ") && field(&head, "Location") == "/sub/", "{head}");
    let (head, body) = folder.ask("GET /", "");
    assert!(head.starts_with("HTTP/1.1 200 ") && body.contains("<a href=\"ten.txt\">"), "{body}");
}

#[test]
fn lengths_beyond_four_gibibytes_are_right() {
    let folder = Folder::new();
    let file = fs::File::create(folder.0.join("big")).unwrap();
    file.set_len(5 << 30).unwrap();
    file.write_all_at(b"end", (5 << 30) - 3).unwrap();
    let (head, body) = folder.ask("GET /big", "Range: bytes=5368709117-\r\n");
    assert!(head.starts_with("HTTP/1.1 206 ") && body == "end", "{head}");
    assert_eq!(field(&head, "Content-Range"), "bytes 5368709117-5368709119/5368709120");
    assert_eq!(field(&folder.ask("HEAD /big", "").0, "Content-Length"), "5368709120");
}
