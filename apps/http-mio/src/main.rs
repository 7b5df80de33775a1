//! An HTTP server as people write them with `mio`: one thread, one `epoll`, a state machine for each
//! connection. Nothing here knows the kernel it will run on. `/` greets, `/json` answers JSON.

mod connection;
mod response;

use std::io;
use std::net::SocketAddr;

use connection::{Connection, Progress};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
/// Events taken from the kernel at a time.
const EVENTS: usize = 1024;

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8080);
    let mut listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port)))?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on port {port}");

    let mut connections = Slab::new();
    let mut events = Events::with_capacity(EVENTS);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        for event in &events {
            match event.token() {
                LISTENER => accept_all(&listener, &poll, &mut connections)?,
                Token(index) => advance(index, &poll, &mut connections),
            }
        }
    }
}

/// Takes every connection that waits: mio is edge-triggered, so none may be left.
fn accept_all(listener: &TcpListener, poll: &Poll, connections: &mut Slab<Connection>) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The client may have left while it waited.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        let _ = stream.set_nodelay(true);
        let slot = connections.vacant_entry();
        poll.registry().register(&mut stream, Token(slot.key()), Interest::READABLE | Interest::WRITABLE)?;
        slot.insert(Connection::new(stream));
    }
}

fn advance(index: usize, poll: &Poll, connections: &mut Slab<Connection>) {
    // An event may name a connection that an earlier one of the same batch ended.
    let Some(connection) = connections.get_mut(index) else { return };
    if connection.advance() == Progress::Finished {
        let mut connection = connections.remove(index);
        let _ = poll.registry().deregister(connection.stream());
    }
}
