//! The control group of the app, as a container sees its own (cgroup v2; Linux: Documentation/admin-guide/cgroup-v2.rst).
//! Nothing limits it but the machine, which is what the files say.

use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write};

use unikernel_mm::PAGE_BYTES;

use super::{Entry, line, machine};
use crate::file::long_text::LongText;
use crate::mem::{shared, space};
use crate::task::process::{MAX_THREADS, PROCESS_ID, process};

/// The controllers that have files here.
pub(super) const CONTROLLERS: [&str; 4] = ["cpuset", "cpu", "memory", "pids"];

/// What tells of the group.
pub(super) const TEXTS: &[Entry] = &[
    ("/sys/fs/cgroup/cgroup.controllers", || CONTROLLERS.join(" ") + "\n"),
    ("/sys/fs/cgroup/cgroup.events", || "populated 1\nfrozen 0\n".into()),
    ("/sys/fs/cgroup/cgroup.freeze", || "0\n".into()),
    ("/sys/fs/cgroup/cgroup.procs", || format!("{PROCESS_ID}\n")),
    ("/sys/fs/cgroup/cgroup.stat", || "nr_descendants 0\nnr_dying_descendants 0\n".into()),
    ("/sys/fs/cgroup/cgroup.subtree_control", || "\n".into()),
    ("/sys/fs/cgroup/cgroup.type", || "domain\n".into()),
    ("/sys/fs/cgroup/cpu.max", || "max 100000\n".into()),
    ("/sys/fs/cgroup/cpu.stat", cpu_stat),
    ("/sys/fs/cgroup/cpu.weight", || "100\n".into()),
    ("/sys/fs/cgroup/cpuset.cpus", || "\n".into()),
    ("/sys/fs/cgroup/cpuset.cpus.effective", machine::cores),
    ("/sys/fs/cgroup/cpuset.mems", || "\n".into()),
    ("/sys/fs/cgroup/cpuset.mems.effective", || "0\n".into()),
    ("/sys/fs/cgroup/memory.current", || format!("{}\n", anonymous_bytes() + file_bytes())),
    ("/sys/fs/cgroup/memory.events", || "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n".into()),
    ("/sys/fs/cgroup/memory.high", || "max\n".into()),
    ("/sys/fs/cgroup/memory.low", || "0\n".into()),
    ("/sys/fs/cgroup/memory.max", || "max\n".into()),
    ("/sys/fs/cgroup/memory.min", || "0\n".into()),
    // All is ended at once, as there is one process.
    ("/sys/fs/cgroup/memory.oom.group", || "1\n".into()),
    ("/sys/fs/cgroup/memory.stat", memory_stat),
    ("/sys/fs/cgroup/memory.swap.current", || "0\n".into()),
    ("/sys/fs/cgroup/memory.swap.max", || "0\n".into()),
    ("/sys/fs/cgroup/pids.current", || format!("{}\n", process().thread_count())),
    ("/sys/fs/cgroup/pids.max", || format!("{MAX_THREADS}\n")),
    ("/proc/cgroups", || {
        let mut text = String::from("#subsys_name\thierarchy\tnum_cgroups\tenabled\n");
        for name in ["cpuset", "cpu", "cpuacct", "memory", "pids"] {
            line!(text, "{name}\t0\t1\t1");
        }
        text
    }),
    ("/proc/1/cgroup", || "0::/\n".into()),
];

pub(super) fn threads(text: &mut LongText) -> fmt::Result {
    process().threads().try_for_each(|thread| writeln!(text, "{}", thread.id))
}

fn anonymous_bytes() -> u64 {
    space::usage().resident_pages * PAGE_BYTES
}

fn file_bytes() -> u64 {
    shared::count() as u64 * PAGE_BYTES
}

fn cpu_stat() -> String {
    let used_us = process().cpu_time_ns() / 1000;
    format!(
        "usage_usec {used_us}\nuser_usec {used_us}\nsystem_usec 0\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"
    )
}

/// What is known: the kernel does not tell old pages from new ones.
fn memory_stat() -> String {
    let (anonymous, files) = (anonymous_bytes(), file_bytes());
    format!(
        "anon {anonymous}\nfile {files}\ninactive_anon 0\nactive_anon {anonymous}\ninactive_file 0\n\
         active_file {files}\nunevictable 0\n"
    )
}
