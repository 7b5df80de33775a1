//! A server of static files, from a folder on a disk. What a browser, a download that goes on where it was cut, or a
//! player that jumps may ask of it is in RFC 9110: ranges, validators, conditions. Bodies go from the page cache to
//! the network with `sendfile(2)`.
//!
//! - [`request`], [`range`], [`condition`]: what is asked; [`place`], [`listing`], [`kind`]: what there is;
//! - [`response`]: what is answered; [`connection`], and here: the event loop.
//!
//! Arguments: the folder (`/data`) and the port (8080).

mod condition;
mod connection;
mod kind;
mod listing;
mod place;
mod range;
mod request;
mod response;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use connection::{Connection, Progress};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use place::Root;
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
const EVENTS: usize = 1024;
/// Connections at once; who comes later waits in the listener's queue.
const MOST_CONNECTIONS: usize = 4096;
/// How long a client may take for a request's head, and with nothing of a response being taken.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the patience with each client is looked at.
const LOOK: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments.next().map_or_else(|| PathBuf::from("/data"), PathBuf::from);
    let port = arguments.next().map_or(Some(8080), |port| port.to_str()?.parse().ok());
    let outcome = match port {
        None => Err("the port is no number; arguments: the folder and the port".into()),
        Some(port) => serve(&folder, port),
    };
    outcome.map_or_else(
        |error| {
            eprintln!("files: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn serve(folder: &std::path::Path, port: u16) -> Result<(), String> {
    let root = Root::open(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let shown = folder.display();
            format!("there is no {shown}: mount a disk there (mount={shown}:blk0:ext4), or name a folder")
        }
        _ => format!("cannot open {}: {error}", folder.display()),
    })?;
    let server = Server::new(root, port).map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    println!("listening on port {port}, files of {}", folder.display());
    server.run().map_err(|error| format!("cannot wait: {error}"))
}

/// The event loop and all clients.
struct Server {
    root: Root,
    poll: Poll,
    listener: TcpListener,
    connections: Slab<Connection>,
    /// Those that can go on without an event: each moves a bounded part in its turn.
    queue: Vec<usize>,
    must_accept: bool,
}

impl Server {
    fn new(root: Root, port: u16) -> io::Result<Self> {
        let mut listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port)))?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self { root, poll, listener, connections: Slab::new(), queue: Vec::new(), must_accept: false })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut looked = Instant::now();
        loop {
            let patience = if self.queue.is_empty() { LOOK } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(patience)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.must_accept = true,
                    Token(index) => self.queue.push(index),
                }
            }
            if self.must_accept {
                self.accept_all();
            }
            let mut turn = std::mem::take(&mut self.queue);
            turn.sort_unstable();
            turn.dedup();
            turn.into_iter().for_each(|index| self.advance(index));
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.end_idle(looked);
            }
        }
    }

    /// Takes every connection that waits: mio is edge-triggered.
    fn accept_all(&mut self) {
        while self.connections.len() < MOST_CONNECTIONS {
            let outcome = self.listener.accept().and_then(|(stream, _)| self.add(stream));
            match outcome.map_err(|error| error.kind()) {
                Ok(()) | Err(io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                Err(io::ErrorKind::WouldBlock) => return self.must_accept = false,
                // No room for one more; there may be, later.
                Err(_) => return,
            }
        }
    }

    fn add(&mut self, mut stream: TcpStream) -> io::Result<()> {
        let slot = self.connections.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(slot.key()), interest)?;
        slot.insert(Connection::new(stream));
        Ok(())
    }

    fn advance(&mut self, index: usize) {
        // An event may name a connection that has ended.
        let Some(connection) = self.connections.get_mut(index) else { return };
        match connection.advance(&self.root) {
            Progress::Waiting => {}
            Progress::More => self.queue.push(index),
            Progress::Finished => self.end(index),
        }
    }

    fn end(&mut self, index: usize) {
        let mut connection = self.connections.remove(index);
        let _ = self.poll.registry().deregister(connection.stream());
    }

    fn end_idle(&mut self, now: Instant) {
        let is_idle = |connection: &Connection| now.duration_since(connection.active_at()) > PATIENCE;
        let idle: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, connection)| is_idle(connection))
            .map(|(index, _)| index)
            .collect();
        idle.into_iter().for_each(|index| self.end(index));
    }
}
