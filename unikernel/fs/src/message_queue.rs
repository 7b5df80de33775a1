//! A queue of messages (mq_overview(7)): the one with the highest priority goes first, and of those the oldest.
//!
//! Those who wait take turns in the order of coming, and a newcomer passes nobody. A message that a waiting receiver is
//! about to take is not in the queue any more, as far as others can see, and room that a waiting sender
//! is about to fill is not there.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its priority.
    pub priority: u32,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Which end of a queue somebody stands at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueEnd {
    /// For room.
    Send,
    /// For a message.
    Receive,
}

/// The place of one who waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn(u64);

/// Those who wait at one end.
#[derive(Debug, Default)]
struct Line {
    turns: VecDeque<Turn>,
    joined: u64,
}

impl Line {
    fn join(&mut self) -> Turn {
        self.joined += 1;
        let turn = Turn(self.joined);
        self.turns.push_back(turn);
        turn
    }

    fn leave(&mut self, turn: Turn) {
        self.turns.retain(|other| *other != turn);
    }

    /// How many come before the one with this turn, or before a newcomer.
    fn ahead_of(&self, turn: Option<Turn>) -> usize {
        let place = turn.and_then(|turn| self.turns.iter().position(|other| *other == turn));
        place.unwrap_or(self.turns.len())
    }
}

/// Messages on their way, and who waits for them.
#[derive(Debug)]
pub struct MessageQueue {
    max_messages: usize,
    /// By priority, then by age.
    messages: BTreeMap<(Reverse<u32>, u64), Vec<u8>>,
    bytes: usize,
    sent: u64,
    senders: Line,
    receivers: Line,
}

impl MessageQueue {
    /// An empty queue.
    pub fn new(max_messages: usize) -> Self {
        Self {
            max_messages,
            messages: BTreeMap::new(),
            bytes: 0,
            sent: 0,
            senders: Line::default(),
            receivers: Line::default(),
        }
    }

    /// Messages that nobody is about to take.
    pub fn len(&self) -> usize {
        self.messages.len().saturating_sub(self.receivers.turns.len())
    }

    /// True if a newcomer would wait for a message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if a newcomer would wait for room.
    pub fn is_full(&self) -> bool {
        self.room() <= self.senders.turns.len()
    }

    /// Bytes of all messages.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn room(&self) -> usize {
        self.max_messages.saturating_sub(self.len())
    }

    /// Sends a message, which is taken if there is room for who has this turn, or for a newcomer. The turn is over then.
    pub fn send(&mut self, message: &mut Option<Message>, turn: Option<Turn>) -> Option<Sent> {
        if self.room() <= self.senders.ahead_of(turn) {
            return None;
        }
        let Message { priority, bytes } = message.take()?;
        if let Some(turn) = turn {
            self.senders.leave(turn);
        }
        self.bytes += bytes.len();
        self.messages.insert((Reverse(priority), self.sent), bytes);
        self.sent += 1;
        Some(if self.len() == 1 { Sent::ToEmpty } else { Sent::Otherwise })
    }

    /// Takes a message, if there is one for who has this turn, or for a newcomer. The turn is over then.
    pub fn receive(&mut self, turn: Option<Turn>) -> Option<Message> {
        if self.messages.len() <= self.receivers.ahead_of(turn) {
            return None;
        }
        let ((Reverse(priority), _), bytes) = self.messages.pop_first()?;
        if let Some(turn) = turn {
            self.receivers.leave(turn);
        }
        self.bytes -= bytes.len();
        Some(Message { priority, bytes })
    }

    /// Begins to wait.
    pub fn join(&mut self, end: QueueEnd) -> Turn {
        self.line(end).join()
    }

    /// Gives up waiting.
    pub fn leave(&mut self, end: QueueEnd, turn: Turn) {
        self.line(end).leave(turn);
    }

    fn line(&mut self, end: QueueEnd) -> &mut Line {
        match end {
            QueueEnd::Send => &mut self.senders,
            QueueEnd::Receive => &mut self.receivers,
        }
    }
}

/// What a message met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// No other message, and nobody who waits for one: what mq_notify(3) tells of.
    ToEmpty,
    /// A receiver, or others.
    Otherwise,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(priority: u32, content: &[u8]) -> Option<Message> {
        Some(Message { priority, bytes: content.to_vec() })
    }

    fn send(queue: &mut MessageQueue, priority: u32, content: &[u8]) -> Option<Sent> {
        queue.send(&mut message(priority, content), None)
    }

    #[test]
    fn highest_priority_first_then_oldest() {
        let mut queue = MessageQueue::new(4);
        for (priority, content) in [(1, b"a"), (3, b"b"), (1, b"c"), (3, b"d")] {
            assert!(send(&mut queue, priority, content).is_some());
        }
        assert!(queue.is_full() && queue.bytes() == 4);
        assert_eq!(send(&mut queue, 9, b"e"), None);
        let order: Vec<u8> = core::iter::from_fn(|| queue.receive(None)).map(|got| got.bytes[0]).collect();
        assert_eq!(order, b"bdac");
        assert!(queue.is_empty() && queue.bytes() == 0);
    }

    #[test]
    fn nobody_passes_a_receiver_that_waits() {
        let mut queue = MessageQueue::new(2);
        let (first, second) = (queue.join(QueueEnd::Receive), queue.join(QueueEnd::Receive));
        assert_eq!(send(&mut queue, 0, b"x"), Some(Sent::Otherwise));
        assert!(queue.is_empty());
        assert_eq!(queue.receive(None), None);
        assert_eq!(queue.receive(Some(second)), None);
        assert_eq!(queue.receive(Some(first)), message(0, b"x"));
        queue.leave(QueueEnd::Receive, second);
        assert_eq!(send(&mut queue, 0, b"y"), Some(Sent::ToEmpty));
        assert_eq!(send(&mut queue, 0, b"z"), Some(Sent::Otherwise));
    }

    #[test]
    fn nobody_passes_a_sender_that_waits() {
        let mut queue = MessageQueue::new(1);
        assert!(send(&mut queue, 0, b"a").is_some());
        let turn = queue.join(QueueEnd::Send);
        let mut waiting = message(7, b"b");
        assert_eq!(queue.send(&mut waiting, Some(turn)), None);
        assert!(queue.receive(None).is_some());
        assert!(queue.is_full());
        assert_eq!(send(&mut queue, 9, b"c"), None);
        assert_eq!(queue.send(&mut waiting, Some(turn)), Some(Sent::ToEmpty));
        assert_eq!(queue.receive(None), message(7, b"b"));
    }

    #[test]
    fn message_for_who_gave_up_is_for_others() {
        let mut queue = MessageQueue::new(1);
        let turn = queue.join(QueueEnd::Receive);
        assert!(send(&mut queue, 0, b"a").is_some());
        queue.leave(QueueEnd::Receive, turn);
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.receive(None), message(0, b"a"));
    }
}
