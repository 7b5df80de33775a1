//! stub
use anyhow::Result;
use crate::cli::BenchOptions;
pub(crate) fn run(_: &BenchOptions) -> Result<u8> { Ok(0) }
