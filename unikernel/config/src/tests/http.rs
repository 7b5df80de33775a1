//! Answers that come in pieces, and such as are none.

use proptest::prelude::*;

use crate::http::{Answer, HttpError, request};

const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 5\r\n\r\nhelloignored";

#[test]
fn answers_come_in_pieces() {
    for len in 0..WHOLE.len() - 7 {
        assert_eq!(Answer::parse(&WHOLE[..len], false), Ok(None), "{len}");
        assert_eq!(Answer::parse(&WHOLE[..len], true), Err(HttpError::NotHttp), "{len}");
    }
    let answer = Answer::parse(WHOLE, false).unwrap().unwrap();
    assert_eq!((answer.status, &*answer.body), (200, &b"hello"[..]));
    let open = b"HTTP/1.0 404 Not Found\r\n\r\nnone";
    assert_eq!(Answer::parse(open, false), Ok(None));
    assert_eq!(Answer::parse(open, true).unwrap().unwrap().body, b"none");
}

#[test]
fn what_is_none_is_refused() {
    let refuse = |bytes: &[u8]| Answer::parse(bytes, false).unwrap_err();
    assert_eq!(refuse(b"SSH-2.0-OpenSSH\r\n"), HttpError::NotHttp);
    assert_eq!(refuse(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), HttpError::NotHttp);
    assert_eq!(refuse(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), HttpError::TooLarge);
    assert_eq!(refuse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), HttpError::Chunked);
    let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 10_000]].concat();
    assert_eq!(refuse(&endless), HttpError::TooLarge);
}

#[test]
fn questions_have_headers() {
    let expected =
        "PUT /latest/api/token HTTP/1.1\r\nHost: h\r\nA: b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(request("PUT", "h", "/latest/api/token", &[("A", "b")]), expected);
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), is_over in any::<bool>()) {
        let _ = Answer::parse(&bytes, is_over);
        let _ = Answer::parse(&[WHOLE, &bytes].concat()[bytes.len() % 40..], is_over);
    }
}
