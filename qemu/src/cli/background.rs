//! `logs` and `stop`: which guest.

use anyhow::{Context, Result};
use lexopt::prelude::*;

use super::{shown, unexpected};
use crate::background::LogsOptions;

pub(super) fn parse_logs(parser: &mut lexopt::Parser) -> Result<LogsOptions> {
    let mut options = LogsOptions { name: None, follows: false };
    while let Some(argument) = parser.next()? {
        match argument {
            Value(name) if options.name.is_none() => options.name = Some(name.string()?),
            Short('f') | Long("follow") => options.follows = true,
            other => return Err(unexpected(&shown(&other))),
        }
    }
    Ok(options)
}

pub(super) fn parse_stop(parser: &mut lexopt::Parser) -> Result<String> {
    let mut name = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Value(word) if name.is_none() => name = Some(word.string()?),
            other => return Err(unexpected(&shown(&other))),
        }
    }
    name.context("which guest? `cargo unikernel logs` lists those that were started with `run --detach`")
}
