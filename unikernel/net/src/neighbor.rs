//! Hardware addresses of neighbours: a bounded table with, for each address that is being asked
//! for, the flows that wait and a few frames to send when the answer comes.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;

use hashbrown::HashMap;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::EthernetAddress;

use crate::id::TcpId;

/// How long between two questions for the same address (RFC 1122 section 2.3.2.1: one a second).
const RETRY: Duration = Duration::from_secs(1);
/// Questions before an address counts as unreachable.
const TRIES: u8 = 3;
/// After this long an answer is confirmed again while it stays in use.
const FRESH: Duration = Duration::from_secs(60);
/// Frames that wait for one neighbour at most.
const PENDING_FRAMES: usize = 4;
/// Neighbours being asked for at the same time at most.
const PENDING_NEIGHBORS: usize = 64;

struct Entry {
    mac: Option<EthernetAddress>,
    confirmed: Instant,
    asked: Instant,
    tries: u8,
    flows: Vec<TcpId>,
    frames: Vec<Vec<u8>>,
}

/// What to do about a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// It is known.
    Known(EthernetAddress),
    /// It is known, but asking again is due.
    Stale(EthernetAddress),
    /// A question must be sent.
    Ask,
    /// A question is on its way.
    Wait,
    /// Too many neighbours are being asked for.
    Full,
}

/// What an answer set free.
#[derive(Default)]
pub(crate) struct Released {
    pub(crate) flows: Vec<TcpId>,
    pub(crate) frames: Vec<Vec<u8>>,
}

pub(crate) struct Neighbors {
    entries: HashMap<IpAddr, Entry>,
    /// Known neighbours by age of their insertion, for eviction.
    order: VecDeque<IpAddr>,
    pending: Vec<IpAddr>,
    limit: usize,
}

impl Neighbors {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), pending: Vec::new(), limit: limit.max(1) }
    }

    /// Looks `address` up, for use now.
    pub(crate) fn lookup(&mut self, now: Instant, address: IpAddr) -> Answer {
        if let Some(entry) = self.entries.get_mut(&address) {
            let Some(mac) = entry.mac else { return Answer::Wait };
            if now < entry.confirmed + FRESH || now < entry.asked + RETRY {
                return Answer::Known(mac);
            }
            entry.asked = now;
            return Answer::Stale(mac);
        }
        if self.pending.len() >= PENDING_NEIGHBORS {
            return Answer::Full;
        }
        let entry =
            Entry { mac: None, confirmed: now, asked: now, tries: 1, flows: Vec::new(), frames: Vec::new() };
        self.entries.insert(address, entry);
        self.pending.push(address);
        Answer::Ask
    }

    /// Every neighbour whose hardware address is known.
    pub(crate) fn known(&self) -> impl Iterator<Item = (IpAddr, EthernetAddress)> {
        self.entries.iter().filter_map(|(address, entry)| Some((*address, entry.mac?)))
    }

    /// True for an address that is known or being asked for.
    pub(crate) fn has_heard_of(&self, address: IpAddr) -> bool {
        self.entries.contains_key(&address)
    }

    /// Lets a flow wait for `address`.
    pub(crate) fn park_flow(&mut self, address: IpAddr, flow: TcpId) {
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.flows.push(flow);
        }
    }

    /// Lets a frame wait for `address`; false if too many wait already.
    pub(crate) fn park_frame(&mut self, address: IpAddr, frame: Vec<u8>) -> bool {
        let Some(entry) = self.entries.get_mut(&address) else { return false };
        let has_room = entry.frames.len() < PENDING_FRAMES;
        if has_room {
            entry.frames.push(frame);
        }
        has_room
    }

    /// Takes note of a neighbour's hardware address; what waited for it comes back.
    pub(crate) fn learn(&mut self, now: Instant, address: IpAddr, mac: EthernetAddress) -> Released {
        if let Some(entry) = self.entries.get_mut(&address) {
            let was_pending = entry.mac.replace(mac).is_none();
            entry.confirmed = now;
            let released = Released {
                flows: core::mem::take(&mut entry.flows),
                frames: core::mem::take(&mut entry.frames),
            };
            if was_pending {
                self.pending.retain(|pending| *pending != address);
                self.note_known(address);
            }
            return released;
        }
        let entry = Entry {
            mac: Some(mac),
            confirmed: now,
            asked: now,
            tries: 0,
            flows: Vec::new(),
            frames: Vec::new(),
        };
        self.entries.insert(address, entry);
        self.note_known(address);
        Released::default()
    }

    fn note_known(&mut self, address: IpAddr) {
        self.order.push_back(address);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    /// The next time a question must be repeated.
    #[inline]
    pub(crate) fn next(&self) -> Option<Instant> {
        self.pending.iter().filter_map(|address| self.entries.get(address)).map(|e| e.asked + RETRY).min()
    }

    /// Repeats questions that are due through `ask`, and gives up on those asked often enough:
    /// their flows and frames come back.
    pub(crate) fn retry(&mut self, now: Instant, mut ask: impl FnMut(IpAddr)) -> Vec<Released> {
        let mut given_up = Vec::new();
        let entries = &mut self.entries;
        self.pending.retain(|address| {
            let Some(entry) = entries.get_mut(address) else { return false };
            if now < entry.asked + RETRY {
                return true;
            }
            if entry.tries < TRIES {
                entry.tries += 1;
                entry.asked = now;
                ask(*address);
                return true;
            }
            if let Some(entry) = entries.remove(address) {
                given_up.push(Released { flows: entry.flows, frames: entry.frames });
            }
            false
        });
        given_up
    }
}
