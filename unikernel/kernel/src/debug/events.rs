//! Who has events recorded: a look on (`/trace`), or the whole run (`trace=events`). The rings are [`platform::events`](crate::platform::events)'s.

use core::fmt::{self, Write};

use spin::Once;

use crate::arch::cpu;
use crate::kmem::room::OutOfMemory;
use crate::net;
use crate::platform::events;
use crate::platform::time;
use crate::syscall::watch::{self, Watchers};
use crate::task::mutex::Mutex;

/// Events of each core that a panic shows.
const SHOWN: u64 = 24;

/// How many have events recorded.
static RECORDERS: Mutex<usize> = Mutex::new(0);
/// The recorder of `trace=events`.
static FROM_THE_START: Once<Recorder> = Once::new();

/// Events are recorded for as long as somebody has one.
pub(crate) struct Recorder(());

impl Recorder {
    /// Begins to record.
    pub(crate) fn start() -> Result<Self, OutOfMemory> {
        let mut count = RECORDERS.lock();
        events::prepare().map_err(|_| OutOfMemory)?;
        if *count == 0 {
            tell(true);
        }
        *count += 1;
        Ok(Self(()))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut count = RECORDERS.lock();
        *count -= 1;
        if *count == 0 {
            tell(false);
        }
    }
}

/// The points that are always there hear of it by one flag, the others have hooks.
fn tell(is_wanted: bool) {
    events::turn_on(is_wanted);
    net::events::tell(is_wanted);
    match is_wanted {
        true => watch::add(Watchers::EVENTS),
        false => watch::remove(Watchers::EVENTS),
    }
}

/// Records from here on (`trace=events`); of cores that come up later when they have.
pub(crate) fn record_for_good() {
    match Recorder::start() {
        Ok(recorder) => _ = FROM_THE_START.call_once(|| recorder),
        Err(_) => log::warn!("`trace=events`: there is no memory for it"),
    }
}

/// What was not there yet when the recording began, has come up: the network, or cores.
pub(crate) fn go_on() {
    if FROM_THE_START.get().is_none() {
        return;
    }
    net::events::tell(true);
    if events::prepare().is_err() {
        log::warn!("`trace=events`: there is no memory for all cores");
    }
}

/// Writes the last events of each core, the newest last, for who comes to see why the machine ended. Takes no memory and waits for nobody.
#[cfg_attr(
    not(target_os = "none"),
    expect(dead_code, reason = "a panic on a simulated machine is the host's")
)]
#[cold]
#[inline(never)]
pub(crate) fn write_last(out: &mut impl Write) -> fmt::Result {
    let now = time::tsc();
    for core in 0..cpu::online() {
        let Some(ring) = events::ring(core) else { continue };
        writeln!(out, "last events of core {core}, and how many µs ago:")?;
        let mut outcome = Ok(());
        ring.read(ring.written().saturating_sub(SHOWN), |event| {
            let ago_us = time::span_ns(now.saturating_sub(event.at)) / 1000;
            outcome = writeln!(out, "{ago_us:>10}  {event}");
            outcome.is_ok()
        });
        outcome?;
    }
    Ok(())
}
