//! The load generator, and exact numbers from it through a Lua hook.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::project;

/// Prints what wrk knows exactly, where its own report rounds.
const SCRIPT: &str = r#"
done = function(summary, latency, requests)
   local errors = summary.errors.connect + summary.errors.read + summary.errors.write
                + summary.errors.status + summary.errors.timeout
   io.write(string.format('{"requests": %d, "duration_us": %d, "errors": %d, "latency_us": [',
      summary.requests, summary.duration, errors))
   local at = { 50, 75, 90, 99, 99.9 }
   for i, p in ipairs(at) do
      io.write(string.format('%s%d', i > 1 and ', ' or '', latency:percentile(p)))
   end
   io.write(']}\n')
end
"#;

/// The percentiles in [`Report::latency_us`].
pub(crate) const PERCENTILES: [&str; 5] = ["50", "75", "90", "99", "99.9"];

/// What one run found.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Report {
    pub(super) requests: u64,
    pub(super) duration_us: u64,
    pub(super) errors: u64,
    /// At [`PERCENTILES`].
    pub(super) latency_us: [u64; 5],
}

/// Loads a server with so many connections for so many seconds, from one thread.
pub(super) fn run(address: SocketAddr, connections: u32, seconds: u64) -> Result<Report> {
    let script = project::work_dir("bench")?.join("report.lua");
    std::fs::write(&script, SCRIPT)?;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--timeout", "5s", "-s"])
        .arg(&script)
        .arg(format!("http://{address}/"))
        .output()
        .context("cannot run wrk: `make setup` installs it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(line) = text.lines().find(|line| line.starts_with('{')) else {
        bail!("wrk failed: {}{}", text, String::from_utf8_lossy(&output.stderr));
    };
    serde_json::from_str(line).with_context(|| format!("wrk printed {line}"))
}
