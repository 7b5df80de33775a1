//! Memory that the host borrows: it comes and goes as the host asks, never so much that the machine cannot go on, and
//! back when the app needs it, if the host says that it may.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::guest_tests::{NamedTest, free_port};
use crate::http_tests::Server;
use crate::machine::{Kind, Machine, Net};
use crate::project::{self, Profile};
use crate::qmp;
use crate::vm::{Console, Vm};

const MIB: u64 = 1 << 20;
const MEMORY_MIB: u64 = 256;
/// The balloon's place among QEMU's objects.
const DEVICE: &str = "/machine/peripheral/balloon0";
const TIME_OUT: Duration = Duration::from_secs(30);
/// The exit code of an app for which there is no memory.
const OUT_OF_MEMORY: u8 = 137;

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = Vec::new();
    for (kind, device) in [(Kind::Q35, "virtio-balloon-pci"), (Kind::Microvm, "virtio-balloon-device")] {
        tests.push((format!("balloon_moves [{kind}]"), Box::new(move || moves(kind, device))));
    }
    tests.push(("balloon_takes_not_all [q35]".into(), Box::new(takes_not_all)));
    for (place, profile) in [("q35", Profile::Release), ("q35, checked", Profile::Debug)] {
        tests.push((
            format!("balloon_gives_way [{place}]"),
            Box::new(move || under_pressure(profile, "on", 0)),
        ));
    }
    let stays = || under_pressure(Profile::Release, "off", OUT_OF_MEMORY);
    tests.push(("balloon_stays [q35]".into(), Box::new(stays)));
    tests
}

/// A machine with a balloon, and its control socket.
fn machine(kind: Kind, program: &Path, device: &str) -> Result<(Machine, PathBuf)> {
    let control = project::work_dir("boot")?.join(format!("balloon-{}.qmp", std::process::id()));
    let mut machine = Machine::new(kind, program);
    machine.memory_mib = MEMORY_MIB;
    machine.extra.extend(["-device".to_owned(), format!("{device},id=balloon0")]);
    machine.extra.extend(qmp::arguments(&control));
    Ok((machine, control))
}

/// Gives QEMU a command; answers what it returns.
fn ask(control: &Path, command: &str, arguments: Value) -> Result<Value> {
    let command = json!({ "execute": command, "arguments": arguments }).to_string();
    let mut answer: Value = serde_json::from_str(&qmp::execute(control, &[&command])?)?;
    Ok(answer["return"].take())
}

/// Leaves the machine so much memory, if it can be had.
fn leave(control: &Path, bytes: u64) -> Result<()> {
    ask(control, "balloon", json!({ "value": bytes })).map(drop)
}

/// How much the machine has, as it says.
fn actual(control: &Path) -> Result<u64> {
    let answer = ask(control, "query-balloon", json!({}))?;
    answer["actual"].as_u64().with_context(|| format!("no size in {answer}"))
}

/// Waits until the machine has come so far, however it is seen.
fn wait_until(control: &Path, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(start.elapsed() < TIME_OUT, "the machine has {} bytes, and not {what}", actual(control)?);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn wait_for_actual(control: &Path, wanted: u64) -> Result<()> {
    wait_until(control, &format!("{wanted}"), || Ok(actual(control)? == wanted))
}

/// There and back, in steps that are no whole messages; a server goes on meanwhile.
fn moves(kind: Kind, device: &str) -> Result<()> {
    let port = free_port()?;
    let (mut machine, control) = machine(kind, &project::built("http")?, device)?;
    machine.net = Net::User(port, 8080);
    let server = Server::start(machine, "http", MEMORY_MIB, port)?;
    let all = MEMORY_MIB * MIB;
    let before = server.settled_free_memory()?;
    for left in [all - MIB, 128 * MIB, 100 * MIB + 4096, 200 * MIB, 96 * MIB, all - 4096] {
        leave(&control, left)?;
        wait_for_actual(&control, left)?;
        ensure!(server.metric("unikernel_memory_lent_bytes")? == all - left, "with {left} bytes left");
        server.check_alive()?;
    }
    leave(&control, all)?;
    wait_for_actual(&control, all)?;
    ensure!(server.metric("unikernel_memory_lent_bytes")? == 0);
    let after = server.settled_free_memory()?;
    // The slab keeps some of what the requests took.
    ensure!((before - after).unsigned_abs() < MIB, "{before} bytes were free before, {after} are after");
    let poll = json!({ "path": DEVICE, "property": "guest-stats-polling-interval", "value": 1 });
    ask(&control, "qom-set", poll)?;
    wait_until(&control, "statistics", || has_statistics(&control))?;
    server.check_alive()
}

fn has_statistics(control: &Path) -> Result<bool> {
    let answer = ask(control, "qom-get", json!({ "path": DEVICE, "property": "guest-stats" }))?;
    let figure = |name: &str| answer["stats"][name].as_u64();
    let (Some(free), Some(total)) = (figure("stat-free-memory"), figure("stat-total-memory")) else {
        return Ok(false);
    };
    // What was never told reads as 2^64 - 1.
    Ok(total > MEMORY_MIB * MIB / 2 && total <= MEMORY_MIB * MIB && free < total)
}

/// A host that wants everything leaves enough to serve.
fn takes_not_all() -> Result<()> {
    let port = free_port()?;
    let (mut machine, control) = machine(Kind::Q35, &project::built("http")?, "virtio-balloon-pci")?;
    machine.net = Net::User(port, 8080);
    let server = Server::start(machine, "http", MEMORY_MIB, port)?;
    leave(&control, MIB)?;
    wait_until(&control, "64 MiB at most", || Ok(actual(&control)? <= 64 * MIB))?;
    std::thread::sleep(Duration::from_secs(2));
    for _ in 0..100 {
        server.check_alive()?;
    }
    ensure!(actual(&control)? > 16 * MIB, "the machine has given {} bytes too many", actual(&control)?);
    Ok(())
}

/// An app that comes to need more than the host has left.
fn under_pressure(profile: Profile, deflates: &str, code: u8) -> Result<()> {
    project::build("guest-tests", &["overcommit"], profile)?;
    let device = format!("virtio-balloon-pci,deflate-on-oom={deflates}");
    let (mut machine, control) = machine(Kind::Q35, &project::image_of("overcommit", profile), &device)?;
    machine.append = "-- lent".into();
    let mut guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(TIME_OUT, || guest.console().contains("lent: waiting"))?;
    leave(&control, 64 * MIB)?;
    let ending = guest.wait(Some(TIME_OUT))?.context("it does not end")?;
    ensure!(ending.code == Some(code), "{:?} and not {code}: {}", ending.code, ending.console);
    Ok(())
}
