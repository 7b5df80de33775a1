//! The commands: their table, and carrying one out.
//!
//! - [`strings`]: values; [`keys`]: keys and their ends; [`server`]: the connection and the server.

mod keys;
mod server;
mod strings;

use crate::database::Database;
use crate::error::CommandError;
use crate::reply;
use crate::resp::Arguments;

/// How much of its arguments the reply to an unknown command shows, in bytes.
const SHOWN_BYTES: usize = 128;

type Outcome = Result<(), CommandError>;

/// What a command does to the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Read,
    /// Changes them, and takes no more memory.
    Write,
    /// Changes them, and may take more memory.
    Grow,
    /// Nothing.
    Server,
}

/// A command.
#[derive(Debug)]
pub(crate) struct Command {
    /// In small letters.
    name: &'static str,
    /// How many arguments with its name, or, negative, how many at least.
    arity: i32,
    kind: Kind,
    /// The first key's number, the last one's (from the end, if negative), and the step between keys.
    keys: (i32, i32, i32),
    run: fn(&mut Database, Arguments<'_>, &mut Vec<u8>) -> Outcome,
}

impl Command {
    /// True if the log may have it.
    pub(crate) fn is_write(&self) -> bool {
        matches!(self.kind, Kind::Write | Kind::Grow)
    }
}

const fn command(
    name: &'static str,
    arity: i32,
    kind: Kind,
    keys: (i32, i32, i32),
    run: fn(&mut Database, Arguments<'_>, &mut Vec<u8>) -> Outcome,
) -> Command {
    Command { name, arity, kind, keys, run }
}

const NO_KEYS: (i32, i32, i32) = (0, 0, 0);
const ONE_KEY: (i32, i32, i32) = (1, 1, 1);
const ALL_KEYS: (i32, i32, i32) = (1, -1, 1);
const PAIRS: (i32, i32, i32) = (1, -1, 2);

/// By name.
static TABLE: [Command; 47] = [
    command("append", 3, Kind::Grow, ONE_KEY, strings::append),
    command("bgrewriteaof", 1, Kind::Server, NO_KEYS, server::rewrite),
    command("command", -1, Kind::Server, NO_KEYS, server::command),
    command("config", -2, Kind::Server, NO_KEYS, server::config),
    command("dbsize", 1, Kind::Read, NO_KEYS, keys::count),
    command("decr", 2, Kind::Grow, ONE_KEY, strings::decrement),
    command("decrby", 3, Kind::Grow, ONE_KEY, strings::decrement_by),
    command("del", -2, Kind::Write, ALL_KEYS, keys::remove),
    command("echo", 2, Kind::Server, NO_KEYS, server::echo),
    command("exists", -2, Kind::Read, ALL_KEYS, keys::exist),
    command("expire", -3, Kind::Write, ONE_KEY, keys::expire),
    command("expireat", -3, Kind::Write, ONE_KEY, keys::expire_at),
    command("expiretime", 2, Kind::Read, ONE_KEY, keys::expire_time),
    command("flushall", -1, Kind::Write, NO_KEYS, keys::clear),
    command("flushdb", -1, Kind::Write, NO_KEYS, keys::clear),
    command("get", 2, Kind::Read, ONE_KEY, strings::get),
    command("getdel", 2, Kind::Write, ONE_KEY, strings::get_and_remove),
    command("getex", -2, Kind::Write, ONE_KEY, strings::get_and_expire),
    command("getrange", 4, Kind::Read, ONE_KEY, strings::range),
    command("getset", 3, Kind::Grow, ONE_KEY, strings::get_and_set),
    command("incr", 2, Kind::Grow, ONE_KEY, strings::increment),
    command("incrby", 3, Kind::Grow, ONE_KEY, strings::increment_by),
    command("info", -1, Kind::Server, NO_KEYS, server::info),
    command("keys", 2, Kind::Read, NO_KEYS, keys::matching),
    command("mget", -2, Kind::Read, ALL_KEYS, strings::get_all),
    command("mset", -3, Kind::Grow, PAIRS, strings::set_all),
    command("msetnx", -3, Kind::Grow, PAIRS, strings::set_all_new),
    command("persist", 2, Kind::Write, ONE_KEY, keys::persist),
    command("pexpire", -3, Kind::Write, ONE_KEY, keys::expire_ms),
    command("pexpireat", -3, Kind::Write, ONE_KEY, keys::expire_at_ms),
    command("pexpiretime", 2, Kind::Read, ONE_KEY, keys::expire_time_ms),
    command("ping", -1, Kind::Server, NO_KEYS, server::ping),
    command("psetex", 4, Kind::Grow, ONE_KEY, strings::set_for_ms),
    command("pttl", 2, Kind::Read, ONE_KEY, keys::left_ms),
    command("quit", -1, Kind::Server, NO_KEYS, server::quit),
    command("randomkey", 1, Kind::Read, NO_KEYS, keys::any),
    command("scan", -2, Kind::Read, NO_KEYS, keys::scan),
    command("select", 2, Kind::Server, NO_KEYS, server::select),
    command("set", -3, Kind::Grow, ONE_KEY, strings::set),
    command("setex", 4, Kind::Grow, ONE_KEY, strings::set_for),
    command("setnx", 3, Kind::Grow, ONE_KEY, strings::set_new),
    command("strlen", 2, Kind::Read, ONE_KEY, strings::len),
    command("time", 1, Kind::Server, NO_KEYS, server::time),
    command("touch", -2, Kind::Read, ALL_KEYS, keys::exist),
    command("ttl", 2, Kind::Read, ONE_KEY, keys::left),
    command("type", 2, Kind::Read, ONE_KEY, keys::kind),
    command("unlink", -2, Kind::Write, ALL_KEYS, keys::remove),
];

/// The command of this name, in any letters.
pub(crate) fn find(name: &[u8]) -> Option<&'static Command> {
    let mut small = [0; 16];
    let small = small.get_mut(..name.len())?;
    small.copy_from_slice(name);
    small.make_ascii_lowercase();
    let index = TABLE.binary_search_by(|command| command.name.as_bytes().cmp(small)).ok()?;
    TABLE.get(index)
}

/// Whether the connection goes on after a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    GoOn,
    Close,
}

/// Carries out a request of at least one word, and appends the reply.
pub(crate) fn execute(database: &mut Database, arguments: Arguments<'_>, reply: &mut Vec<u8>) -> Then {
    database.status.commands += 1;
    let start = reply.len();
    let outcome = check(database, arguments).and_then(|command| (command.run)(database, arguments, reply));
    if let Err(error) = outcome {
        // A part of it may have been there.
        reply.truncate(start);
        reply::error(reply, &error);
    }
    let is_quit = arguments.get(0).eq_ignore_ascii_case(b"quit");
    if is_quit { Then::Close } else { Then::GoOn }
}

/// Carries out a request from the log.
///
/// # Errors
///
/// If it is none that a log has, or the words of the reply.
pub(crate) fn apply(database: &mut Database, arguments: Arguments<'_>) -> Result<(), String> {
    let command = find(arguments.get(0)).filter(|command| command.is_write() || command.name == "select");
    let command = command.ok_or_else(|| unknown(arguments).to_string())?;
    let mut reply = Vec::new();
    let is_right = fits(command.arity, arguments.len());
    let outcome = if is_right {
        (command.run)(database, arguments, &mut reply)
    } else {
        Err(CommandError::Arity(command.name))
    };
    database.log().clear();
    outcome.map_err(|error| error.to_string())
}

/// The command that a request names, if it may be carried out now.
fn check(database: &Database, arguments: Arguments<'_>) -> Result<&'static Command, CommandError> {
    let command = find(arguments.get(0)).ok_or_else(|| unknown(arguments))?;
    if !fits(command.arity, arguments.len()) {
        return Err(CommandError::Arity(command.name));
    }
    if command.kind == Kind::Grow {
        let more: usize = arguments.from(1).map(<[u8]>::len).sum();
        if database.keys.used_bytes() + more > database.limits.max_memory {
            return Err(CommandError::Memory);
        }
    }
    match &database.status.log_error {
        Some(why) if command.is_write() => Err(CommandError::Log(why.clone())),
        _ => Ok(command),
    }
}

fn fits(arity: i32, len: usize) -> bool {
    let wanted = arity.unsigned_abs() as usize;
    if arity < 0 { len >= wanted } else { len == wanted }
}

fn unknown(arguments: Arguments<'_>) -> CommandError {
    let shown =
        |bytes: &[u8], room: usize| String::from_utf8_lossy(&bytes[..bytes.len().min(room)]).into_owned();
    let mut text = format!("'{}', with args beginning with: ", shown(arguments.get(0), SHOWN_BYTES));
    let mut room = SHOWN_BYTES;
    for argument in arguments.from(1) {
        if room == 0 {
            break;
        }
        text.push_str(&format!("'{}' ", shown(argument, room)));
        room = room.saturating_sub(argument.len() + 3);
    }
    CommandError::Unknown(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, run};

    #[test]
    fn table_is_in_order() {
        assert!(TABLE.is_sorted_by(|one, two| one.name < two.name));
        assert!(TABLE.iter().all(|command| find(command.name.to_uppercase().as_bytes()).is_some()));
        assert!(find(b"nosuchcommandofthislength").is_none());
    }

    #[test]
    fn what_is_unknown_is_named() {
        let mut database = testing::database(0);
        let reply = run(&mut database, "nope a b");
        assert_eq!(reply, b"-ERR unknown command 'nope', with args beginning with: 'a' 'b' \r\n");
        assert_eq!(run(&mut database, "GET"), b"-ERR wrong number of arguments for 'get' command\r\n");
    }

    #[test]
    fn full_memory_refuses_what_grows() {
        let mut database = testing::database(0);
        let value = "x".repeat(9_000);
        let replies: Vec<Vec<u8>> =
            (0..200).map(|key| run(&mut database, &format!("SET {key} {value}"))).collect();
        assert_eq!(replies[0], b"+OK\r\n");
        assert!(replies[199].starts_with(b"-OOM command not allowed"));
        assert_eq!(run(&mut database, "DEL 0 1"), b":2\r\n");
        assert_eq!(run(&mut database, "SET 0 1"), b"+OK\r\n");
    }

    #[test]
    fn broken_log_refuses_what_changes() {
        let mut database = testing::database(0);
        run(&mut database, "SET a 1");
        database.status.log_error = Some("No space left on device".into());
        let reply = run(&mut database, "SET a 2");
        assert_eq!(reply, b"-MISCONF Errors writing to the AOF file: No space left on device\r\n");
        assert_eq!(run(&mut database, "GET a"), b"$1\r\n1\r\n");
    }

    #[test]
    fn log_has_nothing_but_changes() {
        let (mut database, input) = (testing::database(0), b"GET a\n");
        let mut parser = crate::resp::Parser::new(100);
        parser.parse(input).unwrap();
        assert!(apply(&mut database, parser.arguments(input)).is_err());
    }
}
