//! What each thing brings that a network card does for the kernel: everything on, and each switched off at boot
//! (`offload=`), one right after the other, so that what else the host does troubles both alike.

use anyhow::Result;
use serde::Serialize;

use super::bulk::{self, Throughput};
use super::instructions;
use super::measure::{BOOT_TIME_OUT, Guest, System, machine_for};
use crate::machine::{Kind, Net};
use crate::namespace::{self, Queues, TAP};

/// The words, and what they switch off. One that others rest on takes them along.
const CASES: [(&str, &str); 7] = [
    ("no-tso", "cutting what is sent"),
    ("no-guest-tso", "receiving many segments as one"),
    ("no-mrg-rxbuf", "packets in several buffers, so many segments as one too"),
    ("no-csum", "checksums of what is sent, so cutting it too"),
    ("no-guest-csum", "checksums of what is received, so many segments as one too"),
    ("no-event-idx", "calls by index"),
    ("none", "everything"),
];

/// Servers with a thread for each processor, for which a pair of queues each may do something.
const THREADED: [&str; 2] = ["http-threads", "axum-rest"];
/// Processors, and pairs of queues.
const PAIRS: u32 = 2;

/// With one of the words, and without any.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct OffloadResult {
    pub(crate) word: String,
    pub(crate) what: String,
    pub(crate) on: Figures,
    pub(crate) off: Figures,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// Instructions of the kernel for a KiB.
    pub(crate) cost: Throughput,
    pub(crate) throughput: Throughput,
    /// Instructions of the kernel for a request.
    pub(crate) instructions: f64,
    pub(crate) requests_per_second: f64,
}

/// Each of the cases.
pub(super) fn measure(seconds: u64) -> Result<Vec<OffloadResult>> {
    // Counts are the same whenever they are made; times are not.
    let counts_on = counts("")?;
    let case = |(word, what): (&str, &str)| {
        eprintln!("offloads: {what}");
        let words = format!("offload={word}");
        let counts_off = counts(&words)?;
        let (on, off) = (figures("", counts_on, seconds)?, figures(&words, counts_off, seconds)?);
        Ok(OffloadResult { word: word.to_owned(), what: what.to_owned(), on, off })
    };
    CASES.into_iter().map(case).collect()
}

fn counts(words: &str) -> Result<(Throughput, f64)> {
    Ok((bulk::instructions_per_kib(words)?, instructions::per_request(0, words)?.kernel))
}

fn figures(words: &str, (cost, instructions): (Throughput, f64), seconds: u64) -> Result<Figures> {
    let throughput = bulk::carry(bulk::machine(System::Unikernel, words)?)?;
    let requests_per_second = rate("http", words, 1, seconds)?;
    Ok(Figures { cost, throughput, instructions, requests_per_second })
}

/// What a pair of queues for each processor brings to a server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct QueueResult {
    pub(crate) app: String,
    /// Requests per second with them, and with one pair (`offload=no-mq`).
    pub(crate) several: f64,
    pub(crate) one: f64,
}

/// The servers on two processors.
pub(super) fn queues(seconds: u64) -> Result<Vec<QueueResult>> {
    namespace::renew_tap(Queues::Several)?;
    let result = |app: &str| {
        eprintln!("offloads: queues, {app}");
        let (several, one) = (rate(app, "", PAIRS, seconds)?, rate(app, "offload=no-mq", PAIRS, seconds)?);
        Ok(QueueResult { app: app.to_owned(), several, one })
    };
    let results = THREADED.into_iter().map(result).collect();
    namespace::renew_tap(Queues::One)?;
    results
}

/// Requests per second of an app on so many processors, with a pair of queues for each.
fn rate(app: &str, words: &str, pairs: u32, seconds: u64) -> Result<f64> {
    let mut machine = machine_for(System::Unikernel, app, Kind::Q35)?;
    machine.cpus = pairs;
    machine.net = Net::Tap { name: TAP.into(), queues: pairs };
    machine.append = format!("{} {words}", machine.append);
    let guest = Guest::start(machine, BOOT_TIME_OUT)?;
    Ok(guest.load(instructions::CONNECTIONS, seconds)?.requests_per_second)
}
