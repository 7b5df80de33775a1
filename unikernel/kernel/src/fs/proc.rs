//! `/proc` as far as programs and libraries look at it (proc(5)). Every text is made when its file
//! is opened.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use spin::Once;
use unikernel_mm::PAGE_BYTES;
use unikernel_sched::CoreSet;

use super::metrics;
use crate::arch::cpu;
use crate::mem::frames;
use crate::mem::space::{self, Protection, RegionKind};
use crate::platform::{random, time};
use crate::sync::SpinLock;
use crate::syscall::identity;
use crate::task::process::{PROCESS_ID, process};
use crate::task::scheduler;

/// `USER_HZ`: what times in `/proc` are counted in.
const NANOS_PER_TICK: u64 = 10_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A path and what makes its text.
type Text = (&'static str, fn() -> String);

/// All texts.
pub const TEXTS: &[Text] = &[
    ("/proc/unikernel/metrics", metrics::render),
    ("/proc/self/cmdline", || ARGUMENTS.lock().clone()),
    ("/proc/self/comm", || "app\n".into()),
    ("/proc/self/maps", maps),
    ("/proc/self/stat", stat_self),
    ("/proc/self/statm", statm),
    ("/proc/self/status", status),
    ("/proc/self/mounts", || {
        let disks = super::disk::table::render_mounts();
        format!("tmpfs / tmpfs rw 0 0\nproc /proc proc ro 0 0\n{disks}")
    }),
    ("/proc/self/mountinfo", || {
        let disks = super::disk::table::render_mountinfo();
        format!("1 0 0:1 / / rw - tmpfs tmpfs rw\n2 1 0:1 /proc /proc ro - proc proc ro\n{disks}")
    }),
    ("/proc/cpuinfo", cpuinfo),
    ("/proc/loadavg", || format!("0.00 0.00 0.00 1/{} {PROCESS_ID}\n", process().thread_count())),
    ("/proc/meminfo", meminfo),
    ("/proc/stat", stat),
    ("/proc/uptime", uptime),
    ("/proc/version", || format!("Linux version {}\n", identity::RELEASE)),
    ("/proc/sys/kernel/osrelease", || format!("{}\n", identity::RELEASE)),
    ("/proc/sys/kernel/ostype", || "Linux\n".into()),
    ("/proc/sys/kernel/hostname", || "unikernel\n".into()),
    ("/proc/sys/kernel/threads-max", || format!("{}\n", crate::task::process::MAX_THREADS)),
    ("/proc/sys/net/core/somaxconn", || "4096\n".into()),
    // 2: no promise that could not be kept, as `mem::space` does it.
    ("/proc/sys/vm/overcommit_memory", || "2\n".into()),
    ("/proc/self/cgroup", || "0::/\n".into()),
    ("/proc/self/limits", limits),
    ("/proc/filesystems", || "nodev\ttmpfs\nnodev\tproc\n\text4\n".into()),
    ("/proc/sys/kernel/random/boot_id", boot_id),
    ("/proc/sys/kernel/random/uuid", uuid),
    ("/sys/class/net/lo/ifindex", || "1\n".into()),
    ("/sys/devices/system/cpu/online", cores),
    ("/sys/devices/system/cpu/possible", cores),
    ("/sys/devices/system/cpu/present", cores),
];

/// Symbolic links.
pub const LINKS: &[(&str, &str)] = &[
    ("/proc/self/exe", "/app"),
    ("/proc/mounts", "self/mounts"),
    ("/etc/mtab", "/proc/self/mounts"),
    ("/proc/1", "self"),
    ("/proc/thread-self", "self"),
];

/// The app's arguments, each ended by a NUL.
static ARGUMENTS: SpinLock<String> = SpinLock::new(String::new());

/// Sets what `/proc/self/cmdline` shows.
pub fn set_arguments(arguments: &[&[u8]]) {
    let mut text = String::new();
    for argument in arguments {
        text.push_str(&String::from_utf8_lossy(argument));
        text.push('\0');
    }
    *ARGUMENTS.lock() = text;
}

/// Writes a line; a string takes all of it.
macro_rules! line {
    ($text:expr, $($format:tt)*) => {
        // Writing to a string cannot fail.
        let _ = writeln!($text, $($format)*);
    };
}

fn maps() -> String {
    let mut text = String::new();
    for region in space::regions() {
        let letter = |protection, letter| if region.protection.contains(protection) { letter } else { '-' };
        let name = match region.kind {
            RegionKind::Anonymous => "",
            RegionKind::Stack => "[stack]",
            RegionKind::Image => "/app",
            RegionKind::Object(_) => "/dev/zero",
            RegionKind::Kernel if region.protection.contains(Protection::EXECUTE) => "[vdso]",
            RegionKind::Kernel => "[vvar]",
        };
        line!(
            text,
            "{:08x}-{:08x} {}{}{}p 00000000 00:00 0 {name}",
            region.start,
            region.end,
            letter(Protection::READ, 'r'),
            letter(Protection::WRITE, 'w'),
            letter(Protection::EXECUTE, 'x'),
        );
    }
    text
}

fn stat_self() -> String {
    let usage = space::usage();
    let ticks = process().cpu_time_ns() / NANOS_PER_TICK;
    // The fields of proc_pid_stat(5): state, parent, group, session, terminal, its group, flags,
    // four fault counts, user and system time, those of children, priority, nice, threads, one
    // field of no use, start time, size, resident pages, and the limit on them; the rest is 0.
    let zeros = " 0".repeat(27);
    format!(
        "{PROCESS_ID} (app) R 0 {PROCESS_ID} {PROCESS_ID} 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 {} 0 0 {} {} {}{zeros}\n",
        process().thread_count(),
        usage.mapped_pages * PAGE_BYTES,
        usage.resident_pages,
        u64::MAX,
    )
}

fn statm() -> String {
    let usage = space::usage();
    format!("{} {} 0 0 0 {} 0\n", usage.mapped_pages, usage.resident_pages, usage.charged_pages)
}

fn kibibytes(pages: u64) -> u64 {
    pages * PAGE_BYTES / 1024
}

fn status() -> String {
    let usage = space::usage();
    let mut text = String::new();
    line!(text, "Name:\tapp\nState:\tR (running)\nTgid:\t{PROCESS_ID}\nPid:\t{PROCESS_ID}\nPPid:\t0");
    line!(text, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0");
    line!(text, "VmSize:\t{:8} kB", kibibytes(usage.mapped_pages));
    line!(text, "VmRSS:\t{:8} kB", kibibytes(usage.resident_pages));
    line!(text, "Threads:\t{}", process().thread_count());
    let allowed = CoreSet::first(cpu::online());
    line!(text, "Cpus_allowed:\t{:x}\nCpus_allowed_list:\t{}", allowed.0, cores().trim_end());
    text
}

fn cpuinfo() -> String {
    let cpuid = raw_cpuid::CpuId::new();
    let vendor = cpuid.get_vendor_info();
    let brand = cpuid.get_processor_brand_string();
    let mut text = String::new();
    let count = cpu::online();
    for core in 0..count {
        line!(text, "processor\t: {core}");
        line!(text, "vendor_id\t: {}", vendor.as_ref().map_or("unknown", |vendor| vendor.as_str()));
        line!(text, "model name\t: {}", brand.as_ref().map_or("unknown", |brand| brand.as_str().trim()));
        line!(text, "cpu MHz\t\t: {}", time::tsc_hz() / 1_000_000);
        line!(text, "physical id\t: 0\ncore id\t\t: {core}\ncpu cores\t: {count}\n");
    }
    text
}

/// The cores that run, as a list of ranges.
fn cores() -> String {
    match cpu::online() {
        1 => "0\n".into(),
        count => format!("0-{}\n", count - 1),
    }
}

/// A random version-4 UUID (RFC 9562, section 5.4).
fn uuid() -> String {
    let [high, low] = [random::next_u64(), random::next_u64()];
    let (version, variant) = (0x4000 | high & 0xfff, 0x8000 | low >> 48 & 0x3fff);
    let (start, middle, end) = (high >> 32, high >> 16 & 0xffff, low & 0xffff_ffff_ffff);
    format!("{start:08x}-{middle:04x}-{version:04x}-{variant:04x}-{end:012x}\n")
}

/// One UUID for as long as the machine runs.
fn boot_id() -> String {
    static BOOT_ID: Once<String> = Once::new();
    BOOT_ID.call_once(uuid).clone()
}

fn limits() -> String {
    let mut text = String::new();
    let (files, stack) = (identity::MAX_OPEN_FILES, identity::STACK_LIMIT_BYTES);
    line!(text, "{:<26}{:<21}{:<21}{:<10}", "Limit", "Soft Limit", "Hard Limit", "Units");
    line!(text, "{:<26}{stack:<21}{stack:<21}{:<10}", "Max stack size", "bytes");
    line!(text, "{:<26}{files:<21}{files:<21}{:<10}", "Max open files", "files");
    text
}

fn meminfo() -> String {
    let (total, free) = (frames::total_pages() as u64, frames::free_pages() as u64);
    let usage = space::usage();
    let mut text = String::new();
    line!(text, "MemTotal:       {:8} kB", kibibytes(total));
    line!(text, "MemFree:        {:8} kB", kibibytes(free));
    line!(text, "MemAvailable:   {:8} kB", kibibytes(free));
    line!(text, "Buffers:               0 kB\nCached:                0 kB");
    line!(text, "SwapTotal:             0 kB\nSwapFree:              0 kB");
    line!(text, "CommitLimit:    {:8} kB", kibibytes(total - frames::reserve_pages() as u64));
    line!(text, "Committed_AS:   {:8} kB", kibibytes(usage.charged_pages));
    text
}

fn stat() -> String {
    let now_ns = time::now_ns();
    let (busy_ns, idle_ns) = (process().cpu_time_ns(), scheduler::idle_ns());
    let system_ns = (now_ns * cpu::online() as u64).saturating_sub(busy_ns + idle_ns);
    let [user, system, idle] = [busy_ns, system_ns, idle_ns].map(|span_ns| span_ns / NANOS_PER_TICK);
    let boot_s = time::wall_ns().saturating_sub(now_ns) / NANOS_PER_SECOND;
    let mut text = String::new();
    line!(text, "cpu  {user} 0 {system} {idle} 0 0 0 0 0 0");
    // What the threads of the app took is not told apart by core: each gets its share.
    let cores = cpu::online() as u64;
    for core in 0..cores {
        line!(text, "cpu{core} {} 0 {} {} 0 0 0 0 0 0", user / cores, system / cores, idle / cores);
    }
    line!(text, "ctxt {}\nbtime {boot_s}\nprocs_running 1\nprocs_blocked 0", scheduler::switches());
    text
}

fn uptime() -> String {
    let hundredths = |span_ns: u64| (span_ns / NANOS_PER_SECOND, span_ns % NANOS_PER_SECOND / NANOS_PER_TICK);
    let (up, idle) = (hundredths(time::now_ns()), hundredths(scheduler::idle_ns()));
    format!("{}.{:02} {}.{:02}\n", up.0, up.1, idle.0, idle.1)
}
