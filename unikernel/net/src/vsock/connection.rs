//! One connection: what waits in both directions, and the credit by which neither side sends more than the other has room for
//! (section 5.10.6.3). Counters of bytes wrap around.

use alloc::collections::VecDeque;

use super::packet::{NO_RECEIVE, NO_SEND, Operation, VsockAddress};

/// Room for bytes in each direction.
pub(super) const ROOM: usize = 64 * 1024;

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Asked for.
    Connecting,
    /// Both sides agree.
    Connected,
    /// Refused before it was one.
    Refused,
    /// Over: what came can still be read.
    Over,
}

/// Gives up the memory of a queue that is empty, if that is much: there may be very many connections.
fn give_back(queue: &mut VecDeque<u8>) {
    const KEPT_BYTES: usize = 4096;
    if queue.is_empty() && queue.capacity() > KEPT_BYTES {
        *queue = VecDeque::new();
    }
}

pub(super) struct Connection {
    pub(super) local: VsockAddress,
    pub(super) peer: VsockAddress,
    pub(super) state: State,
    received: VecDeque<u8>,
    pub(super) unsent: VecDeque<u8>,
    /// Bytes that our app has taken, and how many of them the peer knows of.
    taken: u32,
    taken_told: u32,
    /// Bytes sent; the peer's room, and how many its app has taken.
    sent: u32,
    peer_room: u32,
    peer_taken: u32,
    /// Which directions the peer, and our side, have ended: flags of a shutdown.
    pub(super) peer_ended: u32,
    pub(super) ended: u32,
    /// What opens the connection is still to be told: a request or a response, before anything else.
    pub(super) owes_opening: Option<Operation>,
    /// How much room there is, and that a direction has ended, is still to be told.
    pub(super) owes_credit: bool,
    pub(super) owes_shutdown: bool,
    /// Nobody here has it any more.
    pub(super) is_orphan: bool,
    pub(super) has_event: bool,
    pub(super) is_queued: bool,
}

impl Connection {
    pub(super) fn new(local: VsockAddress, peer: VsockAddress, state: State) -> Self {
        Self {
            local,
            peer,
            state,
            received: VecDeque::new(),
            unsent: VecDeque::new(),
            taken: 0,
            taken_told: 0,
            sent: 0,
            peer_room: 0,
            peer_taken: 0,
            peer_ended: 0,
            ended: 0,
            owes_opening: match state {
                State::Connecting => Some(Operation::Request),
                State::Connected => Some(Operation::Response),
                State::Refused | State::Over => None,
            },
            owes_credit: false,
            owes_shutdown: false,
            is_orphan: false,
            has_event: false,
            is_queued: false,
        }
    }

    /// Takes note of the peer's credit.
    pub(super) fn note_credit(&mut self, room: u32, taken: u32) {
        (self.peer_room, self.peer_taken) = (room, taken);
    }

    /// What a header tells of our own; the peer then knows.
    pub(super) fn credit(&mut self) -> (u32, u32) {
        self.taken_told = self.taken;
        self.owes_credit = false;
        (ROOM as u32, self.taken)
    }

    /// How many bytes the peer has room for.
    pub(super) fn allowance(&self) -> usize {
        let under_way = self.sent.wrapping_sub(self.peer_taken);
        self.peer_room.saturating_sub(under_way) as usize
    }

    /// Takes bytes from the front of what is to be sent.
    pub(super) fn take_unsent(&mut self, into: &mut [u8]) {
        let count = into.len();
        for (place, byte) in into.iter_mut().zip(self.unsent.drain(..count)) {
            *place = byte;
        }
        self.sent = self.sent.wrapping_add(count as u32);
        give_back(&mut self.unsent);
    }

    /// Takes bytes in; false if the peer has sent more than it might, or there is no memory for them.
    pub(super) fn receive(&mut self, data: &[u8]) -> bool {
        if self.ended & NO_RECEIVE != 0 {
            return true;
        }
        let fits = self.received.len() + data.len() <= ROOM && self.received.try_reserve(data.len()).is_ok();
        if fits {
            self.received.extend(data);
        }
        fits
    }

    /// Lends what was received to `look`, in one piece; what it says it has taken is gone.
    pub(super) fn read<R>(&mut self, look: impl FnOnce(&[u8]) -> (usize, R)) -> R {
        let (count, result) = look(self.received.make_contiguous());
        self.received.drain(..count.min(self.received.len()));
        give_back(&mut self.received);
        self.taken = self.taken.wrapping_add(count as u32);
        result
    }

    /// True if the peer should hear how much room there is again: it knows of less than half.
    pub(super) fn knows_little_room(&self) -> bool {
        self.state == State::Connected && self.taken.wrapping_sub(self.taken_told) as usize >= ROOM / 2
    }

    pub(super) fn received_bytes(&self) -> usize {
        self.received.len()
    }

    /// True if nothing more can come.
    pub(super) fn is_at_end(&self) -> bool {
        self.state == State::Over || self.peer_ended & NO_SEND != 0 || self.ended & NO_RECEIVE != 0
    }

    /// True if nothing can be sent any more.
    pub(super) fn is_shut(&self) -> bool {
        self.state != State::Connected || self.peer_ended & NO_RECEIVE != 0 || self.ended & NO_SEND != 0
    }
}
