//! Connections that need no engine: established, with nothing missing in between. That is what most segments
//! belong to, so they take a short way: two rings of bytes and the numbers in [`Track`].
//!
//! Whatever is not plain is an engine's ([`crate::flow_table::FlowTable::awake`] makes one of the rings and the
//! numbers): an end, a reset, a gap in what arrives, a time-out, a window of nothing. A connection leaves its
//! engine again when that has nothing left ([`Flow::can_settle`]); one that lives for a few segments only never
//! does, because to make an engine anew for the end would cost more than it saved.

use smoltcp::socket::tcp::State;
use smoltcp::storage::RingBuffer;
use smoltcp::time::Instant;

use crate::congestion::Verdict;
use crate::engine::Held;
use crate::flow::{Flow, Owner, Path};
use crate::id::TcpId;
use crate::ingress::Link;
use crate::stack::Stack;
use crate::timers::NEVER;
use crate::track::Track;
use crate::wire::Segment;

/// So many segments go through an engine before the connection leaves it.
const TRIPS: u8 = 4;

/// The buffers of a connection without an engine.
pub(crate) struct Plain {
    /// Arrived and not read yet.
    pub(crate) received: RingBuffer<'static, u8>,
    /// Written and not acknowledged yet; what is under way comes first.
    pub(crate) sending: RingBuffer<'static, u8>,
    /// When the peer must have its acknowledgement.
    pub(crate) ack_at: Instant,
}

/// What a connection without an engine does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Send so many bytes of what is written, from this offset; none for an acknowledgement alone.
    Send { offset: usize, len: usize },
    /// Nothing before that time, unless something happens.
    Wait(Instant),
}

/// A ring for so many bytes.
fn ring(bytes: usize) -> RingBuffer<'static, u8> {
    RingBuffer::new(alloc::vec![0; bytes])
}

/// Moves a ring's bytes into a larger one.
fn enlarged(old: &RingBuffer<'static, u8>, bytes: usize) -> RingBuffer<'static, u8> {
    let mut new = ring(bytes);
    copy_out(old, 0, new.enqueue_many(old.len()));
    new
}

/// Copies what a ring holds from `offset` on.
#[inline]
pub(crate) fn copy_out(ring: &RingBuffer<'static, u8>, offset: usize, into: &mut [u8]) {
    let first = ring.get_allocated(offset, into.len());
    let (front, back) = into.split_at_mut(first.len());
    front.copy_from_slice(first);
    if !back.is_empty() {
        // Behind the end of the buffer it goes on at its beginning.
        back.copy_from_slice(ring.get_allocated(offset + front.len(), back.len()));
    }
}

fn content(ring: &RingBuffer<'static, u8>) -> alloc::vec::Vec<u8> {
    let mut bytes = alloc::vec![0; ring.len()];
    copy_out(ring, 0, &mut bytes);
    bytes
}

impl Plain {
    pub(crate) fn new(rx_buffer: usize, tx_buffer: usize) -> Self {
        Self { received: ring(rx_buffer), sending: ring(tx_buffer), ack_at: NEVER }
    }

    /// The sizes of the receive and the send buffer, in bytes.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.received.capacity(), self.sending.capacity())
    }

    /// Makes the buffers larger.
    pub(crate) fn enlarge(&mut self, rx_buffer: usize, tx_buffer: usize) {
        if rx_buffer > self.received.capacity() {
            self.received = enlarged(&self.received, rx_buffer);
        }
        if tx_buffer > self.sending.capacity() {
            self.sending = enlarged(&self.sending, tx_buffer);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.received.clear();
        self.sending.clear();
        self.ack_at = NEVER;
    }

    /// What an engine has to be given.
    pub(crate) fn held(&self) -> Held {
        Held { received: content(&self.received), unacknowledged: content(&self.sending), has_fin: false }
    }
}

impl Flow {
    /// True for a segment that continues the conversation: nothing before it is missing, and it
    /// acknowledges what was sent.
    #[inline]
    pub(crate) fn is_next(&self, segment: &Segment<'_>) -> bool {
        let track = &self.track;
        segment.is_in_stream()
            && segment.sequence() == track.received
            && track.seen == track.received
            && segment.ack_number() >= track.una
            && segment.ack_number() <= track.sent
    }

    /// True if the engine has nothing left when it has heard this segment, which [is next](Self::is_next).
    #[inline]
    pub(crate) fn can_settle(&mut self, segment: &Segment<'_>) -> bool {
        if self.trips < TRIPS {
            self.trips += 1;
            return false;
        }
        segment.ack_number() == self.track.sent
            && self.state() == State::Established
            && self.recv_queue() == 0
            && self.send_queue() == self.track.in_flight()
            && !self.is_half_open()
            && !self.congestion.is_recovering()
    }

    /// The window that the peer may be told of, in bytes.
    #[inline]
    pub(crate) fn open_window(&self) -> usize {
        self.rx_window.saturating_sub(self.recv_queue())
    }

    /// Takes the acknowledgement in a segment. True if the app has room to write now, and had none.
    #[inline]
    fn acknowledged_by(&mut self, now: Instant, segment: &Segment<'_>) -> bool {
        let was_writable = self.is_writable();
        let track = &mut self.track;
        let count = segment.ack_number() - track.una;
        let window = u32::from(segment.window()) << track.peer_scale.unwrap_or(0);
        let verdict = if count > 0 {
            if let Some(plain) = &mut self.plain {
                // What an engine had under way is not in the ring.
                let held = count.min(plain.sending.len());
                discard(&mut plain.sending, held);
            }
            track.acknowledge(count);
            self.congestion.on_ack(now, count, track)
        } else if segment.payload_len() == 0 && track.in_flight() > 0 && window == track.window {
            self.congestion.on_duplicate(track)
        } else {
            Verdict::Nothing
        };
        track.window = window;
        match verdict {
            Verdict::Nothing => {}
            Verdict::Provoke => self.repeats = true,
            Verdict::Rewind => self.track.rewind(),
        }
        count > 0 && !was_writable && self.is_writable()
    }

    /// What there is to do.
    #[inline]
    pub(crate) fn step(&self, now: Instant) -> Step {
        let Some(plain) = &self.plain else { return Step::Wait(NEVER) };
        let Track { mss, window, received, acknowledged, .. } = self.track;
        let (in_flight, mss) = (self.track.in_flight(), usize::from(mss));
        if self.repeats && in_flight > 0 {
            return Step::Send { offset: 0, len: in_flight.min(mss) };
        }
        let unsent = plain.sending.len() - in_flight;
        let mut until = self.congestion.due.min(plain.ack_at);
        if unsent > 0 {
            let wanted = unsent.min(mss);
            let len = wanted.min((window as usize).saturating_sub(in_flight));
            // A segment that is not full waits for the way to be clear, or for the app to say more.
            let is_held = wanted < mss
                && ((self.has_nagle && in_flight > 0) || self.corked_until.is_some_and(|until| until > now));
            let is_clear =
                in_flight == 0 || (len == wanted && in_flight + len <= self.congestion.window(mss));
            if !is_held && is_clear && len > 0 {
                return Step::Send { offset: in_flight, len };
            }
            if let Some(corked) = self.corked_until.filter(|corked| *corked > now) {
                until = until.min(corked);
            }
        }
        let owed = received - acknowledged;
        let is_due = owed > 0 && (owed > mss || self.acks_at_once || plain.ack_at <= now);
        if is_due || self.has_opened() {
            return Step::Send { offset: in_flight, len: 0 };
        }
        Step::Wait(until)
    }

    /// True if the window is twice as wide as the peer knows (RFC 9293 section 3.8.6.2.2).
    #[inline]
    fn has_opened(&self) -> bool {
        let Track { edge, received, .. } = self.track;
        let told = if edge > received { edge - received } else { 0 };
        let open = self.open_window();
        open >= 2 * told && open > told
    }

    /// True if only an engine can go on: an acknowledgement is overdue, or the peer has no room and must be
    /// asked whether it has some again.
    #[inline]
    pub(crate) fn needs_engine(&self, now: Instant) -> bool {
        let in_flight = self.track.in_flight();
        if in_flight > 0 {
            return self.congestion.due <= now;
        }
        self.track.window == 0 && self.send_queue() > 0
    }

    /// Takes note of what [`Self::step`] had sent. True if it was data, and not for the first time.
    #[inline]
    pub(crate) fn stepped(&mut self, now: Instant, offset: usize, len: usize) -> bool {
        let told = self.open_window();
        let track = &mut self.track;
        (track.acknowledged, track.edge) = (track.received, track.received + told);
        if let Some(plain) = &mut self.plain {
            plain.ack_at = NEVER;
        }
        if len == 0 {
            return false;
        }
        let end = track.una + offset + len;
        let is_repeat = end <= track.sent;
        track.next = track.next.max(end);
        track.sent = track.sent.max(end);
        self.repeats = false;
        self.congestion.on_send(now, end, is_repeat);
        is_repeat
    }
}

/// Drops the first `count` bytes.
#[inline]
fn discard(ring: &mut RingBuffer<'static, u8>, count: usize) {
    let first = ring.dequeue_many(count).len();
    if first < count {
        let rest = ring.dequeue_many(count - first).len();
        debug_assert_eq!(first + rest, count);
    }
}

impl Stack {
    /// Takes in a segment for a connection without an engine, or one that leaves it now. False if it is not
    /// plain.
    #[inline]
    pub(crate) fn plain_in(&mut self, id: TcpId, segment: &Segment<'_>, link: Link) -> bool {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(id).filter(|flow| flow.is_next(segment)) else { return false };
        let has_engine = flow.engine.is_some();
        let ack_by = now + self.config.ack_delay;
        if has_engine && !(flow.can_settle(segment) && self.flows.settle(id, ack_by)) {
            return false;
        }
        let len = segment.payload_len();
        if len > 0 && !self.flows.make_room(id, len) {
            return false;
        }
        let Some(flow) = self.flows.get_mut(id) else { return true };
        (flow.heard_at, flow.probes) = (now, 0);
        if let Link::Nic(header) = link {
            flow.path = Path::Link(header);
        }
        let has_opened = flow.acknowledged_by(now, segment) | has_engine;
        if len == 0 {
            if has_opened {
                self.notify_tcp(id);
            }
            return self.look_again(id);
        }
        let Some(plain) = &mut flow.plain else { return true };
        let stored = plain.received.enqueue_slice(segment.payload());
        debug_assert_eq!(stored, len);
        plain.ack_at = plain.ack_at.min(ack_by);
        flow.track.receive(len);
        if let Owner::Deferred(listener, _) = flow.owner {
            self.enqueue(id, listener);
        } else {
            self.notify_tcp(id);
        }
        self.mark_dirty(id);
        true
    }

    /// After an acknowledgement: there may be more to send.
    #[inline]
    fn look_again(&mut self, id: TcpId) -> bool {
        let Some(flow) = self.flows.get_mut(id) else { return true };
        if flow.repeats || flow.send_queue() > flow.track.in_flight() {
            self.mark_dirty(id);
        }
        true
    }
}
