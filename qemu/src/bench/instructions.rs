//! What a request costs in the kernel, in instructions. With `-icount shift=0` QEMU's clock counts them, so the
//! kernel's own account of its time (`trace=time`) is a figure that hardly wobbles: the one to steer by.
//!
//! An idle guest's clock goes on with the host's (`sleep=on`). Were it to leap to the next deadline instead, every
//! pause of the client would let time-outs expire, and one request in ten would be answered twice.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::crowd;
use super::measure::{BOOT_TIME_OUT, Guest, System, machine_for};
use crate::http;
use crate::machine::{Accelerator, Kind};
use crate::namespace::guest_address;

/// Connections that say nothing meanwhile, in the second measurement.
pub(super) const IDLE: usize = 10_000;
/// What the app may do, in the third.
pub(super) const POLICY: &str = "allow-calls=net-server";
/// What is recorded, in the fourth.
pub(super) const RECORDING: &str = "trace=events";
/// Connections that ask at once.
pub(super) const CONNECTIONS: u32 = 64;
const WARM_UP_SECONDS: u64 = 1;
const SECONDS: u64 = 3;

/// What a request costs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Instructions {
    /// In the kernel.
    pub(crate) kernel: f64,
    /// In the app.
    pub(crate) app: f64,
    /// Requests that this is the mean of.
    pub(crate) requests: u64,
}

/// Counts what `http` and the kernel below it do for a request, while so many idle connections are held; `words` are
/// further ones for the kernel.
pub(super) fn per_request(idle: usize, words: &str) -> Result<Instructions> {
    let mut machine = machine_for(System::Unikernel, "http", Kind::Q35)?;
    machine.accelerator = Accelerator::Tcg;
    machine.append = format!("{} trace=time {words}", machine.append);
    machine.extra.extend(["-icount", "shift=0,sleep=on"].map(str::to_owned));
    let guest = Guest::start(machine, BOOT_TIME_OUT)?;
    let mut held = Vec::new();
    crowd::hold(&mut held, idle)?;
    guest.load(CONNECTIONS, WARM_UP_SECONDS)?;
    let before = Account::now()?;
    let load = guest.load(CONNECTIONS, SECONDS)?;
    let spent = Account::now()?.since(&before);
    ensure!(load.errors.total() == 0, "{:?}", load.errors);
    let requests = spent.requests as f64;
    Ok(Instructions {
        kernel: spent.kernel_ns as f64 / requests,
        app: spent.app_ns() as f64 / requests,
        requests: spent.requests as u64,
    })
}

/// What the guest has spent so far.
struct Account {
    uptime_ns: i64,
    kernel_ns: i64,
    idle_ns: i64,
    requests: i64,
}

impl Account {
    fn now() -> Result<Self> {
        let metric = |name| http::metric(guest_address(), name);
        Ok(Self {
            uptime_ns: metric("unikernel_uptime_milliseconds")? * 1_000_000,
            kernel_ns: metric("unikernel_kernel_nanoseconds_total")?,
            idle_ns: metric("unikernel_idle_nanoseconds_total")?,
            requests: metric("http_requests_total")?,
        })
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            uptime_ns: self.uptime_ns - earlier.uptime_ns,
            kernel_ns: self.kernel_ns - earlier.kernel_ns,
            idle_ns: self.idle_ns - earlier.idle_ns,
            requests: self.requests - earlier.requests,
        }
    }

    fn app_ns(&self) -> i64 {
        self.uptime_ns - self.kernel_ns - self.idle_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_idle_nor_the_kernels_is_the_apps() {
        let before = Account { uptime_ns: 100, kernel_ns: 40, idle_ns: 50, requests: 1 };
        let after = Account { uptime_ns: 1100, kernel_ns: 640, idle_ns: 150, requests: 11 };
        let spent = after.since(&before);
        assert_eq!((spent.kernel_ns, spent.app_ns(), spent.requests), (600, 300, 10));
    }
}
