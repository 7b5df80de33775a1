//! Texts about the machine: processors, memory, time, chance.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use spin::Once;

use super::app::kibibytes;
use super::{NANOS_PER_TICK, features, line};
use crate::arch::cpu;
use crate::block;
use crate::fs::device;
use crate::kmem::frames;
use crate::mem::{shared, space};
use crate::platform::{interrupts, random, time};
use crate::task::process::process;
use crate::task::scheduler;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

pub(super) fn cpuinfo() -> String {
    let cpuid = raw_cpuid::CpuId::new();
    let vendor = cpuid.get_vendor_info();
    let brand = cpuid.get_processor_brand_string();
    let facts = cpuid.get_feature_info();
    let flags = features::names();
    let mut text = String::new();
    let count = cpu::online();
    for core in 0..count {
        line!(text, "processor\t: {core}");
        line!(text, "vendor_id\t: {}", vendor.as_ref().map_or("unknown", |vendor| vendor.as_str()));
        line!(text, "model name\t: {}", brand.as_ref().map_or("unknown", |brand| brand.as_str().trim()));
        if let Some(facts) = &facts {
            line!(text, "cpu family\t: {}\nmodel\t\t: {}", facts.family_id(), facts.model_id());
            line!(text, "stepping\t: {}", facts.stepping_id());
        }
        line!(text, "cpu MHz\t\t: {}.{:03}", time::tsc_hz() / 1_000_000, time::tsc_hz() / 1000 % 1000);
        line!(text, "physical id\t: 0\nsiblings\t: {count}\ncore id\t\t: {core}\ncpu cores\t: {count}");
        line!(text, "fpu\t\t: yes\nwp\t\t: yes\nflags\t\t:{flags}\n");
    }
    text
}

/// The cores that run, as a list of ranges.
pub(super) fn cores() -> String {
    match cpu::online() {
        1 => "0\n".into(),
        count => format!("0-{}\n", count - 1),
    }
}

/// A random version-4 UUID (RFC 9562, section 5.4).
pub(super) fn uuid() -> String {
    let [high, low] = [random::next_u64(), random::next_u64()];
    let (version, variant) = (0x4000 | high & 0xfff, 0x8000 | low >> 48 & 0x3fff);
    let (start, middle, end) = (high >> 32, high >> 16 & 0xffff, low & 0xffff_ffff_ffff);
    format!("{start:08x}-{middle:04x}-{version:04x}-{variant:04x}-{end:012x}\n")
}

/// One UUID for as long as the machine runs.
pub(super) fn boot_id() -> String {
    static BOOT_ID: Once<String> = Once::new();
    BOOT_ID.call_once(uuid).clone()
}

/// A new name for this run of the machine (machine-id(5)).
pub(crate) fn machine_id() -> String {
    uuid().replace('-', "")
}

/// A row for each kind of interrupt, a column for each core.
pub(super) fn interrupts() -> String {
    let taken: Vec<_> = (0..cpu::online()).map(interrupts::taken_by).collect();
    let mut text = String::from("    ");
    (0..taken.len()).for_each(|core| _ = write!(text, " {:>10}", format!("CPU{core}")));
    text.push('\n');
    for kind in interrupts::Kind::ALL {
        let (name, what) = match kind {
            interrupts::Kind::Device => ("DEV", "Device interrupts"),
            interrupts::Kind::Timer => ("LOC", "Local timer interrupts"),
            interrupts::Kind::Reschedule => ("RES", "Rescheduling interrupts"),
            interrupts::Kind::Flush => ("TLB", "TLB shootdowns"),
        };
        let _ = write!(text, "{name}:");
        taken.iter().for_each(|taken| _ = write!(text, " {:10}", taken[kind as usize]));
        line!(text, "   {what}");
    }
    text
}

pub(super) fn meminfo() -> String {
    let (total, free) = (frames::total_pages() as u64, frames::free_pages() as u64);
    let usage = space::usage();
    let mut text = String::new();
    let files = kibibytes(shared::count() as u64);
    let anonymous = kibibytes(usage.resident_pages);
    let facts = [
        ("MemTotal", kibibytes(total)),
        ("MemFree", kibibytes(free)),
        ("MemAvailable", kibibytes(free)),
        ("Buffers", 0),
        ("Cached", files),
        ("SwapCached", 0),
        ("Active", anonymous + files),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", anonymous),
        ("Mapped", 0),
        ("Shmem", files),
        ("Slab", 0),
        ("CommitLimit", kibibytes(space::charge_limit())),
        ("Committed_AS", kibibytes(usage.charged_pages)),
        ("VmallocTotal", 0),
        ("VmallocUsed", 0),
        ("VmallocChunk", 0),
    ];
    for (name, kib) in facts {
        // In columns, as Linux prints them.
        line!(text, "{:<15} {kib:8} kB", format!("{name}:"));
    }
    text
}

pub(super) fn stat() -> String {
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
    line!(text, "intr {}\nctxt {}\nbtime {boot_s}\nprocesses 1", interrupts::taken(), scheduler::switches());
    line!(text, "procs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0");
    text
}

/// `/proc/partitions`: disks and their partitions, sizes in KiB.
pub(super) fn partitions() -> String {
    let mut text = String::from("major minor  #blocks  name\n\n");
    for device in block::all() {
        let (major, minor) = device::parts(device.number);
        let kib = device.volume.size_bytes() / 1024;
        line!(text, "{major:4}  {minor:7} {kib:10} {}", device.name);
    }
    text
}

pub(super) fn uptime() -> String {
    let hundredths = |span_ns: u64| (span_ns / NANOS_PER_SECOND, span_ns % NANOS_PER_SECOND / NANOS_PER_TICK);
    let (up, idle) = (hundredths(time::now_ns()), hundredths(scheduler::idle_ns()));
    format!("{}.{:02} {}.{:02}\n", up.0, up.1, idle.0, idle.1)
}
