//! Tells the user of `run` when the guest's server can be talked to, whatever it speaks.
//!
//! Behind QEMU's own network a connection stands before the guest has heard of it, so that only what comes back says
//! anything: nobody listens when it is reset, and somebody does when it is answered, or closed in order. A server that
//! does not speak HTTP finds the attempts in its log: none is made after that, and ever fewer while it is silent.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How long, and how often, it is looked whether a server answers.
const PATIENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(10);
/// A segment that came before the guest was ready is lost, and only the next attempt sends another, so the patience
/// with each is short; a server that is ready connects within this, even when interpreted.
const CONNECT_PATIENCE: Duration = Duration::from_millis(10);
const ANSWER_PATIENCE: Duration = Duration::from_millis(100);
/// The patience with a silent peer grows with the time that has passed: by this part of it.
const PART_OF_TIME: u32 = 8;
/// So many connections in a row that are closed in order, without a byte, are a server's doing.
const CLOSES: u32 = 2;

/// What an attempt has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sign {
    Nobody,
    Silence,
    Closed,
    Http,
    Tls,
    /// Bytes of something else.
    Other,
}

/// Tells, once, when the appliance answers. Programs without a server never do, and need not.
pub(crate) fn announce(port: u16, started: Instant) {
    thread::spawn(move || {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Some(what) = wait(address, started) {
            let time = started.elapsed().as_millis();
            eprintln!("ready after {time} ms: {what} (Ctrl-C presses its power button)");
        }
    });
}

/// Waits for a server; answers how it is talked to.
fn wait(address: SocketAddr, started: Instant) -> Option<String> {
    let mut closes = 0;
    while started.elapsed() < PATIENCE {
        let sign = attempt(address, patience_with_silence(started.elapsed()));
        closes = if sign == Sign::Closed { closes + 1 } else { 0 };
        match sign {
            Sign::Http => return Some(format!("http://{address}/")),
            Sign::Tls => return Some(format!("https://{address}/")),
            Sign::Other => return Some(format!("{address} answers")),
            Sign::Closed if closes == CLOSES => return Some(format!("{address} takes connections")),
            Sign::Nobody | Sign::Silence | Sign::Closed => thread::sleep(INTERVAL),
        }
    }
    None
}

fn patience_with_silence(elapsed: Duration) -> Duration {
    ANSWER_PATIENCE.max(elapsed / PART_OF_TIME)
}

/// Connects, asks for a page, and looks at the first bytes that come.
fn attempt(address: SocketAddr, patience: Duration) -> Sign {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, CONNECT_PATIENCE) else { return Sign::Nobody };
    let _ = stream.set_read_timeout(Some(patience));
    if stream.write_all(b"GET / HTTP/1.1\r\nHost: appliance\r\nConnection: close\r\n\r\n").is_err() {
        return Sign::Nobody;
    }
    // What is enough to tell HTTP comes in one segment.
    let mut bytes = [0; 16];
    match stream.read(&mut bytes) {
        Ok(0) => Sign::Closed,
        Ok(length) => told(&bytes[..length]),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Sign::Silence,
        Err(_) => Sign::Nobody,
    }
}

fn told(bytes: &[u8]) -> Sign {
    /// A record that says why there is no handshake (RFC 8446, 5.1), of any version.
    const TLS_ALERT: [u8; 2] = [21, 3];
    match bytes {
        _ if bytes.starts_with(b"HTTP/") => Sign::Http,
        _ if bytes.starts_with(&TLS_ALERT) => Sign::Tls,
        _ => Sign::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A server that does this with each connection, and how many it had.
    fn server(each: impl Fn(TcpStream) + Send + 'static) -> (SocketAddr, Arc<AtomicU32>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::Relaxed);
                each(stream.unwrap());
            }
        });
        (address, count)
    }

    fn read_to_end(mut stream: TcpStream) {
        let _ = stream.read_to_end(&mut Vec::new());
    }

    /// One that reads the request and answers so.
    fn answering(answer: &'static [u8]) -> SocketAddr {
        let each = move |mut stream: TcpStream| {
            let _ = stream.read(&mut [0; 512]);
            stream.write_all(answer).unwrap();
        };
        server(each).0
    }

    #[test]
    fn each_kind_of_server_is_told_apart() {
        let said = |answer| {
            let address = answering(answer);
            wait(address, Instant::now()).unwrap().replace(&address.to_string(), "A")
        };
        assert_eq!(said(b"HTTP/1.1 200 OK\r\n\r\n"), "http://A/");
        assert_eq!(said(b"HTTP/1.1 404 Not Found\r\n\r\n"), "http://A/");
        assert_eq!(said(b"\x15\x03\x03\x00\x02\x02\x32"), "https://A/");
        assert_eq!(said(b"-ERR unknown command"), "A answers");
        assert_eq!(said(b""), "A takes connections");
    }

    #[test]
    fn a_server_that_closes_is_not_asked_for_ever() {
        let (address, count) = server(|mut stream| drop(stream.read(&mut [0; 512])));
        assert!(wait(address, Instant::now()).is_some());
        // A slow host may take a close for silence.
        assert!((CLOSES..10).contains(&count.load(Ordering::Relaxed)), "{count:?}");
    }

    #[test]
    fn a_silent_server_is_asked_less_and_less() {
        let (mut time, mut attempts) = (Duration::ZERO, 0);
        while time < PATIENCE {
            time += patience_with_silence(time) + INTERVAL;
            attempts += 1;
        }
        assert!(attempts < 50, "{attempts}");
        let (address, _) = server(|stream| drop(thread::spawn(|| read_to_end(stream))));
        assert_eq!(attempt(address, ANSWER_PATIENCE), Sign::Silence);
    }

    #[test]
    fn a_reset_means_that_nobody_listens() {
        // Closed with bytes unread: what QEMU's network does when the guest refuses.
        let (address, _) = server(|stream| {
            let _ = stream.peek(&mut [0; 1]);
        });
        assert_eq!(attempt(address, PATIENCE), Sign::Nobody);
    }
}
