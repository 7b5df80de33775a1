//! Why a command was refused, in the words of Redis: clients compare them.

use std::fmt;

/// The reply to a command that was not carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CommandError {
    /// The name and the first arguments, as far as they fit.
    Unknown(String),
    Arity(&'static str),
    /// A command's name, and what it does not know.
    Subcommand(&'static str, String),
    NotInteger,
    Overflow,
    DecrementOverflow,
    Syntax,
    Expire(&'static str),
    DatabaseIndex,
    Cursor,
    Memory,
    TooLong,
    /// Replies of this size are not made.
    LongReply,
    Log(String),
    ExpireOption(String),
    ExpireOptions(&'static str),
    Rewriting,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(what) => write!(f, "ERR unknown command {what}"),
            Self::Arity(name) => write!(f, "ERR wrong number of arguments for '{name}' command"),
            Self::Subcommand(name, what) => {
                write!(f, "ERR unknown subcommand '{what}'. Try {} HELP.", name.to_uppercase())
            }
            Self::NotInteger => f.write_str("ERR value is not an integer or out of range"),
            Self::Overflow => f.write_str("ERR increment or decrement would overflow"),
            Self::DecrementOverflow => f.write_str("ERR decrement would overflow"),
            Self::Syntax => f.write_str("ERR syntax error"),
            Self::Expire(name) => write!(f, "ERR invalid expire time in '{name}' command"),
            Self::DatabaseIndex => f.write_str("ERR DB index is out of range"),
            Self::Cursor => f.write_str("ERR invalid cursor"),
            Self::Memory => f.write_str("OOM command not allowed when used memory > 'maxmemory'."),
            Self::TooLong => f.write_str("ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
            Self::LongReply => f.write_str("ERR the reply would be longer than this server sends"),
            Self::Log(why) => write!(f, "MISCONF Errors writing to the AOF file: {why}"),
            Self::ExpireOption(what) => write!(f, "ERR Unsupported option {what}"),
            Self::ExpireOptions(which) => {
                write!(f, "ERR {which} options at the same time are not compatible")
            }
            Self::Rewriting => f.write_str("ERR Background append only file rewriting already in progress"),
        }
    }
}
