//! What remains of a connection in TIME-WAIT: 64 bytes and a place in a table instead of a socket with buffers.
//!
//! A record answers a repeated FIN, and lets a new connection between the same addresses begin
//! when its sequence number proves that it is new (RFC 9293 section 3.10.7.4, RFC 6191). All
//! records live equally long, so a queue in order of age is enough; it is bounded, and the oldest
//! record makes room.

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
    hash: u64,
    last: Final,
    expiry: Instant,
}

pub(crate) struct TimeWait {
    /// Oldest first. One that was removed stays until it is the oldest, known to `index` no more, with an `expiry` of zero.
    records: VecDeque<Record>,
    /// The serial number of the oldest record; the others' follow it.
    oldest: u32,
    /// The serial numbers of the records by their connections.
    index: HashTable<u32>,
    limit: usize,
    lifetime: Duration,
}

impl TimeWait {
    /// A table for so many records, which live so long.
    pub(crate) fn new(limit: usize, lifetime: Duration) -> Self {
        let limit = limit.max(1);
        // A table that is at most half full clears its tombstones in place. With less room it would
        // double some day in a server's life, when enough connections have come and gone.
        let index = HashTable::with_capacity(2 * limit);
        Self { records: VecDeque::new(), oldest: 0, index, limit, lifetime }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Remembers the end of a connection. True if another record had to go for it.
    pub(crate) fn insert(&mut self, now: Instant, seed: &Seed, key: FlowKey, last: Final) -> bool {
        self.expire(now);
        let is_full = self.records.len() >= self.limit || self.records.try_reserve(1).is_err();
        let evicts = is_full && self.drop_oldest();
        if self.records.len() == self.records.capacity() {
            // There is no memory for the first.
            return evicts;
        }
        let hash = seed.hash(&key);
        self.remove(hash, &key);
        let serial = self.oldest.wrapping_add(self.records.len() as u32);
        self.records.push_back(Record { key, hash, last, expiry: now + self.lifetime });
        let (records, oldest) = (&self.records, self.oldest);
        self.index.insert_unique(hash, serial, |serial| records[serial.wrapping_sub(oldest) as usize].hash);
        evicts
    }

    pub(crate) fn find(&self, hash: u64, key: &FlowKey) -> Option<Final> {
        self.index
            .find(hash, |serial| self.record(*serial).key == *key)
            .map(|serial| self.record(*serial).last)
    }

    fn record(&self, serial: u32) -> &Record {
        &self.records[serial.wrapping_sub(self.oldest) as usize]
    }

    pub(crate) fn remove(&mut self, hash: u64, key: &FlowKey) {
        let (records, oldest) = (&self.records, self.oldest);
        let is_its = |serial: &u32| records[serial.wrapping_sub(oldest) as usize].key == *key;
        if let Ok(entry) = self.index.find_entry(hash, is_its) {
            let (serial, _) = entry.remove();
            self.records[serial.wrapping_sub(oldest) as usize].expiry = Instant::ZERO;
        }
    }

    /// Files all records under the hashes of another seed. The table has had room for them before.
    pub(crate) fn rehash(&mut self, seed: &Seed) {
        self.index.clear();
        for (age, record) in self.records.iter_mut().enumerate() {
            record.hash = seed.hash(&record.key);
            let (hash, serial) = (record.hash, self.oldest.wrapping_add(age as u32));
            if record.expiry != Instant::ZERO {
                self.index.insert_unique(hash, serial, |_| hash);
            }
        }
    }

    /// Forgets records whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.records.front().is_some_and(|record| record.expiry <= now) {
            self.drop_oldest();
        }
    }

    /// Drops the oldest record; true if it had not been removed.
    fn drop_oldest(&mut self) -> bool {
        let Some(record) = self.records.pop_front() else { return false };
        let serial = self.oldest;
        self.oldest = serial.wrapping_add(1);
        self.index.find_entry(record.hash, |other| *other == serial).map(|entry| entry.remove()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(60);

    fn seed() -> Seed {
        let mut state = 0_u64;
        Seed::new(&mut || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            state
        })
    }

    fn key(port: u16) -> FlowKey {
        let [local, remote] = [("10.0.0.1", 80), ("10.0.0.2", port)]
            .map(|(address, port)| SocketAddr::new(address.parse().expect("an address"), port));
        FlowKey::new(local, remote)
    }

    fn last(number: u32) -> Final {
        let number = TcpSeqNumber(number as i32);
        Final { send_next: number, receive_next: number }
    }

    #[test]
    fn the_table_never_grows() {
        let (mut table, seed, limit) = (TimeWait::new(1000, LIFETIME), seed(), 1000);
        let capacity = table.index.capacity();
        // Ports are taken again after very different times, as a client does that searches for a free one.
        for number in 0..200_000_u32 {
            let port = (number.wrapping_mul(number) % 7919) as u16;
            table.insert(Instant::ZERO, &seed, key(port), last(number));
            assert!(table.len() <= limit);
            assert_eq!(table.index.capacity().max(capacity), capacity, "after {number}");
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u16),
        Remove(u16),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..40_u16).prop_map(Step::Insert),
            1 => (0..40_u16).prop_map(Step::Remove),
            1 => (0..30_u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// The model is a map; what it forgets for want of room is only held to be among the table's oldest.
        #[test]
        fn it_finds_what_is_young_and_was_not_removed(steps in prop::collection::vec(step(), 0..200)) {
            let (mut table, seed, mut now) = (TimeWait::new(16, LIFETIME), seed(), Instant::ZERO);
            // Serial numbers wrap in the midst of it.
            table.oldest = u32::MAX - 20;
            let mut model = BTreeMap::new();
            for (number, step) in (0..).zip(steps) {
                match step {
                    Step::Insert(port) => {
                        let before = table.len();
                        let evicts = table.insert(now, &seed, key(port), last(number));
                        prop_assert!(!evicts || before >= 1);
                        model.insert(port, (last(number), now + LIFETIME));
                    }
                    Step::Remove(port) => {
                        table.remove(seed.hash(&key(port)), &key(port));
                        model.remove(&port);
                    }
                    Step::Pass(seconds) => {
                        now += Duration::from_secs(seconds);
                        table.expire(now);
                        model.retain(|_, (_, expiry)| *expiry > now);
                    }
                }
                let found = |port: u16| table.find(seed.hash(&key(port)), &key(port));
                let missing: Vec<_> = model.iter().filter(|(port, _)| found(**port).is_none()).collect();
                let youngest_missing = missing.iter().map(|(_, (last, _))| last.send_next.0).max();
                let mut count = 0;
                for port in 0..40 {
                    let Some(last) = found(port) else { continue };
                    count += 1;
                    prop_assert_eq!(Some(last), model.get(&port).map(|(last, _)| *last));
                    prop_assert!(youngest_missing.is_none_or(|missing| missing < last.send_next.0));
                }
                prop_assert_eq!(count, table.len());
                prop_assert!(table.records.len() <= 16);
            }
        }
    }
}
