//! What the machine does beside running the app, each by a thread of the kernel's or before the app starts.
//!
//! - [`balloon`]: gives memory to the host;
//! - [`config`]: what the machine is told beside its command line;
//! - [`ntp`]: keeps the clock right;
//! - [`shutdown`]: how the machine stops;
//! - [`syslog`]: tells a server what is logged and written to the console.

mod balloon;
pub(crate) mod config;
pub(crate) mod measure;
pub(crate) mod ntp;
pub(crate) mod shutdown;
pub(crate) mod syslog;

use core::net::Ipv4Addr;

use unikernel_cmdline::Options;

use crate::drivers::virtio::VirtioDevice;

/// Starts what the command line asks for, and what there is a device for.
pub(crate) fn start(options: &Options, balloon: Option<VirtioDevice>) {
    balloon.into_iter().for_each(balloon::init);
    ntp::init(&options.system);
    syslog::init(&options.system);
}

/// The machine's addresses have changed, and DHCP may have told of time servers. No lock of the network may be held.
pub(crate) fn addresses_changed(time_servers: &[Ipv4Addr]) {
    ntp::addresses_changed(time_servers);
    syslog::addresses_changed();
}
