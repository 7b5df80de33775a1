//! The keys, and the log of what changes them.
//!
//! Commands change keys through [`Database`] alone, which appends to the log what brings the new state about
//! on its own, whatever was there before: values whole, ends as points in time. So a log can be replayed at
//! any later time, and a rewritten log may interleave old entries with new changes.

use std::io::Write;

use crate::keyspace::{Entry, Keyspace};
use crate::reply;

/// What commands may not exceed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Memory for keys and values, in bytes, about.
    pub(crate) max_memory: usize,
    /// The longest string, in bytes.
    pub(crate) max_bulk: usize,
    /// The longest reply, in bytes.
    pub(crate) max_reply: usize,
}

/// What `INFO` and `CONFIG` tell of the server around the keys.
#[derive(Default)]
pub(crate) struct Status {
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) started_at: i64,
    pub(crate) clients: usize,
    pub(crate) connections: u64,
    pub(crate) commands: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) expired: u64,
    pub(crate) log_bytes: u64,
    pub(crate) log_base_bytes: u64,
    pub(crate) is_rewriting: bool,
    /// Why the log cannot be written; until it can, nothing may change.
    pub(crate) log_error: Option<String>,
}

/// The store.
pub(crate) struct Database {
    pub(crate) keys: Keyspace,
    pub(crate) limits: Limits,
    pub(crate) status: Status,
    /// A client has asked for a new log.
    pub(crate) wants_rewrite: bool,
    /// Milliseconds since 1970; the same for all commands of a turn.
    now: i64,
    /// Changes since [`Self::take_log`].
    log: Vec<u8>,
}

impl Database {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            keys: Keyspace::default(),
            limits,
            status: Status::default(),
            wants_rewrite: false,
            // Before everything: nothing ends while a log is replayed.
            now: i64::MIN,
            log: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// Sets the clock.
    pub(crate) fn set_now(&mut self, now: i64) {
        self.now = now;
    }

    /// What has changed since the last call, as the log is to have it.
    pub(crate) fn log(&mut self) -> &mut Vec<u8> {
        &mut self.log
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.keys.get(key, self.now)
    }

    /// As [`Self::get`], counted.
    pub(crate) fn look_up(&mut self, key: &[u8]) -> Option<&Entry> {
        let entry = self.keys.get(key, self.now);
        let counter = if entry.is_some() { &mut self.status.hits } else { &mut self.status.misses };
        *counter += 1;
        entry
    }

    pub(crate) fn set(&mut self, key: &[u8], value: &[u8], expires_at: Option<i64>) {
        self.keys.set(key, value, expires_at);
        log_set(&mut self.log, key, value, expires_at);
    }

    /// Sets all or, if the power fails, none.
    pub(crate) fn set_all<'a>(&mut self, pairs: impl ExactSizeIterator<Item = &'a [u8]> + Clone) {
        let mut rest = pairs.clone();
        while let (Some(key), Some(value)) = (rest.next(), rest.next()) {
            self.keys.set(key, value, None);
        }
        reply::array(&mut self.log, pairs.len() + 1);
        reply::bulk(&mut self.log, b"MSET");
        pairs.for_each(|argument| reply::bulk(&mut self.log, argument));
    }

    /// Appends to a value or makes it; answers its length.
    pub(crate) fn append(&mut self, key: &[u8], more: &[u8]) -> usize {
        if self.get(key).is_none() {
            self.set(key, more, None);
            return more.len();
        }
        // Not the whole value again: many small pieces would make a log of their square.
        reply::request(&mut self.log, [b"APPEND", key, more].into_iter());
        self.keys.append(key, more)
    }

    /// Lets an entry end at a time or never; true if there is one.
    pub(crate) fn set_end(&mut self, key: &[u8], expires_at: Option<i64>) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        if expires_at.is_some_and(|end| end <= self.now) {
            return self.remove([key].into_iter()) == 1;
        }
        self.keys.set_end(key, expires_at);
        match expires_at {
            Some(end) => {
                let end = itoa::Buffer::new().format(end).to_owned();
                reply::request(&mut self.log, [b"PEXPIREAT", key, end.as_bytes()].into_iter());
            }
            None => reply::request(&mut self.log, [b"PERSIST".as_slice(), key].into_iter()),
        }
        true
    }

    /// Removes entries; answers how many there were.
    pub(crate) fn remove<'a>(&mut self, keys: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> usize {
        let mut removed = 0;
        for key in keys.clone() {
            removed += usize::from(self.get(key).is_some());
            self.keys.remove(key);
        }
        if removed > 0 {
            reply::array(&mut self.log, keys.len() + 1);
            reply::bulk(&mut self.log, b"DEL");
            keys.for_each(|key| reply::bulk(&mut self.log, key));
        }
        removed
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        reply::request(&mut self.log, [b"FLUSHALL".as_slice()].into_iter());
    }

    /// Removes up to `limit` entries that are over.
    pub(crate) fn expire(&mut self, limit: usize) {
        for _ in 0..limit {
            let Some(key) = self.keys.take_expired(self.now) else { return };
            self.status.expired += 1;
            reply::request(&mut self.log, [b"DEL".as_slice(), &key].into_iter());
        }
    }
}

/// Appends the request that makes an entry.
pub(crate) fn log_set(log: &mut Vec<u8>, key: &[u8], value: &[u8], expires_at: Option<i64>) {
    match expires_at {
        None => reply::request(log, [b"SET", key, value].into_iter()),
        Some(end) => {
            let mut digits = Vec::new();
            // A `Vec` takes everything.
            let _ = write!(digits, "{end}");
            reply::request(log, [b"SET", key, value, b"PXAT", &digits].into_iter());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::commands;
    use crate::testing::{self, contents, run};

    #[test]
    fn log_is_whole_states() {
        let mut database = testing::database(1000);
        for words in ["SET a 5 PX 500", "INCRBY a 2", "APPEND a x", "EXPIRE a 10", "PERSIST a", "DEL a b"] {
            run(&mut database, words);
        }
        let log = String::from_utf8(std::mem::take(database.log())).unwrap().replace("\r\n", " ");
        assert_eq!(
            log,
            "*5 $3 SET $1 a $1 5 $4 PXAT $4 1500 *5 $3 SET $1 a $1 7 $4 PXAT $4 1500 *3 $6 APPEND $1 a $1 x \
             *3 $9 PEXPIREAT $1 a $5 11000 *2 $7 PERSIST $1 a *3 $3 DEL $1 a $1 b "
        );
    }

    #[test]
    fn what_is_over_is_gone_and_stays_gone() {
        let mut database = testing::database(1000);
        run(&mut database, "SET a 5 PX 500");
        database.set_now(1500);
        assert_eq!(run(&mut database, "GET a"), b"$-1\r\n");
        // Made anew before it was removed: it begins from nothing.
        assert_eq!(run(&mut database, "INCR a"), b":1\r\n");
        database.expire(10);
        assert_eq!(run(&mut database, "TTL a"), b":-1\r\n");
        let log = std::mem::take(database.log());
        let mut copy = testing::replay(&log);
        copy.set_now(1500);
        assert_eq!(contents(&copy), contents(&database));
    }

    fn command() -> impl Strategy<Value = String> {
        let key = "[a-d]";
        prop_oneof![
            (key, "[0-9a-z]{1,5}").prop_map(|(key, value)| format!("SET {key} {value}")),
            (key, "[0-9]{1,3}", 1..2000).prop_map(|(key, value, ms)| format!("SET {key} {value} PX {ms}")),
            (key, "[0-9]{1,3}").prop_map(|(key, value)| format!("SET {key} {value} KEEPTTL")),
            (key, "[0-9]{1,3}").prop_map(|(key, value)| format!("SET {key} {value} NX GET")),
            (key, -5..5).prop_map(|(key, by)| format!("INCRBY {key} {by}")),
            (key, "[0-9]").prop_map(|(key, more)| format!("APPEND {key} {more}")),
            (key, -3..2000).prop_map(|(key, ms)| format!("PEXPIRE {key} {ms}")),
            key.prop_map(|key| format!("PERSIST {key}")),
            (key, 1..2000).prop_map(|(key, ms)| format!("GETEX {key} PX {ms}")),
            key.prop_map(|key| format!("GETDEL {key}")),
            (key, key).prop_map(|(one, two)| format!("DEL {one} {two}")),
            (key, key).prop_map(|(one, two)| format!("MSET {one} 1 {two} 2")),
            Just("FLUSHALL".to_owned()),
        ]
    }

    proptest! {
        /// The log, replayed later, makes the same keys.
        #[test]
        fn log_makes_the_state(commands in prop::collection::vec((command(), 0_i64..700, 0_usize..3), 0..60)) {
            let mut database = testing::database(1000);
            for (words, pause, expire) in commands {
                let now = database.now() + pause;
                database.set_now(now);
                run(&mut database, &words);
                database.expire(expire);
            }
            let now = database.now();
            let log = std::mem::take(database.log());
            let mut copy = testing::replay(&log);
            copy.set_now(now);
            prop_assert_eq!(contents(&copy), contents(&database));
        }
    }

    #[test]
    fn every_logged_command_is_known() {
        for name in ["set", "mset", "append", "pexpireat", "persist", "del", "flushall"] {
            assert!(commands::find(name.as_bytes()).is_some_and(commands::Command::is_write), "{name}");
        }
    }
}
