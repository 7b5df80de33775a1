//! What tests of several modules use.

use std::collections::BTreeMap;

use crate::commands;
use crate::database::{Database, Limits};
use crate::resp::{Parsed, Parser};

/// A database at a time.
pub(crate) fn database(now: i64) -> Database {
    let mut database = Database::new(Limits { max_memory: 1 << 20, max_bulk: 10_000, max_reply: 100_000 });
    database.set_now(now);
    database
}

/// Runs a line of words; answers the reply.
pub(crate) fn run(database: &mut Database, words: &str) -> Vec<u8> {
    let input = [words.as_bytes(), b"\n"].concat();
    let mut parser = Parser::new(10_000);
    assert_eq!(parser.parse(&input), Ok(Parsed::Request(input.len())));
    let mut reply = Vec::new();
    commands::execute(database, parser.arguments(&input), &mut reply);
    reply
}

/// The database that a log makes.
pub(crate) fn replay(log: &[u8]) -> Database {
    let mut database = database(i64::MIN);
    let (mut parser, mut rest) = (Parser::new(10_000), log);
    while let Parsed::Request(bytes) = parser.parse(rest).unwrap() {
        commands::apply(&mut database, parser.arguments(rest)).unwrap();
        parser.reset();
        rest = &rest[bytes..];
    }
    assert!(rest.is_empty());
    database
}

/// All that is there and not over, with its end.
pub(crate) fn contents(database: &Database) -> BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)> {
    let live = database.keys.live(database.now());
    live.map(|(key, entry)| (key.to_vec(), (entry.value.clone(), entry.expires_at))).collect()
}

/// Runs each line and compares the reply, its line ends shown as blanks.
pub(crate) fn expect(lines: &[(&str, &str)]) {
    let mut database = database(1_000_000);
    for (words, wanted) in lines {
        let reply = String::from_utf8(run(&mut database, words)).unwrap().replace("\r\n", " ");
        assert_eq!(reply.trim_end(), *wanted, "{words}");
    }
}
