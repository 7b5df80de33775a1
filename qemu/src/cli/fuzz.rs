//! The words of `fuzz`.

use std::str::FromStr;
use std::time::SystemTime;

use anyhow::{Result, bail};
use lexopt::prelude::*;

use super::{unexpected, value};

/// What to do at random, how long, and from which seed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FuzzOptions {
    pub(crate) subject: Subject,
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
}

/// Who is untrustworthy.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    /// The app: random system calls.
    Calls,
    /// A disk.
    Disk,
    /// A network card.
    Card,
}

impl FromStr for Subject {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "calls" => Ok(Self::Calls),
            "disk" => Ok(Self::Disk),
            "card" => Ok(Self::Card),
            _ => bail!("cannot fuzz `{text}`; there are calls, disk and card"),
        }
    }
}

pub(super) fn parse(parser: &mut lexopt::Parser) -> Result<FuzzOptions> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let mut options = FuzzOptions { subject: Subject::Calls, seconds: 60, seed: now.as_secs() };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("seconds") => options.seconds = value(parser, "seconds")?,
            Long("seed") => options.seed = value(parser, "seed")?,
            Value(subject) => options.subject = subject.string()?.parse()?,
            other => return Err(unexpected(&super::shown(&other))),
        }
    }
    Ok(options)
}
