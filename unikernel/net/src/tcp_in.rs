//! TCP segments coming in: to their flow, to a record in TIME-WAIT, to a listener, or to nobody.

use core::net::SocketAddr;

use smoltcp::phy::TxToken;
use smoltcp::socket::tcp::State;

use crate::error::SocketError;
use crate::flow::{Owner, Path, View};
use crate::guard::Judgement;
use crate::id::{ListenerId, TcpId};
use crate::ingress::RxOrigin;
use crate::key::FlowKey;
use crate::phy::{Inbound, LOOPBACK_MTU};
use crate::segment::Segment;
use crate::sequence::Distance;
use crate::stack::Stack;
use crate::timewait::Final;
use crate::track::Seen;
use crate::wire;

impl Stack {
    /// Takes in a segment for one of our addresses.
    #[inline]
    pub(crate) fn segment_in<T: TxToken>(&mut self, segment: &Segment<'_>, link: RxOrigin, token: T) {
        let key = segment.key();
        let hash = self.seed.hash(&key);
        match self.flows.find(hash, &key) {
            Some(id) if segment.is_opening() && self.is_over(id) => {
                self.flows.unlist(&self.seed, id);
                self.no_socket_rx(hash, &key, segment, link, token);
            }
            Some(id) => self.flow_in(id, segment, link, token),
            None => self.no_socket_rx(hash, &key, segment, link, token),
        }
    }

    /// True for a connection that has ended, but is not gone yet, because the app has not closed it or nobody has
    /// looked at it since: its peer may have begun another from the same port.
    fn is_over(&self, id: TcpId) -> bool {
        self.flows.get(id).is_some_and(|flow| flow.state() == State::Closed && !flow.is_half_open())
    }

    /// Makes room for a segment's payload within the window that the peer knows of. False if there is none:
    /// the peer will send it again.
    #[inline]
    fn has_room(&mut self, id: TcpId, segment: &Segment<'_>) -> bool {
        let now = self.now;
        let Some(flow) = self.flows.get(id) else { return false };
        if flow.engine.is_none() && segment.sequence() > flow.track.received {
            // Something is missing: what comes behind it must all be kept.
            let window = flow.rx_window;
            self.flows.make_room(id, window, now);
        }
        let Some(flow) = self.flows.awake(id, now) else { return false };
        let end = segment.sequence() + segment.payload_len();
        if end <= flow.track.edge || flow.state() == State::SynSent {
            return true;
        }
        let queued = flow.recv_queue();
        let window_end = flow.track.received + flow.rx_window.saturating_sub(queued);
        if end > window_end {
            // A probe of a closed window, perhaps. smoltcp takes what lies before its edge.
            return true;
        }
        let bytes = queued + end.since(flow.track.received);
        // What lies before the edge has its place in any case.
        let begins_within = segment.sequence() < flow.track.edge;
        self.flows.grow_rx(id, bytes, now) || begins_within
    }

    /// Resets a connection that the app has closed, or shut in both directions, when its peer goes on to send, however
    /// much (RFC 1122 section 4.2.2.13): nobody will ever read it. True if it did.
    fn aborts_unread(&mut self, id: TcpId, segment: &Segment<'_>) -> bool {
        let Some(flow) = self.flows.get_mut(id).filter(|flow| flow.is_unread()) else { return false };
        let end = segment.sequence() + segment.payload_len();
        let window_end = flow.track.received + flow.rx_window;
        let is_new =
            segment.payload_len() > 0 && end > flow.track.received && segment.sequence() < window_end;
        if !is_new || !matches!(flow.state(), State::FinWait1 | State::FinWait2) {
            return false;
        }
        flow.abort_unread();
        self.mark_dirty(id);
        self.notify_tcp(id);
        true
    }

    /// Looks closer at a segment that is not plain. True if there is an engine to take it, with room for it.
    #[cold]
    fn is_admitted(&mut self, id: TcpId, segment: &Segment<'_>) -> bool {
        match self.flows.get(id).map_or(Judgement::Drop, |flow| flow.judge(segment)) {
            Judgement::Pass => {}
            Judgement::Drop => {
                self.counters.out_of_window += 1;
                return false;
            }
            Judgement::Challenge => return false,
        }
        if self.aborts_unread(id, segment) {
            return false;
        }
        if segment.payload_len() > 0 && !self.has_room(id, segment) {
            self.counters.no_buffer += 1;
            return false;
        }
        let is_awake = self.flows.awake(id, self.now).is_some();
        self.counters.no_memory += u64::from(!is_awake);
        is_awake
    }

    fn flow_in<T: TxToken>(&mut self, id: TcpId, segment: &Segment<'_>, link: RxOrigin, token: T) {
        if segment.is_urgent() {
            self.urgent_in(id, segment);
        }
        let is_twice = self.flows.get(id).is_some_and(|flow| flow.is_duplicate(segment));
        let is_done = self.plain_in(id, segment, link);
        if is_twice {
            return self.send_dsack(id, segment, link, token);
        }
        if is_done {
            return;
        }
        if self.is_answer_to_cookie(id, segment) {
            // The peer's SYN came twice, and when it came again there was room for a flow: but the peer goes by the first
            // answer.
            self.drop_flow(id);
            let key = segment.key();
            return self.no_socket_rx(self.seed.hash(&key), &key, segment, link, token);
        }
        if self.is_beside_handshake(id, segment) {
            return self.counters.cookies_missed += 1;
        }
        let Some(token) = self.resets_stranger(id, segment, link, token) else { return };
        let now = self.now;
        if !self.flows.get(id).is_some_and(|flow| flow.is_plain(segment)) && !self.is_admitted(id, segment) {
            if self.flows.get(id).is_some_and(|flow| flow.judge(segment) == Judgement::Challenge) {
                self.challenge(id, link, token);
            }
            return;
        }
        let Some(flow) = self.flows.get_mut(id) else { return };
        if let Owner::HalfOpen(listener) = flow.owner
            && !segment.is_rst()
            && self.listeners.get(listener).is_none_or(|listener| listener.is_full())
        {
            // As Linux: the handshake's last segment is forgotten, and the peer is asked for it
            // again when our SYN is repeated. By then there may be room.
            self.counters.backlog_full += 1;
            return;
        }
        if let RxOrigin::Nic(header) = link {
            flow.path = Path::Link(header);
        }
        let before = flow.view();
        if flow.is_repeated_before_fin(&before, segment) {
            return;
        }
        (flow.heard_at, flow.probes) = (now, 0);
        if flow.misses_window(segment) {
            return self.mark_dirty(id);
        }
        let (interface, traffic) = match link {
            RxOrigin::Loopback => (&mut self.interfaces.loopback, None),
            RxOrigin::Nic(_) => (&mut self.interfaces.link, Some(&self.traffic)),
        };
        let seen = Seen::default();
        let is_summed = traffic.is_some() && self.checksums.tcp.tx();
        let watch = Some((flow.front(is_summed), &seen));
        // smoltcp takes what lies before its edge, and the end with it, whatever it left out in between.
        let is_cut = segment.has_fin() && segment.sequence() + segment.payload_len() > flow.track.edge;
        let endless = (is_cut && segment.payload_len() > 0).then(|| segment.without_fin());
        let packet = endless.as_deref().unwrap_or(segment.packet);
        let mut inbound = Inbound::new(packet, token, link.header(), traffic).watched(watch);
        let Some(engine) = &mut flow.engine else { return };
        interface.poll_ingress_single(now, &mut inbound, &mut engine.sockets);
        let after = flow.view();
        flow.follow(now, segment, &before, &after);
        if let Some(sent) = seen.take() {
            flow.track.note(&sent);
        }
        if !flow.is_dirty {
            flow.is_dirty = true;
            self.dirty.push(id);
        }
        if after != before {
            self.flow_changed(id, before, after, segment);
        }
    }

    /// A segment has changed something that others can see.
    fn flow_changed(&mut self, id: TcpId, before: View, after: View, segment: &Segment<'_>) {
        if after.state != before.state {
            self.state_changed(id, before.state, after.state, segment);
        }
        let Some(flow) = self.flows.get_mut(id) else { return };
        if let Owner::Deferred(listener, _) = flow.owner
            && (after.received > 0 || after.state != State::Established)
        {
            return self.enqueue(id, listener);
        }
        if flow.is_unread() && after.received > before.received {
            // Nobody will ever read this: the peer should know (RFC 1122 section 4.2.2.13).
            flow.abort_unread();
        }
        self.notify_tcp(id);
    }

    fn state_changed(&mut self, id: TcpId, before: State, after: State, segment: &Segment<'_>) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        match after {
            // A half-open connection was reset.
            State::Listen => self.drop_flow(id),
            State::Closed => {
                let error = match before {
                    State::LastAck | State::TimeWait => None,
                    State::SynSent => Some(SocketError::Refused),
                    // The peer had finished, and takes nothing more (Linux: `tcp_reset`).
                    State::CloseWait => Some(SocketError::Closed),
                    _ => Some(SocketError::Reset),
                };
                if segment.is_rst() {
                    self.counters.resets_received += 1;
                }
                flow.error = flow.error.or(error);
            }
            State::TimeWait => flow.last = Some(segment.last()),
            State::Established | State::SynReceived if before == State::SynSent => {
                let mtu = if flow.path == Path::Loopback { LOOPBACK_MTU } else { self.ip_mtu };
                flow.track.start(segment.sequence());
                let most = mtu - wire::headers_len(flow.local);
                let limited = if flow.largest_mss == 0 { most } else { most.min(flow.largest_mss.into()) };
                flow.track.agree(segment, limited);
                if limited < most.min(segment.mss()) {
                    // smoltcp goes by what the peer says alone.
                    let now = self.now;
                    self.flows.remake(id, now);
                }
            }
            _ if before == State::SynReceived => self.established(id, after, segment),
            _ => {}
        }
    }

    /// A segment for no flow.
    fn no_socket_rx<T: TxToken>(
        &mut self,
        hash: u64,
        key: &FlowKey,
        segment: &Segment<'_>,
        link: RxOrigin,
        token: T,
    ) {
        if let Some(last) = self.time_wait.find(hash, key)
            && !self.recycle(hash, key, last, segment)
        {
            return self.time_wait_in(last, segment, link, token);
        }
        let is_refused = self.listeners.is_refusing && segment.is_opening() && link != RxOrigin::Loopback;
        let listener = match segment.may_concern_listener() && !is_refused {
            true => self.listener_for(hash, segment.local, link),
            false => None,
        };
        match listener {
            Some(listener) if segment.is_opening() => self.open(listener, segment, link, token),
            Some(listener) if self.cookie_in(listener, segment, link) => match self.flows.find(hash, key) {
                Some(id) => self.flow_in(id, segment, link, token),
                None => self.counters.no_memory += 1,
            },
            // The segment that brought the cookie may have been lost, or found the queue full: this one comes too late in
            // the conversation to show one, but the other will be repeated.
            Some(_) if segment.is_plain_ack() && self.cookies.are_about(self.now) => {
                self.counters.cookies_missed += 1;
            }
            None if segment.is_rst() => self.counters.resets_received += 1,
            _ => {
                self.counters.no_listener += 1;
                self.send_rst_or_unreachable(segment.packet, link, token);
            }
        }
    }

    /// Who listens at an address. If nobody does, those on the loopback address are asked, if they may be reached from
    /// outside.
    fn listener_for(&self, hash: u64, local: SocketAddr, link: RxOrigin) -> Option<ListenerId> {
        let listener = self.listeners.lookup(local.ip(), local.port(), hash);
        let is_open = link != RxOrigin::Loopback && self.config.open_loopback.has(local.port());
        match listener {
            None if is_open => self.listeners.lookup_loopback(local, hash),
            listener => listener,
        }
    }

    /// Frees a record in TIME-WAIT for a SYN that is certainly new, because it continues the
    /// sequence (RFC 9293 section 3.10.7.4). True if it did.
    fn recycle(&mut self, hash: u64, key: &FlowKey, last: Final, segment: &Segment<'_>) -> bool {
        let is_new = segment.is_opening() && segment.sequence() > last.receive_next;
        if is_new {
            self.time_wait.remove(hash, key);
            self.counters.time_wait_recycled += 1;
        }
        is_new
    }

    /// The peer repeats itself: it has not seen our last acknowledgement. Or it resets, which ends
    /// TIME-WAIT if it is exactly in sequence (RFC 5961): so a peer answers our acknowledgement
    /// when it wants to connect anew and its SYN did not show that it is new.
    fn time_wait_in<T: TxToken>(&mut self, last: Final, segment: &Segment<'_>, link: RxOrigin, token: T) {
        if segment.is_rst() {
            if segment.sequence() == last.receive_next {
                let key = segment.key();
                self.time_wait.remove(self.seed.hash(&key), &key);
            }
            return;
        }
        // It says what is known, and asks for nothing: a peer that is in TIME-WAIT, too, would answer the answer, and so on for
        // ever, once more for each copy that the network makes.
        let is_empty = segment.payload_len() == 0 && !segment.is_syn() && !segment.has_fin();
        if is_empty && segment.sequence() == last.receive_next {
            return;
        }
        let ack = wire::final_ack(segment.local, segment.remote, last, &self.checksums);
        self.answer(&ack, link, token);
    }

    /// Answers a packet with another.
    pub(crate) fn answer<T: TxToken>(&self, packet: &[u8], link: RxOrigin, token: T) {
        let header = link.header();
        let front = header.as_ref().map_or(&[][..], |header| header);
        token.consume(front.len() + packet.len(), |buffer| {
            buffer[..front.len()].copy_from_slice(front);
            buffer[front.len()..].copy_from_slice(packet);
        });
        if header.is_some() {
            self.traffic.count(front.len() + packet.len());
        }
    }

    /// Removes a flow at once, without a word to the peer.
    pub(crate) fn drop_flow(&mut self, id: TcpId) {
        if let Some(Owner::HalfOpen(_)) = self.flows.remove(&self.seed, id) {
            self.half_open -= 1;
        }
    }
}
