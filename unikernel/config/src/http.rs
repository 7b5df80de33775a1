//! Questions to a metadata service, HTTP/1.1, and its answers: short texts, of which the length is told.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::MAX_FILE_BYTES;

const MAX_HEADERS: usize = 32;
/// Bytes of an answer's head at most.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// A question: `GET`, or `PUT` without a body, with headers.
pub fn request(method: &str, host: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// 200 and so on.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HttpError {
    /// It is no HTTP.
    NotHttp,
    /// It is larger than anything that is read.
    TooLarge,
    /// It comes in chunks, which no such service sends for a short text.
    Chunked,
}

impl Answer {
    /// Reads what came so far; none if it is not all. `is_over`: nothing more will come.
    pub fn parse(bytes: &[u8], is_over: bool) -> Result<Option<Self>, HttpError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let head_len = match response.parse(bytes) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if is_over => return Err(HttpError::NotHttp),
            Ok(httparse::Status::Partial) if bytes.len() > MAX_HEAD_BYTES => return Err(HttpError::TooLarge),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(HttpError::NotHttp),
        };
        let header = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.and_then(|header| core::str::from_utf8(header.value).ok())
        };
        if header("transfer-encoding").is_some() {
            return Err(HttpError::Chunked);
        }
        let status = response.code.ok_or(HttpError::NotHttp)?;
        let len = match header("content-length") {
            Some(text) => text.trim().parse::<usize>().map_err(|_| HttpError::NotHttp)?,
            None if is_over => bytes.len() - head_len,
            None if status == 204 => 0,
            None if bytes.len() - head_len > MAX_FILE_BYTES => return Err(HttpError::TooLarge),
            None => return Ok(None),
        };
        if len > MAX_FILE_BYTES {
            return Err(HttpError::TooLarge);
        }
        match bytes[head_len..].get(..len) {
            Some(body) => Ok(Some(Self { status, body: body.to_vec() })),
            None if is_over => Err(HttpError::NotHttp),
            None => Ok(None),
        }
    }
}
