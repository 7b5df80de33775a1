//! `pcap`: the frames of a running guest, for Wireshark.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::observe;

/// What to gather, and where it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PcapOptions {
    pub(crate) at: SocketAddr,
    pub(crate) seconds: u64,
    /// In the words of `unikernel_trace::filter`; empty for all.
    pub(crate) filter: String,
    pub(crate) output: PathBuf,
}

/// Has frames gathered, and writes them.
pub(crate) fn run(options: &PcapOptions) -> Result<u8> {
    // Before it is filled: there may be no right to.
    let mut file =
        File::create(&options.output).with_context(|| format!("cannot make {}", options.output.display()))?;
    eprintln!("gathers frames for {} s", options.seconds);
    let path = format!("/pcap?seconds={}&filter={}", options.seconds, options.filter.replace(' ', "+"));
    let fetched = observe::fetch(options.at, &path, options.seconds);
    // An empty file is no capture.
    let bytes = fetched.inspect_err(|_| drop(fs::remove_file(&options.output)))?;
    file.write_all(&bytes).with_context(|| format!("cannot write {}", options.output.display()))?;
    println!("written: {} ({} bytes)", options.output.display(), bytes.len());
    Ok(0)
}
