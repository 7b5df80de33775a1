//! Tests of how much a server bears, over a tap device: attackers, ten thousand connections at once, tens of thousands one
//! after another, and the load generators that others wrote (`h2load`, `iperf3`). `make bench` measures the same for longer.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::attacks::{self, Attack, DEAF_CLIENTS, SLOW_CLIENTS};
use crate::http_tests::Server;
use crate::machine::{Kind, Machine, Net, Nic};
use crate::namespace::{self, GUEST, Queues, TAP, guest_address};
use crate::process::Process;
use crate::storm::{self, Farewell};
use crate::tap_tests::TapTest;
use crate::vm::{Console, Vm};
use crate::{http, project};

const MEMORY_MIB: u64 = 64;
/// How long good clients ask during an attack.
const TIME: Duration = Duration::from_secs(2);
/// Eight clients of an interpreted guest, of which attackers take a good part.
const LEAST_ANSWERED: usize = 100;
const CONNECTIONS_AT_ONCE: usize = 10_000;
const FAREWELL: Duration = Duration::from_secs(2);
/// Several times what a guest of this size remembers in TIME_WAIT.
const CONNECTIONS_IN_TURN: usize = 30_000;
/// Caches may settle.
const ALLOWED_GROWTH: i64 = 256 * 1024;
/// Clients of a server with a thread for each, what memory it has, how long they ask, and the longest that one may wait
/// for an answer (wrk's own measure of a time-out).
const CROWD: usize = 256;
const CROWD_MEMORY_MIB: u64 = 256;
const CROWD_TIME: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Where `iperf3` is served.
const IPERF_PORT: u16 = 5201;
const TLS_PORT: u16 = 8443;
const BOOT_TIME_OUT: Duration = Duration::from_secs(30);

/// All of them.
pub(crate) const TESTS: [TapTest; 12] = [
    TapTest::new("http_syn_flood", syn_flood),
    TapTest::new("http_slow_clients", slow_clients),
    TapTest::new("http_resets", resets),
    TapTest::new("http_accept_storm", accept_storm),
    TapTest::new("axum_accept_storm", accept_storm_by_two),
    TapTest::new("http_fragments", fragments).on_one(),
    TapTest::new("http_deaf_clients", deaf_clients).on_one(),
    TapTest::new("threads_crowd", crowd).on_one(),
    TapTest::new("http_time_wait", time_wait).on_one(),
    TapTest::new("http_h2load", h2load_plain).on_one().with("h2load"),
    TapTest::new("tls_h2load", h2load_tls).with("h2load"),
    TapTest::new("iperf3", iperf3).with("iperf3"),
];

/// Boots `http`, attacks it, and asks as a good client meanwhile. A counter of the guest's tells that there was an attack.
fn under_attack(kind: Kind, attack: Attack, counter: &str, least: u64) -> Result<()> {
    namespace::set_up(Queues::One)?;
    let server = Server::boot_on_tap("http", kind, MEMORY_MIB)?;
    let service = attacks::serve_during(attack, TIME)?;
    ensure!(service.failed == 0, "good clients were not served: {service:?}");
    ensure!(service.answered >= LEAST_ANSWERED, "good clients were hardly served: {service:?}");
    let counted = server.metric(counter)?;
    ensure!(counted >= least, "that was no attack: {counter} is {counted}");
    server.check_alive()
}

fn syn_flood(kind: Kind) -> Result<()> {
    under_attack(kind, attacks::flood, "unikernel_net_cookies_given_total", 1000)
}

fn slow_clients(kind: Kind) -> Result<()> {
    let clients = (SLOW_CLIENTS + LEAST_ANSWERED) as u64;
    under_attack(kind, attacks::slow_clients, "http_connections_total", clients)
}

fn resets(kind: Kind) -> Result<()> {
    under_attack(kind, attacks::resets, "unikernel_net_resets_received_total", 100)
}

fn fragments(kind: Kind) -> Result<()> {
    under_attack(kind, attacks::fragments, "unikernel_net_fragments_total", 1000)
}

fn deaf_clients(kind: Kind) -> Result<()> {
    let clients = (DEAF_CLIENTS + LEAST_ANSWERED) as u64;
    under_attack(kind, attacks::deaf_clients, "http_connections_total", clients)
}

/// Twice, since what the first takes for good the second may use again: memory is bounded. In between the guest has time
/// to see the first ten thousand off.
fn accept_storm(kind: Kind) -> Result<()> {
    namespace::set_up(Queues::One)?;
    namespace::lengthen_queue(CONNECTIONS_AT_ONCE)?;
    let server = Server::boot_on_tap("http", kind, storm::MEMORY_MIB)?;
    let (before, mut free) = (server.settled_free_memory()?, Vec::new());
    for _ in 0..2 {
        pass_storm()?;
        thread::sleep(FAREWELL);
        free.push(server.settled_free_memory()?);
    }
    ensure!(server.metric("http_accept_errors_total")? == 0, "connections were closed at the door");
    let (first, second) = (before - free[0], free[0] - free[1]);
    ensure!(second <= first / 10, "memory grew by {first} bytes, then again by {second}");
    server.check_alive()
}

/// The same for two processors, each with its own queue of the card's: what arrives at the wrong one is handed over, from
/// either side at the same time. The app has much memory in many pieces, all of which it gives back in between.
fn accept_storm_by_two(kind: Kind) -> Result<()> {
    namespace::set_up(Queues::Several)?;
    namespace::lengthen_queue(CONNECTIONS_AT_ONCE)?;
    let mut machine = Machine::new(kind, &project::built("http-axum")?);
    machine.memory_mib = storm::MEMORY_MIB;
    machine.net = Net::Tap { name: TAP.into(), queues: 2 };
    machine.nic = Nic::ManyQueues;
    machine.cpus = 2;
    machine.append = "ip=10.0.2.15/24".into();
    let guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(BOOT_TIME_OUT, || http::answers(guest_address()))?;
    for _ in 0..2 {
        pass_storm().with_context(|| guest.console())?;
        thread::sleep(FAREWELL);
    }
    // Not at once: a busy host may need longer than the moment that `answers` waits.
    let gone = || format!("it does not answer any more: {}", guest.console());
    let response = http::get(guest_address(), "/").with_context(gone)?;
    ensure!(response.status == 200, "it answers {response:?}");
    Ok(())
}

fn pass_storm() -> Result<()> {
    let storm = storm::at_once(guest_address(), CONNECTIONS_AT_ONCE, Farewell::Fin)?;
    ensure!(storm.answered == storm.connections, "connections were refused or lost: {storm:?}");
    Ok(())
}

/// A thread for each of 256 connections, which all ask all the time: none is starved, at the door, in the run queue or
/// anywhere else. Not behind QEMU's user network: it listens on the host with a backlog of one, so that of 256 connections
/// begun at once the host itself drops most SYNs, and some of their repetitions, for seconds.
fn crowd(kind: Kind) -> Result<()> {
    namespace::set_up(Queues::One)?;
    let server = Server::boot_on_tap("http-threads", kind, CROWD_MEMORY_MIB)?;
    let crowd = storm::crowd(guest_address(), CROWD, CROWD_TIME)?;
    ensure!(crowd.longest < LONGEST_WAIT && crowd.fewest > 1, "somebody is starved: {crowd:?}");
    server.check_alive()
}

/// Connections that the server ends: the last third is served as fast as the first, and costs no memory.
fn time_wait(kind: Kind) -> Result<()> {
    namespace::set_up(Queues::One)?;
    let server = Server::boot_on_tap("http", kind, MEMORY_MIB)?;
    let mut thirds = Vec::new();
    let mut free = Vec::new();
    for _ in 0..3 {
        thirds.push(storm::one_after_another(guest_address(), CONNECTIONS_IN_TURN / 3));
        free.push(server.settled_free_memory()?);
    }
    ensure!(thirds.iter().all(|third| third.failed == 0), "some were not served: {thirds:?}");
    let waiting = server.metric("unikernel_net_time_wait")?;
    ensure!((1..CONNECTIONS_IN_TURN as u64 / 3).contains(&waiting), "{waiting} are remembered");
    ensure!(free[0] - free[2] <= ALLOWED_GROWTH, "memory grew by {} bytes", free[0] - free[2]);
    // The host has other things to do, too; a table that is walked would cost much more than half.
    ensure!(thirds[2].per_second >= 0.5 * thirds[0].per_second, "it has become slow: {thirds:?}");
    server.check_alive()
}

/// A guest on the tap device that says when it listens.
fn listening(app: &str, kind: Kind) -> Result<Vm> {
    namespace::set_up(Queues::One)?;
    let mut machine = Machine::new(kind, &project::built(app)?);
    machine.net = Net::Tap { name: TAP.into(), queues: 1 };
    machine.append = "ip=10.0.2.15/24".into();
    let guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(BOOT_TIME_OUT, || guest.console().contains("listening"))?;
    Ok(guest)
}

/// Has `h2load` ask so often on 16 connections; every request must succeed.
fn h2load(requests: u32, more: &[&str], url: &str) -> Result<()> {
    let output = Command::new("h2load")
        .args(["--requests", &requests.to_string(), "--clients", "16"])
        .args(more)
        .arg(url)
        .output()
        .context("cannot run h2load")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let wanted = format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout");
    ensure!(text.contains(&wanted), "{url} {more:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn h2load_plain(kind: Kind) -> Result<()> {
    namespace::set_up(Queues::One)?;
    let server = Server::boot_on_tap("http", kind, MEMORY_MIB)?;
    h2load(20_000, &["--h1"], &format!("http://{}/", guest_address()))?;
    server.check_alive()
}

/// HTTP/2 with ten streams at once on each connection, and HTTP/1.1.
fn h2load_tls(kind: Kind) -> Result<()> {
    let guest = listening("tls", kind)?;
    let url = format!("https://{}/", SocketAddr::from((GUEST.0, TLS_PORT)));
    h2load(3_000, &["--max-concurrent-streams", "10"], &url)
        .and_then(|()| h2load(1_000, &["--h1"], &url))
        .with_context(|| guest.console())
}

/// Bulk data in both directions, on one stream and on four; first the same program served by Linux.
fn iperf3(kind: Kind) -> Result<()> {
    let guest = listening("iperf3", kind)?;
    let linux = Process::start(Command::new(project::image("iperf3")), Console::Recorded)?;
    while !linux.output().contains("listening") {
        ensure!(linux.try_wait()?.is_none(), "it ended on Linux: {}", linux.errors());
    }
    for address in ["127.0.0.1".to_owned(), guest_address().ip().to_string()] {
        for more in [&[][..], &["--reverse"], &["--parallel", "4"], &["--parallel", "4", "--reverse"]] {
            measure(&address, more)
                .with_context(|| format!("{address} {more:?}; console: {}", guest.console()))?;
        }
    }
    Ok(())
}

/// One run of the client: what one side says it has sent the other has received, but for what was under way.
fn measure(address: &str, more: &[&str]) -> Result<()> {
    /// A second of a slow guest.
    const LEAST_BYTES: u64 = 4 << 20;
    let output = Command::new("iperf3")
        .args(["--client", address, "--port", &IPERF_PORT.to_string(), "--time", "1", "--json"])
        .args(more)
        .output()
        .context("cannot run iperf3")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&text).with_context(|| text.clone().into_owned())?;
    let bytes = |sum: &str| report["end"][sum]["bytes"].as_u64().with_context(|| text.clone().into_owned());
    let (sent, received) = (bytes("sum_sent")?, bytes("sum_received")?);
    ensure!(LEAST_BYTES <= received && received <= sent, "{sent} bytes sent, {received} received");
    ensure!(received >= sent / 2, "{sent} bytes sent, {received} received");
    Ok(())
}
