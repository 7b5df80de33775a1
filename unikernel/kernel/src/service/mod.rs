//! What the machine does beside running the app, each by a thread of the kernel's or before the app starts.
//!
//! - [`ntp`]: keeps the clock right.

pub mod ntp;

use unikernel_cmdline::Options;

/// Starts what the command line asks for.
pub fn start(options: &Options) {
    ntp::init(&options.system);
}
