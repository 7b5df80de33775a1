//! The owner's channel of guests that hang, that work, and whose owner misbehaves.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guest_tests::{NamedTest, free_port};
use crate::http::{self, Client};
use crate::machine::{Kind, Machine, Net};
use crate::project::{self, Profile};
use crate::vm::{Console, Vm};

const TIME_OUT: Duration = Duration::from_secs(30);
/// How long a guest that hangs may take to say what its threads do.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut all: Vec<NamedTest> = Vec::new();
    for kind in [Kind::Q35, Kind::Microvm] {
        for cpus in [1, 2] {
            all.push((format!("observe_hung {cpus} [{kind}]"), Box::new(move || hung(kind, cpus))));
        }
    }
    all.push(("observe_pages".to_owned(), Box::new(pages)));
    all.push(("observe_bad_clients".to_owned(), Box::new(bad_clients)));
    all.push(("observe_strangers".to_owned(), Box::new(strangers)));
    all
}

/// A guest and where it tells what goes on in it.
struct Observed {
    guest: Vm,
    at: SocketAddr,
}

impl Observed {
    fn start(machine: &mut Machine) -> Result<Self> {
        let port = free_port()?;
        machine.observe_at(port)?;
        let guest = Vm::start(machine, Console::Recorded)?;
        guest.wait_until(TIME_OUT, || guest.console().contains("what goes on here is told"))?;
        Ok(Self { guest, at: SocketAddr::from(([127, 0, 0, 1], port)) })
    }

    /// A page, of which there must be one.
    fn page(&self, path: &str) -> Result<String> {
        let answer = http::get(self.at, path)?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        Ok(answer.body)
    }
}

/// A machine for an app that listens at port 8080, which leads nowhere here.
fn machine(kind: Kind, image: &std::path::Path) -> Result<Machine> {
    let mut machine = Machine::new(kind, image);
    machine.net = Net::User(free_port()?, 8080);
    Ok(machine)
}

fn hung(kind: Kind, cpus: u32) -> Result<()> {
    project::build("guest-tests", &["hangs"], Profile::Release)?;
    for (how, expected) in [
        ("spin", &["spins_for_ever"][..]),
        ("deadlock", &["futex(", "holds_one_and_wants_another", "\"other\": sleeps", "\"hangs\": sleeps"]),
    ] {
        let mut machine = machine(kind, &project::image("hangs"))?;
        machine.cpus = cpus;
        machine.append = format!("log=info -- {how}");
        let observed = Observed::start(&mut machine)?;
        let guest = &observed.guest;
        guest.wait_until(TIME_OUT, || guest.console().contains("ready"))?;
        // Until it hangs.
        thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        let text = observed.page("/threads")?;
        let took = start.elapsed();
        ensure!(took < ANSWER_TIME, "{how}: it took {took:?}");
        for word in expected {
            ensure!(text.contains(word), "{how}: no {word} in\n{text}");
        }
    }
    Ok(())
}

fn pages() -> Result<()> {
    let image = project::build_app("http")?;
    let mut machine = machine(Kind::Q35, &image)?;
    machine.append = "log=info".to_owned();
    let observed = Observed::start(&mut machine)?;
    let guest = &observed.guest;
    guest.wait_until(TIME_OUT, || http::metric(observed.at, "unikernel_uptime_milliseconds").is_ok())?;
    let index = observed.page("/")?;
    for line in index.lines() {
        let path = line.split(' ').next().context("a path")?;
        ensure!(!observed.page(path)?.is_empty(), "{path} is empty");
    }
    let sockets = observed.page("/sockets")?;
    let is_ours =
        |line: &str| line.starts_with("ESTAB") && line.contains(&format!(":{} ", observed.at.port()));
    ensure!(sockets.contains("LISTEN") && sockets.lines().any(is_ours), "{sockets}");
    ensure!(sockets.contains(" mss:") && sockets.contains(" rto:"), "{sockets}");
    let threads = observed.page("/threads?stacks=off")?;
    ensure!(threads.contains("epoll_") && !threads.contains("0x0"), "{threads}");
    let missing = http::get(observed.at, "/thread")?;
    ensure!(
        missing.status == 404 && missing.body.contains("/threads"),
        "{}: {}",
        missing.status,
        missing.body
    );
    // As a person asks.
    let me = std::env::current_exe()?;
    let asked = Command::new(me).args(["ss", "--at", &observed.at.to_string()]).output()?;
    ensure!(asked.status.success() && asked.stdout.starts_with(b"State"), "{asked:?}");
    Ok(())
}

/// One sends half a request, one nonsense, one reads nothing: another is served meanwhile, as long as there is one place, and all are
/// in the end.
fn bad_clients() -> Result<()> {
    let image = project::build_app("http")?;
    let mut machine = machine(Kind::Q35, &image)?;
    machine.append = "log=info".to_owned();
    let observed = Observed::start(&mut machine)?;
    let mut half = TcpStream::connect(observed.at)?;
    half.write_all(b"GET /thre")?;
    for nonsense in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"POST / HTTP/1.1\r\n\r\n", &[b'a'; 9000]]
    {
        let mut client = TcpStream::connect(observed.at)?;
        client.set_read_timeout(Some(TIME_OUT))?;
        client.write_all(nonsense)?;
        let mut answer = Vec::new();
        // A reset is an answer, too: not all of a long one was read.
        let _ = client.read_to_end(&mut answer);
        ensure!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", answer.escape_ascii());
    }
    ensure!(observed.page("/threads")?.contains("cores"));
    // Asks, and does not read: it is given up, as the first is.
    let mut deaf = TcpStream::connect(observed.at)?;
    for _ in 0..2000 {
        if deaf.write_all(b"GET /threads HTTP/1.1\r\n\r\n").is_err() {
            break;
        }
        deaf.set_write_timeout(Some(Duration::from_millis(100)))?;
    }
    let start = Instant::now();
    while Client::connect(observed.at).and_then(|mut client| client.get("/")).is_err() {
        ensure!(start.elapsed() < Duration::from_secs(60), "nobody is served any more");
    }
    // Several on one connection.
    let mut client = Client::connect(observed.at)?;
    for _ in 0..3 {
        ensure!(client.get("/")?.status == 200);
    }
    Ok(())
}

/// Who may not ask does not even get a connection.
fn strangers() -> Result<()> {
    let image = project::build_app("http")?;
    let port = free_port()?;
    let mut machine = Machine::new(Kind::Q35, &image);
    machine.net = Net::User(port, 9100);
    machine.append = "log=info observe=tcp:9100:10.0.2.77,fd00::/8".to_owned();
    let guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(TIME_OUT, || guest.console().contains("what goes on here is told"))?;
    let mut stranger = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))?;
    stranger.set_read_timeout(Some(Duration::from_secs(3)))?;
    let _ = stranger.write_all(b"GET /threads HTTP/1.1\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stranger.read_to_end(&mut answer);
    ensure!(answer.is_empty(), "{}", answer.escape_ascii());
    Ok(())
}
