//! The marks: what the project promises, and whether this run reached it.

use super::bulk::{self, BulkResult, Throughput};
use super::crowd;
use super::hostile::Trial;
use super::micro::{Figures, MicroResult};
use super::{LoadResult, Results};

/// What a request may cost in the kernel: somewhat less than half of what it cost when this was first measured.
const INSTRUCTIONS: f64 = 3388.0;

/// What recording events may add to that.
const RECORDING_PERCENT: f64 = 10.0;

/// A mark and whether it was reached.
pub(super) struct Mark {
    pub(super) what: String,
    pub(super) wanted: String,
    pub(super) measured: String,
    pub(super) is_reached: bool,
}

impl Mark {
    /// A ratio that is to be at least `wanted`.
    fn ratio(what: String, wanted: f64, measured: Option<f64>) -> Self {
        Self {
            what,
            wanted: format!("≥ {wanted}×"),
            measured: measured.map_or("not measured".into(), |measured| format!("{measured:.1}×")),
            is_reached: measured.is_some_and(|measured| measured >= wanted),
        }
    }

    /// A figure that is to be at most `wanted`.
    fn at_most(what: impl Into<String>, wanted: f64, unit: &str, measured: Option<f64>) -> Self {
        let show = |value: f64| {
            if value.fract() == 0.0 { format!("{value:.0}{unit}") } else { format!("{value:.2}{unit}") }
        };
        Self {
            what: what.into(),
            wanted: if wanted == 0.0 { "0".into() } else { format!("≤ {}", show(wanted)) },
            measured: measured.map_or("not measured".into(), show),
            is_reached: measured.is_some_and(|measured| measured <= wanted),
        }
    }
}

/// Everything that this run was asked to measure, against the marks.
pub(super) fn all(results: &Results) -> Vec<Mark> {
    let is_wanted = |name: &str| !results.options.skip.iter().any(|skipped| skipped == name);
    let mut marks: Vec<Mark> = results.loads.iter().flat_map(of_load).collect();
    if let Some(spent) = &results.instructions {
        let what = "guest instructions for a request in the kernel";
        marks.push(Mark::at_most(what, INSTRUCTIONS, "", Some(spent.kernel.round())));
        let recorded = results.recorded_instructions.as_ref();
        let added = recorded.map(|recorded| 100.0 * (recorded.kernel / spent.kernel - 1.0));
        marks.push(Mark::at_most("of these, added by `trace=events`", RECORDING_PERCENT, " %", added));
    }
    marks.extend(results.boots.iter().map(|boot| {
        let wanted = if boot.machine == "microvm" { 20.0 } else { 12.0 };
        let what = format!("boot to first response, {}: Linux's time against ours", boot.machine);
        Mark::ratio(what, wanted, boot.ms.both().map(|(ours, linux)| linux / ours))
    }));
    if is_wanted("memory") {
        let measured = results.memory_mib.ours.map(|mib| mib as f64);
        marks.push(Mark::at_most("memory to boot and serve 256 connections", 16.0, " MiB", measured));
    }
    if is_wanted("burst") {
        marks.extend(results.options.plain_apps().map(|app| {
            let burst = results.bursts.iter().find(|burst| burst.app == app);
            let errors = burst.map(|burst| burst.errors.total() as f64);
            Mark::at_most(format!("{app}: errors in a burst of 1,000 connections"), 0.0, "", errors)
        }));
    }
    if is_wanted("sequential") {
        let sequential = results.sequential.as_ref();
        let failures = sequential.map(|sequential| sequential.failures as f64);
        marks.push(Mark::at_most("failures in 20,000 connections one after another", 0.0, "", failures));
        let lost_kib = sequential.map(|sequential| (-sequential.memory_change).max(0) as f64 / 1024.0);
        marks.push(Mark::at_most("memory lost in them (caches may settle)", 64.0, " KiB", lost_kib));
    }
    if is_wanted("storm") {
        marks.extend(results.options.plain_apps().map(|app| of_storm(results, app)));
    }
    if is_wanted("lasting") {
        marks.extend(of_lasting(results));
    }
    if is_wanted("crowd") {
        let steadiness = crowd::steadiness(&results.crowds);
        let what = "256 busy connections beside 0 to 10,000 idle ones: least rate against most".to_owned();
        marks.push(Mark::ratio(what, 0.9, steadiness));
        let used_mib = results.crowds.last().map(|crowd| crowd.used_mib);
        marks.push(Mark::at_most("memory with 10,000 idle connections", 64.0, " MiB", used_mib));
    }
    if is_wanted("hostile") {
        marks.extend(results.trials.iter().flat_map(of_trial));
    }
    if is_wanted("loss") {
        let at_one = results.losses.iter().find(|loss| loss.percent == 1.0);
        let measured = at_one.and_then(|loss| loss.mbit_per_s.both()).map(|(ours, linux)| ours / linux);
        marks.push(Mark::ratio("goodput at 1 % loss, 20 ms: against Linux".into(), 0.3, measured));
    }
    if is_wanted("bulk") {
        marks.extend(of_bulk(&results.bulk));
    }
    if is_wanted("micro") {
        marks.extend(of_micro(&results.micro));
    }
    marks.extend(of_storage(results).filter(|(name, _)| is_wanted(name)).map(|(_, mark)| mark));
    if is_wanted("idle") {
        marks.push(Mark::at_most("idle: share of a host core", 1.0, " %", results.idle_percent.ours));
    }
    marks
}

fn of_load(result: &LoadResult) -> Vec<Mark> {
    let name = match result.connections {
        1 => format!("{}, 1 connection", result.app),
        connections => format!("{}, {connections} connections", result.app),
    };
    let both = result.load.both();
    let wanted = match result.app.split('@').next() {
        Some("axum-rest") => 2.5,
        Some("http-axum") => 2.0,
        _ if result.connections == 1 => 4.0,
        _ => 6.0,
    };
    let measured = both.map(|(ours, linux)| ours.requests_per_second / linux.requests_per_second);
    let mut marks = vec![Mark::ratio(format!("{name}: requests/s against Linux"), wanted, measured)];
    if result.connections >= 64 && !result.app.starts_with("axum-rest") {
        let measured = both.map(|(ours, linux)| linux.p99_us() as f64 / ours.p99_us().max(1) as f64);
        marks.push(Mark::ratio(format!("{name}: Linux's p99 against ours"), 3.0, measured));
    }
    if result.connections == 64 && !result.app.starts_with("axum-rest") {
        let measured = both.map(|(ours, linux)| ours.tail() / linux.tail());
        marks.push(Mark::at_most(format!("{name}: p99.9 / p50 against Linux's"), 0.5, "×", measured));
    }
    let errors = result.load.ours.as_ref().map(|load| load.errors.total() as f64);
    marks.push(Mark::at_most(format!("{name}: errors"), 0.0, "", errors));
    marks
}

fn of_storm(results: &Results, app: &str) -> Mark {
    let result = results.storms.iter().find(|result| result.app == app);
    let lost = result.map(|result| (result.storm.connections - result.storm.answered) as f64);
    Mark::at_most(format!("{app}: refused or lost of 10,000 connections begun at once"), 0.0, "", lost)
}

fn of_lasting(results: &Results) -> [Mark; 3] {
    let lasting = results.lasting.as_ref();
    let what = "200,000 connections from one address, ended by the server";
    let steadiness = lasting.map(|lasting| lasting.last_per_second / lasting.first_per_second);
    let lost_kib = lasting.map(|lasting| (-lasting.memory_change).max(0) as f64 / 1024.0);
    [
        Mark::at_most(format!("{what}: failures"), 0.0, "", lasting.map(|lasting| lasting.failed as f64)),
        Mark::ratio(format!("{what}: rate of the last 10,000 against the first"), 0.9, steadiness),
        Mark::at_most(format!("{what}: memory lost after the first 40,000"), 64.0, " KiB", lost_kib),
    ]
}

fn of_trial(trial: &Trial) -> [Mark; 2] {
    let Trial { attack, quiet, attacked } = trial;
    let ratio = attacked.p99_us as f64 / quiet.p99_us.max(1) as f64;
    [
        Mark::at_most(format!("{attack}: good clients that failed"), 0.0, "", Some(attacked.failed as f64)),
        Mark::at_most(format!("{attack}: p99 of good clients against the quiet one"), 2.0, "×", Some(ratio)),
    ]
}

fn of_bulk(results: &[BulkResult]) -> impl Iterator<Item = Mark> {
    type Way = (&'static str, fn(&Throughput) -> f64);
    let ways: [Way; 2] = [("guest sends", |one| one.sends), ("guest receives", |one| one.receives)];
    let of = |(way, figure)| {
        [(false, "without", 2.0), (true, "with", 1.0)].map(|(linux_has_tso, card, wanted)| {
            let what = format!("one connection, {way}: throughput against Linux {card} TSO");
            Mark::ratio(what, wanted, bulk::ratio(results, linux_has_tso, figure))
        })
    };
    ways.into_iter().flat_map(of)
}

fn of_micro(results: &[MicroResult]) -> Vec<Mark> {
    let on = |cpus| results.iter().find(|result| result.cpus == cpus).map(|result| &result.figures);
    let ours = |cpus, name: &str| on(cpus)?.ours.as_ref()?.get(name).copied();
    let linux = |cpus, name: &str| on(cpus)?.linux.as_ref()?.get(name).copied();
    let ratio = |what: &str, name| {
        let measured = linux(1, name).zip(ours(1, name)).map(|(linux, ours)| linux / ours);
        Mark::ratio(format!("{what}: Linux's time against ours"), 2.0, measured)
    };
    let speed_up = ours(2, "speed_up_of_two_threads").zip(ours(1, "speed_up_of_two_threads"));
    vec![
        Mark::ratio(
            "two processors against one, busy threads".into(),
            1.9,
            speed_up.map(|(two, one)| two / one),
        ),
        ratio("futex ping-pong on one core", "futex_round_trip_ns"),
        ratio("null system call", "null_syscall_ns"),
        ratio("thread created and joined", "create_join_ns"),
        Mark::at_most(
            "10,000 threads in turn, 1,000 at once, 256 MiB: memory lost",
            64.0,
            " KiB",
            ours(1, "many_threads_leaked_kib").map(|kib| kib.max(0.0)),
        ),
    ]
}

/// The marks of storage, each with the name by which it is left out.
fn of_storage(results: &Results) -> impl Iterator<Item = (&'static str, Mark)> {
    const ALL: [(&str, &str, &str, f64); 11] = [
        ("disk-sync", "disk_append_sync_per_s", "4 KiB appended and synced, per second", 1.0),
        ("disk-sync", "disk_overwrite_sync_per_s", "4 KiB overwritten and synced, per second", 1.0),
        ("disk-random", "disk_random_read_1_per_s", "4 KiB read at random, 1 in flight, per second", 1.2),
        ("disk-random", "disk_random_read_16_per_s", "4 KiB read at random, 16 in flight, per second", 1.2),
        ("disk-sequential", "disk_sequential_read_mib_per_s", "read in sequence, MiB/s", 1.0),
        ("disk-sequential", "disk_sequential_write_mib_per_s", "written in sequence and synced, MiB/s", 1.0),
        ("disk-cached", "disk_cached_read_4k_ns", "4 KiB read from the cache, time", 2.0),
        ("disk-files", "disk_open_stat_close_ns", "open, stat and close of 10,000 files, time", 2.0),
        ("redis", "redis_set_per_s", "redis-benchmark SET, 50 clients, kv against Redis", 2.0),
        ("redis", "redis_get_per_s", "redis-benchmark GET, 50 clients, kv against Redis", 2.0),
        ("redis", "redis_set_always_per_s", "the same SET with appendfsync always", 1.0),
    ];
    ALL.into_iter().map(|(skip, name, what, wanted)| {
        let of = |figures: &Option<Figures>| figures.as_ref()?.get(name).copied();
        let measured = of(&results.storage.ours).zip(of(&results.storage.linux));
        let measured = measured.map(|(ours, linux)| advantage(name, ours, linux));
        (skip, Mark::ratio(what.into(), wanted, measured))
    })
}

/// How much better ours is: of times the shorter, of rates the higher.
pub(super) fn advantage(name: &str, ours: f64, linux: f64) -> f64 {
    if name.ends_with("_ns") { linux / ours } else { ours / linux }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_reached() {
        assert!(!Mark::ratio("x".into(), 4.0, None).is_reached);
        assert!(!Mark::at_most("x", 0.0, "", None).is_reached);
    }

    #[test]
    fn marks_are_reached_at_their_edge() {
        assert!(Mark::ratio("x".into(), 4.0, Some(4.0)).is_reached);
        assert!(!Mark::ratio("x".into(), 4.0, Some(3.99)).is_reached);
        assert!(Mark::at_most("x", 16.0, " MiB", Some(16.0)).is_reached);
        assert!(!Mark::at_most("x", 0.0, "", Some(1.0)).is_reached);
    }
}
