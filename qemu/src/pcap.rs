//! `pcap`: the frames of a running guest, for Wireshark.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{http, observe};

/// How long a guest may take to send what it has gathered, beside the time of it.
const PATIENCE: Duration = Duration::from_secs(30);

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
    let at = options.at;
    // Before it is filled: there may be no right to.
    let mut file =
        File::create(&options.output).with_context(|| format!("cannot make {}", options.output.display()))?;
    eprintln!("gathers frames for {} s", options.seconds);
    let path = format!("/pcap?seconds={}&filter={}", options.seconds, options.filter.replace(' ', "+"));
    let answer = http::get_bytes(at, &path, PATIENCE + Duration::from_secs(options.seconds));
    let fetched = answer.with_context(|| observe::no_answer(at)).and_then(|(status, bytes)| {
        ensure!(status == 200, "{at}: {status} {path}: {}", String::from_utf8_lossy(&bytes));
        Ok(bytes)
    });
    // An empty file is no capture.
    let bytes = fetched.inspect_err(|_| drop(fs::remove_file(&options.output)))?;
    file.write_all(&bytes).with_context(|| format!("cannot write {}", options.output.display()))?;
    println!("written: {} ({} bytes)", options.output.display(), bytes.len());
    Ok(0)
}
