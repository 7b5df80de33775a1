//! The keys and their values, in memory.
//!
//! [`Keyspace`] knows no clock: the caller says what time it is, in milliseconds since 1970. An entry
//! whose time is over is hidden from then on, and removed when [`Keyspace::take_expired`] comes to it.

use std::collections::BTreeSet;

use indexmap::IndexMap;

/// What an entry takes beside the bytes of its key and value: table, allocations, growth of the table.
const ENTRY_BYTES: usize = 160;

/// A value and its end.
pub(crate) struct Entry {
    pub(crate) value: Vec<u8>,
    pub(crate) expires_at: Option<i64>,
}

impl Entry {
    fn is_live(&self, now: i64) -> bool {
        self.expires_at.is_none_or(|end| end > now)
    }
}

/// All entries.
#[derive(Default)]
pub(crate) struct Keyspace {
    entries: IndexMap<Box<[u8]>, Entry>,
    /// Every entry that ends, by its end.
    ends: BTreeSet<(i64, Box<[u8]>)>,
    used_bytes: usize,
}

impl Keyspace {
    /// Entries, with those that are over and not removed yet.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them end.
    pub(crate) fn ending(&self) -> usize {
        self.ends.len()
    }

    /// Memory taken, about.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    pub(crate) fn get(&self, key: &[u8], now: i64) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.is_live(now))
    }

    /// Stores a value, in place of any before.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8], expires_at: Option<i64>) {
        match self.entries.get_mut(key) {
            Some(entry) => {
                self.used_bytes = self.used_bytes - entry.value.len() + value.len();
                entry.value.clear();
                entry.value.extend_from_slice(value);
                if entry.value.capacity() > 2 * value.len() {
                    entry.value.shrink_to_fit();
                }
            }
            None => {
                self.used_bytes += ENTRY_BYTES + key.len() + value.len();
                self.entries.insert(key.into(), Entry { value: value.to_vec(), expires_at: None });
            }
        }
        self.set_end(key, expires_at);
    }

    /// Appends to a value that there must be; answers its new length.
    pub(crate) fn append(&mut self, key: &[u8], more: &[u8]) -> usize {
        let Some(entry) = self.entries.get_mut(key) else { return 0 };
        entry.value.extend_from_slice(more);
        self.used_bytes += more.len();
        entry.value.len()
    }

    /// Lets an entry, if there is one, end at a time or never.
    pub(crate) fn set_end(&mut self, key: &[u8], expires_at: Option<i64>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let before = std::mem::replace(&mut entry.expires_at, expires_at);
        if before == expires_at {
            return;
        }
        if let Some(end) = before {
            self.ends.remove(&(end, key.into()));
        }
        if let Some(end) = expires_at {
            self.ends.insert((end, key.into()));
        }
    }

    /// Removes an entry; answers it.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.entries.swap_remove(key)?;
        self.used_bytes -= ENTRY_BYTES + key.len() + entry.value.len();
        if let Some(end) = entry.expires_at {
            self.ends.remove(&(end, key.into()));
        }
        Some(entry)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Removes one entry that is over; answers its key.
    pub(crate) fn take_expired(&mut self, now: i64) -> Option<Box<[u8]>> {
        let (_, key) = self.ends.first().filter(|(end, _)| *end <= now)?;
        let key = key.clone();
        self.remove(&key);
        Some(key)
    }

    /// When the next entry ends.
    pub(crate) fn next_end(&self) -> Option<i64> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Shows about `count` entries; 0 begins, and the answer goes on from there until it is 0.
    ///
    /// Entries are numbered. A new one gets the next number, and when one is removed, the last one takes its
    /// number. So, going downwards, an entry that is there from the first call to the last is shown at least
    /// once: it never moves from the numbers to come to those that were passed.
    pub(crate) fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(&[u8], &Entry)) -> u64 {
        let len = self.entries.len();
        let top = match usize::try_from(cursor) {
            Ok(0) | Err(_) => len,
            Ok(cursor) => cursor.min(len),
        };
        let bottom = top.saturating_sub(count);
        for (key, entry) in (bottom..top).rev().filter_map(|index| self.entries.get_index(index)) {
            show(key, entry);
        }
        bottom as u64
    }

    /// All that is not over.
    pub(crate) fn live(&self, now: i64) -> impl Iterator<Item = (&[u8], &Entry)> {
        let entries = self.entries.iter().map(|(key, entry)| (&**key, entry));
        entries.filter(move |(_, entry)| entry.is_live(now))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_over_is_hidden_then_removed() {
        let mut keys = Keyspace::default();
        keys.set(b"a", b"1", Some(100));
        keys.set(b"b", b"2", None);
        assert!(keys.get(b"a", 99).is_some());
        assert!(keys.get(b"a", 100).is_none());
        assert_eq!(keys.take_expired(99), None);
        assert_eq!(keys.take_expired(100).as_deref(), Some(b"a".as_slice()));
        assert_eq!((keys.take_expired(1000), keys.len(), keys.ending()), (None, 1, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, Vec<u8>, Option<i64>),
        Append(u8, Vec<u8>),
        End(u8, Option<i64>),
        Remove(u8),
        Expire(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let value = || prop::collection::vec(any::<u8>(), 0..20);
        let end = || prop::option::of(0_i64..50);
        prop_oneof![
            (0_u8..20, value(), end()).prop_map(|(key, value, end)| Step::Set(key, value, end)),
            (0_u8..20, value()).prop_map(|(key, value)| Step::Append(key, value)),
            (0_u8..20, end()).prop_map(|(key, end)| Step::End(key, end)),
            (0_u8..20).prop_map(Step::Remove),
            (0_i64..50).prop_map(Step::Expire),
        ]
    }

    fn apply(keys: &mut Keyspace, model: &mut BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>, step: Step) {
        match step {
            Step::Set(key, value, end) => {
                keys.set(&[key], &value, end);
                model.insert(vec![key], (value, end));
            }
            Step::Append(key, more) => {
                keys.append(&[key], &more);
                model.entry(vec![key]).and_modify(|(value, _)| value.extend(more));
            }
            Step::End(key, end) => {
                keys.set_end(&[key], end);
                model.entry(vec![key]).and_modify(|entry| entry.1 = end);
            }
            Step::Remove(key) => {
                assert_eq!(keys.remove(&[key]).is_some(), model.remove([key].as_slice()).is_some());
            }
            Step::Expire(now) => {
                while keys.take_expired(now).is_some() {}
                model.retain(|_, (_, end)| end.is_none_or(|end| end > now));
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec(step(), 0..120)) {
            let (mut keys, mut model) = (Keyspace::default(), BTreeMap::new());
            for step in steps {
                apply(&mut keys, &mut model, step);
            }
            let found: BTreeMap<_, _> =
                keys.live(-1).map(|(key, entry)| (key.to_vec(), (entry.value.clone(), entry.expires_at))).collect();
            prop_assert_eq!(&found, &model);
            prop_assert_eq!(keys.ending(), model.values().filter(|(_, end)| end.is_some()).count());
            let bytes = model.iter().map(|(key, (value, _))| ENTRY_BYTES + key.len() + value.len()).sum();
            prop_assert_eq!(keys.used_bytes(), bytes);
        }

        /// Whatever happens between the calls, what stays is shown.
        #[test]
        fn scan_misses_nothing_that_stays(
            count in 1_usize..7,
            steps in prop::collection::vec((0_u8..60, any::<bool>()), 0..60),
        ) {
            let mut keys = Keyspace::default();
            (0..60).for_each(|key| keys.set(&[key], b"", None));
            let mut steady: BTreeSet<u8> = (0..60).collect();
            let (mut seen, mut cursor, mut steps) = (BTreeSet::new(), 0, steps.into_iter());
            loop {
                cursor = keys.scan(cursor, count, |key, _| seen.extend(key.first()));
                if cursor == 0 {
                    break;
                }
                for (key, is_added) in steps.by_ref().take(2) {
                    steady.remove(&key);
                    if is_added { keys.set(&[key, 0], b"", None) } else { drop(keys.remove(&[key])) }
                }
            }
            prop_assert!(steady.is_subset(&seen), "{:?}", steady.difference(&seen));
        }
    }
}
