//! Connections that need no engine: established, with nothing missing in between. That is what most segments
//! belong to, so they take a short way: two rings of bytes and the numbers in [`Track`].
//!
//! Whatever is not plain is an engine's ([`crate::flow_table::FlowTable::awake`] makes one of the rings and the
//! numbers): an end, a reset, a gap in what arrives, a second time-out in a row, a zero window. A connection leaves its
//! engine again when that has nothing left ([`Flow::can_settle`]); one that lives for a few segments only never
//! does, because to make an engine anew for the end would cost more than it saved.

use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;
use smoltcp::wire::TcpSeqNumber;

use crate::congestion::CcAction;
use crate::flow::{Flow, Owner, Path};
use crate::id::{SocketId, TcpId};
use crate::ingress::RxOrigin;
use crate::segment::{Heard, Segment};
use crate::sequence::Distance;
use crate::stack::Stack;
use crate::timers::NEVER;
use crate::track::{Track, WINDOW_SHIFT};

/// So many segments go through an engine before the connection leaves it.
const TRIPS: u8 = 4;
/// After so many it leaves the engine even if data is under way, which has to be copied then: a bulk sender.
const BULK_TRIPS: u8 = 16;
/// After so many if as much waits as [`BULK_SEGMENTS`]: the sooner, the fewer losses are the engine's.
const SOON_TRIPS: u8 = 6;
/// Segments that have to wait for it to be worth while: they take half as many instructions each on the plain path.
const BULK_SEGMENTS: usize = 8;

/// What a connection without an engine does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Send so many bytes of what is written, from this offset; none for an acknowledgement alone.
    Send { offset: usize, len: usize },
    /// Nothing before that time, unless something happens.
    Wait(Instant),
}

impl Flow {
    /// True for a segment in stream that continues the conversation: nothing before it is missing, and it
    /// acknowledges what was sent.
    #[inline]
    pub(crate) fn is_next(&self, heard: &Heard) -> bool {
        let track = &self.track;
        heard.sequence == track.received && track.seen == track.received && self.is_credible(heard.ack_number)
    }

    /// True for an acknowledgement of something that was sent and not long ago (RFC 5961 section 5.2).
    #[inline]
    fn is_credible(&self, ack: TcpSeqNumber) -> bool {
        let track = &self.track;
        ack <= track.sent && (ack >= track.una || ack + (track.window as usize).max(65_535) >= track.una)
    }

    /// True for a segment that has come before, or asks whether anybody is there (RFC 9293 section 3.8.4).
    fn is_repeated(&self, segment: &Segment<'_>) -> bool {
        self.engine.is_none() && self.has_all_of(segment)
    }

    /// The same, whoever takes care of the connection.
    pub(crate) fn has_all_of(&self, segment: &Segment<'_>) -> bool {
        let received = self.track.received;
        segment.is_in_stream()
            && segment.sequence() < received
            && segment.sequence() + segment.payload_len() <= received
            && self.is_credible(segment.ack_number())
    }

    /// True if the engine has nothing left when it has heard this segment, which [is next](Self::is_next).
    #[inline]
    pub(crate) fn can_settle(&mut self, heard: &Heard) -> bool {
        if self.trips < BULK_TRIPS {
            self.trips += 1;
        }
        self.trips > TRIPS
            && heard.ack_number == self.track.sent
            && self.state() == State::Established
            && self.recv_queue() == 0
            && self.send_queue() == self.track.in_flight()
            && !self.is_half_open()
            && !self.congestion.is_recovering()
    }

    /// True if a connection has been in an engine's care for so long that it is worth while to take what is
    /// under way out of it.
    fn can_be_relieved(&self) -> bool {
        let waits = self.send_queue().saturating_sub(self.track.in_flight());
        let is_bulk = waits >= BULK_SEGMENTS * usize::from(self.track.mss);
        self.trips >= if is_bulk { SOON_TRIPS } else { BULK_TRIPS }
            && self.state() == State::Established
            && self.track.next == self.track.sent
            && self.track.window > 0
            && !self.is_half_open()
            && !self.congestion.is_recovering()
    }

    /// True if `bytes` more that arrive have their place.
    #[inline]
    fn has_space(&self, bytes: usize) -> bool {
        self.plain.as_ref().is_some_and(|plain| plain.received.len() + bytes <= plain.received.capacity())
    }

    /// The window that the peer may be told of, in bytes.
    #[inline]
    pub(crate) fn open_window(&self) -> usize {
        self.rx_window.saturating_sub(self.recv_queue())
    }

    /// The scale of the windows that the peer is told of.
    #[inline]
    fn shift(&self) -> u8 {
        if self.track.peer_scale.is_some() { WINDOW_SHIFT } else { 0 }
    }

    /// The window as segments have it.
    #[inline]
    pub(crate) fn told_window(&self) -> u16 {
        u16::try_from(self.open_window() >> self.shift()).unwrap_or(u16::MAX)
    }

    /// Takes the acknowledgement in a segment, which needs to be seen whole if it has options or if there is a
    /// scoreboard. True if the app has room to write now, and had none.
    #[inline]
    fn acknowledged_by(&mut self, now: Instant, heard: &Heard, segment: Option<&Segment<'_>>) -> bool {
        let was_writable = self.is_writable();
        let track = &mut self.track;
        if heard.ack_number < track.una {
            // It was overtaken by a later one.
            return false;
        }
        let count = heard.ack_number.since(track.una);
        let window = u32::from(heard.window) << track.peer_scale.unwrap_or(0);
        if let Some(plain) = &mut self.plain
            && count > 0
        {
            // What an engine had under way is not in the ring.
            let held = count.min(plain.sending.len());
            plain.sending.discard(held);
            track.acknowledge(count);
        }
        let has_sack = track.has_sack;
        let told = segment.filter(|segment| {
            has_sack && segment.has_options() && segment.blocks().next().is_some() || self.has_board()
        });
        let is_duplicate = heard.len == 0 && window == self.track.window && !has_sack;
        let verdict = if let Some(segment) = told {
            self.sacked_by(now, segment, count);
            CcAction::Nothing
        } else if count > 0 {
            self.congestion.on_ack(now, count, &self.track)
        } else if is_duplicate && self.track.in_flight() > 0 {
            self.congestion.on_duplicate(&self.track)
        } else {
            CcAction::Nothing
        };
        self.track.window = window;
        match verdict {
            CcAction::Nothing => {}
            CcAction::Provoke => self.repeats = true,
            CcAction::Rewind => self.track.rewind(),
        }
        count > 0 && !was_writable && self.is_writable()
    }

    /// What there is to do.
    #[inline]
    pub(crate) fn step(&self, now: Instant) -> Step {
        let Some(plain) = &self.plain else { return Step::Wait(NEVER) };
        let Track { mss, window, received, acknowledged, .. } = self.track;
        let (in_flight, mss) = (self.track.in_flight(), usize::from(mss));
        let mut until = self.congestion.due.min(plain.ack_at);
        let mut under_way = in_flight;
        if self.repeats || plain.board.is_some() || self.congestion.wants_probe() {
            if let Some(step) = self.repetition(now) {
                return step;
            }
            let (count, fewer_at) = self.under_way(now);
            (under_way, until) = (count, until.min(fewer_at.unwrap_or(NEVER)));
        }
        let unsent = plain.sending.len().saturating_sub(in_flight);
        if unsent > 0 {
            let wanted = unsent.min(mss);
            let len = wanted.min((window as usize).saturating_sub(in_flight));
            // A segment that is not full waits for the way to be clear, or for the app to say more.
            let is_held = wanted < mss && ((self.has_nagle && in_flight > 0) || self.corked_until > now);
            let is_clear =
                in_flight == 0 || (len == wanted && under_way + len <= self.congestion.window(mss));
            if !is_held && is_clear && len > 0 {
                return Step::Send { offset: in_flight, len };
            }
            if self.corked_until > now {
                until = until.min(self.corked_until);
            }
        }
        let owed = received.since(acknowledged);
        let is_due = self.must_ack || owed > 0 && (owed > mss || self.acks_at_once || plain.ack_at <= now);
        if is_due || self.has_opened() {
            return Step::Send { offset: in_flight, len: 0 };
        }
        Step::Wait(until)
    }

    /// True if the window is twice as wide as the peer knows, and by a segment at least (RFC 9293 section
    /// 3.8.6.2.2).
    #[inline]
    pub(crate) fn has_opened(&self) -> bool {
        let Track { edge, received, .. } = self.track;
        let told = edge.since(received);
        let open = self.open_window();
        open >= 2 * told && open - told >= usize::from(self.track.mss).min(self.rx_window / 2).max(1)
    }

    /// True if a visit would find something to send.
    #[inline]
    fn has_more(&self) -> bool {
        let Track { received, acknowledged, mss, .. } = self.track;
        self.repeats
            || self.must_ack
            || self.send_queue() > self.track.in_flight()
            || self.acks_at_once
            || self.has_board()
            || received.since(acknowledged) > usize::from(mss)
    }

    /// True if only an engine can go on: the peer does not answer, or it has no room and must be asked whether it
    /// has some again.
    #[inline]
    pub(crate) fn needs_engine(&self, now: Instant) -> bool {
        if self.track.in_flight() > 0 {
            return self.congestion.due <= now
                && !self.congestion.is_probe_due()
                && (self.congestion.is_backed_off() || self.user_timeout.get().is_some());
        }
        self.track.window == 0 && self.send_queue() > 0
    }

    /// Takes note of what [`Self::step`] had sent. True if it was data, and not for the first time.
    #[inline]
    pub(crate) fn stepped(&mut self, now: Instant, offset: usize, len: usize) -> bool {
        let told = usize::from(self.told_window()) << self.shift();
        let track = &mut self.track;
        (track.acknowledged, track.edge) = (track.received, track.received + told);
        self.must_ack = false;
        if let Some(plain) = &mut self.plain {
            plain.ack_at = NEVER;
        }
        if len == 0 {
            return false;
        }
        let start = track.una + offset;
        let end = start + len;
        let is_repeat = end <= track.sent;
        if let Some(board) = self.plain.as_mut().and_then(|plain| plain.board.as_mut())
            && is_repeat
        {
            board.repeated(start, end, track.next, now);
        }
        track.next = track.next.max(end);
        track.sent = track.sent.max(end);
        self.repeats = false;
        self.congestion.on_send(now, end, is_repeat, &self.track);
        is_repeat
    }
}

impl Stack {
    /// Takes in a segment for a connection without an engine, or one that leaves it now. False if it is not
    /// plain.
    #[inline]
    pub(crate) fn plain_in(&mut self, id: TcpId, segment: &Segment<'_>, link: RxOrigin) -> bool {
        let heard = segment.heard();
        let Some(flow) = self.flows.get_mut(id) else { return false };
        if !segment.is_in_stream() || !flow.is_next(&heard) {
            return flow.is_repeated(segment) && self.repeated_in(id, segment);
        }
        let has_engine = flow.engine.is_some();
        let ack_by = self.now + self.config.ack_delay;
        if has_engine {
            let is_free = match flow.can_settle(&heard) {
                true => self.flows.settle(id, ack_by),
                false => flow.can_be_relieved() && self.flows.relieve(id, ack_by, self.now),
            };
            if !is_free {
                return false;
            }
        }
        if let (RxOrigin::Nic(header), Some(flow)) = (link, self.flows.get_mut(id)) {
            flow.path = Path::Link(header);
        }
        self.next_in(id, &heard, segment.payload(), Some(segment), has_engine)
    }

    /// Takes in the next segment of a connection without an engine, or one that has just lost its engine; `whole` as
    /// [`Flow::acknowledged_by`] needs it. False if there is no room for it.
    #[inline]
    pub(crate) fn next_in(
        &mut self,
        id: TcpId,
        heard: &Heard,
        payload: &[u8],
        whole: Option<&Segment<'_>>,
        has_settled: bool,
    ) -> bool {
        let now = self.now;
        let Some(mut flow) = self.flows.get_mut(id) else { return true };
        if heard.len > 0 && !flow.has_space(heard.len) {
            if !self.flows.make_room(id, heard.len, now) {
                return false;
            }
            let Some(wider) = self.flows.get_mut(id) else { return true };
            flow = wider;
        }
        (flow.heard_at, flow.active_at, flow.probes) = (now, now, 0);
        let has_opened = flow.acknowledged_by(now, heard, whole) | has_settled;
        if let Some(plain) = flow.plain.as_mut().filter(|_| heard.len > 0) {
            plain.received.append(payload);
            plain.ack_at = plain.ack_at.min(now + self.config.ack_delay);
            flow.track.receive(heard.len);
        }
        if flow.has_more() || has_settled {
            if !flow.is_dirty {
                flow.is_dirty = true;
                self.dirty.push(id);
            }
        } else if heard.len > 0 && !flow.is_late {
            flow.is_late = true;
            self.delayed_acks.push(id, now + self.config.ack_delay);
        }
        if heard.len > 0 || has_opened {
            match flow.owner {
                Owner::App if !flow.has_event => {
                    flow.has_event = true;
                    self.events.push(SocketId::Tcp(id));
                }
                Owner::Deferred(listener, _) if heard.len > 0 => self.enqueue(id, listener),
                _ => {}
            }
        }
        true
    }

    /// Tells a peer that repeats itself where the conversation stands. False if there is no memory for it.
    #[cold]
    fn repeated_in(&mut self, id: TcpId, segment: &Segment<'_>) -> bool {
        let now = self.now;
        let Some(flow) = self.flows.ready(id, now) else { return false };
        (flow.heard_at, flow.probes) = (now, 0);
        flow.acknowledged_by(now, &segment.heard(), Some(segment));
        // An acknowledgement of nothing new, at once, if it is not told in another way.
        flow.must_ack = !flow.is_duplicate(segment);
        self.mark_dirty(id);
        self.notify_tcp(id);
        true
    }
}
