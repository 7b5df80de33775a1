//! Every flow, by id and by 4-tuple, and the memory in their buffers: it comes with use, in steps, and goes
//! when a connection is idle. What all buffers take together is bounded.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::num::NonZeroU8;

use hashbrown::HashTable;
use slotmap::SlotMap;
use smoltcp::socket::tcp::{CongestionControl, State};
use smoltcp::time::{Duration, Instant};

use crate::engine::{Engine, Held};
use crate::flow::{Flow, Limits, Origin, Owner, engine_shift};
use crate::id::TcpId;
use crate::key::{FlowKey, Seed};
use crate::pool::Buffers;
use crate::rings::Plain;
use crate::track::Track;

/// A buffer that has become too small is made so much larger.
const GROWTH: usize = 4;
/// When memory is short, connections that have been quiet for so long give their buffers back at once.
const CALM: Duration = Duration::from_millis(20);
/// All flows are looked at for it at most so often.
const SQUEEZE_PAUSE: Duration = Duration::from_millis(50);

/// Every flow.
pub(crate) struct FlowTable {
    flows: SlotMap<TcpId, Box<Flow>>,
    index: HashTable<(FlowKey, TcpId)>,
    buffers: Buffers,
    /// When flows may be asked for their buffers again.
    squeeze_at: Instant,
    limit: usize,
    limits: Limits,
    ack_delay: Duration,
}

impl FlowTable {
    pub(crate) fn new(config: &crate::config::Config) -> Self {
        Self {
            flows: SlotMap::with_key(),
            index: HashTable::new(),
            buffers: Buffers::new(config),
            squeeze_at: Instant::ZERO,
            limit: config.max_flows,
            limits: Limits {
                rx_window: config.tcp_rx_window,
                rx_limit: config.tcp_rx_limit.max(config.tcp_rx_window),
                tx_limit: config.tcp_tx_limit,
            },
            ack_delay: config.ack_delay,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Bytes in the buffers of all flows.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffers.used
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, key: &FlowKey) -> Option<TcpId> {
        self.index.find(hash, |(candidate, _)| candidate == key).map(|(_, id)| *id)
    }

    #[inline]
    pub(crate) fn get(&self, id: TcpId) -> Option<&Flow> {
        self.flows.get(id).map(|flow| &**flow)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: TcpId) -> Option<&mut Flow> {
        self.flows.get_mut(id).map(|flow| &mut **flow)
    }

    /// The flow if the app holds it.
    #[inline]
    pub(crate) fn app(&self, id: TcpId) -> Option<&Flow> {
        self.get(id).filter(|flow| flow.is_app())
    }

    /// The flow if the app holds it.
    #[inline]
    pub(crate) fn app_mut(&mut self, id: TcpId) -> Option<&mut Flow> {
        self.get_mut(id).filter(|flow| flow.is_app())
    }

    /// Adds a flow; none if the bound is reached or memory is short.
    pub(crate) fn insert(&mut self, seed: &Seed, origin: Origin, now: Instant) -> Option<TcpId> {
        if self.flows.len() >= self.limit {
            return None;
        }
        self.ask_for_small(now);
        self.reserve_slot(seed)?;
        let engine = self.buffers.take_small()?;
        let mut flow = Box::new(Flow::new(Some(engine), origin, self.limits, now));
        equip(&mut flow, self.ack_delay);
        Some(self.add(seed, flow))
    }

    /// Adds a connection that is established but has not been used yet.
    pub(crate) fn insert_idle(&mut self, seed: &Seed, origin: Origin, now: Instant) -> Option<TcpId> {
        if self.flows.len() >= self.limit || !self.buffers.allows_flow() {
            return None;
        }
        self.reserve_slot(seed)?;
        Some(self.add(seed, Box::new(Flow::new(None, origin, self.limits, now))))
    }

    /// Sees to it that the tables have a place for one more flow: they are large blocks of memory, and grow where a peer
    /// connects.
    fn reserve_slot(&mut self, seed: &Seed) -> Option<()> {
        self.flows.try_reserve(1).ok()?;
        self.index.try_reserve(1, |(key, _)| seed.hash(key)).ok()
    }

    fn add(&mut self, seed: &Seed, flow: Box<Flow>) -> TcpId {
        let key = flow.key;
        let id = self.flows.insert(flow);
        self.index.insert_unique(seed.hash(&key), (key, id), |(key, _)| seed.hash(key));
        id
    }

    /// Files all flows under the hashes of another seed. False if there is no memory for that: then they stay where they are.
    pub(crate) fn rehash(&mut self, seed: &Seed) -> bool {
        let hash = |(key, _): &(FlowKey, TcpId)| seed.hash(key);
        let mut index = HashTable::new();
        if index.try_reserve(self.index.len(), hash).is_err() {
            return false;
        }
        for entry in self.index.drain() {
            index.insert_unique(hash(&entry), entry, hash);
        }
        self.index = index;
        true
    }

    /// Has a flow be found by its id alone.
    pub(crate) fn unlist(&mut self, seed: &Seed, id: TcpId) {
        let Some(flow) = self.flows.get(id) else { return };
        if let Ok(entry) = self.index.find_entry(seed.hash(&flow.key), |(_, candidate)| *candidate == id) {
            entry.remove();
        }
    }

    /// Removes a flow.
    pub(crate) fn remove(&mut self, seed: &Seed, id: TcpId) -> Option<Owner> {
        self.unlist(seed, id);
        let mut flow = self.flows.remove(id)?;
        self.buffers.strip(&mut flow);
        Some(flow.owner)
    }

    /// Gives an idle connection's buffers back.
    pub(crate) fn park(&mut self, id: TcpId) {
        let Some(flow) = self.flows.get_mut(id).filter(|flow| flow.is_quiet()) else { return };
        flow.congestion.rest(flow.track.mss.into());
        self.buffers.strip(flow);
    }

    /// Sees to it that the smallest buffers can be had, if anything can be done for it.
    #[inline]
    fn ask_for_small(&mut self, now: Instant) {
        if !self.buffers.allows_small() {
            self.squeeze(now);
        }
    }

    /// True if a flow that is added now gets buffers, after all that can be done for it.
    pub(crate) fn has_small(&mut self, now: Instant) -> bool {
        self.ask_for_small(now);
        self.buffers.has_small()
    }

    /// Has connections that have nothing to say give their buffers back before their time.
    #[cold]
    pub(crate) fn squeeze(&mut self, now: Instant) {
        if now < self.squeeze_at {
            return;
        }
        self.squeeze_at = now + SQUEEZE_PAUSE;
        for flow in self.flows.values_mut() {
            let has_buffers = flow.engine.is_some() || flow.plain.is_some();
            if has_buffers && flow.active_at + CALM <= now && flow.is_quiet() {
                flow.congestion.rest(flow.track.mss.into());
                self.buffers.strip(flow);
            }
        }
    }

    /// Frees a connection of its engine, which holds nothing but what the peer has just acknowledged. False if
    /// memory is short.
    #[cold]
    pub(crate) fn settle(&mut self, id: TcpId, ack_by: Instant) -> bool {
        let Some(flow) = self.flows.get_mut(id) else { return false };
        let Some(plain) = self.buffers.take_plain() else { return false };
        replace_engine(&mut self.buffers, flow, plain, ack_by);
        true
    }

    /// Frees a connection of its engine, which holds data in either direction. False if that cannot be done just now.
    #[cold]
    pub(crate) fn relieve(&mut self, id: TcpId, ack_by: Instant, now: Instant) -> bool {
        let Some(flow) = self.flows.get_mut(id) else { return false };
        let Some(mut plain) = self.buffers.take_plain_of(flow.buffer_sizes()) else { return false };
        let (track, ends) = (flow.track, flow.ends());
        let Some(held) = flow.engine.as_mut().and_then(|old| old.drain(&track, ends, now)) else {
            self.buffers.give_back_plain(plain);
            equip(flow, self.ack_delay);
            return false;
        };
        plain.fill(&held);
        replace_engine(&mut self.buffers, flow, plain, ack_by);
        true
    }

    /// The flow with buffers, whether it has an engine or needs none; none if memory is short.
    #[inline]
    pub(crate) fn ready(&mut self, id: TcpId, now: Instant) -> Option<&mut Flow> {
        let flow = self.flows.get(id)?;
        if flow.engine.is_none() && flow.plain.is_none() {
            self.ask_for_small(now);
            let plain = self.buffers.take_plain()?;
            self.flows.get_mut(id)?.plain = Some(plain);
        }
        self.get_mut(id)
    }

    /// Makes room for `bytes` more that arrive for a connection without an engine. False if they are beyond its
    /// window, or memory is short.
    #[inline]
    pub(crate) fn make_room(&mut self, id: TcpId, bytes: usize, now: Instant) -> bool {
        let Some(flow) = self.ready(id, now) else { return false };
        let needed = flow.recv_queue() + bytes;
        let (room, window) = (flow.buffer_sizes().0, flow.rx_window);
        needed <= room || (needed <= window && self.grow_rx(id, needed, now))
    }

    /// Gives a flow room to send. False if memory is short.
    pub(crate) fn feed(&mut self, id: TcpId, now: Instant) -> bool {
        let Some(flow) = self.ready(id, now) else { return false };
        // Else it would count as quiet, and have to give its buffers to the next.
        flow.active_at = now;
        flow.has_room() || self.grow_tx(id, 1, now)
    }

    /// The flow with an engine; none if it has none and memory is short.
    #[inline]
    pub(crate) fn awake(&mut self, id: TcpId, now: Instant) -> Option<&mut Flow> {
        if self.flows.get(id)?.engine.is_none() {
            self.wake(id, now)?;
        }
        self.get_mut(id)
    }

    #[cold]
    fn wake(&mut self, id: TcpId, now: Instant) -> Option<()> {
        self.ask_for_small(now);
        let flow = self.flows.get_mut(id)?;
        let held = flow.plain.as_ref().map_or_else(Held::default, |plain| plain.held());
        let mut engine = match flow.plain.as_ref().map(|plain| plain.sizes()) {
            None => self.buffers.take_small()?,
            Some((rx_buffer, tx_buffer)) => {
                self.buffers.take(roomy(rx_buffer, held.received.len()), tx_buffer)?
            }
        };
        if !resume(&mut engine, flow, &held, now) {
            // Nothing is lost: the flow keeps what it has.
            self.buffers.give_back(engine);
            return None;
        }
        self.buffers.strip(flow);
        flow.engine = Some(engine);
        flow.is_unsent = flow.track.in_flight() == 0;
        equip(flow, self.ack_delay);
        Some(())
    }

    /// Grows the receive buffer so that `bytes` fit. False if they do not.
    #[cold]
    pub(crate) fn grow_rx(&mut self, id: TcpId, bytes: usize, now: Instant) -> bool {
        let Some(flow) = self.flows.get(id) else { return false };
        let (rx_buffer, tx_buffer) = flow.buffer_sizes();
        let size = step(rx_buffer, bytes).max(self.buffers.small.0).min(flow.rx_window).max(rx_buffer);
        bytes <= size && self.resize(id, size, tx_buffer, now)
    }

    /// Grows the send buffer for `bytes`, as far as it may. If memory is short it will not be tried again, unless there
    /// is hardly any buffer yet.
    #[cold]
    pub(crate) fn grow_tx(&mut self, id: TcpId, bytes: usize, now: Instant) -> bool {
        let Some(flow) = self.flows.get(id) else { return false };
        let (rx_buffer, tx_buffer) = flow.buffer_sizes();
        let size = step(tx_buffer, bytes).max(self.buffers.small.1).min(flow.tx_bound());
        let has_grown = size > tx_buffer && self.resize(id, rx_buffer, size, now);
        let is_enough = tx_buffer >= self.buffers.small.1;
        if let Some(flow) = self.flows.get_mut(id).filter(|_| !has_grown && is_enough) {
            flow.tx_limit = tx_buffer;
        }
        has_grown
    }

    /// Gives a flow an engine that goes by the flow's changed terms.
    pub(crate) fn remake(&mut self, id: TcpId, now: Instant) {
        let sizes = self.flows.get(id).and_then(|flow| flow.engine.as_ref()).map(Engine::sizes);
        if let Some((rx_buffer, tx_buffer)) = sizes {
            self.resize(id, rx_buffer, tx_buffer, now);
        }
    }

    /// Gives a flow an engine with buffers of other sizes. False if that cannot be done just now.
    fn resize(&mut self, id: TcpId, rx_buffer: usize, tx_buffer: usize, now: Instant) -> bool {
        self.ask_for_small(now);
        let Some(flow) = self.flows.get_mut(id) else { return false };
        if let Some(plain) = &mut flow.plain {
            return self.buffers.enlarge(plain, rx_buffer, tx_buffer);
        }
        let may_receive_or_send =
            matches!(flow.state(), State::Established | State::CloseWait | State::FinWait1 | State::FinWait2);
        if !may_receive_or_send || flow.is_half_open() {
            return false;
        }
        let rx_buffer = roomy(rx_buffer, flow.recv_queue());
        let Some(mut engine) = self.buffers.take(rx_buffer, tx_buffer) else { return false };
        let (track, ends) = (flow.track, flow.ends());
        let held = flow.engine.as_mut().and_then(|old| old.drain(&track, ends, now));
        let is_resumed = held.is_some_and(|held| resume(&mut engine, flow, &held, now));
        let left_over = if is_resumed { flow.engine.replace(engine) } else { Some(engine) };
        if let Some(left_over) = left_over {
            self.buffers.give_back(left_over);
        }
        equip(flow, self.ack_delay);
        is_resumed
    }

    /// True if there is a closed connection whose peer still lacks something.
    pub(crate) fn has_undelivered(&self) -> bool {
        let is_undelivered = |flow: &Flow| {
            flow.owner == Owner::Orphan
                && matches!(flow.state(), State::FinWait1 | State::Closing | State::LastAck)
        };
        self.flows.values().any(|flow| is_undelivered(flow))
    }

    /// Ids of the flows that the app holds.
    pub(crate) fn of_app(&self) -> Vec<TcpId> {
        self.flows.iter().filter(|(_, flow)| flow.is_app()).map(|(id, _)| id).collect()
    }

    /// All flows.
    pub(crate) fn all(&self) -> impl Iterator<Item = (TcpId, &Flow)> {
        self.flows.iter().map(|(id, flow)| (id, &**flow))
    }

    /// Ids of the flows that use a local address which `is_lost`.
    pub(crate) fn with_address(&self, is_lost: impl Fn(IpAddr) -> bool) -> Vec<TcpId> {
        self.flows.iter().filter(|(_, flow)| is_lost(flow.local.ip())).map(|(id, _)| id).collect()
    }
}

/// The next size of a buffer that is to hold `bytes`.
fn step(size: usize, bytes: usize) -> usize {
    bytes.next_power_of_two().max(size * GROWTH)
}

/// The size of an engine's receive buffer that holds `held` bytes: a scaled window is a little less than the buffer.
fn roomy(rx_buffer: usize, held: usize) -> usize {
    let lost_to_scaling = (2 << engine_shift(rx_buffer)).max(64);
    if held + lost_to_scaling > rx_buffer { 2 * rx_buffer } else { rx_buffer }
}

fn resume(engine: &mut Engine, flow: &mut Flow, held: &Held, now: Instant) -> bool {
    let mut track: Track = flow.track;
    let is_resumed = engine.resume(&mut track, flow.ends(), held, now);
    if is_resumed {
        flow.track = track;
    }
    is_resumed
}

/// Puts rings in the place of an engine.
fn replace_engine(buffers: &mut Buffers, flow: &mut Flow, mut plain: Box<Plain>, ack_by: Instant) {
    let extra = flow.rx_window.saturating_sub(flow.buffer_sizes().0);
    buffers.strip(flow);
    flow.track.edge += extra;
    if flow.track.acknowledged < flow.track.received {
        plain.ack_at = ack_by;
    }
    (flow.plain, flow.trips) = (Some(plain), 0);
}

/// Sets a fresh engine up as the flow's options ask.
fn equip(flow: &mut Flow, ack_delay: Duration) {
    let (has_nagle, hop_limit) = (flow.has_nagle, flow.hop_limit.map(NonZeroU8::get));
    let ack_delay = (!flow.acks_at_once).then_some(ack_delay);
    let Some(socket) = flow.socket_mut() else { return };
    socket.set_congestion_control(CongestionControl::None);
    socket.set_ack_delay(ack_delay);
    socket.set_nagle_enabled(has_nagle);
    socket.set_keep_alive(None);
    socket.set_hop_limit(hop_limit);
    socket.set_timeout(None);
}
