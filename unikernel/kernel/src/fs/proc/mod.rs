//! `/proc` and `/sys` as far as programs and libraries look at them (proc(5)). Every text is made when its file is
//! opened.
//!
//! - here: which texts and links there are; [`app`]: those about the app, which is process 1;
//! - [`descriptor`]: that about an open file; [`machine`]: those about processors, memory and time;
//! - [`maps`]: the one about the address space; [`text`]: how they are made.

mod app;
pub mod descriptor;
mod machine;
mod maps;
mod text;

use alloc::format;
use alloc::string::String;

use super::{metrics, mounts, notify};
use crate::file::inotify;
use crate::file::tty::pty;
use crate::mem::space;
use crate::syscall::identity;
use crate::task::process::{PROCESS_ID, process};

pub use app::set_start;
pub use text::{List, LongText, MakeText};

/// `USER_HZ`: what times in `/proc` are counted in.
const NANOS_PER_TICK: u64 = 10_000_000;

/// A path and what makes its text.
type Text = (&'static str, fn() -> String);

/// All texts.
pub const TEXTS: &[Text] = &[
    ("/proc/unikernel/metrics", metrics::render),
    ("/proc/1/cmdline", app::arguments),
    ("/proc/1/environ", app::environment),
    ("/proc/1/oom_score", || "0\n".into()),
    ("/proc/1/oom_score_adj", || "0\n".into()),
    ("/proc/1/comm", || format!("{}\n", app::name())),
    ("/proc/1/stat", app::stat),
    ("/proc/1/statm", app::statm),
    ("/proc/1/status", app::status),
    ("/proc/1/mounts", mounts::render_mounts),
    ("/proc/1/mountinfo", mounts::render_mountinfo),
    ("/proc/cmdline", app::kernel_words),
    ("/proc/cpuinfo", machine::cpuinfo),
    ("/proc/interrupts", machine::interrupts),
    ("/proc/loadavg", || format!("0.00 0.00 0.00 1/{} {PROCESS_ID}\n", process().thread_count())),
    ("/proc/meminfo", machine::meminfo),
    ("/proc/stat", machine::stat),
    ("/proc/uptime", machine::uptime),
    ("/proc/version", || format!("Linux version {}\n", identity::RELEASE)),
    ("/proc/sys/kernel/osrelease", || format!("{}\n", identity::RELEASE)),
    ("/proc/sys/kernel/ostype", || "Linux\n".into()),
    ("/proc/sys/kernel/hostname", || "unikernel\n".into()),
    ("/proc/modules", String::new),
    ("/proc/sys/fs/file-max", || format!("{}\n", identity::MAX_OPEN_FILES)),
    ("/proc/sys/fs/inotify/max_user_watches", || format!("{}\n", notify::MAX_WATCHES)),
    ("/proc/sys/fs/inotify/max_user_instances", || format!("{}\n", inotify::MAX_INSTANCES)),
    ("/proc/sys/fs/inotify/max_queued_events", || format!("{}\n", notify::MAX_EVENTS)),
    ("/proc/sys/fs/nr_open", || format!("{}\n", identity::MAX_OPEN_FILES)),
    ("/proc/sys/kernel/pid_max", || format!("{}\n", crate::task::process::MAX_THREADS)),
    ("/proc/sys/kernel/pty/max", || format!("{}\n", pty::MAX_PTYS)),
    ("/proc/sys/kernel/pty/nr", || format!("{}\n", pty::count())),
    ("/proc/sys/kernel/random/entropy_avail", || "256\n".into()),
    ("/proc/sys/kernel/random/poolsize", || "256\n".into()),
    ("/proc/sys/kernel/threads-max", || format!("{}\n", crate::task::process::MAX_THREADS)),
    ("/proc/sys/net/core/somaxconn", || "4096\n".into()),
    ("/proc/sys/vm/overcommit_memory", || if space::is_strict() { "2\n" } else { "0\n" }.into()),
    ("/proc/1/cgroup", || "0::/\n".into()),
    ("/proc/1/limits", app::limits),
    ("/proc/filesystems", || "nodev\ttmpfs\nnodev\tproc\n\text4\n".into()),
    ("/proc/sys/kernel/random/boot_id", machine::boot_id),
    ("/proc/sys/kernel/random/uuid", machine::uuid),
    ("/sys/class/net/lo/ifindex", || "1\n".into()),
    ("/sys/devices/system/cpu/online", machine::cores),
    ("/sys/devices/system/cpu/possible", machine::cores),
    ("/sys/devices/system/cpu/present", machine::cores),
];

/// Texts that are as long as the app makes them.
pub const LISTS: &[List] = &[("/proc/1/maps", maps::maps)];

/// Symbolic links.
pub const LINKS: &[(&str, &str)] = &[
    ("/proc/1/root", "/"),
    ("/proc/1/net", "../net"),
    ("/proc/mounts", "self/mounts"),
    ("/etc/mtab", "/proc/1/mounts"),
    ("/proc/self", "1"),
    ("/proc/thread-self", "1"),
];

/// Writes a line; a string takes all of it.
macro_rules! line {
    ($text:expr, $($format:tt)*) => {
        // Writing to a string cannot fail.
        let _ = writeln!($text, $($format)*);
    };
}
use line;
