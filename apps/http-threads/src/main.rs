//! An HTTP server that needs nothing but the standard library: it accepts a connection, gives it a
//! thread, and the thread reads requests and writes answers until the client leaves. That is how a
//! server is explained, and with threads as cheap as here it is also a way to run one.
//!
//! The first argument is the port (8080).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// A client that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest request line and headers together.
const MAX_HEAD_BYTES: u64 = 8192;
/// Stack of a connection's thread: a request line and a few headers are all that it holds.
const STACK_BYTES: usize = 128 * 1024;

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8080);
    // The address for "any" of IPv6 takes IPv4 in, too, where there is IPv6.
    let listener = TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    println!("listening on port {port}");
    for connection in listener.incoming() {
        // A client that left before it was accepted, or too many descriptors: the next may fare better.
        let Ok(connection) = connection else { continue };
        let served = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || serve(&connection));
        if let Err(error) = served {
            eprintln!("no thread for a connection: {error}");
        }
    }
    Ok(())
}

/// What a request asks for, as far as it matters here.
struct Request {
    path: String,
    is_head: bool,
    keeps_alive: bool,
}

/// Status, type and body.
type Answer = (&'static str, &'static str, &'static str);

/// Answers requests until the client closes, is silent for too long, or talks nonsense.
fn serve(connection: &TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(connection);
    loop {
        match read_request(&mut reader)? {
            Some(Ok(request)) => {
                respond(connection, answer(&request.path), &request)?;
                if !request.keeps_alive {
                    return Ok(());
                }
            }
            Some(Err(status)) => {
                let request = Request { path: String::new(), is_head: false, keeps_alive: false };
                return respond(connection, (status, "text/plain", status), &request);
            }
            None => return Ok(()),
        }
    }
}

/// Reads a request's head, and passes over its body; `None` if the client has closed. The inner error
/// is the status to answer.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Result<Request, &'static str>>> {
    let mut head = reader.take(MAX_HEAD_BYTES);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Ok(Some(Err("400 Bad Request")));
    };
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return Ok(Some(Err("505 HTTP Version Not Supported")));
    }
    let is_known_method = matches!(method, "GET" | "HEAD");
    let mut request =
        Request { path: path.to_owned(), is_head: method == "HEAD", keeps_alive: version == "HTTP/1.1" };
    let mut body_bytes = 0;
    loop {
        let mut header = String::new();
        if head.read_line(&mut header)? == 0 {
            return Ok(Some(Err("431 Request Header Fields Too Large")));
        }
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "connection" => request.keeps_alive = !value.trim().eq_ignore_ascii_case("close"),
            "content-length" => match value.trim().parse::<u64>() {
                Ok(bytes) => body_bytes = bytes,
                Err(_) => return Ok(Some(Err("400 Bad Request"))),
            },
            _ => {}
        }
    }
    if !is_known_method {
        return Ok(Some(Err("405 Method Not Allowed")));
    }
    io::copy(&mut reader.take(body_bytes), &mut io::sink())?;
    Ok(Some(Ok(request)))
}

/// Status, type and body for a path.
fn answer(path: &str) -> Answer {
    match path {
        "/" => ("200 OK", "text/plain", "Hello, World!"),
        "/json" => ("200 OK", "application/json", r#"{"message":"Hello, World!"}"#),
        _ => ("404 Not Found", "text/plain", "not found"),
    }
}

fn respond(mut connection: &TcpStream, answer: Answer, request: &Request) -> io::Result<()> {
    let (status, kind, body) = answer;
    let rest = if request.keeps_alive { "" } else { "Connection: close\r\n" };
    let len = body.len();
    let body = if request.is_head { "" } else { body };
    let text =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n{rest}\r\n{body}");
    connection.write_all(text.as_bytes())
}
