//! The end of an app that touches memory when there is none left. By then caches are evicted, dirty pages written, buffers of
//! idle connections given back; only the kernel's reserve is left, which pays for an orderly end. As Linux's OOM killer, but
//! there is no choice of whom to kill.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use linux_raw_sys::general::SIGKILL;
use spin::Once;

use super::signal::send;
use crate::kmem::{PAGE_BYTES, frames, heap, kernel_map, page_table};
use crate::mem::{shared, space};
use crate::platform::console;
use crate::task::process::process;
use crate::task::signal::SignalInfo;

static HAS_ENDED: AtomicBool = AtomicBool::new(false);

/// What rooms above this one hold.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Holdings {
    /// Pages in the page cache.
    pub cached_pages: usize,
    /// Bytes in the network's buffers.
    pub network_bytes: usize,
}

/// Who knows what rooms above this one hold.
static HOLDINGS: Once<fn() -> Holdings> = Once::new();

/// Sets who knows what rooms above this one hold.
pub(crate) fn set_holdings(ask: fn() -> Holdings) {
    HOLDINGS.call_once(|| ask);
}

/// True once the app is to end for want of memory.
pub(crate) fn has_ended_app() -> bool {
    HAS_ENDED.load(Ordering::Relaxed)
}

/// Says who holds the memory, and kills all threads of the app (`SIGKILL`: exit code 137). They end on their way to
/// ring 3, the caller's included.
pub(crate) fn end_app() {
    if HAS_ENDED.swap(true, Ordering::Relaxed) {
        return;
    }
    // What cannot be written to the console is lost.
    let _ = report(&mut console::Writer);
    for thread in process().threads() {
        send(&thread, SignalInfo::from_kernel(SIGKILL));
    }
}

/// Who holds how many KiB.
fn holders() -> [(&'static str, usize); 8] {
    let kib = |pages: usize| pages * (PAGE_BYTES / 1024);
    let usage = space::usage();
    let Holdings { cached_pages, network_bytes: buffers } =
        HOLDINGS.get().map(|ask| ask()).unwrap_or_default();
    let own_pages = usage.resident_pages.saturating_sub(usage.shared_pages + usage.image_pages);
    [
        ("the app's own pages", kib(own_pages as usize)),
        ("files in memory", kib(shared::count())),
        ("page cache", kib(cached_pages)),
        ("network buffers", buffers / 1024),
        ("kernel heap without these", heap::used_bytes().saturating_sub(buffers) / 1024),
        ("kernel stacks", kernel_map::stack_bytes() / 1024),
        ("page tables", kib(page_table::count())),
        ("free, the kernel's reserve", kib(frames::free_pages())),
    ]
}

fn report(out: &mut impl Write) -> fmt::Result {
    let total = frames::total_pages() * PAGE_BYTES / 1024;
    let holders = holders();
    let known: usize = holders.iter().map(|(_, kib)| kib).sum();
    writeln!(
        out,
        "\nout of memory: the app needs a page, and nothing more can be given back. Who holds what:"
    )?;
    for (name, kib) in holders {
        writeln!(out, "  {kib:9} KiB  {name}")?;
    }
    writeln!(out, "  {:9} KiB  drivers and free lists", total.saturating_sub(known))?;
    writeln!(out, "  {total:9} KiB  in all")
}
