//! `tail`: where the time of a guest's requests goes, those in the middle and the slowest ones.

use std::net::SocketAddr;

use anyhow::Result;
use unikernel_report::calls;
use unikernel_trace::tail::{self, Tail};

use crate::{observe, trace};

/// What to record, and how much of it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TailOptions {
    pub(crate) at: SocketAddr,
    pub(crate) seconds: u64,
    /// Requests that are told one by one.
    pub(crate) slowest: usize,
}

/// Records, and tells what has come of it.
pub(crate) fn run(options: &TailOptions) -> Result<u8> {
    if options.seconds > 0 {
        eprintln!("records for {} s", options.seconds);
    }
    observe::print(&look(options)?)
}

fn look(options: &TailOptions) -> Result<String> {
    let bytes = trace::fetch(options.at, options.seconds)?;
    let recording = trace::read(&bytes)?;
    let name = |number| calls::name(number);
    let mut text = String::new();
    tail::write(&Tail::of(&recording, &name), options.slowest, &name, &mut text)?;
    recording.notes.iter().for_each(|note| text.extend([note, "\n"]));
    Ok(text)
}
