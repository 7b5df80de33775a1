//! Just enough of an HTTP client: connect, send bytes, read one response.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long a peer may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// A client's end of a connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).context("cannot connect")?;
        Self::over(stream, PATIENCE)
    }

    /// The client's end of a connection that stands, or is being made; `patience` is how long the server may be silent.
    pub(crate) fn over(stream: TcpStream, patience: Duration) -> Result<Self> {
        stream.set_nodelay(true)?;
        let client = Self { stream: BufReader::new(stream) };
        client.set_patience(patience)?;
        Ok(client)
    }

    /// Changes how long the server may be silent.
    pub(crate) fn set_patience(&self, patience: Duration) -> Result<()> {
        self.stream.get_ref().set_read_timeout(Some(patience))?;
        Ok(self.stream.get_ref().set_write_timeout(Some(patience))?)
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).context("cannot send")
    }

    fn ask(&mut self, path: &str) -> Result<()> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: appliance\r\n\r\n").as_bytes())
    }

    /// Asks for a path and reads the answer.
    pub(crate) fn get(&mut self, path: &str) -> Result<Response> {
        self.ask(path)?;
        self.response()
    }

    /// Waits for what comes next; true if that is the end.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.stream.fill_buf().context("no end")?.is_empty())
    }

    /// Reads one response with its body, which is a text.
    pub(crate) fn response(&mut self) -> Result<Response> {
        let (status, body) = self.response_bytes()?;
        Ok(Response { status, body: String::from_utf8_lossy(&body).into_owned() })
    }

    /// Reads the status of one response, and its body.
    fn response_bytes(&mut self) -> Result<(u16, Vec<u8>)> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("no response")?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("not a status line: {line:?}"))?;
        let mut length = 0;
        loop {
            line.clear();
            ensure!(self.stream.read_line(&mut line)? != 0, "the head was cut short");
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().context("a length that is no number")?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).context("the body was cut short")?;
        Ok((status, body))
    }
}

/// Status and body of one request on a connection of its own, for which the server may take so long.
pub(crate) fn get_bytes(address: SocketAddr, path: &str, patience: Duration) -> Result<(u16, Vec<u8>)> {
    let mut client = Client::connect(address)?;
    client.set_patience(patience)?;
    client.ask(path)?;
    client.response_bytes()
}

/// One request on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<Response> {
    Client::connect(address)?.get(path)
}

/// A figure from the kernel's metrics, which `http` serves (`/metrics`, Prometheus text).
pub(crate) fn metric(address: SocketAddr, name: &str) -> Result<i64> {
    metric_in(&get(address, "/metrics")?.body, name)
}

/// The value of a metric among others.
pub(crate) fn metric_in(metrics: &str, name: &str) -> Result<i64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.with_context(|| format!("/metrics does not tell {name}"))
}

/// The guest's own word on its free memory, in bytes.
pub(crate) fn free_memory(address: SocketAddr) -> Result<i64> {
    metric(address, "unikernel_memory_free_bytes")
}

/// The same when what asking takes itself has settled: the first look at the counters opens files and makes buffers that
/// stay, 140 KiB together.
pub(crate) fn settled_free_memory(address: SocketAddr) -> Result<i64> {
    /// The pages of the text that is read come last.
    const LOOKS: usize = 4;
    for _ in 1..LOOKS {
        free_memory(address)?;
    }
    free_memory(address)
}

/// True if the address answers `GET /` with success right now.
pub(crate) fn answers(address: SocketAddr) -> bool {
    answers_on(address, "/")
}

/// The same for a path.
pub(crate) fn answers_on(address: SocketAddr, path: &str) -> bool {
    /// Short, since a segment that came before the guest was ready is lost, and only the next attempt
    /// sends another. A server that is ready connects within this, even when interpreted.
    const CONNECT_PATIENCE: Duration = Duration::from_millis(10);
    /// Behind QEMU's own network the connection stands before the guest has heard of it.
    const ANSWER_PATIENCE: Duration = Duration::from_millis(100);
    let probe = || -> Result<bool> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_PATIENCE)?;
        stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
        let mut client = Client { stream: BufReader::new(stream) };
        Ok(client.get(path)?.status == 200)
    };
    probe().unwrap_or(false)
}
