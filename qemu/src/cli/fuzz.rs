//! The words of `fuzz`.

use std::time::SystemTime;

use anyhow::Result;
use lexopt::prelude::*;

use super::{unexpected, value};

/// How long to make random calls, and which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FuzzOptions {
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
}

pub(super) fn parse(parser: &mut lexopt::Parser) -> Result<FuzzOptions> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let mut options = FuzzOptions { seconds: 60, seed: now.as_secs() };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("seconds") => options.seconds = value(parser, "seconds")?,
            Long("seed") => options.seed = value(parser, "seed")?,
            other => return Err(unexpected(&super::shown(&other))),
        }
    }
    Ok(options)
}
