//! What others write to this machine, as functions of bytes. A target is a plain function: it makes of any input what a peer, a disk,
//! a device, a loader or a user could have written, gives it to the code in question, and checks what must hold whatever was written.
//!
//! The same functions are used twice:
//!
//! - `tests/replay.rs` runs each over its kept corpus (`corpus/NAME/`), without instrumentation, in each `cargo test`;
//! - `make fuzz-host TARGET=name` runs one under libFuzzer, which looks for inputs that reach new code.
//!
//! A new target is a file and a line of [`TARGETS`].
//!
//! - [`input`]: bytes as numbers and choices; `net`, `disk`, `device`, `boot`, `text`, `app`: the targets, by who writes; `calls`: the app's system calls, on
//!   a simulated machine; `user`: the kernel, as filesystems see it.

#![forbid(unsafe_code)]
// What was printed to find a fault is not to be kept.
#![deny(clippy::print_stdout, clippy::print_stderr)]

extern crate alloc;

mod app;
mod boot;
#[cfg(feature = "libfuzzer")]
mod calls;
mod device;
mod disk;
pub mod input;
mod net;
mod text;
mod user;

/// Linked for what `unikernel_hal` calls.
#[cfg(feature = "libfuzzer")]
use unikernel_fuzz_kernel as _;

/// Something that is fed with bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called: in `make fuzz-host TARGET=name`, and the folder of its corpus.
    pub name: &'static str,
    /// Longer inputs are not tried, and not kept.
    pub max_bytes: usize,
    /// Runs one input. Panics if something does not hold that must.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    // From the wire.
    target("tcp", 1024, net::tcp::run),
    target("ip", 2048, net::ip::run),
    target("dhcp", 1024, net::dhcp::run),
    target("vsock", 1024, net::vsock::run),
    target("ntp", 256, net::ntp::run),
    target("http", 1024, net::http::run),
    // From a disk.
    target("ext4", 256, disk::ext4::run),
    target("fat", 256, disk::fat::run),
    target("access", 512, disk::access::run),
    target("partition", 1024, disk::partition::run),
    target("seed", 512, disk::seed::run),
    target("verity", 256, disk::verity::run),
    // From a device.
    target("ring", 512, device::ring::run),
    target("packet", 256, device::packet::run),
    target("pci", 256, device::pci::run),
    target("p9", 1024, device::p9::run),
    target("tpm", 512, device::tpm::run),
    // From a loader or firmware.
    target("firmware", 1024, boot::firmware::run),
    target("multiboot2", 512, boot::multiboot2::run),
    target("cpio", 1024, boot::cpio::run),
    target("elf", 512, boot::elf::run),
    target("object", 256, boot::object::run),
    target("relocations", 256, boot::relocations::run),
    target("symbols", 512, boot::symbols::run),
    target("signed", 512, boot::signed::run),
    // From a person.
    target("cmdline", 256, text::cmdline::run),
    target("cloud_config", 1024, text::cloud_config::run),
    target("terminal", 256, text::terminal::run),
    target("syslog", 256, text::syslog::run),
    // From the app.
    target("policy", 512, app::policy::run),
    // From the app, too. The kernel's own tests replay its corpus (`kernel/src/workbench/fuzzed_tests.rs`).
    #[cfg(feature = "libfuzzer")]
    target("calls", 512, calls::run),
];

const fn target(name: &'static str, max_bytes: usize, run: fn(&[u8])) -> Target {
    Target { name, max_bytes, run }
}

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
