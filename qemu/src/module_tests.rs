//! Modules of the kernel: built as a user builds them, put into an initrd, loaded into a kernel that is the one of every image.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guest_tests::{NamedTest, free_port};
use crate::http::Client;
use crate::machine::{Kind, Machine, Net};
use crate::vm::{Console, Ending, Vm};
use crate::{http, module_file, project, run};

const TIME_OUT: Duration = Duration::from_secs(120);
/// How often a module comes and goes in `make test`; with this variable, as often as it says (the mark is 10,000).
const TIMES: usize = 300;
const TIMES_VARIABLE: &str = "MODULE_ROUNDS";
const MODULES: [&str; 4] = ["hello", "count", "watchdog", "faulty"];

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = Vec::new();
    for kind in [Kind::Q35, Kind::Microvm] {
        tests.push((format!("modules_hello [{kind}]"), Box::new(move || hello(kind))));
        tests.push((format!("modules_listed [{kind}]"), Box::new(move || listed(kind))));
        tests.push((format!("modules_come_and_go [{kind}]"), Box::new(move || come_and_go(kind))));
    }
    tests.push(("modules_panic [q35]".into(), Box::new(panics)));
    tests.push(("modules_count_frames [q35]".into(), Box::new(count)));
    tests.push(("modules_watchdog [q35]".into(), Box::new(watchdog)));
    tests
}

/// The folder with the modules, and the list of those that the machine loads by itself; a file of it for an initrd.
fn initrd(name: &str, list: &str) -> Result<PathBuf> {
    let folder = project::work_dir("module-tests")?.join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("lib/modules"))?;
    fs::create_dir_all(folder.join("etc"))?;
    fs::write(folder.join("etc/modules"), list)?;
    for module in MODULES {
        let source = project::root().join("modules").join(module);
        module_file::build_to(&source, &folder.join(format!("lib/modules/{module}.ko")))?;
    }
    run::initrd_file(&folder, &format!("modules-{name}"))
}

/// A module's file.
pub(crate) fn module(name: &str) -> Result<Vec<u8>> {
    let path = project::work_dir("module-tests")?.join(format!("{name}.ko"));
    module_file::build_to(&project::root().join("modules").join(name), &path)?;
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn machine(kind: Kind, append: &str, list: &str) -> Result<Machine> {
    let mut machine = Machine::new(kind, &project::built("modules")?);
    machine.cpus = if kind == Kind::Q35 { 2 } else { 1 };
    machine.append = append.to_owned();
    machine.initrd = Some(initrd(&format!("{kind}"), list)?);
    Ok(machine)
}

fn end(mut guest: Vm) -> Result<Ending> {
    let ending = guest.wait(Some(TIME_OUT))?;
    ending.with_context(|| format!("it did not end: {}", guest.console()))
}

fn boot(machine: &Machine) -> Result<Ending> {
    let ending = end(Vm::start(machine, Console::Recorded)?)?;
    ensure!(ending.code == Some(0), "{:?}: {}", ending.code, ending.console);
    Ok(ending)
}

/// What a module is and does, and each refusal with its line.
fn hello(kind: Kind) -> Result<()> {
    let console = boot(&machine(kind, "modules=open -- hello", "")?)?.console;
    for line in [
        "hello: hello, you all",
        "module hello: unknown parameter `strange` ignored",
        "hello: goodbye",
        "hello: tick",
        "bad.ko: not loaded: it is no ELF file",
        "bad.ko: not loaded: it is for version 9 of the interface",
        "bad.ko: not loaded: unknown symbol `uk_device_adx`",
        "it was built for version 2 of `uk_log`, and there is version 1",
        "its parameter `times` cannot be that",
    ] {
        ensure!(console.contains(line), "the console does not show `{line}`: {console}");
    }
    ensure!(console.matches("hello: tick").count() == 1, "work that was taken back was done: {console}");
    Ok(())
}

/// A list and the command line load modules; what cannot be loaded is told, and the app starts. Then they are sealed.
fn listed(kind: Kind) -> Result<()> {
    let words = "module=\"count drop_type=0x806\" module=nobody -- listed";
    let console = boot(&machine(kind, words, "# ours\nhello who=list\n\n")?)?.console;
    let line = "module nobody: /lib/modules/nobody.ko cannot be read: ENOENT";
    ensure!(console.contains(line), "the console does not show `{line}`: {console}");
    Ok(())
}

/// A module comes and goes while requests are answered: none fails, and nothing is left.
fn come_and_go(kind: Kind) -> Result<()> {
    let times = std::env::var(TIMES_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(TIMES);
    let port = free_port()?;
    let mut machine = machine(kind, &format!("modules=open log=warn -- serve {times}"), "")?;
    machine.net = Net::User(port, 8080);
    let guest = Vm::start(&machine, Console::Recorded)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    guest.wait_until(TIME_OUT, || http::answers(address))?;
    let start = Instant::now();
    let mut requests = 0;
    let mut kept = Client::connect(address)?;
    loop {
        // On a connection that stays, and on a new one.
        for _ in 0..20 {
            ensure!(kept.get("/")?.body == "Hello, World!", "request {requests}");
            requests += 1;
        }
        ensure!(http::get(address, "/")?.body == "Hello, World!", "request {requests}");
        requests += 1;
        if kept.get("/state")?.body == usize::MAX.to_string() {
            break;
        }
        if guest.try_wait()?.is_some() {
            break;
        }
    }
    let _ = http::get(address, "/end");
    let ending = end(guest)?;
    ensure!(ending.code == Some(0), "{:?}: {}", ending.code, ending.console);
    let told = ending.console.lines().find(|line| line.contains("times in")).unwrap_or_default();
    println!("        {told}; {requests} requests, {:.1} s, none failed", start.elapsed().as_secs_f32());
    Ok(())
}

/// A module that panics ends the machine; the report names it, and its functions, and shows what was recorded last.
fn panics() -> Result<()> {
    let words = "modules=open trace=events -- panics";
    let ending = end(Vm::start(&machine(Kind::Q35, words, "")?, Console::Recorded)?)?;
    for line in ["KERNEL PANIC: module faulty: ", "as it was told to", "[faulty]", "last events of core 0"] {
        ensure!(ending.console.contains(line), "the report does not show `{line}`: {}", ending.console);
    }
    // The call in which it panicked has begun, and not ended.
    let (_, events) = ending.console.rsplit_once("call number=").context("no call among the last events")?;
    ensure!(events.starts_with("1 first=") && !events.contains("call end"), "the last call: {events}");
    ensure!(ending.code == Some(101), "{:?}: {}", ending.code, ending.console);
    Ok(())
}

/// A module sees frames before and after the packet filter.
fn count() -> Result<()> {
    let port = free_port()?;
    let words = "module=count filter=deny allow=tcp/8080 -- count";
    let mut machine = machine(Kind::Q35, words, "")?;
    machine.net = Net::User(port, 8080);
    let guest = Vm::start(&machine, Console::Recorded)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    guest.wait_until(TIME_OUT, || http::answers(address))?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    for _ in 0..20 {
        // The filter knows nothing of UDP.
        socket.send_to(b"denied", address)?;
        http::get(address, "/")?;
    }
    let _ = http::get(address, "/end");
    let ending = end(guest)?;
    ensure!(ending.code == Some(0), "{:?}: {}", ending.code, ending.console);
    Ok(())
}

/// A watchdog that is kept alive does nothing, and one that is not ends the machine.
fn watchdog() -> Result<()> {
    for (how, action) in [("keep", "reset"), ("let", "poweroff")] {
        let words = format!("module=watchdog -- watchdog {how}");
        let mut machine = machine(Kind::Q35, &words, "")?;
        let devices = ["-device", "i6300esb", "-action", &format!("watchdog={action}")].map(str::to_owned);
        machine.extra.extend(devices);
        let start = Instant::now();
        let ending = end(Vm::start(&machine, Console::Recorded)?)?;
        let console = &ending.console;
        ensure!(console.contains("watchdog: i6300esb: 30 s"), "{how}: {console}");
        if how == "keep" {
            ensure!(ending.code == Some(0), "{how}: {:?}: {console}", ending.code);
        } else {
            ensure!(console.contains("nobody keeps it alive"), "{how}: {console}");
            ensure!(
                start.elapsed() < Duration::from_secs(40),
                "it ended, but not by the watchdog: {console}"
            );
            ensure!(!console.contains("the app exited"), "{how}: {console}");
        }
    }
    Ok(())
}
