//! The command line.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::prelude::*;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
kv: a persistent key-value store that speaks the Redis protocol

  --dir FOLDER                       where the data is (/data)
  --port PORT                        (6379)
  --bind ADDRESS                     (0.0.0.0)
  --appendfsync always|everysec|no   when a change is on the disk: before it is answered, within about
                                     a second, or when the kernel likes (always)
  --maxmemory SIZE                   for keys and values, such as 64mb (half of the machine's)
  --maxclients COUNT                 (10000)
  --auto-aof-rewrite-min-size SIZE   the log is made anew when it has doubled, and is as long as this (4mb)
";

/// When changes are made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Policy {
    /// Before they are answered.
    Always,
    /// Once a second.
    EverySecond,
    /// When the system does so.
    Never,
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "everysec" => Ok(Self::EverySecond),
            "no" => Ok(Self::Never),
            _ => Err("there are always, everysec and no".into()),
        }
    }
}

impl Policy {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
            Self::Never => "no",
        }
    }
}

/// All that can be chosen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    pub(crate) folder: PathBuf,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) policy: Policy,
    /// In bytes; else half of what there is.
    pub(crate) max_memory: Option<usize>,
    pub(crate) max_clients: usize,
    /// In bytes.
    pub(crate) least_rewrite: u64,
}

/// Reads the command line; `None` if help is asked for.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        folder: "/data".into(),
        address: IpAddr::from([0, 0, 0, 0]),
        port: 6379,
        policy: Policy::Always,
        max_memory: None,
        max_clients: 10_000,
        least_rewrite: 4 << 20,
    };
    let mut parser = lexopt::Parser::from_iter(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("dir") => options.folder = parser.value()?.into(),
            Long("bind") => options.address = parser.value()?.parse()?,
            Long("port") => options.port = parser.value()?.parse()?,
            Long("appendfsync") => options.policy = parser.value()?.parse()?,
            Long("maxmemory") => options.max_memory = Some(parser.value()?.parse_with(size)?),
            Long("maxclients") => options.max_clients = parser.value()?.parse()?,
            Long("auto-aof-rewrite-min-size") => {
                options.least_rewrite = parser.value()?.parse_with(size)? as u64;
            }
            Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(options))
}

/// Bytes, as in Redis' configuration: `1k` is 1000 of them and `1kb` 1024.
fn size(text: &str) -> Result<usize, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let factor = match text[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return Err("a size is a number with b, k, kb, m, mb, g or gb behind it"),
    };
    let number: Option<usize> = text[..digits].parse().ok();
    number.and_then(|number| number.checked_mul(factor)).ok_or("no such size")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Option<Options>, lexopt::Error> {
        parse(["kv"].into_iter().chain(words.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn options_are_as_in_redis() {
        let options =
            parse_words("--dir /tmp/a --port 7 --appendfsync everysec --maxmemory 64mb").unwrap().unwrap();
        assert_eq!(options.folder, PathBuf::from("/tmp/a"));
        assert_eq!((options.port, options.policy), (7, Policy::EverySecond));
        assert_eq!(options.max_memory, Some(64 << 20));
        assert_eq!(parse_words("").unwrap().unwrap().policy, Policy::Always);
        assert!(parse_words("--help").unwrap().is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        for words in
            ["--port x", "--appendfsync often", "--maxmemory 1tb", "--maxmemory mb", "--what", "file"]
        {
            assert!(parse_words(words).is_err(), "{words}");
        }
    }
}
