//! `tail` names what makes the slow requests of a server slow: a lock, the disk, a neighbour on the core, the wire.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::disk::{self, Disk};
use crate::guest_tests::{NamedTest, free_port};
use crate::http::{self, Client};
use crate::impairment::{Forwarder, Trouble};
use crate::machine::{Kind, Machine, Net};
use crate::namespace::{self, Queues, guest_address};
use crate::observe;
use crate::project::{self, Profile};
use crate::tap_tests::TapTest;
use crate::vm::{Console, Vm};

const TIME_OUT: Duration = Duration::from_secs(60);
/// Clients that ask one question after the other.
const CLIENTS: usize = 8;
/// Bytes a second that the slow disk takes.
const WRITE_LIMIT: u64 = 2 << 20;

pub(crate) const TESTS: [TapTest; 1] = [TapTest::new("tail_wire", wire).on_one()];

/// Those that do not need a wire of their own.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![
        ("tail_lock".to_owned(), Box::new(lock)),
        ("tail_disk".to_owned(), Box::new(slow_disk)),
        ("tail_core".to_owned(), Box::new(core)),
    ]
}

/// A machine with one core for the server that is slow in one way.
fn machine(how: &str) -> Result<Machine> {
    project::build("guest-tests", &["slow_server"], Profile::Release)?;
    let mut machine = Machine::new(Kind::Q35, &project::image("slow_server"));
    machine.append = format!("log=info -- {how}");
    Ok(machine)
}

/// What `tail` says of it, under load, over QEMU's own network.
fn told(mut machine: Machine, clients: usize) -> Result<String> {
    let (port, at) = (free_port()?, free_port()?);
    machine.net = Net::User(port, 8080);
    machine.observe_at(at)?;
    let guest = Vm::start(&machine, Console::Recorded)?;
    let [app, at] = [port, at].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    guest.wait_until(TIME_OUT, || http::answers(app))?;
    let text = look(app, at, clients, 3).with_context(|| guest.console())?;
    print!("{text}");
    Ok(text)
}

/// As a person looks, while clients ask.
fn look(app: SocketAddr, at: SocketAddr, clients: usize, seconds: u64) -> Result<String> {
    let (is_over, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ask = || -> Result<()> {
        let mut client = Client::connect(app)?;
        client.set_patience(TIME_OUT)?;
        while !is_over.load(Ordering::Relaxed) {
            ensure!(client.get("/")?.status == 200);
            answers.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let told = thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        let me = std::env::current_exe()?;
        let words = ["tail", "--seconds", &seconds.to_string(), "--at", &at.to_string()];
        let told = Command::new(me).args(words).output();
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client does not panic")?;
        }
        Ok::<_, anyhow::Error>(told?)
    })?;
    ensure!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    ensure!(answers.load(Ordering::Relaxed) > 50, "{answers:?} answers");
    Ok(String::from_utf8(told.stdout)?)
}

/// The line that says what the slowest spend their time on.
fn verdict(text: &str) -> Result<&str> {
    text.lines().find(|line| line.starts_with("the slow ones")).with_context(|| text.to_owned())
}

fn expect(text: &str, cause: &str, words: &[&str]) -> Result<()> {
    let said = verdict(text)?;
    ensure!(said.ends_with(cause), "not {cause:?}: {said}\n{text}");
    for word in words {
        ensure!(text.contains(word), "no {word:?} in\n{text}");
    }
    Ok(())
}

/// A lock is held for 40 ms once in 200 requests.
fn lock() -> Result<()> {
    let text = told(machine("lock")?, CLIENTS)?;
    expect(&text, "futex (lock, condition)", &["in futex(0x", "woken by thread"])
}

/// One request in 25 writes to a disk that takes two megabytes a second, and waits for it: in fsync(2), or whatever call needs the disk next.
fn slow_disk() -> Result<()> {
    let mut machine = machine("disk")?;
    let image = project::work_dir("guest-tests")?.join("tail_disk.img");
    disk::make(&image, None, "64M", &[])?;
    machine.disks.push(Disk { write_limit: Some(WRITE_LIMIT), ..Disk::new(&image) });
    machine.append = format!("root=blk0 {}", machine.append);
    let text = told(machine, CLIENTS)?;
    expect(&text, ": disk", &["disk, in "])
}

/// A thread of the app's burns the only core.
fn core() -> Result<()> {
    let text = told(machine("core")?, 2)?;
    expect(&text, "waits for a core", &["which this had: thread", "\"burner\""])
}

/// Three frames of a hundred are lost on the wire, each way.
fn wire(_: Kind) -> Result<()> {
    namespace::set_up(Queues::One)?;
    let wire = (free_port()?, free_port()?);
    let mut machine = machine("wire")?;
    machine.net = Net::Frames { wire };
    machine.append = format!("ip=10.0.2.15/24 observe=tcp:{}:10.0.2.1 {}", observe::PORT, machine.append);
    let guest = Vm::start(&machine, Console::Recorded)?;
    let trouble = Trouble { loss: 3000, delay: Duration::from_millis(1), ..Trouble::default() };
    let _forwarder = Forwarder::start(wire, trouble, 1)?;
    guest.wait_until(TIME_OUT, || http::answers(guest_address()))?;
    let mut at = guest_address();
    at.set_port(observe::PORT);
    let text = look(guest_address(), at, CLIENTS, 4).with_context(|| guest.console())?;
    print!("{text}");
    expect(&text, "lost, and sent again", &[])
}
