//! Commands about keys and when they end.

use super::Outcome;
use super::strings::integer;
use crate::database::Database;
use crate::error::CommandError;
use crate::resp::Arguments;
use crate::{glob, reply};

/// How many keys `SCAN` looks at unless it is told, and at most.
const SCAN_COUNT: usize = 10;
const MAX_SCAN_COUNT: usize = 10_000;

pub(super) fn count(database: &mut Database, _: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    reply::count(out, database.keys.len());
    Ok(())
}

pub(super) fn remove(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    reply::count(out, database.remove(arguments.from(1)));
    Ok(())
}

pub(super) fn exist(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let there = arguments.from(1).filter(|key| database.get(key).is_some());
    reply::count(out, there.count());
    Ok(())
}

pub(super) fn clear(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let is_word = |word: &[u8]| word.eq_ignore_ascii_case(b"ASYNC") || word.eq_ignore_ascii_case(b"SYNC");
    if arguments.len() > 2 || !arguments.from(1).all(is_word) {
        return Err(CommandError::Syntax);
    }
    database.clear();
    reply::simple(out, "OK");
    Ok(())
}

pub(super) fn kind(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let is_there = database.get(arguments.get(1)).is_some();
    reply::simple(out, if is_there { "string" } else { "none" });
    Ok(())
}

pub(super) fn any(database: &mut Database, _: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    // As good as another: the caller may not count on any.
    reply::bulk_or_null(out, database.keys.live(database.now()).next().map(|(key, _)| key));
    Ok(())
}

pub(super) fn matching(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let live = database.keys.live(database.now()).map(|(key, _)| key);
    let found: Vec<&[u8]> = live.filter(|key| glob::matches(arguments.get(1), key)).collect();
    if found.iter().map(|key| key.len()).sum::<usize>() > database.limits.max_reply {
        return Err(CommandError::LongReply);
    }
    reply::request(out, found.into_iter());
    Ok(())
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
pub(super) fn scan(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let cursor = std::str::from_utf8(arguments.get(1)).ok().and_then(|cursor| cursor.parse().ok());
    let cursor: u64 = cursor.ok_or(CommandError::Cursor)?;
    let (mut pattern, mut count, mut is_right_type) = (&b"*"[..], SCAN_COUNT, true);
    let mut rest = arguments.from(2);
    while let Some(word) = rest.next() {
        let value = rest.next().ok_or(CommandError::Syntax)?;
        match word.to_ascii_uppercase().as_slice() {
            b"MATCH" => pattern = value,
            b"COUNT" => {
                count = usize::try_from(integer(value)?)
                    .ok()
                    .filter(|&count| count > 0)
                    .ok_or(CommandError::Syntax)?;
            }
            b"TYPE" => is_right_type = value.eq_ignore_ascii_case(b"string"),
            _ => return Err(CommandError::Syntax),
        }
    }
    let (now, mut found, mut found_count) = (database.now(), Vec::new(), 0);
    let next = database.keys.scan(cursor, count.min(MAX_SCAN_COUNT), |key, entry| {
        let is_live = entry.expires_at.is_none_or(|end| end > now);
        if is_live && is_right_type && glob::matches(pattern, key) {
            reply::bulk(&mut found, key);
            found_count += 1;
        }
    });
    reply::array(out, 2);
    reply::bulk(out, itoa::Buffer::new().format(next).as_bytes());
    reply::array(out, found_count);
    out.extend_from_slice(&found);
    Ok(())
}

/// When `EXPIRE` and its like do anything.
#[derive(Clone, Copy, Default)]
struct Conditions {
    if_none: bool,
    if_some: bool,
    if_later: bool,
    if_earlier: bool,
}

impl Conditions {
    fn parse<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Self, CommandError> {
        let mut conditions = Self::default();
        for word in words {
            match word.to_ascii_uppercase().as_slice() {
                b"NX" => conditions.if_none = true,
                b"XX" => conditions.if_some = true,
                b"GT" => conditions.if_later = true,
                b"LT" => conditions.if_earlier = true,
                _ => return Err(CommandError::ExpireOption(String::from_utf8_lossy(word).into_owned())),
            }
        }
        let Self { if_none, if_some, if_later, if_earlier } = conditions;
        if if_none && (if_some || if_later || if_earlier) {
            return Err(CommandError::ExpireOptions("NX and XX, GT or LT"));
        }
        if if_later && if_earlier {
            return Err(CommandError::ExpireOptions("GT and LT"));
        }
        Ok(conditions)
    }

    /// Whether an entry that ends at `before` may end at `end` instead. What never ends, ends after all
    /// that do.
    fn allow(self, before: Option<i64>, end: i64) -> bool {
        !(self.if_none && before.is_some()
            || self.if_some && before.is_none()
            || self.if_later && before.is_none_or(|before| end <= before)
            || self.if_earlier && before.is_some_and(|before| end >= before))
    }
}

/// Lets a key end at `(number * factor) + base` milliseconds.
fn expire_in(
    database: &mut Database,
    arguments: Arguments<'_>,
    (factor, base, name): (i64, i64, &'static str),
    out: &mut Vec<u8>,
) -> Outcome {
    let conditions = Conditions::parse(arguments.from(3))?;
    let end = integer(arguments.get(2))?.checked_mul(factor).and_then(|ms| ms.checked_add(base));
    let end = end.ok_or(CommandError::Expire(name))?;
    let key = arguments.get(1);
    let is_allowed = database.get(key).is_some_and(|entry| conditions.allow(entry.expires_at, end));
    reply::integer(out, i64::from(is_allowed && database.set_end(key, Some(end))));
    Ok(())
}

pub(super) fn expire(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let now = database.now();
    expire_in(database, arguments, (1000, now, "expire"), out)
}

pub(super) fn expire_ms(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let now = database.now();
    expire_in(database, arguments, (1, now, "pexpire"), out)
}

pub(super) fn expire_at(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    expire_in(database, arguments, (1000, 0, "expireat"), out)
}

pub(super) fn expire_at_ms(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    expire_in(database, arguments, (1, 0, "pexpireat"), out)
}

pub(super) fn persist(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let key = arguments.get(1);
    let has_end = database.get(key).is_some_and(|entry| entry.expires_at.is_some());
    reply::integer(out, i64::from(has_end && database.set_end(key, None)));
    Ok(())
}

/// -2 without the key, -1 without an end, else what `show` makes of the end.
fn tell_end(
    database: &Database,
    arguments: Arguments<'_>,
    show: impl Fn(i64) -> i64,
    out: &mut Vec<u8>,
) -> Outcome {
    let told = database.get(arguments.get(1)).map_or(-2, |entry| entry.expires_at.map_or(-1, show));
    reply::integer(out, told);
    Ok(())
}

pub(super) fn left(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let now = database.now();
    tell_end(database, arguments, |end| (end - now + 500) / 1000, out)
}

pub(super) fn left_ms(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let now = database.now();
    tell_end(database, arguments, |end| end - now, out)
}

pub(super) fn expire_time(database: &mut Database, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    tell_end(database, arguments, |end| (end + 500) / 1000, out)
}

pub(super) fn expire_time_ms(
    database: &mut Database,
    arguments: Arguments<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    tell_end(database, arguments, |end| end, out)
}

#[cfg(test)]
mod tests {
    use crate::testing::expect;

    #[test]
    fn ends_are_set_and_told() {
        expect(&[
            ("TTL a", ":-2"),
            ("EXPIRE a 1", ":0"),
            ("SET a 1", "+OK"),
            ("EXPIRE a 10", ":1"),
            ("TTL a", ":10"),
            ("EXPIRE a 5 GT", ":0"),
            ("EXPIRE a 20 GT", ":1"),
            ("EXPIRE a 5 NX", ":0"),
            ("PEXPIRE a 5000 LT", ":1"),
            ("EXPIRETIME a", ":1005"),
            ("PERSIST a", ":1"),
            ("PERSIST a", ":0"),
            ("EXPIRE a 5 XX", ":0"),
            ("EXPIRE a 5 GT", ":0"),
            ("EXPIRE a 5 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible"),
            ("EXPIRE a 5 SOON", "-ERR Unsupported option SOON"),
            ("EXPIRE a 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
            ("EXPIRE a -1", ":1"),
            ("EXISTS a", ":0"),
        ]);
    }

    #[test]
    fn keys_are_found() {
        expect(&[
            ("MSET one 1 two 2 three 3", "+OK"),
            ("SCAN 0 COUNT 2", "*2 $1 1 *2 $5 three $3 two"),
            ("SCAN 1 COUNT 2", "*2 $1 0 *1 $3 one"),
            ("SCAN 0 MATCH t* COUNT 100", "*2 $1 0 *2 $5 three $3 two"),
            ("SCAN 0 TYPE list", "*2 $1 0 *0"),
            ("SCAN x", "-ERR invalid cursor"),
            ("SCAN 0 COUNT 0", "-ERR syntax error"),
            ("KEYS *e", "*2 $3 one $5 three"),
            ("DBSIZE", ":3"),
            ("TYPE one", "+string"),
            ("UNLINK one two", ":2"),
            ("FLUSHALL NOW", "-ERR syntax error"),
            ("FLUSHALL", "+OK"),
            ("DBSIZE", ":0"),
        ]);
    }
}
