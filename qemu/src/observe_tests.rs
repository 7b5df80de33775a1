//! The owner's channel of guests that hang, that work, and whose owner misbehaves.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

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
    all.push(("observe_trace".to_owned(), Box::new(recorded)));
    all.push(("observe_trace_from_boot".to_owned(), Box::new(recorded_from_boot)));
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

/// What a server does for its clients is in the recording, from the frame to the answer, and Perfetto's own definitions read the timeline.
fn recorded() -> Result<()> {
    let image = project::build_app("http")?;
    let mut machine = machine(Kind::Q35, &image)?;
    machine.cpus = 2;
    machine.append = "log=info".to_owned();
    let port = match machine.net {
        Net::User(port, _) => port,
        _ => bail!("the machine has no port"),
    };
    let observed = Observed::start(&mut machine)?;
    let app = SocketAddr::from(([127, 0, 0, 1], port));
    observed.guest.wait_until(TIME_OUT, || http::answers(app))?;
    let path = project::work_dir("guest-tests")?.join("observe_trace.pftrace");
    let is_over = AtomicBool::new(false);
    let written = thread::scope(|scope| -> Result<Output> {
        let clients = scope.spawn(|| -> Result<usize> {
            let mut answers = 0;
            while !is_over.load(Ordering::Relaxed) {
                let mut client = Client::connect(app)?;
                for _ in 0..20 {
                    ensure!(client.get("/")?.status == 200);
                    answers += 1;
                }
            }
            Ok(answers)
        });
        let at = observed.at.to_string();
        let me = std::env::current_exe()?;
        let written = Command::new(me).args(["trace", "--at", &at, "-o"]).arg(&path).output();
        is_over.store(true, Ordering::Relaxed);
        let answers = clients.join().map_err(|_| anyhow!("the client has panicked"))??;
        ensure!(answers > 50, "{answers} answers");
        Ok(written?)
    })?;
    let said = String::from_utf8_lossy(&written.stdout);
    ensure!(written.status.success() && said.contains("events"), "{written:?}");
    let checker = project::root().join("qemu/check-perfetto.py");
    let checked =
        Command::new("python3").arg(checker).arg(&path).env("PYTHONPATH", perfetto_package()?).output()?;
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    ensure!(checked.status.success(), "{told}{}", String::from_utf8_lossy(&checked.stderr));
    for wanted in [
        "core 0",
        "core 1",
        "http",
        ":8080 10.0.2.2:",
        "epoll_wait",
        "frame in",
        "frame out",
        "epoll ready",
        "tcp state",
        "vector",
    ] {
        ensure!(told.contains(wanted), "no {wanted} in\n{told}");
    }
    Ok(())
}

/// Perfetto's own definitions of its format, from its package.
fn perfetto_package() -> Result<PathBuf> {
    let folder = project::work_dir("tools")?.join("perfetto-0.59.1");
    if !folder.join("perfetto").is_dir() {
        let arguments = ["-m", "pip", "install", "--quiet", "--target"];
        let packages = ["perfetto==0.59.1", "protobuf>=5,<7"];
        let installed = Command::new("python3").args(arguments).arg(&folder).args(packages).output()?;
        ensure!(installed.status.success(), "pip: {}", String::from_utf8_lossy(&installed.stderr));
    }
    Ok(folder)
}

/// `trace=events` has kept the boot, and a kernel that panics tells what came last.
fn recorded_from_boot() -> Result<()> {
    let image = project::build_app("http")?;
    let mut machine = machine(Kind::Microvm, &image)?;
    machine.append = "log=info trace=events".to_owned();
    let observed = Observed::start(&mut machine)?;
    let me = std::env::current_exe()?;
    let at = observed.at.to_string();
    let kept = Command::new(me).args(["trace", "--text", "--seconds", "0", "--at", &at]).output()?;
    let lines = String::from_utf8_lossy(&kept.stdout);
    for wanted in
        ["boot phase=1", "boot phase=5", "page fault error=", "epoll_create1: call", "interrupt vector="]
    {
        ensure!(lines.contains(wanted), "no {wanted:?} in\n{lines}");
    }
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
