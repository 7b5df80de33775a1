//! Somebody who is told what becomes of connections: their states, and what is sent once more.
//!
//! A state that does not last until the connection is next visited is not told: what comes in one batch is one step.

use core::net::SocketAddr;

use crate::flow::Flow;
use crate::listing::state_number;
use crate::stack::Stack;

/// What has become of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It has another state; Linux's number of it.
    State(u8),
    /// So many segments were sent once more.
    Resent(u32),
}

/// Is told of a connection's local and remote end, and what has become of it.
pub type Tracer = fn(&SocketAddr, &SocketAddr, Turn);

impl Stack {
    /// Sets who is told.
    pub fn set_tracer(&mut self, tracer: Option<Tracer>) {
        self.tracer = tracer;
    }
}

/// Segments of a connection were sent once more.
#[cold]
pub(crate) fn tell_resent(tracer: Option<Tracer>, flow: &Flow, segments: u64) {
    if let Some(tracer) = tracer {
        tracer(&flow.local, &flow.remote, Turn::Resent(segments.try_into().unwrap_or(u32::MAX)));
    }
}

/// A connection was visited, whose state may be another.
#[cold]
pub(crate) fn tell_state(tracer: Tracer, flow: &mut Flow) {
    let state = flow.state();
    if core::mem::replace(&mut flow.told, state) != state {
        tracer(&flow.local, &flow.remote, Turn::State(state_number(state)));
    }
}
