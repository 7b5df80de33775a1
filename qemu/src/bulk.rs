//! Bulk transfers with `micro bulk`, the app that gives and takes bytes over TCP; it says how.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::http;

/// The period of the content.
const PERIOD: usize = 65_521;
const CHUNK: usize = 1 << 20;
/// Longer than any transfer stands still that goes on.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the guest.
pub(crate) struct Bulk {
    stream: TcpStream,
    /// What both sides know: a period, and as much as is handed over at once.
    content: Vec<u8>,
}

impl Bulk {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).context("cannot connect")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let content = (0..PERIOD + CHUNK).map(byte).collect();
        Ok(Self { stream, content })
    }

    /// Has the guest give `count` bytes, which are checked. Answers how long it took.
    pub(crate) fn give(&mut self, count: usize) -> Result<Duration> {
        let started = Instant::now();
        self.ask(b'g', count)?;
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < count {
            let most = CHUNK.min(count - at);
            let len = self.stream.read(&mut buffer[..most]).with_context(|| format!("after {at} bytes"))?;
            ensure!(len > 0, "the guest ended after {at} bytes");
            ensure!(buffer[..len] == self.content[at % PERIOD..][..len], "wrong bytes behind {at}");
            at += len;
        }
        Ok(started.elapsed())
    }

    /// Has the guest take `count` bytes, and answers how long it took.
    pub(crate) fn take(&mut self, count: usize) -> Result<Duration> {
        self.hand_over(b't', count)
    }

    /// The same, and the guest checks them.
    pub(crate) fn take_checked(&mut self, count: usize) -> Result<Duration> {
        self.hand_over(b'c', count)
    }

    fn hand_over(&mut self, letter: u8, count: usize) -> Result<Duration> {
        let started = Instant::now();
        self.ask(letter, count)?;
        let mut at = 0;
        while at < count {
            let len = CHUNK.min(count - at);
            let bytes = &self.content[at % PERIOD..][..len];
            self.stream.write_all(bytes).with_context(|| format!("after {at} bytes"))?;
            at += len;
        }
        let mut wrong = [0; 8];
        self.stream.read_exact(&mut wrong).context("no answer to what was sent")?;
        ensure!(wrong == [0; 8], "{} bytes arrived wrong", u64::from_le_bytes(wrong));
        Ok(started.elapsed())
    }

    /// Our kernel's word on itself: a metric of `/proc/unikernel/metrics`.
    pub(crate) fn metric(&mut self, name: &str) -> Result<i64> {
        self.ask(b'm', 0)?;
        let mut len = [0; 8];
        self.stream.read_exact(&mut len)?;
        let mut text = String::new();
        (&self.stream).take(u64::from_le_bytes(len)).read_to_string(&mut text)?;
        http::metric_in(&text, name)
    }

    fn ask(&mut self, letter: u8, count: usize) -> Result<()> {
        let mut request = [letter; 9];
        request[1..].copy_from_slice(&(count as u64).to_le_bytes());
        Ok(self.stream.write_all(&request)?)
    }
}

fn byte(index: usize) -> u8 {
    ((index % PERIOD) as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]
}

/// Bytes in a time, as MiB/s.
pub(crate) fn mib_per_second(count: usize, time: Duration) -> f64 {
    count as f64 / f64::from(1 << 20) / time.as_secs_f64()
}
