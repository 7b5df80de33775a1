//! The server's counters, and the kernel's behind them, as Prometheus text.

use alloc::format;
use alloc::string::String;

use unikernel::embedded_io::Read;
use unikernel::fs::File;

/// Where the kernel shows its counters; on Linux there is no such file.
const KERNEL_METRICS: &str = "/proc/unikernel/metrics";

/// What the server counts.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) requests: u64,
    pub(crate) bad_requests: u64,
    pub(crate) connections: u64,
    pub(crate) accept_errors: u64,
    pub(crate) timeouts: u64,
    pub(crate) batches: u64,
}

impl Metrics {
    /// Everything, as text.
    pub(crate) fn render(&self) -> String {
        let rows = [
            ("requests", "Requests answered.", self.requests),
            ("bad_requests", "Requests refused because they were no HTTP.", self.bad_requests),
            ("connections", "Connections accepted.", self.connections),
            ("accept_errors", "Connections that could not be accepted.", self.accept_errors),
            ("timeouts", "Connections ended because the client was silent.", self.timeouts),
            ("batches", "Rounds of the event loop.", self.batches),
        ];
        let mut text = String::new();
        for (name, help, value) in rows {
            text.push_str(&format!("# HELP http_{name}_total {help}\n# TYPE http_{name}_total counter\n"));
            text.push_str(&format!("http_{name}_total {value}\n"));
        }
        append_kernel_metrics(&mut text);
        text
    }
}

fn append_kernel_metrics(text: &mut String) {
    let Ok(mut file) = File::open(KERNEL_METRICS) else { return };
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = file.read(&mut chunk) {
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
}
