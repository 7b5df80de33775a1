//! Many connections at once, and many one after another.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use socket2::{Domain, Socket, Type};

use crate::http::Client;

/// Descriptors for everything but the connections.
const OTHER_DESCRIPTORS: u64 = 64;
/// How long it may take until all are connected and answered: a segment may be lost several times.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a guest needs for ten thousand connections, whatever the app: `http-axum` keeps 20 KB for each.
pub(crate) const MEMORY_MIB: u64 = 512;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: appliance\r\n\r\n";
/// The server ends the connection, so that what remains of it in `TIME_WAIT` remains with the server.
const LAST_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: appliance\r\nConnection: close\r\n\r\n";

/// What came of connections that were all begun before any was waited for.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Storm {
    pub(crate) connections: usize,
    pub(crate) answered: usize,
    /// From the first SYN to the last answer.
    pub(crate) seconds: f64,
    /// What went wrong first, if anything did.
    pub(crate) failure: Option<String>,
}

/// How the clients of a storm end their connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Farewell {
    /// With a FIN, as most do.
    Fin,
    /// With a reset, after which the host forgets them, too. Ten thousand that say goodbye to a guest which is gone keep
    /// their ports, and for each connection of the next storm the host looks 2 ms for a free one.
    Reset,
}

/// Begins `count` connections at once and asks on each; all are held until the last is answered.
pub(crate) fn at_once(address: SocketAddr, count: usize, farewell: Farewell) -> Result<Storm> {
    allow_descriptors(count as u64 + OTHER_DESCRIPTORS)?;
    let started = Instant::now();
    let deadline = started + PATIENCE;
    let begun: Vec<Socket> = (0..count).map(|_| begin(address, farewell)).collect::<Result<_>>()?;
    let mut failure = None;
    let mut noted = |outcome: Result<Client>| match outcome {
        Ok(client) => Some(client),
        Err(error) => {
            failure.get_or_insert_with(|| format!("{error:#}"));
            None
        }
    };
    let asked: Vec<Client> = begun.into_iter().filter_map(|socket| noted(ask(socket, deadline))).collect();
    let answered: Vec<Client> =
        asked.into_iter().filter_map(|client| noted(answered(client, deadline))).collect();
    let seconds = started.elapsed().as_secs_f64();
    Ok(Storm { connections: count, answered: answered.len(), seconds, failure })
}

/// Waits for the answer; the connection stays.
fn answered(mut client: Client, deadline: Instant) -> Result<Client> {
    client.set_patience(time_until(deadline)?)?;
    let answer = client.response()?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(client)
}

/// Sends a SYN and does not wait for the answer.
fn begin(address: SocketAddr, farewell: Farewell) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if farewell == Farewell::Reset {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => {
            Err(error).context("cannot begin a connection")
        }
        _ => Ok(socket),
    }
}

/// Sends the request; a blocking write waits for the connection first.
fn ask(socket: Socket, deadline: Instant) -> Result<Client> {
    socket.set_nonblocking(false)?;
    let mut client = Client::over(TcpStream::from(socket), time_until(deadline)?)?;
    client.send(REQUEST)?;
    Ok(client)
}

/// Fails if there is none: ten thousand clients of a dead server must not wait one after the other.
fn time_until(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    ensure!(!left.is_zero(), "not answered within {} s", PATIENCE.as_secs());
    Ok(left)
}

/// As many descriptors as the machine's owner lets us have, if those are enough.
fn allow_descriptors(wanted: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard)?;
    ensure!(hard >= wanted, "{wanted} descriptors are needed, `ulimit -Hn` allows {hard}");
    Ok(())
}

/// What clients found that ask again and again, each on a connection of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// Answers that the client got which was served least.
    pub(crate) fewest: usize,
    /// The longest that a client waited for an answer, the connection's making included.
    pub(crate) longest: Duration,
}

/// Has so many clients ask all the time, for so long. Every request must be answered.
pub(crate) fn crowd(address: SocketAddr, clients: usize, time: Duration) -> Result<Crowd> {
    allow_descriptors(clients as u64 + OTHER_DESCRIPTORS)?;
    let until = Instant::now() + time;
    let client = || -> Result<(usize, Duration)> {
        let (mut answers, mut longest, mut asked) = (0, Duration::ZERO, Instant::now());
        let mut connection = Client::connect(address)?;
        while answers == 0 || asked < until {
            let answer = connection.get("/")?;
            ensure!(answer.status == 200, "{answer:?}");
            answers += 1;
            longest = longest.max(asked.elapsed());
            asked = Instant::now();
        }
        Ok((answers, longest))
    };
    let found: Vec<(usize, Duration)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a client does not panic"))
            .collect::<Result<_>>()
    })?;
    Ok(Crowd {
        fewest: found.iter().map(|(answers, _)| *answers).min().unwrap_or(0),
        longest: found.iter().map(|(_, longest)| *longest).max().unwrap_or_default(),
    })
}

/// Connections one after another, each ended by the server.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Sequence {
    pub(crate) connections: usize,
    pub(crate) failed: usize,
    pub(crate) per_second: f64,
}

/// Connects, asks and waits for the server to hang up, `count` times.
pub(crate) fn one_after_another(address: SocketAddr, count: usize) -> Sequence {
    let started = Instant::now();
    let failed = (0..count).filter(|_| !is_served(address).unwrap_or(false)).count();
    Sequence { connections: count, failed, per_second: count as f64 / started.elapsed().as_secs_f64() }
}

fn is_served(address: SocketAddr) -> Result<bool> {
    let mut client = Client::connect(address)?;
    client.send(LAST_REQUEST)?;
    Ok(client.response()?.status == 200 && client.has_ended()?)
}
