//! Commands about the connection and the server.

use std::fmt::Write;

use super::strings::integer;
use super::{Kind, Outcome, TABLE};
use crate::database::Database;
use crate::error::CommandError;
use crate::resp::Arguments;
use crate::{glob, reply};

/// The version whose subset this is, for clients that choose by it.
const REDIS_VERSION: &str = "7.0.0";

pub(super) fn ping(_: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    match arguments.len() {
        1 => reply::simple(out, "PONG"),
        2 => reply::bulk(out, arguments.get(1)),
        _ => return Err(CommandError::Arity("ping")),
    }
    Ok(())
}

pub(super) fn echo(_: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    reply::bulk(out, arguments.get(1));
    Ok(())
}

pub(super) fn quit(_: &mut Database, _: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    reply::simple(out, "OK");
    Ok(())
}

pub(super) fn select(_: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if integer(arguments.get(1))? != 0 {
        return Err(CommandError::DatabaseIndex);
    }
    reply::simple(out, "OK");
    Ok(())
}

pub(super) fn time(database: &mut Database, _: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let now = database.now();
    let parts = [(now / 1000).to_string(), (now % 1000 * 1000).to_string()];
    reply::request(out, parts.iter().map(String::as_bytes));
    Ok(())
}

pub(super) fn rewrite(database: &mut Database, _: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if database.status.is_rewriting || database.wants_rewrite {
        return Err(CommandError::Rewriting);
    }
    database.wants_rewrite = true;
    reply::simple(out, "Background append only file rewriting started");
    Ok(())
}

/// `COMMAND [COUNT | DOCS]`
pub(super) fn command(_: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    match arguments.from(1).next().map(<[u8]>::to_ascii_uppercase).as_deref() {
        None => list_commands(out),
        Some(b"COUNT") => reply::count(out, TABLE.len()),
        // Clients ask for help texts, and do without.
        Some(b"DOCS") => reply::array(out, 0),
        Some(other) => {
            return Err(CommandError::Subcommand("command", String::from_utf8_lossy(other).into_owned()));
        }
    }
    Ok(())
}

fn list_commands(out: &mut Vec<u8>) {
    reply::array(out, TABLE.len());
    for command in &TABLE {
        let flags: &[&str] = match command.kind {
            Kind::Read => &["readonly"],
            Kind::Write => &["write"],
            Kind::Grow => &["write", "denyoom"],
            Kind::Server => &[],
        };
        reply::array(out, 6);
        reply::bulk(out, command.name.as_bytes());
        reply::integer(out, i64::from(command.arity));
        reply::array(out, flags.len());
        flags.iter().for_each(|flag| reply::simple(out, flag));
        let (first, last, step) = command.keys;
        [first, last, step].into_iter().for_each(|number| reply::integer(out, i64::from(number)));
    }
}

/// `CONFIG GET pattern ...`
pub(super) fn config(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if !arguments.get(1).eq_ignore_ascii_case(b"GET") {
        let what = String::from_utf8_lossy(arguments.get(1)).into_owned();
        return Err(CommandError::Subcommand("config", what));
    }
    if arguments.len() < 3 {
        return Err(CommandError::Arity("config|get"));
    }
    let is_asked = |name: &str| {
        arguments.from(2).any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
    };
    let settings = database.status.settings.iter().filter(|(name, _)| is_asked(name));
    let words: Vec<&[u8]> = settings.flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]).collect();
    reply::request(out, words.into_iter());
    Ok(())
}

/// `INFO [section ...]`
pub(super) fn info(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let is_asked = |name: &str| {
        let wanted = |word: &[u8]| {
            word.eq_ignore_ascii_case(name.as_bytes())
                || ["all", "default", "everything"]
                    .iter()
                    .any(|all| word.eq_ignore_ascii_case(all.as_bytes()))
        };
        arguments.len() == 1 || arguments.from(1).any(wanted)
    };
    let mut text = String::new();
    for (title, lines) in sections(database) {
        if is_asked(title) {
            let gap = if text.is_empty() { "" } else { "\r\n" };
            // A `String` takes everything.
            let _ = write!(text, "{gap}# {title}\r\n");
            for (name, value) in lines {
                let _ = write!(text, "{name}:{value}\r\n");
            }
        }
    }
    reply::bulk(out, text.as_bytes());
    Ok(())
}

type Lines = Vec<(&'static str, String)>;

fn sections(database: &Database) -> [(&'static str, Lines); 6] {
    let status = &database.status;
    let setting = |wanted: &str| {
        status
            .settings
            .iter()
            .find(|(name, _)| *name == wanted)
            .map_or_else(String::new, |(_, value)| value.clone())
    };
    let keys = (database.keys.len(), database.keys.ending());
    let keyspace = if keys.0 == 0 {
        Vec::new()
    } else {
        vec![("db0", format!("keys={},expires={},avg_ttl=0", keys.0, keys.1))]
    };
    let log_state = if status.log_error.is_some() { "err" } else { "ok" };
    [
        (
            "Server",
            vec![
                ("redis_version", REDIS_VERSION.into()),
                ("redis_mode", "standalone".into()),
                ("server_name", "kv".into()),
                ("tcp_port", setting("port")),
                ("uptime_in_seconds", ((database.now() - status.started_at) / 1000).to_string()),
            ],
        ),
        (
            "Clients",
            vec![("connected_clients", status.clients.to_string()), ("maxclients", setting("maxclients"))],
        ),
        (
            "Memory",
            vec![
                ("used_memory", database.keys.used_bytes().to_string()),
                ("maxmemory", setting("maxmemory")),
            ],
        ),
        (
            "Persistence",
            vec![
                ("loading", "0".into()),
                ("aof_enabled", "1".into()),
                ("aof_rewrite_in_progress", u8::from(status.is_rewriting).to_string()),
                ("aof_last_write_status", log_state.into()),
                ("aof_current_size", status.log_bytes.to_string()),
                ("aof_base_size", status.log_base_bytes.to_string()),
            ],
        ),
        (
            "Stats",
            vec![
                ("total_connections_received", status.connections.to_string()),
                ("total_commands_processed", status.commands.to_string()),
                ("expired_keys", status.expired.to_string()),
                ("keyspace_hits", status.hits.to_string()),
                ("keyspace_misses", status.misses.to_string()),
            ],
        ),
        ("Keyspace", keyspace),
    ]
}

#[cfg(test)]
mod tests {
    use crate::testing::{self, run};

    #[test]
    fn settings_are_told_by_pattern() {
        let mut database = testing::database(0);
        database.status.settings = vec![("save", String::new()), ("appendfsync", "always".into())];
        assert_eq!(run(&mut database, "CONFIG GET append*"), b"*2\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n");
        assert_eq!(run(&mut database, "config get save"), b"*2\r\n$4\r\nsave\r\n$0\r\n\r\n");
        assert_eq!(
            run(&mut database, "CONFIG SET a b"),
            b"-ERR unknown subcommand 'SET'. Try CONFIG HELP.\r\n"
        );
    }

    #[test]
    fn information_has_sections() {
        let mut database = testing::database(0);
        run(&mut database, "SET a 1 EX 5");
        let text = String::from_utf8(run(&mut database, "INFO keyspace stats")).unwrap();
        assert!(text.contains("# Keyspace\r\ndb0:keys=1,expires=1") && !text.contains("# Server"), "{text}");
        let all = String::from_utf8(run(&mut database, "INFO")).unwrap();
        assert!(all.contains("# Server") && all.contains("aof_enabled:1"), "{all}");
    }

    #[test]
    fn connection_commands_answer() {
        let mut database = testing::database(1_234_567);
        assert_eq!(run(&mut database, "PING"), b"+PONG\r\n");
        assert_eq!(run(&mut database, "PING hi"), b"$2\r\nhi\r\n");
        assert_eq!(run(&mut database, "SELECT 0"), b"+OK\r\n");
        assert_eq!(run(&mut database, "SELECT 1"), b"-ERR DB index is out of range\r\n");
        assert_eq!(run(&mut database, "TIME"), b"*2\r\n$4\r\n1234\r\n$6\r\n567000\r\n");
        assert!(
            run(&mut database, "COMMAND").starts_with(b"*47\r\n*6\r\n$6\r\nappend\r\n:3\r\n*2\r\n+write\r\n")
        );
    }
}
