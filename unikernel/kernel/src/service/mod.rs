//! What the machine does beside running the app, each by a thread of the kernel's or before the app starts.
//!
//! - [`config`]: what the machine is told beside its command line;
//! - [`ntp`]: keeps the clock right;
//! - [`shutdown`]: how the machine stops;
//! - [`syslog`]: tells a server what is logged and written to the console.

pub mod config;
pub mod ntp;
pub mod shutdown;
pub mod syslog;

use core::net::Ipv4Addr;

use unikernel_cmdline::Options;

/// Starts what the command line asks for.
pub fn start(options: &Options) {
    ntp::init(&options.system);
    syslog::init(&options.system);
}

/// The machine's addresses have changed, and DHCP may have told of time servers. No lock of the network may be held.
pub fn addresses_changed(time_servers: &[Ipv4Addr]) {
    ntp::addresses_changed(time_servers);
    syslog::addresses_changed();
}
