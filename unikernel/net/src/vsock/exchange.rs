//! Packets in and out: what each does to its connection, and which goes next.

use super::connection::{Connection, State};
use super::packet::{HEADER_BYTES, Header, NO_RECEIVE, NO_SEND, Operation, Parsed};
use super::{Listener, Vsock, VsockAddress, VsockEvent, VsockId};

/// Resets that wait to be sent at most; what more there would be, the host does without.
const MAX_RESETS: usize = 256;

impl Vsock {
    /// Takes a packet in. Without memory nothing is kept: who sends bytes, or asks for a connection, is reset.
    pub fn packet_in(&mut self, bytes: &[u8], has_memory: bool) {
        let (header, data) = match Header::parse(bytes) {
            Some(Parsed::Packet(header, data)) => (header, data),
            Some(Parsed::UnknownType(header)) => return self.refuse(&header),
            None => return,
        };
        if header.to.cid != self.cid {
            return;
        }
        match self.by_peer.get(&(header.to.port, header.from)).copied() {
            Some(id) if !has_memory && !data.is_empty() => {
                self.refuse(&header);
                self.over(id);
            }
            Some(id) => self.packet_for(id, &header, data),
            None if header.operation == Operation::Request && has_memory => self.requested(&header),
            None => self.refuse(&header),
        }
    }

    fn requested(&mut self, header: &Header) {
        let listener = self.ports.get(&header.to.port);
        let has_room = |listener: &Listener| listener.backlog.is_some_and(|most| listener.queue.len() < most);
        if !listener.is_some_and(has_room) {
            return self.refuse(header);
        }
        let mut connection = Connection::new(header.to, header.from, State::Connected);
        connection.note_credit(header.room, header.taken);
        let Some(id) = self.insert(connection) else { return self.refuse(header) };
        self.queue(id);
        if let Some(listener) = self.ports.get_mut(&header.to.port) {
            listener.queue.push_back(id);
            self.events.push(VsockEvent::Listener(header.to.port));
        }
    }

    fn packet_for(&mut self, id: VsockId, header: &Header, data: &[u8]) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.note_credit(header.room, header.taken);
        match (connection.state, header.operation) {
            (State::Connecting, Operation::Response) => connection.state = State::Connected,
            (State::Connecting, _) => connection.state = State::Refused,
            (State::Connected, Operation::Data) => {
                if !connection.receive(data) {
                    self.refuse(header);
                    return self.over(id);
                }
            }
            (State::Connected, Operation::Shutdown) => {
                connection.peer_ended |= header.flags & (NO_RECEIVE | NO_SEND);
                if connection.peer_ended == NO_RECEIVE | NO_SEND {
                    // Nobody reads any more what we could say.
                    self.refuse(header);
                    return self.over(id);
                }
            }
            (State::Connected, Operation::CreditRequest) => connection.owes_credit = true,
            (State::Connected, Operation::CreditUpdate | Operation::Unknown) => {}
            (State::Connected, _) => return self.over(id),
            (State::Refused | State::Over, Operation::Reset) => {}
            (State::Refused | State::Over, _) => self.refuse(header),
        }
        self.queue(id);
        self.notify(id);
    }

    /// A connection is over; what came can still be read, if there is somebody to.
    pub(super) fn over(&mut self, id: VsockId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.is_orphan {
            return self.remove(id);
        }
        connection.state = if connection.state == State::Connecting { State::Refused } else { State::Over };
        connection.unsent.clear();
        self.notify(id);
    }

    /// There is no such connection, or no more.
    fn refuse(&mut self, header: &Header) {
        if header.operation != Operation::Reset {
            self.reset_peer(header.to, header.from);
        }
    }

    /// Tells a peer that there is no such connection.
    pub(super) fn reset_peer(&mut self, from: VsockAddress, to: VsockAddress) {
        if self.resets.len() < MAX_RESETS {
            let operation = Operation::Reset;
            self.resets.push_back(Header { from, to, len: 0, operation, flags: 0, room: 0, taken: 0 });
        }
    }

    pub(super) fn queue(&mut self, id: VsockId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !core::mem::replace(&mut connection.is_queued, true)
        {
            self.queued.push_back(id);
        }
    }

    pub(super) fn notify(&mut self, id: VsockId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !core::mem::replace(&mut connection.has_event, true)
        {
            self.events.push(VsockEvent::Connection(id));
        }
    }

    /// True if [`Self::packet_out`] may have something.
    pub fn has_output(&self) -> bool {
        !self.resets.is_empty() || !self.queued.is_empty()
    }

    /// Writes the next packet into `room`, a buffer of the device; answers its length, or none if there is nothing to send. Those
    /// who have much take turns.
    pub fn packet_out(&mut self, room: &mut [u8]) -> Option<usize> {
        if let Some(header) = self.resets.pop_front() {
            room[..HEADER_BYTES].copy_from_slice(&header.encode());
            return Some(HEADER_BYTES);
        }
        loop {
            let id = self.queued.pop_front()?;
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.is_queued = false;
            let (front, rest) = room.split_at_mut(HEADER_BYTES);
            if matches!(connection.state, State::Connecting | State::Connected)
                && let Some(operation) = connection.owes_opening.take()
            {
                front.copy_from_slice(&header_of(connection, operation, 0).encode());
                self.queue(id);
                return Some(HEADER_BYTES);
            }
            let len = connection.unsent.len().min(connection.allowance()).min(rest.len());
            let is_connected = connection.state == State::Connected;
            if is_connected && len > 0 {
                connection.take_unsent(&mut rest[..len]);
                front.copy_from_slice(&header_of(connection, Operation::Data, len as u32).encode());
                self.queue(id);
                self.notify(id);
                return Some(HEADER_BYTES + len);
            }
            if is_connected && connection.owes_credit {
                front.copy_from_slice(&header_of(connection, Operation::CreditUpdate, 0).encode());
                self.queue(id);
                return Some(HEADER_BYTES);
            }
            if is_connected && connection.unsent.is_empty() && core::mem::take(&mut connection.owes_shutdown)
            {
                front.copy_from_slice(&header_of(connection, Operation::Shutdown, 0).encode());
                return Some(HEADER_BYTES);
            }
        }
    }
}

fn header_of(connection: &mut Connection, operation: Operation, len: u32) -> Header {
    let (room, taken) = connection.credit();
    let flags = if operation == Operation::Shutdown { connection.ended } else { 0 };
    Header { from: connection.local, to: connection.peer, len, operation, flags, room, taken }
}
