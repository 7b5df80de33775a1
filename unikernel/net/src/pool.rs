//! The memory in connections' buffers: what all of it may be together, and what was used before and is ready to be
//! used again.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::config::Config;
use crate::engine::Engine;
use crate::flow::Flow;
use crate::rings::Plain;

/// What a flow takes beside its buffers, rounded up.
const FLOW_BYTES: usize = 1536;
/// The buffers of a connection that has just begun or woken, in bytes: a request and a small response.
const SMALL: (usize, usize) = (4096, 8192);

/// Engines, and the bound on what is in them.
pub(crate) struct Buffers {
    /// Closed engines of the smallest size, for the next connections.
    spare: Vec<Engine>,
    /// The same for connections without an engine.
    #[expect(clippy::vec_box, reason = "they are taken out as they are, and flows keep them boxed")]
    spare_plain: Vec<Box<Plain>>,
    spare_limit: usize,
    pub(crate) small: (usize, usize),
    /// Bytes in the buffers of flows.
    pub(crate) used: usize,
    budget: usize,
    has_memory: fn(usize) -> bool,
}

impl Buffers {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            spare: Vec::new(),
            spare_plain: Vec::new(),
            spare_limit: config.spare_flows,
            small: (SMALL.0.min(config.tcp_rx_window), SMALL.1.min(config.tcp_tx_limit)),
            used: 0,
            budget: config.buffer_bytes,
            has_memory: config.has_memory,
        }
    }

    /// True if there is memory for a flow without buffers.
    pub(crate) fn allows_flow(&self) -> bool {
        (self.has_memory)(FLOW_BYTES)
    }

    /// True if the smallest buffers may be used.
    #[inline]
    pub(crate) fn allows_small(&self) -> bool {
        self.allows(self.small.0 + self.small.1)
    }

    /// True if there is an engine with the smallest buffers.
    pub(crate) fn has_small(&self) -> bool {
        !self.spare.is_empty() || self.allows_small()
    }

    /// True if so many bytes more may be used.
    pub(crate) fn allows(&self, bytes: usize) -> bool {
        let is_small = bytes <= self.small.0 + self.small.1;
        // Growth leaves a quarter to those who have nothing yet.
        let budget = if is_small { self.budget } else { self.budget / 4 * 3 };
        self.used + bytes <= budget && (self.has_memory)(bytes + FLOW_BYTES)
    }

    /// An engine with these buffers; none if memory is short.
    pub(crate) fn take(&mut self, rx_buffer: usize, tx_buffer: usize) -> Option<Engine> {
        let bytes = rx_buffer + tx_buffer;
        let spare = if (rx_buffer, tx_buffer) == self.small { self.spare.pop() } else { None };
        if spare.is_none() && !self.allows(bytes) {
            return None;
        }
        self.used += bytes;
        Some(spare.unwrap_or_else(|| Engine::new(rx_buffer, tx_buffer)))
    }

    /// The smallest buffers without an engine; none if memory is short.
    pub(crate) fn take_plain(&mut self) -> Option<Box<Plain>> {
        let (rx_buffer, tx_buffer) = self.small;
        let spare = self.spare_plain.pop();
        if spare.is_none() && !self.allows(rx_buffer + tx_buffer) {
            return None;
        }
        self.used += rx_buffer + tx_buffer;
        Some(spare.unwrap_or_else(|| Box::new(Plain::new(rx_buffer, tx_buffer))))
    }

    /// Buffers of these sizes without an engine; none if memory is short.
    pub(crate) fn take_plain_of(&mut self, sizes: (usize, usize)) -> Option<Box<Plain>> {
        let mut plain = self.take_plain()?;
        let (rx_buffer, tx_buffer) = plain.sizes();
        if self.enlarge(&mut plain, sizes.0.max(rx_buffer), sizes.1.max(tx_buffer)) {
            return Some(plain);
        }
        self.give_back_plain(plain);
        None
    }

    /// Makes rings larger. False if memory is short.
    pub(crate) fn enlarge(&mut self, plain: &mut Plain, rx_buffer: usize, tx_buffer: usize) -> bool {
        let (old_rx, old_tx) = plain.sizes();
        let more = (rx_buffer - old_rx) + (tx_buffer - old_tx);
        let is_allowed = self.allows(more);
        if is_allowed {
            self.used += more;
            plain.enlarge(rx_buffer, tx_buffer);
        }
        is_allowed
    }

    /// Takes a flow's buffers away.
    pub(crate) fn strip(&mut self, flow: &mut Flow) {
        if let Some(engine) = flow.engine.take() {
            self.give_back(engine);
        }
        if let Some(plain) = flow.plain.take() {
            self.give_back_plain(plain);
        }
    }

    pub(crate) fn give_back_plain(&mut self, mut plain: Box<Plain>) {
        let (rx_buffer, tx_buffer) = plain.sizes();
        self.used -= rx_buffer + tx_buffer;
        if (rx_buffer, tx_buffer) == self.small && self.spare_plain.len() < self.spare_limit {
            plain.clear();
            self.spare_plain.push(plain);
        }
    }

    /// An engine of the smallest size, or without buffers if memory is short.
    pub(crate) fn take_small(&mut self) -> Option<Engine> {
        let (rx_buffer, tx_buffer) = self.small;
        self.take(rx_buffer, tx_buffer).or_else(|| self.take(0, 0))
    }

    pub(crate) fn give_back(&mut self, mut engine: Engine) {
        let (rx_buffer, tx_buffer) = engine.sizes();
        self.used -= rx_buffer + tx_buffer;
        if (rx_buffer, tx_buffer) == self.small && self.spare.len() < self.spare_limit {
            engine.socket_mut().abort();
            self.spare.push(engine);
        }
    }
}
