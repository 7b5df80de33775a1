//! The event loop.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use unikernel::Error;
use unikernel::net::TcpListener;
use unikernel::poll::{Event, Events, Interest, Poller};
use unikernel::time::Instant;

use crate::connection::{Connection, Progress, Scratch};
use crate::files::Files;
use crate::metrics::Metrics;

/// Events taken at a time.
const EVENTS: usize = 256;
/// Connections at once; more are closed at the door.
const MAX_CONNECTIONS: usize = 20_000;
/// The listener's key; connections have their index.
const LISTENER: u64 = u64::MAX;
/// Silent clients are let go after two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Connections by index. Indices are used again; boxes keep an idle slot small.
#[derive(Default)]
struct Connections {
    slots: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
}

impl Connections {
    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn insert(&mut self, connection: Connection) -> usize {
        let connection = Some(Box::new(connection));
        if let Some(index) = self.free.pop() {
            self.slots[index] = connection;
            return index;
        }
        self.slots.push(connection);
        self.slots.len() - 1
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut Connection> {
        self.slots.get_mut(index)?.as_deref_mut()
    }

    fn remove(&mut self, index: usize) {
        if self.slots.get_mut(index).and_then(Option::take).is_some() {
            self.free.push(index);
        }
    }
}

/// All that the server holds.
struct Server {
    poller: Poller,
    listener: TcpListener,
    connections: Connections,
    files: Files,
    metrics: Metrics,
    scratch: Scratch,
    last_sweep: Instant,
}

/// Serves for ever, or says why it cannot.
pub(crate) fn serve(listener: TcpListener) -> Result<(), Error> {
    listener.set_nonblocking(true)?;
    let poller = Poller::new()?;
    poller.add(&listener, LISTENER, Interest::Read)?;
    let mut server = Server {
        poller,
        listener,
        connections: Connections::default(),
        files: Files::load("/www"),
        metrics: Metrics::default(),
        scratch: Scratch::new(),
        last_sweep: Instant::now(),
    };
    server.run()
}

impl Server {
    fn run(&mut self) -> Result<(), Error> {
        let mut events: Events<EVENTS> = Events::new();
        loop {
            let timeout = (self.connections.len() > 0).then_some(SWEEP_INTERVAL);
            match self.poller.wait(&mut events, timeout) {
                Err(Error::INTERRUPTED) => continue,
                outcome => outcome?,
            }
            for event in events.iter() {
                match event.key() {
                    LISTENER => self.accept_all(),
                    index => self.advance(index as usize, event),
                }
            }
            self.sweep(events.is_empty());
        }
    }

    fn accept_all(&mut self) {
        loop {
            match self.listener.accept_nonblocking() {
                Ok((stream, _)) => self.welcome(stream),
                Err(Error::WOULD_BLOCK) => return,
                // The client has left already, or there are no descriptors: the next may do better.
                Err(_) => {
                    self.metrics.accept_errors += 1;
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, stream: unikernel::net::TcpStream) {
        if self.connections.len() >= MAX_CONNECTIONS || stream.set_nodelay(true).is_err() {
            self.metrics.accept_errors += 1;
            return;
        }
        self.metrics.connections += 1;
        let index = self.connections.insert(Connection::new(stream));
        let Some(connection) = self.connections.get_mut(index) else { return };
        if self.poller.add(connection.stream(), index as u64, Interest::Read).is_err() {
            self.connections.remove(index);
        }
    }

    fn advance(&mut self, index: usize, event: Event) {
        // An earlier event of the same batch may have ended it.
        let Some(connection) = self.connections.get_mut(index) else { return };
        let was_blocked = connection.is_blocked();
        let progress = connection.advance(event, &self.files, &mut self.metrics, &mut self.scratch);
        let is_blocked = connection.is_blocked();
        let interest = if is_blocked { Interest::Write } else { Interest::Read };
        let is_over = progress == Progress::Finished
            || was_blocked != is_blocked
                && self.poller.modify(connection.stream(), index as u64, interest).is_err();
        if is_over {
            self.connections.remove(index);
        }
    }

    /// Lets go of clients that have said nothing since the sweep before the last. The clock is
    /// read when nothing is to do, or at the latest after many batches.
    fn sweep(&mut self, is_idle: bool) {
        /// Batches between looks at the clock.
        const BATCHES: u64 = 4096;
        self.metrics.batches += 1;
        if !is_idle && !self.metrics.batches.is_multiple_of(BATCHES) {
            return;
        }
        if self.last_sweep.elapsed() < SWEEP_INTERVAL {
            return;
        }
        self.last_sweep = Instant::now();
        for index in 0..self.connections.slots.len() {
            if self.connections.get_mut(index).is_some_and(Connection::is_stale) {
                self.metrics.timeouts += 1;
                self.connections.remove(index);
            }
        }
    }
}
