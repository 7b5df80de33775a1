//! `/proc` and `/sys` as far as programs and libraries look at them (proc(5)). Every text is made when somebody begins to
//! read it.
//!
//! - here: which texts and links there are; [`app`]: those about the app, which is process 1;
//! - [`descriptor`]: that about an open file; [`machine`]: those about processors, memory and time; [`topology`]: the same in
//!   `/sys`; [`cgroup`]: the app's control group;
//! - [`maps`]: the one about the address space; [`text`]: how they are made.

mod app;
mod cgroup;
mod descriptor;
mod features;
mod machine;
mod maps;
mod text;
pub(crate) mod topology;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use core::str;
use core::sync::atomic::{AtomicI32, Ordering};

use unikernel_vfs::access;

use super::attribute::Attribute;
use super::{device, generation, metrics, mounts, registry};
use crate::abi::{self, Errno};
use crate::event::inotify;
use crate::file::long_text::List;
use crate::file::notify;
use crate::ipc::{message_queue, pipe};
use crate::mem::space;
use crate::process::host_name;
use crate::task::credentials;
use crate::task::limits;
use crate::task::process::{PROCESS_ID, process};
use crate::task::thread::{Thread, ThreadId};

pub(crate) use app::{set_texts, set_words, texts_of};
pub(crate) use machine::machine_id;
pub(crate) use text::MakeText;

/// `USER_HZ`: what times in `/proc` are counted in.
const NANOS_PER_TICK: u64 = 10_000_000;

/// A path and what makes its text.
pub(crate) type Entry = (&'static str, fn() -> String);
/// A name, what makes it for a thread, and permissions.
type ThreadFile = (&'static str, fn(ThreadId) -> Text, u16);

/// What makes a text, each time when somebody begins to read it, and what takes one that is written.
#[derive(Clone, Copy)]
pub(crate) enum Text {
    /// About everything.
    Fixed(MakeText),
    /// About one core.
    Core(fn(usize) -> String, usize),
    /// About one descriptor.
    Descriptor(i32),
    /// About one thread.
    Thread(fn(&Arc<Thread>) -> String, ThreadId),
    /// The name of a thread, which can be changed.
    Name(ThreadId),
    /// A number that is only kept.
    Number(&'static Number),
    /// How often the machine has gone on from a saved state.
    Generation,
}

/// A number that the app sets, within bounds, and that has no effect.
pub(crate) struct Number {
    value: AtomicI32,
    bounds: RangeInclusive<i32>,
}

impl Text {
    /// True if the app may write it.
    pub(crate) const fn is_writable(self) -> bool {
        matches!(self, Self::Name(_) | Self::Number(_))
    }
}

impl Attribute for Text {
    /// `ESRCH` if the thread has ended, `ENOENT` if the descriptor is closed.
    fn show(&self) -> Result<Vec<u8>, Errno> {
        let thread_of = |id| process().thread(id).ok_or(Errno::ESRCH);
        let text = match *self {
            Self::Fixed(make) => make.make()?,
            Self::Core(make, core) => make(core),
            Self::Descriptor(number) => descriptor::describe(number)?,
            Self::Thread(make, id) => make(&thread_of(id)?),
            Self::Name(id) => format!("{}\n", app::name_of(&*thread_of(id)?)),
            Self::Number(number) => format!("{}\n", number.value.load(Ordering::Relaxed)),
            Self::Generation => generation::text(),
        };
        Ok(text.into_bytes())
    }

    fn store(&self, bytes: &[u8]) -> Result<(), Errno> {
        match *self {
            Self::Fixed(_) | Self::Core(..) | Self::Descriptor(_) | Self::Thread(..) | Self::Generation => {
                Err(Errno::EIO)
            }
            Self::Name(id) => {
                let thread = process().thread(id).ok_or(Errno::ESRCH)?;
                *thread.name.lock() = thread_name(bytes);
                Ok(())
            }
            Self::Number(number) => {
                let text = str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
                let value = text.trim().parse().map_err(|_| Errno::EINVAL)?;
                if !number.bounds.contains(&value) {
                    return Err(Errno::EINVAL);
                }
                number.value.store(value, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

/// A name of at most 15 bytes, up to a NUL.
fn thread_name(bytes: &[u8]) -> [u8; 16] {
    let mut name = [0; 16];
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len()).min(name.len() - 1);
    name[..end].copy_from_slice(&bytes[..end]);
    name
}

/// The kernel ends the one process there is when memory runs out, whatever it says here.
static OOM_SCORE: Number = Number { value: AtomicI32::new(0), bounds: -1000..=1000 };

/// Files of a thread in `/proc/self/task`.
pub(crate) const THREAD_TEXTS: &[ThreadFile] = &[
    ("comm", Text::Name, 0o644),
    ("stat", |id| Text::Thread(app::thread_stat, id), 0o444),
    ("status", |id| Text::Thread(app::status, id), 0o444),
];

/// Texts that can be written.
pub(crate) const WRITABLE: &[(&str, Text)] =
    &[("/proc/1/comm", Text::Name(PROCESS_ID)), ("/proc/1/oom_score_adj", Text::Number(&OOM_SCORE))];

/// What nobody else is to read.
pub(crate) const ENVIRONMENT: &str = "/proc/1/environ";

/// All other texts, and what makes them.
const TEXTS: &[Entry] = &[
    ("/proc/unikernel/metrics", metrics::render),
    ("/proc/1/cmdline", app::arguments),
    (ENVIRONMENT, app::environment),
    ("/proc/1/oom_score", || "0\n".into()),
    ("/proc/1/stat", app::stat),
    ("/proc/1/statm", app::statm),
    ("/proc/1/status", app::process_status),
    ("/proc/1/mounts", mounts::render_mounts),
    ("/proc/1/mountinfo", mounts::render_mountinfo),
    ("/proc/cmdline", app::kernel_words),
    ("/proc/cpuinfo", machine::cpuinfo),
    ("/proc/interrupts", machine::interrupts),
    ("/proc/loadavg", || format!("0.00 0.00 0.00 1/{} {PROCESS_ID}\n", process().thread_count())),
    ("/proc/meminfo", machine::meminfo),
    ("/proc/partitions", machine::partitions),
    ("/proc/stat", machine::stat),
    ("/proc/uptime", machine::uptime),
    ("/proc/swaps", || "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".into()),
    ("/proc/version", || format!("Linux version {} {}\n", abi::RELEASE, abi::VERSION)),
    ("/proc/sys/fs/pipe-max-size", || format!("{}\n", pipe::CAPACITY_BYTES)),
    ("/proc/sys/kernel/cap_last_cap", || format!("{}\n", access::CAPABILITY_COUNT - 1)),
    ("/proc/sys/kernel/domainname", || "(none)\n".into()),
    ("/proc/sys/kernel/ngroups_max", || format!("{}\n", credentials::MAX_GROUPS)),
    ("/proc/sys/kernel/version", || format!("{}\n", abi::VERSION)),
    ("/proc/sys/vm/max_map_count", || format!("{}\n", space::MAX_REGIONS)),
    ("/proc/sys/kernel/osrelease", || format!("{}\n", abi::RELEASE)),
    ("/proc/sys/kernel/ostype", || "Linux\n".into()),
    ("/proc/sys/kernel/hostname", || format!("{}\n", host_name::get())),
    ("/proc/sys/fs/file-max", || format!("{}\n", limits::MAX_OPEN_FILES)),
    ("/proc/sys/fs/inotify/max_user_watches", || format!("{}\n", notify::MAX_WATCHES)),
    ("/proc/sys/fs/inotify/max_user_instances", || format!("{}\n", inotify::MAX_INSTANCES)),
    ("/proc/sys/fs/inotify/max_queued_events", || format!("{}\n", notify::MAX_EVENTS)),
    ("/proc/sys/fs/mqueue/msg_default", || format!("{}\n", message_queue::DEFAULT_MESSAGES)),
    ("/proc/sys/fs/mqueue/msg_max", || format!("{}\n", message_queue::DEFAULT_MESSAGES)),
    ("/proc/sys/fs/mqueue/msgsize_default", || format!("{}\n", message_queue::DEFAULT_MESSAGE_BYTES)),
    ("/proc/sys/fs/mqueue/msgsize_max", || format!("{}\n", message_queue::DEFAULT_MESSAGE_BYTES)),
    ("/proc/sys/fs/mqueue/queues_max", || format!("{}\n", message_queue::MAX_QUEUES)),
    // As Linux begins; links are protected, which distributions add (proc_sys_fs(5)).
    ("/proc/sys/fs/protected_fifos", || "0\n".into()),
    ("/proc/sys/fs/protected_hardlinks", || "1\n".into()),
    ("/proc/sys/fs/protected_regular", || "0\n".into()),
    ("/proc/sys/fs/protected_symlinks", || "0\n".into()),
    ("/proc/sys/fs/suid_dumpable", || "0\n".into()),
    ("/proc/sys/fs/nr_open", || format!("{}\n", limits::MAX_OPEN_FILES)),
    ("/proc/sys/kernel/pid_max", || format!("{}\n", crate::task::process::MAX_THREADS)),
    ("/proc/sys/kernel/random/entropy_avail", || "256\n".into()),
    ("/proc/sys/kernel/random/poolsize", || "256\n".into()),
    ("/proc/sys/kernel/threads-max", || format!("{}\n", crate::task::process::MAX_THREADS)),
    ("/proc/sys/net/core/somaxconn", || "4096\n".into()),
    ("/proc/sys/vm/overcommit_memory", || if space::is_strict() { "2\n" } else { "0\n" }.into()),
    ("/proc/1/limits", app::limits),
    ("/proc/filesystems", registry::render),
    ("/proc/sys/kernel/random/boot_id", machine::boot_id),
    ("/proc/sys/kernel/random/uuid", machine::uuid),
];

/// The tables of texts.
pub(crate) fn tables() -> [&'static [Entry]; 4] {
    [TEXTS, cgroup::TEXTS, topology::TEXTS, device::terminals().texts()]
}

/// Texts that are as long as the app makes them.
pub(crate) const LISTS: &[List] =
    &[("/proc/1/maps", maps::maps), ("/sys/fs/cgroup/cgroup.threads", cgroup::threads)];

/// Symbolic links.
pub(crate) const LINKS: &[(&str, &str)] = &[
    ("/proc/1/root", "/"),
    ("/proc/1/net", "../net"),
    ("/proc/mounts", "self/mounts"),
    ("/etc/mtab", "/proc/1/mounts"),
    ("/proc/self", "1"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Writes a line; a string takes all of it.
macro_rules! line {
    ($text:expr, $($format:tt)*) => {
        // Writing to a string cannot fail.
        let _ = writeln!($text, $($format)*);
    };
}
use line;
