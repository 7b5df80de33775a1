//! A server for Debian's `iperf3 --client`: TCP in either direction, one stream or several, one client after another, for
//! ever. What the two say to each other on the control connection is nowhere specified; this follows what the client of
//! version 3.12 sends and waits for: a cookie, states of one byte, JSON behind its length (big-endian).

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PORT: u16 = 5201;
/// Tells the connections of one client: text and a zero.
const COOKIE_BYTES: usize = 37;
/// The longest JSON that is taken.
const MOST_JSON_BYTES: usize = 1 << 20;
const MOST_STREAMS: u64 = 32;
/// What is read or written at a time.
const BLOCK_BYTES: usize = 128 * 1024;
/// How long a client may be silent where an answer is due.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where both are, as a byte on the control connection.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    TestStart = 1,
    TestRunning = 2,
    TestEnd = 4,
    ParamExchange = 9,
    CreateStreams = 10,
    ExchangeResults = 13,
    DisplayResults = 14,
    IperfDone = 16,
}

type Cookie = [u8; COOKIE_BYTES];

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    println!("listening on port {PORT}");
    loop {
        let (control, peer) = listener.accept()?;
        match Test::run(&listener, control) {
            Ok(bytes) => println!("{peer}: {bytes} bytes"),
            Err(error) => println!("{peer}: {error}"),
        }
    }
}

/// A client's test: the control connection, and what was agreed on.
struct Test {
    control: TcpStream,
    cookie: Cookie,
    streams: u64,
    /// The server sends.
    is_reverse: bool,
}

impl Test {
    /// One test from the cookie to the end; answers the bytes that were carried.
    fn run(listener: &TcpListener, mut control: TcpStream) -> io::Result<u64> {
        control.set_read_timeout(Some(PATIENCE))?;
        control.set_nodelay(true)?;
        let cookie = read_cookie(&mut control)?;
        let mut test = Self { control, cookie, streams: 1, is_reverse: false };
        test.tell(State::ParamExchange)?;
        test.agree()?;
        test.tell(State::CreateStreams)?;
        let streams = (0..test.streams).map(|_| test.accept(listener)).collect::<io::Result<Vec<_>>>()?;
        test.tell(State::TestStart)?;
        test.tell(State::TestRunning)?;
        let started = Instant::now();
        let bytes = test.carry(&streams)?;
        test.report(&bytes, started.elapsed())?;
        Ok(bytes.iter().sum())
    }

    fn tell(&mut self, state: State) -> io::Result<()> {
        self.control.write_all(&[state as u8])
    }

    fn expect(&mut self, state: State) -> io::Result<()> {
        let mut byte = [0];
        self.control.read_exact(&mut byte)?;
        let is_it = byte[0] == state as u8;
        if is_it { Ok(()) } else { Err(unexpected(&format!("state {}, not {}", byte[0], state as u8))) }
    }

    /// Takes in what the client wants.
    fn agree(&mut self) -> io::Result<()> {
        let wanted = self.read_json()?;
        let is_set = |name: &str| wanted[name].as_bool().unwrap_or(false);
        self.streams = wanted["parallel"].as_u64().unwrap_or(1);
        self.is_reverse = is_set("reverse");
        let can_be = is_set("tcp") && !is_set("bidirectional") && (1..=MOST_STREAMS).contains(&self.streams);
        if can_be { Ok(()) } else { Err(unexpected(&wanted.to_string())) }
    }

    /// The next connection, if it is this client's.
    fn accept(&self, listener: &TcpListener) -> io::Result<TcpStream> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let is_ours = read_cookie(&mut stream)? == self.cookie;
        if is_ours { Ok(stream) } else { Err(unexpected("another client")) }
    }

    /// Sends or receives on all streams until the client says that the time is over; answers the bytes of each.
    fn carry(&mut self, streams: &[TcpStream]) -> io::Result<Vec<u64>> {
        let is_over = AtomicBool::new(false);
        let carry = if self.is_reverse { send } else { receive };
        thread::scope(|scope| {
            let is_ended = &is_over;
            let start = |stream| scope.spawn(move || carry(stream, is_ended));
            let workers: Vec<_> = streams.iter().map(start).collect();
            let ended = self.expect(State::TestEnd);
            is_over.store(true, Ordering::Relaxed);
            // Whoever waits in a call is to come back.
            streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
            let bytes = workers.into_iter().map(|worker| worker.join().expect("no worker panics")).collect();
            ended.and(bytes)
        })
    }

    /// Tells the client what this end has counted, and lets it go.
    fn report(&mut self, bytes: &[u64], time: Duration) -> io::Result<()> {
        self.tell(State::ExchangeResults)?;
        self.read_json()?;
        let stream = |(index, bytes): (usize, &u64)| {
            json!({
                // The client counts 1, 3, 4 and so on.
                "id": if index == 0 { 1 } else { index + 2 },
                "bytes": bytes, "retransmits": 0, "jitter": 0.0, "errors": 0, "packets": 0,
                "start_time": 0.0, "end_time": time.as_secs_f64(),
            })
        };
        let streams: Vec<Value> = bytes.iter().enumerate().map(stream).collect();
        self.write_json(&json!({
            "cpu_util_total": 0.0, "cpu_util_user": 0.0, "cpu_util_system": 0.0,
            "sender_has_retransmits": 0, "streams": streams,
        }))?;
        self.tell(State::DisplayResults)?;
        self.expect(State::IperfDone)
    }

    fn read_json(&mut self) -> io::Result<Value> {
        let mut len = [0; 4];
        self.control.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len) as usize;
        if len > MOST_JSON_BYTES {
            return Err(unexpected(&format!("{len} bytes of JSON")));
        }
        let mut text = vec![0; len];
        self.control.read_exact(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    fn write_json(&mut self, value: &Value) -> io::Result<()> {
        let text = value.to_string();
        self.control.write_all(&(text.len() as u32).to_be_bytes())?;
        self.control.write_all(text.as_bytes())
    }
}

fn unexpected(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("unexpected: {what}"))
}

fn read_cookie(stream: &mut TcpStream) -> io::Result<Cookie> {
    let mut cookie = [0; COOKIE_BYTES];
    stream.read_exact(&mut cookie)?;
    Ok(cookie)
}

/// Counts what arrives until it ends.
fn receive(mut stream: &TcpStream, is_over: &AtomicBool) -> io::Result<u64> {
    count(is_over, |block| stream.read(block))
}

/// Sends as much as goes.
fn send(mut stream: &TcpStream, is_over: &AtomicBool) -> io::Result<u64> {
    count(is_over, |block| stream.write(block))
}

/// Sums up calls until one carries nothing, or the test is over; after that a stream may break.
fn count(is_over: &AtomicBool, mut call: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<u64> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut bytes = 0;
    loop {
        match call(&mut block) {
            Ok(count @ 1..) => bytes += count as u64,
            Err(error) if !is_over.load(Ordering::Relaxed) => return Err(error),
            Ok(0) | Err(_) => return Ok(bytes),
        }
    }
}
