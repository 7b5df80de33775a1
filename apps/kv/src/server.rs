//! The event loop. A turn reads from every client that has sent something, carries the commands out, makes
//! their changes durable together, and only then answers.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::net::{TcpListener, TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use slab::Slab;

use crate::client::Client;
use crate::database::Database;
use crate::log::Log;
use crate::options::{Options, Policy};

const LISTENER: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);
/// Events taken from the kernel at a time.
const EVENTS: usize = 1024;
/// What is read from a client at a time, in bytes: one does not hold up the others for longer.
const READ_BYTES: usize = 64 << 10;
/// Entries that are removed in a turn because their time is over.
const EXPIRE_COUNT: usize = 1000;
/// Before connections are accepted again after there was no room for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The server.
pub(crate) struct Server {
    poll: Poll,
    listener: TcpListener,
    signals: UnixStream,
    clients: Slab<Client>,
    /// Those to be served in the next turn.
    queue: Vec<usize>,
    database: Database,
    log: Log,
    policy: Policy,
    max_clients: usize,
    /// What clients' buffers may hold together, and what they do.
    max_held: usize,
    held: usize,
    scratch: Vec<u8>,
    /// Connections wait that could not be accepted.
    must_accept: bool,
}

impl Server {
    /// Opens the port.
    pub(crate) fn new(options: &Options, database: Database, log: Log, max_held: usize) -> io::Result<Self> {
        let mut listener = TcpListener::bind(SocketAddr::new(options.address, options.port))?;
        let (told, teller) = StdUnixStream::pair()?;
        told.set_nonblocking(true)?;
        for signal in [SIGTERM, SIGINT] {
            signal_hook::low_level::pipe::register(signal, teller.try_clone()?)?;
        }
        let mut signals = UnixStream::from_std(told);
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            signals,
            clients: Slab::new(),
            queue: Vec::new(),
            database,
            log,
            policy: options.policy,
            max_clients: options.max_clients,
            max_held,
            held: 0,
            scratch: vec![0; READ_BYTES],
            must_accept: false,
        })
    }

    /// Serves until a signal says to end; then everything is durable.
    pub(crate) fn run(mut self) -> Result<(), String> {
        let mut events = Events::with_capacity(EVENTS);
        self.database.set_now(now_ms());
        self.database.status.started_at = self.database.now();
        loop {
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome.map_err(|error| format!("cannot wait: {error}"))?,
            }
            self.database.set_now(now_ms());
            let mut is_over = false;
            for event in &events {
                match event.token() {
                    LISTENER => self.must_accept = true,
                    SIGNALS => is_over = true,
                    Token(index) => self.note(index, event.is_readable() || event.is_error()),
                }
            }
            if self.must_accept {
                self.accept_all();
            }
            self.turn();
            if is_over {
                let _ = self.poll.registry().deregister(&mut self.signals);
                return self.log.close(self.database.log());
            }
        }
    }

    /// How long to wait for an event, in view of what is to be done without one.
    fn patience(&self) -> Option<Duration> {
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let expiry = self
            .database
            .keys
            .next_end()
            .map(|end| Duration::from_millis(u64::try_from(end.saturating_sub(now_ms())).unwrap_or(0)));
        let accept = self.must_accept.then_some(ACCEPT_PAUSE);
        [expiry, accept, self.log.next_work()].into_iter().flatten().min()
    }

    fn note(&mut self, index: usize, is_readable: bool) {
        // An event may name a client that has gone.
        let Some(client) = self.clients.get_mut(index) else { return };
        if is_readable {
            client.note_readable();
        }
        if !client.is_queued {
            client.is_queued = true;
            self.queue.push(index);
        }
    }

    /// Takes every connection that waits: mio is edge-triggered.
    fn accept_all(&mut self) {
        loop {
            let outcome = self.listener.accept().and_then(|(stream, _)| self.add(stream));
            match outcome.map_err(|error| error.kind()) {
                Ok(()) | Err(ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(ErrorKind::WouldBlock) => break self.must_accept = false,
                // No room for one more; there may be, later.
                Err(_) => break,
            }
        }
    }

    fn add(&mut self, mut stream: TcpStream) -> io::Result<()> {
        self.database.status.connections += 1;
        if self.clients.len() >= self.max_clients {
            let _ = stream.write(b"-ERR max number of clients reached\r\n");
            return Ok(());
        }
        let _ = stream.set_nodelay(true);
        let slot = self.clients.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(slot.key()), interest)?;
        slot.insert(Client::new(stream, self.database.limits.max_bulk));
        self.database.status.clients = self.clients.len();
        Ok(())
    }

    /// Serves those in the queue.
    fn turn(&mut self) {
        let served = std::mem::take(&mut self.queue);
        for &index in &served {
            self.work(index);
        }
        self.database.expire(EXPIRE_COUNT);
        let outcome = self.log.commit(self.database.log());
        // Without `always`, answers promise nothing about the disk.
        let is_broken = outcome.is_err() && self.policy == Policy::Always;
        let failure = self.log.failure().map(str::to_owned);
        for &index in &served {
            self.answer(
                index,
                failure.as_deref().filter(|_| is_broken && self.database.status.log_error.is_none()),
            );
        }
        self.database.status.log_error = failure;
        self.log.work(&mut self.database);
        self.reuse(served);
    }

    /// Keeps the list's memory.
    fn reuse(&mut self, mut served: Vec<usize>) {
        served.clear();
        served.append(&mut self.queue);
        self.queue = served;
    }

    fn work(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else { return };
        client.is_queued = false;
        let before = client.held_bytes();
        client.work(&mut self.scratch, &mut self.database);
        self.held = self.held - before + client.held_bytes();
    }

    /// Sends a client its replies, or what happened instead.
    fn answer(&mut self, index: usize, failure: Option<&str>) {
        let Some(client) = self.clients.get_mut(index) else { return };
        let before = client.held_bytes();
        if let Some(why) = failure {
            client.fail(why);
        }
        let is_gone = client.send().is_err() || client.is_over();
        self.held = self.held - before + client.held_bytes();
        let is_too_much = self.held > self.max_held;
        if is_too_much {
            eprintln!("a client is turned away: buffers hold {} bytes", self.held);
        }
        if is_gone || is_too_much {
            self.held -= client.held_bytes();
            let mut client = self.clients.remove(index);
            let _ = self.poll.registry().deregister(client.stream());
            self.database.status.clients = self.clients.len();
        } else if client.wants_turn() && !client.is_queued {
            client.is_queued = true;
            self.queue.push(index);
        }
    }
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
