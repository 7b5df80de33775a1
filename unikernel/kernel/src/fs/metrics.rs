//! `/proc/unikernel/metrics`: what the rooms count, in the Prometheus text format
//! (prometheus.io/docs/instrumenting/exposition_formats).

use alloc::string::String;
use core::fmt::Write;

use unikernel_mm::PAGE_BYTES;

use crate::drivers::virtio::balloon;
use crate::kmem::{frames, heap};
use crate::mem::space;
use crate::platform::{interrupts, stopwatch, time};
use crate::task::{accounting, process::process, scheduler};
use crate::{file, net};

/// What a number means to the reader.
#[derive(Clone, Copy)]
enum Kind {
    /// It only grows.
    Counter,
    /// It shows the present.
    Gauge,
}

/// One metric.
fn line(text: &mut String, kind: Kind, name: &str, help: &str, value: u64) {
    let (kind, suffix) = match kind {
        Kind::Counter => ("counter", "_total"),
        Kind::Gauge => ("gauge", ""),
    };
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "# HELP unikernel_{name}{suffix} {help}\n# TYPE unikernel_{name}{suffix} {kind}\nunikernel_{name}{suffix} {value}\n"
    );
}

/// All metrics.
pub(crate) fn render() -> String {
    let mut text = String::with_capacity(8192);
    machine(&mut text);
    memory(&mut text);
    tasks(&mut text);
    network(&mut text);
    text
}

fn machine(text: &mut String) {
    let nanoseconds = time::now_ns();
    line(text, Kind::Gauge, "uptime_milliseconds", "Time since boot.", nanoseconds / 1_000_000);
    line(
        text,
        Kind::Counter,
        "idle_nanoseconds",
        "Time halted, or looking for work in vain.",
        scheduler::idle_ns(),
    );
    if let Some(app_ns) = stopwatch::app_ns() {
        let kernel_ns = nanoseconds.saturating_sub(app_ns + scheduler::idle_ns());
        line(text, Kind::Counter, "kernel_nanoseconds", "Time in the kernel, on one core.", kernel_ns);
    }
    line(text, Kind::Counter, "interrupts", "Interrupts taken.", interrupts::taken());
    line(text, Kind::Counter, "system_calls", "System calls.", accounting::calls());
}

fn memory(text: &mut String) {
    let bytes = |pages: u64| pages * PAGE_BYTES;
    let usage = space::usage();
    line(text, Kind::Gauge, "memory_total_bytes", "Usable memory.", bytes(frames::total_pages() as u64));
    line(text, Kind::Gauge, "memory_free_bytes", "Free memory.", bytes(frames::free_pages() as u64));
    line(
        text,
        Kind::Gauge,
        "memory_lent_bytes",
        "Memory that the host has (virtio balloon).",
        bytes(balloon::pages() as u64),
    );
    line(text, Kind::Gauge, "kernel_heap_bytes", "The kernel's heap in use.", heap::used_bytes() as u64);
    line(
        text,
        Kind::Gauge,
        "app_resident_bytes",
        "The app's memory that is present.",
        bytes(usage.resident_pages),
    );
    line(text, Kind::Gauge, "app_charged_bytes", "Memory promised to the app.", bytes(usage.charged_pages));
}

fn tasks(text: &mut String) {
    line(text, Kind::Gauge, "threads", "The app's threads.", process().thread_count() as u64);
    line(text, Kind::Counter, "context_switches", "Switches between threads.", scheduler::switches());
    line(text, Kind::Counter, "app_cpu_nanoseconds", "Time the app's threads ran.", process().cpu_time_ns());
    line(text, Kind::Gauge, "open_descriptors", "Descriptors in use.", file::table::count() as u64);
}

fn network(text: &mut String) {
    for (name, help, value) in net::counters().entries() {
        let kind = if help.starts_with("Now:") { Kind::Gauge } else { Kind::Counter };
        line(text, kind, &alloc::format!("net_{name}"), help, value);
    }
    let Some(nic) = net::nic_counters() else { return };
    line(text, Kind::Counter, "nic_rx_dropped", "Frames that the driver dropped.", nic.rx_dropped);
    line(text, Kind::Counter, "nic_tx_large", "Frames that the device cut into segments.", nic.tx_large);
    line(text, Kind::Counter, "nic_tx_full", "Times that no transmit buffer was free.", nic.tx_full);
    line(text, Kind::Counter, "nic_kicks", "Notifications of the device.", nic.kicks);
    let Some(capture) = net::capture::counters() else { return };
    line(text, Kind::Counter, "pcap_frames", "Frames written to the capture.", capture.written);
    line(text, Kind::Counter, "pcap_lost", "Frames that the capture's host was too slow for.", capture.lost);
}
