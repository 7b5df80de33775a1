//! Handshakes of connections to listeners: a SYN begins a flow, or, when too many are under way, gets an
//! answer that leaves nothing behind ([`crate::cookies`]). A connection that is established waits in its
//! listener's queue, or, if the listener says so, for its first data.

use smoltcp::iface::Interface;
use smoltcp::phy::TxToken;
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;
use smoltcp::wire::{IpListenEndpoint, TcpControl, TcpRepr, TcpSeqNumber};

use crate::cookies::Terms;
use crate::flow::{Flow, Origin, Owner, Path};
use crate::id::{ListenerId, TcpId};
use crate::ingress::RxOrigin;
use crate::isn::seed_for;
use crate::phy::{Inbound, LOOPBACK_MTU};
use crate::segment::Segment;
use crate::stack::Stack;
use crate::track::WINDOW_SHIFT;
use crate::wire;

impl Stack {
    /// A SYN for a listener begins a flow, if there is room for one.
    pub(crate) fn open<T: TxToken>(
        &mut self,
        listener: ListenerId,
        segment: &Segment<'_>,
        link: RxOrigin,
        token: T,
    ) {
        let listening = self.listeners.get(listener).filter(|listener| !listener.is_full());
        let Some(largest_mss) = listening.map(|listener| listener.largest_mss) else {
            return self.counters.backlog_full += 1;
        };
        // A handshake without buffers could not end with a segment that brings data along, and the peer's bare
        // acknowledgement may be lost.
        if self.half_open >= self.config.max_half_open || !self.flows.has_small(self.now) {
            return self.give_cookie(largest_mss, segment, link, token);
        }
        let iss = TcpSeqNumber(self.numbers.number(self.now, &segment.key()) as i32);
        let origin = origin(segment, link, Owner::HalfOpen(listener), (iss, segment.sequence()));
        let Some(id) = self.flows.insert(&self.seed, origin, self.now) else {
            return self.counters.no_memory += 1;
        };
        self.half_open += 1;
        let is_loopback = link == RxOrigin::Loopback;
        let most = self.largest_segment(segment, link);
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.track.agree(segment, most);
        flow.largest_mss = largest_mss;
        let seed = seed_for(iss.0 as u32, (self.random)());
        let mut interface = self.interfaces.for_new_connection(is_loopback, seed, self.now);
        let traffic = (!is_loopback).then_some(&self.traffic);
        let inbound = Inbound::new(segment.packet, token, link.header(), traffic);
        if accept_syn(flow, &mut interface, inbound, self.now) {
            self.mark_dirty(id);
        } else {
            self.counters.malformed += 1;
            self.drop_flow(id);
        }
    }

    fn largest_segment(&self, segment: &Segment<'_>, link: RxOrigin) -> usize {
        let mtu = if link == RxOrigin::Loopback { LOOPBACK_MTU } else { self.ip_mtu };
        mtu - wire::headers_len(segment.local)
    }

    /// Answers a SYN and forgets it. The peer is to send `largest_mss` bytes in one segment at most, if that is not 0.
    fn give_cookie<T: TxToken>(&mut self, largest_mss: u16, segment: &Segment<'_>, link: RxOrigin, token: T) {
        let (scale, has_sack) = segment.offers();
        let mut largest = self.largest_segment(segment, link);
        if largest_mss != 0 {
            largest = largest.min(largest_mss.into());
        }
        let mss = segment.mss().min(largest).min(usize::from(u16::MAX)) as u16;
        let irs = segment.sequence();
        let terms = Terms { mss, scale, has_sack };
        let seq_number = self.cookies.give(self.now, &mut *self.random, (&segment.key(), irs), terms);
        let repr = TcpRepr {
            control: TcpControl::Syn,
            seq_number,
            ack_number: Some(irs + 1),
            window_len: u16::try_from(self.config.tcp_rx_window).unwrap_or(u16::MAX),
            window_scale: scale.map(|_| WINDOW_SHIFT),
            max_seg_size: Some(u16::try_from(largest).unwrap_or(u16::MAX)),
            sack_permitted: has_sack,
            ..wire::PLAIN_SEGMENT
        };
        let answer = wire::tcp_packet(segment.local, segment.remote, &repr, 0, &self.checksums);
        self.counters.cookies_given += 1;
        self.answer(&answer, link, token);
    }

    /// A segment for a listener, but for no connection: it may bring a cookie back. True if it did, and
    /// there is a flow now, or would be with more room.
    pub(crate) fn cookie_in(&mut self, listener: ListenerId, segment: &Segment<'_>, link: RxOrigin) -> bool {
        let Some((terms, iss, irs)) = self.cookie(segment) else { return false };
        self.counters.cookies_taken += 1;
        if self.listeners.get(listener).is_none_or(|listener| listener.is_full()) {
            self.counters.backlog_full += 1;
            return true;
        }
        let origin = origin(segment, link, Owner::Queued(listener), (iss, irs));
        let Some(id) = self.flows.insert_idle(&self.seed, origin, self.now) else { return true };
        if let Some(flow) = self.flows.get_mut(id) {
            let track = &mut flow.track;
            (track.peer_scale, track.has_sack, track.mss) = (terms.scale, terms.has_sack, terms.mss);
            track.window = u32::from(segment.window()) << terms.scale.unwrap_or(0);
        }
        self.on_established(id, listener, segment.payload_len() > 0);
        true
    }

    /// True for a segment that brings a cookie back, although a handshake is under way.
    #[inline]
    pub(crate) fn is_answer_to_cookie(&mut self, id: TcpId, segment: &Segment<'_>) -> bool {
        self.flows.get(id).is_some_and(Flow::is_half_open) && self.cookie(segment).is_some()
    }

    /// True for a segment that answers another SYN than that of the handshake which is under way: if cookies are about, the
    /// peer may have got one first, and a reset would end its connection.
    #[inline]
    pub(crate) fn is_beside_handshake(&self, id: TcpId, segment: &Segment<'_>) -> bool {
        self.flows.get(id).is_some_and(|flow| {
            flow.is_half_open() && segment.is_plain_ack() && segment.ack_number() != flow.track.una
        }) && self.cookies.are_about(self.now)
    }

    /// What the cookie says that a segment brings back, if it does.
    fn cookie(&mut self, segment: &Segment<'_>) -> Option<(Terms, TcpSeqNumber, TcpSeqNumber)> {
        let ack = segment.ack().filter(|_| segment.may_concern_listener())?;
        let (iss, irs) = (ack - 1, segment.sequence() - 1);
        let named = (&segment.key(), irs);
        let terms = self.cookies.check(self.now, &mut *self.random, named, iss)?;
        Some((terms, iss, irs))
    }

    /// A handshake is over: the state is `after` it.
    pub(crate) fn established(&mut self, id: TcpId, after: State, segment: &Segment<'_>) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        let Owner::HalfOpen(listener) = flow.owner else { return };
        self.half_open -= 1;
        let has_more = segment.payload_len() > 0 || after != State::Established;
        self.on_established(id, listener, has_more);
    }

    /// An established connection goes to its listener, at once or when it has sent something.
    fn on_established(&mut self, id: TcpId, listener: ListenerId, has_data: bool) {
        let defers = self.listeners.get(listener).and_then(|listener| listener.defers);
        match defers.filter(|_| !has_data) {
            Some(patience) => {
                let Some(flow) = self.flows.get_mut(id) else { return };
                flow.owner = Owner::Deferred(listener, self.now + patience);
                self.mark_dirty(id);
            }
            None => self.enqueue(id, listener),
        }
    }

    /// Puts a connection into its listener's queue.
    pub(crate) fn enqueue(&mut self, id: TcpId, listener_id: ListenerId) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        match self.listeners.get_mut(listener_id) {
            Some(listener) => {
                flow.owner = Owner::Queued(listener_id);
                listener.push(id);
                self.notify_listener(listener_id);
            }
            // It may have idled so long that it has no socket to reset it by.
            None => self.orphan(id, true),
        }
    }
}

fn origin(
    segment: &Segment<'_>,
    link: RxOrigin,
    owner: Owner,
    (iss, irs): (TcpSeqNumber, TcpSeqNumber),
) -> Origin {
    let path = match link {
        RxOrigin::Loopback => Path::Loopback,
        RxOrigin::Nic(header) => Path::Link(header),
    };
    Origin { local: segment.local, remote: segment.remote, owner, path, iss, irs }
}

/// Feeds a new flow the SYN it is for. False if smoltcp did not take it for one.
fn accept_syn<T: TxToken>(
    flow: &mut Flow,
    interface: &mut Interface,
    mut inbound: Inbound<'_, T>,
    now: Instant,
) -> bool {
    let endpoint = IpListenEndpoint { addr: Some(flow.local.ip().into()), port: flow.local.port() };
    let Some(engine) = &mut flow.engine else { return false };
    if engine.socket_mut().listen(endpoint).is_err() {
        return false;
    }
    interface.poll_ingress_single(now, &mut inbound, &mut engine.sockets);
    flow.state() == State::SynReceived
}
