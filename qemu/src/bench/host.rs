//! What processes of this host have used of its processors (proc(5)).

use anyhow::{Context, Result};

/// Clock ticks a second in `/proc` (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;
/// Where `/proc/PID/stat` has `utime`, counted behind the name of the program.
const UTIME: usize = 11;

/// Processor seconds since the start, at one moment.
#[derive(Clone, Copy)]
pub(super) struct Usage {
    /// The guest's QEMU.
    pub(super) guest: f64,
    /// Ourselves and the programs that we ran to their end, such as wrk.
    runner: f64,
    /// Everybody.
    all: f64,
}

impl Usage {
    /// The state now, for the guest with this process.
    pub(super) fn now(guest: u32) -> Result<Self> {
        let guest = process_fields(&format!("/proc/{guest}/stat"), 2).context("QEMU is gone")?;
        let runner = process_fields("/proc/self/stat", 4)?;
        let stat = std::fs::read_to_string("/proc/stat")?;
        let fields = numbers(stat.lines().next().unwrap_or_default());
        // user nice system idle iowait irq softirq ...: all but the fourth and fifth is work.
        let all = fields.iter().take(7).sum::<f64>() - fields.iter().skip(3).take(2).sum::<f64>();
        Ok(Self { guest, runner, all: all / TICKS_PER_SECOND })
    }

    /// Processor seconds that strangers used between two moments.
    pub(super) fn strangers_since(&self, earlier: &Self) -> f64 {
        let ours = |usage: &Self| usage.guest + usage.runner;
        (self.all - earlier.all - (ours(self) - ours(earlier))).max(0.0)
    }
}

/// The sum of `count` fields from `utime` on, in seconds.
fn process_fields(path: &str, count: usize) -> Result<f64> {
    let stat = std::fs::read_to_string(path)?;
    // The name of the program is in brackets and may hold blanks.
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = behind_name.split_ascii_whitespace().skip(UTIME).take(count);
    Ok(fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND)
}

fn numbers(line: &str) -> Vec<f64> {
    line.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect()
}
