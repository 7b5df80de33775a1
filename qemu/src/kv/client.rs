//! A client of the Redis protocol, for tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a server answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

/// A client's end of a connection.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    pub(super) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).context("cannot connect")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request.
    pub(super) fn send(&mut self, words: &[impl AsRef<[u8]>]) -> Result<()> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words.iter().map(AsRef::as_ref) {
            bytes.extend(format!("${}\r\n", word.len()).bytes().chain(word.iter().copied()).chain(*b"\r\n"));
        }
        self.stream.get_mut().write_all(&bytes).context("cannot send")
    }

    /// Sends a request and reads the reply.
    pub(super) fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> Result<Reply> {
        self.send(words)?;
        self.receive()
    }

    /// Reads one reply.
    pub(super) fn receive(&mut self) -> Result<Reply> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).context("no reply")?;
        let text = String::from_utf8_lossy(&line).trim_end_matches("\r\n").to_owned();
        let number = || text.get(1..).and_then(|text| text.parse::<i64>().ok()).with_context(|| text.clone());
        Ok(match line.first() {
            Some(b'+') => Reply::Simple(text[1..].to_owned()),
            Some(b'-') => Reply::Error(text[1..].to_owned()),
            Some(b':') => Reply::Integer(number()?),
            Some(b'$') => match usize::try_from(number()?) {
                Ok(len) => {
                    let mut bytes = vec![0; len + 2];
                    self.stream.read_exact(&mut bytes).context("a string was cut short")?;
                    bytes.truncate(len);
                    Reply::Bulk(Some(bytes))
                }
                Err(_) => Reply::Bulk(None),
            },
            Some(b'*') => {
                let elements = (0..number()?).map(|_| self.receive());
                Reply::Array(elements.collect::<Result<_>>()?)
            }
            _ => bail!("no reply: {text:?}"),
        })
    }

    /// Sends bytes as they are; answers all that comes until the server is silent for a moment or ends.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        const MOMENT: Duration = Duration::from_millis(150);
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.set_read_timeout(Some(MOMENT))?;
        let (mut received, mut part) = (Vec::new(), [0; 4096]);
        while let Ok(count) = stream.read(&mut part) {
            received.extend_from_slice(&part[..count]);
            if count == 0 {
                received.extend_from_slice(b"(end)");
                break;
            }
        }
        Ok(received)
    }
}
