//! Ten thousand connections at once, and two hundred thousand one after another from one address.

use anyhow::{Context, Result};
use serde::Serialize;

use super::measure::{Guest, System, USUAL_MEMORY_MIB};
use crate::http;
use crate::machine::Kind;
use crate::namespace::{self, guest_address};
use crate::storm::{self, Farewell, MEMORY_MIB, Sequence, Storm};

/// Connections that are begun before any is waited for.
const AT_ONCE: usize = 10_000;
/// Connections one after another, and how many of them are the first and the last.
const IN_TURN: usize = 200_000;
const ENDS: usize = 10_000;
/// Until the table of those in TIME_WAIT is full and has its final size.
const FILLING: usize = 30_000;

/// Connections at once to one app.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StormResult {
    pub(crate) app: String,
    #[serde(flatten)]
    pub(crate) storm: Storm,
}

/// Lets all clients loose on an app at the same time.
pub(super) fn storm(app: &str) -> Result<StormResult> {
    let _guest = Guest::boot(System::Unikernel, app, Kind::Q35, MEMORY_MIB)?;
    namespace::lengthen_queue(AT_ONCE)?;
    let storm = storm::at_once(guest_address(), AT_ONCE, Farewell::Reset);
    namespace::shorten_queue()?;
    Ok(StormResult { app: app.to_owned(), storm: storm? })
}

/// Very many connections one after another.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Lasting {
    pub(crate) connections: usize,
    pub(crate) failed: usize,
    /// The first 10,000, and the last.
    pub(crate) first_per_second: f64,
    pub(crate) last_per_second: f64,
    /// Connections that the guest remembers in TIME_WAIT at the end.
    pub(crate) time_wait: i64,
    /// Change of the guest's free memory in bytes between the first 40,000 and the end; negative is loss.
    pub(crate) memory_change: i64,
}

/// Has `http` end 200,000 connections from one address, so that it is the one to remember them.
pub(super) fn lasting() -> Result<Lasting> {
    let _guest = Guest::boot(System::Unikernel, "http", Kind::Q35, USUAL_MEMORY_MIB)?;
    let serve = |count| storm::one_after_another(guest_address(), count);
    let (first, filling) = (serve(ENDS), serve(FILLING));
    let free_before = http::settled_free_memory(guest_address())?;
    let (middle, last) = (serve(IN_TURN - FILLING - 2 * ENDS), serve(ENDS));
    let memory_change = http::settled_free_memory(guest_address())? - free_before;
    let time_wait = http::metric(guest_address(), "unikernel_net_time_wait").context("TIME_WAIT")?;
    let failed = |part: &Sequence| part.failed;
    Ok(Lasting {
        connections: IN_TURN,
        failed: [first, filling, middle, last].iter().map(failed).sum(),
        first_per_second: first.per_second,
        last_per_second: last.per_second,
        time_wait,
        memory_change,
    })
}
