//! What remains of a connection in TIME-WAIT: 64 bytes instead of a socket with buffers.
//!
//! A record answers a repeated FIN, and lets a new connection between the same addresses begin
//! when its sequence number proves that it is new (RFC 9293 section 3.10.7.4, RFC 6191). All
//! records live equally long, so a queue in order of age is enough; the table is bounded, and the
//! oldest record makes room.

use alloc::collections::VecDeque;

use hashbrown::HashTable;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::TcpSeqNumber;

use crate::key::{FlowKey, Seed};

/// The sequence numbers at the end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Final {
    /// Our next sequence number: that of the segments we still send.
    pub(crate) send_next: TcpSeqNumber,
    /// The next sequence number expected from the peer.
    pub(crate) receive_next: TcpSeqNumber,
}

struct Record {
    key: FlowKey,
    last: Final,
    /// Tells this record from an older one of the same key in the queue of ages.
    serial: u64,
}

pub(crate) struct TimeWait {
    records: HashTable<Record>,
    /// When each record expires, oldest first, with its hash and serial number.
    ages: VecDeque<(Instant, u64, u64)>,
    serial: u64,
    limit: usize,
    lifetime: Duration,
}

impl TimeWait {
    pub(crate) fn new(limit: usize, lifetime: Duration) -> Self {
        Self { records: HashTable::new(), ages: VecDeque::new(), serial: 0, limit: limit.max(1), lifetime }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Remembers the end of a connection. True if another record had to go for it.
    pub(crate) fn insert(&mut self, now: Instant, seed: &Seed, key: FlowKey, last: Final) -> bool {
        self.expire(now);
        let evicts = self.ages.len() >= self.limit && self.drop_oldest();
        let hash = seed.hash(&key);
        self.remove(hash, &key);
        self.serial += 1;
        self.records.insert_unique(hash, Record { key, last, serial: self.serial }, |r| seed.hash(&r.key));
        self.ages.push_back((now + self.lifetime, hash, self.serial));
        evicts
    }

    pub(crate) fn find(&self, hash: u64, key: &FlowKey) -> Option<Final> {
        self.records.find(hash, |record| record.key == *key).map(|record| record.last)
    }

    pub(crate) fn remove(&mut self, hash: u64, key: &FlowKey) {
        if let Ok(entry) = self.records.find_entry(hash, |record| record.key == *key) {
            entry.remove();
        }
    }

    /// Forgets records whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.ages.front().is_some_and(|(at, ..)| *at <= now) {
            self.drop_oldest();
        }
    }

    /// Drops the head of the queue of ages; true if a record went with it.
    fn drop_oldest(&mut self) -> bool {
        let Some((_, hash, serial)) = self.ages.pop_front() else { return false };
        let entry = self.records.find_entry(hash, |record| record.serial == serial);
        entry.map(|entry| entry.remove()).is_ok()
    }
}
