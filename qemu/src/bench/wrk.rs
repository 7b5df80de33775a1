//! The load generator, and exact numbers from it through a Lua hook.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::project;

/// The percentiles in [`Report::latency_us`].
pub(crate) const PERCENTILES: [f64; 9] = [10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99];
/// Where the median, the 99th percentile and that of 99.9 % are among them.
pub(crate) const P50: usize = 2;
pub(crate) const P99: usize = 6;
pub(crate) const P999: usize = 7;

/// Prints what wrk knows exactly, where its own report rounds. `AT` stands for the percentiles.
const SCRIPT: &str = r#"
done = function(summary, latency, requests)
   local e = summary.errors
   io.write(string.format('{"requests": %d, "duration_us": %d,', summary.requests, summary.duration))
   io.write(string.format('"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d},',
      e.connect, e.read, e.write, e.status, e.timeout))
   io.write('"latency_us": [')
   for i, p in ipairs({ AT }) do
      io.write(string.format('%s%d', i > 1 and ', ' or '', latency:percentile(p)))
   end
   io.write(']}\n')
end
"#;

/// What one run found.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) requests: u64,
    pub(crate) duration_us: u64,
    pub(crate) errors: Errors,
    /// At [`PERCENTILES`].
    pub(crate) latency_us: [u64; PERCENTILES.len()],
}

/// What went wrong, as wrk counts it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Errors {
    connect: u64,
    read: u64,
    write: u64,
    status: u64,
    timeout: u64,
}

impl Errors {
    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.connect + self.read + self.write + self.status + self.timeout
    }

    /// Both counts together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            connect: self.connect + other.connect,
            read: self.read + other.read,
            write: self.write + other.write,
            status: self.status + other.status,
            timeout: self.timeout + other.timeout,
        }
    }
}

/// Loads a server with so many connections for so many seconds, from one thread.
pub(crate) fn run(address: SocketAddr, connections: u32, seconds: u64) -> Result<Report> {
    run_on(address, "/", connections, seconds)
}

/// The same with requests for a path.
pub(crate) fn run_on(address: SocketAddr, path: &str, connections: u32, seconds: u64) -> Result<Report> {
    let script = project::work_dir("bench")?.join("report.lua");
    let percentiles = PERCENTILES.map(|percentile| percentile.to_string()).join(", ");
    std::fs::write(&script, SCRIPT.replace("AT", &percentiles))?;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--timeout", "5s", "-s"])
        .arg(&script)
        .arg(format!("http://{address}{path}"))
        .output()
        .context("cannot run wrk: `apt-get install wrk`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(line) = text.lines().find(|line| line.starts_with('{')) else {
        bail!("wrk failed: {}{}", text, String::from_utf8_lossy(&output.stderr));
    };
    serde_json::from_str(line).with_context(|| format!("wrk printed {line}"))
}
