//! Commands about values.

use super::Outcome;
use crate::database::Database;
use crate::error::CommandError;
use crate::reply;
use crate::resp::{Arguments, number};

pub(super) fn get(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let entry = database.look_up(arguments.get(1));
    reply::bulk_or_null(out, entry.map(|entry| entry.value.as_slice()));
    Ok(())
}

pub(super) fn get_all(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let found = |key: &&[u8]| database.get(key).map_or(0, |entry| entry.value.len());
    // The same key may be asked for a million times.
    if arguments.from(1).map(|key| found(&key)).sum::<usize>() > database.limits.max_reply {
        return Err(CommandError::LongReply);
    }
    reply::array(out, arguments.len() - 1);
    for key in arguments.from(1) {
        reply::bulk_or_null(out, database.look_up(key).map(|entry| entry.value.as_slice()));
    }
    Ok(())
}

pub(super) fn len(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    reply::count(out, database.look_up(arguments.get(1)).map_or(0, |entry| entry.value.len()));
    Ok(())
}

/// `GETRANGE key first last`: positions from the end are negative.
pub(super) fn range(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (first, last) = (integer(arguments.get(2))?, integer(arguments.get(3))?);
    let value = database.look_up(arguments.get(1)).map_or(&[][..], |entry| &entry.value);
    let len = value.len() as i64;
    let place = |position: i64| if position < 0 { (position + len).max(0) } else { position.min(len) };
    // Before their places are looked for: two that lie before the value have the same.
    let is_backwards = first < 0 && last < 0 && first > last;
    let (first, end) = (place(first), (place(last) + 1).min(len));
    let part = if first < end && !is_backwards { &value[first as usize..end as usize] } else { &[] };
    reply::bulk(out, part);
    Ok(())
}

/// When `SET` stores.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    IfNew,
    IfThere,
}

/// The end of a value, as options say it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// None.
    Unsaid,
    /// As it was.
    Kept,
    At(i64),
}

struct SetOptions {
    condition: Condition,
    end: End,
    answers_old: bool,
}

/// The options of `SET`, from argument 3 on.
fn set_options(database: &Database, arguments: Arguments<'_>) -> Result<SetOptions, CommandError> {
    let mut options = SetOptions { condition: Condition::Always, end: End::Unsaid, answers_old: false };
    // Its amount is looked at once every word is known.
    let mut end: Option<(Vec<u8>, &[u8])> = None;
    let mut rest = arguments.from(3);
    while let Some(word) = rest.next() {
        match word.to_ascii_uppercase().as_slice() {
            b"NX" if options.condition != Condition::IfThere => options.condition = Condition::IfNew,
            b"XX" if options.condition != Condition::IfNew => options.condition = Condition::IfThere,
            b"GET" => options.answers_old = true,
            b"KEEPTTL" if end.is_none() => options.end = End::Kept,
            unit @ (b"EX" | b"PX" | b"EXAT" | b"PXAT") if end.is_none() && options.end == End::Unsaid => {
                end = Some((unit.to_vec(), rest.next().ok_or(CommandError::Syntax)?));
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    if let Some((unit, amount)) = end {
        let end = end_in(&unit, Some(amount), database.now(), "set")?;
        options.end = End::At(end.ok_or(CommandError::Syntax)?);
    }
    Ok(options)
}

/// The end that `EX`, `PX`, `EXAT` or `PXAT` and a number mean; `None` for other words.
fn end_in(
    unit: &[u8],
    amount: Option<&[u8]>,
    now: i64,
    command: &'static str,
) -> Result<Option<i64>, CommandError> {
    let (factor, base) = match unit {
        b"EX" => (1000, now),
        b"PX" => (1, now),
        b"EXAT" => (1000, 0),
        b"PXAT" => (1, 0),
        _ => return Ok(None),
    };
    let amount = integer(amount.ok_or(CommandError::Syntax)?)?;
    let end = amount.checked_mul(factor).filter(|_| amount > 0).and_then(|ms| ms.checked_add(base));
    end.map(Some).ok_or(CommandError::Expire(command))
}

pub(super) fn set(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (key, value) = (arguments.get(1), arguments.get(2));
    if arguments.len() == 3 {
        database.set(key, value, None);
        reply::simple(out, "OK");
        return Ok(());
    }
    let options = set_options(database, arguments)?;
    let old = database.get(key);
    let is_met = match options.condition {
        Condition::Always => true,
        Condition::IfNew => old.is_none(),
        Condition::IfThere => old.is_some(),
    };
    match (options.answers_old, is_met) {
        (true, _) => reply::bulk_or_null(out, old.map(|entry| entry.value.as_slice())),
        (false, true) => reply::simple(out, "OK"),
        (false, false) => reply::bulk_or_null(out, None),
    }
    if is_met {
        let end = match options.end {
            End::At(end) => Some(end),
            End::Kept => old.and_then(|entry| entry.expires_at),
            End::Unsaid => None,
        };
        database.set(key, value, end);
    }
    Ok(())
}

pub(super) fn set_new(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let is_new = database.get(arguments.get(1)).is_none();
    if is_new {
        database.set(arguments.get(1), arguments.get(2), None);
    }
    reply::integer(out, i64::from(is_new));
    Ok(())
}

pub(super) fn set_for(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    set_until(database, arguments, (b"EX", "setex"), out)
}

pub(super) fn set_for_ms(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    set_until(database, arguments, (b"PX", "psetex"), out)
}

fn set_until(
    database: &mut Database,
    arguments: Arguments<'_>,
    (unit, name): (&[u8], &'static str),
    out: &mut Vec<u8>,
) -> Outcome {
    let end = end_in(unit, Some(arguments.get(2)), database.now(), name)?;
    database.set(arguments.get(1), arguments.get(3), end);
    reply::simple(out, "OK");
    Ok(())
}

pub(super) fn get_and_set(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    get(database, arguments, out)?;
    database.set(arguments.get(1), arguments.get(2), None);
    Ok(())
}

pub(super) fn get_and_remove(
    database: &mut Database,
    arguments: Arguments<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    get(database, arguments, out)?;
    database.remove(arguments.from(1));
    Ok(())
}

/// `GETEX key [EX seconds | PX ms | EXAT time | PXAT time | PERSIST]`
pub(super) fn get_and_expire(
    database: &mut Database,
    arguments: Arguments<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    let key = arguments.get(1);
    let unit = arguments.from(2).next().map(<[u8]>::to_ascii_uppercase);
    let is_known = match (unit.as_deref(), arguments.len()) {
        (None, _) | (Some(b"PERSIST"), 3) => true,
        (Some(unit), 4) => matches!(unit, b"EX" | b"PX" | b"EXAT" | b"PXAT"),
        _ => false,
    };
    if !is_known {
        return Err(CommandError::Syntax);
    }
    // As in Redis, a key that is not there is no reason to look at the number.
    let Some(had_end) = database.get(key).map(|entry| entry.expires_at.is_some()) else {
        return get(database, arguments, out);
    };
    let amount = arguments.from(2).nth(1);
    let end = unit.map_or(Ok(None), |unit| end_in(&unit, amount, database.now(), "getex"))?;
    get(database, arguments, out)?;
    let is_persist = arguments.len() == 3 && had_end;
    if end.is_some() || is_persist {
        database.set_end(key, end);
    }
    Ok(())
}

/// Key and value alternate.
fn check_pairs(arguments: Arguments<'_>, name: &'static str) -> Outcome {
    if arguments.len().is_multiple_of(2) { Err(CommandError::Arity(name)) } else { Ok(()) }
}

pub(super) fn set_all(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    check_pairs(arguments, "mset")?;
    database.set_all(arguments.from(1));
    reply::simple(out, "OK");
    Ok(())
}

pub(super) fn set_all_new(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    check_pairs(arguments, "msetnx")?;
    let are_new = arguments.from(1).step_by(2).all(|key| database.get(key).is_none());
    if are_new {
        database.set_all(arguments.from(1));
    }
    reply::integer(out, i64::from(are_new));
    Ok(())
}

pub(super) fn append(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let len = database.get(arguments.get(1)).map_or(0, |entry| entry.value.len());
    if len + arguments.get(2).len() > database.limits.max_bulk {
        return Err(CommandError::TooLong);
    }
    reply::count(out, database.append(arguments.get(1), arguments.get(2)));
    Ok(())
}

pub(super) fn increment(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    add(database, arguments.get(1), 1, out)
}

pub(super) fn decrement(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    add(database, arguments.get(1), -1, out)
}

pub(super) fn increment_by(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    add(database, arguments.get(1), integer(arguments.get(2))?, out)
}

pub(super) fn decrement_by(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let by = integer(arguments.get(2))?.checked_neg().ok_or(CommandError::DecrementOverflow)?;
    add(database, arguments.get(1), by, out)
}

/// Adds to a value that is a number, or to 0; its end stays.
fn add(database: &mut Database, key: &[u8], by: i64, out: &mut Vec<u8>) -> Outcome {
    let entry = database.get(key);
    let before = entry.map_or(Ok(0), |entry| integer(&entry.value))?;
    let end = entry.and_then(|entry| entry.expires_at);
    let sum = before.checked_add(by).ok_or(CommandError::Overflow)?;
    database.set(key, itoa::Buffer::new().format(sum).as_bytes(), end);
    reply::integer(out, sum);
    Ok(())
}

pub(super) fn integer(text: &[u8]) -> Result<i64, CommandError> {
    number(text).ok_or(CommandError::NotInteger)
}

#[cfg(test)]
mod tests {
    use crate::testing::{self, expect, run};

    #[test]
    fn set_takes_options() {
        expect(&[
            ("SET a 1 NX", "+OK"),
            ("SET a 2 NX", "$-1"),
            ("SET a 2 XX GET", "$1 1"),
            ("SET b 2 XX", "$-1"),
            ("SET b 2 GET", "$-1"),
            ("SET a 3 EX 10", "+OK"),
            ("TTL a", ":10"),
            ("SET a 4 KEEPTTL", "+OK"),
            ("PTTL a", ":10000"),
            ("SET a 5", "+OK"),
            ("TTL a", ":-1"),
            ("SET a 5 NX XX", "-ERR syntax error"),
            ("SET a 5 EX 1 PX 1", "-ERR syntax error"),
            ("SET a 5 EX", "-ERR syntax error"),
            ("SET a 5 EX x", "-ERR value is not an integer or out of range"),
            ("SET a 5 EX 0", "-ERR invalid expire time in 'set' command"),
            ("SET a 5 EX 9223372036854775807", "-ERR invalid expire time in 'set' command"),
            ("SETEX a -1 x", "-ERR invalid expire time in 'setex' command"),
            ("SET a 6 PXAT 1000001", "+OK"),
            ("PTTL a", ":1"),
            ("PEXPIRETIME a", ":1000001"),
        ]);
    }

    #[test]
    fn numbers_are_added() {
        expect(&[
            ("INCR n", ":1"),
            ("INCRBY n 41", ":42"),
            ("DECRBY n 2", ":40"),
            ("DECR n", ":39"),
            ("SET n 9223372036854775807", "+OK"),
            ("INCR n", "-ERR increment or decrement would overflow"),
            ("DECRBY n -9223372036854775808", "-ERR decrement would overflow"),
            ("APPEND n x", ":20"),
            ("INCR n", "-ERR value is not an integer or out of range"),
            ("STRLEN n", ":20"),
        ]);
    }

    #[test]
    fn several_are_set_at_once() {
        expect(&[
            ("MSET a 1 b 2", "+OK"),
            ("MGET a c b", "*3 $1 1 $-1 $1 2"),
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
            ("MSETNX c 3 a 9", ":0"),
            ("MSETNX c 3 d 4", ":1"),
            ("GETDEL c", "$1 3"),
            ("EXISTS c d d", ":2"),
            ("GETSET d 5", "$1 4"),
            ("GETEX d EX 5", "$1 5"),
            ("TTL d", ":5"),
            ("GETEX d PERSIST", "$1 5"),
            ("TTL d", ":-1"),
        ]);
    }

    #[test]
    fn parts_are_as_in_redis() {
        expect(&[
            ("SET a hello", "+OK"),
            ("GETRANGE a 0 -1", "$5 hello"),
            ("GETRANGE a -3 -2", "$2 ll"),
            ("GETRANGE a 3 1", "$0"),
            ("GETRANGE a 1 100", "$4 ello"),
            ("GETRANGE b 0 1", "$0"),
        ]);
    }

    #[test]
    fn replies_stay_bounded() {
        let mut database = testing::database(0);
        run(&mut database, &format!("SET a {}", "x".repeat(9_000)));
        let reply = run(&mut database, &format!("MGET {}", "a ".repeat(100)));
        assert!(reply.starts_with(b"-ERR the reply would be longer"));
    }
}
