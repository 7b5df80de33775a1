//! Tests from the network's side: clients, good and bad, against the booted servers.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::capture_tests;
use crate::frame_tests;
use crate::guest_tests::{NamedTest, free_port};
use crate::http::{self, Client};
use crate::machine::{Accelerator, Kind, Machine, Net, Nic};
use crate::namespace;
use crate::project;
use crate::run::initrd_file;
use crate::vm::{Console, Vm};

const SERVERS: [&str; 4] = ["http", "http-mio", "http-axum", "http-threads"];
const BOOT_TIME_OUT: Duration = Duration::from_secs(30);

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = Vec::new();
    for server in SERVERS {
        for kind in [Kind::Q35, Kind::Microvm] {
            tests.push((format!("{server}_serves [{kind}]"), Box::new(move || serves(server, kind))));
        }
    }
    tests.push(("http_serves [pc]".into(), Box::new(|| serves("http", Kind::Pc))));
    for kind in [Kind::Q35, Kind::Microvm] {
        let name = format!("http_on_a_modern_nic [{kind}]");
        tests.push((name, Box::new(move || modern_nic(kind))));
    }
    tests.push(("http_malformed_frames".into(), Box::new(frame_tests::malformed_frames)));
    tests.extend(capture_tests::all());
    tests.push(("http_static_files".into(), Box::new(static_files)));
    tests.push(("http_large_files".into(), Box::new(large_files)));
    tests.push(("http_many_connections_one_after_another".into(), Box::new(sequential_connections)));
    tests.push(("http_idle_core_needs_no_interrupts".into(), Box::new(interrupts)));
    tests.push(("http_small_memory".into(), Box::new(small_memory)));
    tests.push(("boot_unknown_option".into(), Box::new(unknown_option)));
    tests.push(("boot_absurd_memory".into(), Box::new(absurd_memory)));
    tests
}

/// A booted server.
pub(crate) struct Server {
    guest: Vm,
    address: SocketAddr,
}

impl Server {
    fn boot(app: &str, kind: Kind, memory_mib: u64) -> Result<Self> {
        let port = free_port()?;
        Self::boot_on(app, kind, memory_mib, Net::User(port, 8080), port)
    }

    /// Boots a server on a network of the caller's, on which `port` of the host leads to it.
    pub(crate) fn boot_on(app: &str, kind: Kind, memory_mib: u64, net: Net, port: u16) -> Result<Self> {
        let mut machine = Machine::new(kind, &project::built(app)?);
        machine.net = net;
        Self::start(machine, app, memory_mib, port)
    }

    /// Boots a server on the tap device of a namespace.
    pub(crate) fn boot_on_tap(app: &str, kind: Kind, memory_mib: u64) -> Result<Self> {
        let mut machine = Machine::new(kind, &project::built(app)?);
        machine.net = Net::Tap { name: namespace::TAP.into(), queues: 1 };
        machine.append = "ip=10.0.2.15/24".into();
        Self::start_at(machine, app, memory_mib, namespace::guest_address())
    }

    /// Boots a server on a machine of the caller's, whose network leads `port` of the host to it.
    pub(crate) fn start(machine: Machine, app: &str, memory_mib: u64, port: u16) -> Result<Self> {
        Self::start_at(machine, app, memory_mib, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn start_at(mut machine: Machine, app: &str, memory_mib: u64, address: SocketAddr) -> Result<Self> {
        let kind = machine.kind;
        machine.memory_mib = memory_mib;
        let files = project::root().join("apps").join(app).join("initrd");
        if files.is_dir() && machine.initrd.is_none() {
            machine.initrd = Some(initrd_file(&files, &format!("{app}-{kind}"))?);
        }
        let guest = Vm::start(&machine, Console::Recorded)?;
        guest.wait_until(BOOT_TIME_OUT, || http::answers(address))?;
        Ok(Self { guest, address })
    }

    /// Asks for a path on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Result<http::Response> {
        http::get(self.address, path)
    }

    /// A figure from its metrics.
    pub(crate) fn metric(&self, name: &str) -> Result<u64> {
        Ok(u64::try_from(http::metric(self.address, name)?)?)
    }

    /// Its free memory, in bytes.
    pub(crate) fn settled_free_memory(&self) -> Result<i64> {
        http::settled_free_memory(self.address)
    }

    /// After whatever was done to it: it still answers, and nothing has panicked.
    pub(crate) fn check_alive(&self) -> Result<()> {
        let response = http::get(self.address, "/").context("it does not answer any more")?;
        ensure!(response.body == "Hello, World!", "it answers {response:?}");
        ensure!(!self.guest.console().contains("KERNEL PANIC"), "the kernel panicked");
        Ok(())
    }
}

/// Routes, keep-alive, pipelining, garbage, half-open and abandoned connections, a burst.
fn serves(app: &str, kind: Kind) -> Result<()> {
    let server = Server::boot(app, kind, 128)?;
    let mut client = Client::connect(server.address)?;
    for _ in 0..3 {
        ensure!(client.get("/")?.body == "Hello, World!");
        ensure!(client.get("/json")?.body == r#"{"message":"Hello, World!"}"#);
        ensure!(client.get("/nothing")?.status == 404);
    }
    pipelining(server.address)?;
    garbage(server.address)?;
    abandoned(server.address)?;
    burst(server.address, 200)?;
    server.check_alive()
}

fn pipelining(address: SocketAddr) -> Result<()> {
    const REQUESTS: usize = 20;
    let mut client = Client::connect(address)?;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(REQUESTS).as_bytes())?;
    for index in 0..REQUESTS {
        let response = client.response().with_context(|| format!("pipelined response {index}"))?;
        ensure!(response.body == "Hello, World!");
    }
    Ok(())
}

fn garbage(address: SocketAddr) -> Result<()> {
    // hyper takes 400 KiB.
    let long_head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1_000_000));
    let bad: [&[u8]; 5] = [
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        long_head.as_bytes(),
    ];
    for bytes in bad {
        let mut client = Client::connect(address)?;
        // The server may hang up before all is sent.
        let _ = client.send(bytes);
        let status = client.response().map(|response| response.status);
        ensure!(
            !matches!(status, Ok(200)),
            "garbage was served: {:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(20)])
        );
    }
    Ok(())
}

/// Connects, and gives QEMU a moment: its user network takes one connection at a time from the host
/// (backlog 1), and what does not fit is tried again by the host after a second.
fn connect_gently(address: SocketAddr) -> Result<Client> {
    let client = Client::connect(address)?;
    thread::sleep(Duration::from_millis(3));
    Ok(client)
}

/// Connections that say nothing, half a request, or vanish before the answer.
fn abandoned(address: SocketAddr) -> Result<()> {
    let _silent: Vec<Client> = (0..20).map(|_| connect_gently(address)).collect::<Result<_>>()?;
    for _ in 0..20 {
        connect_gently(address)?.send(b"GET / HTT")?;
        connect_gently(address)?.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
    }
    ensure!(http::get(address, "/")?.status == 200, "others were not served meanwhile");
    Ok(())
}

/// Many connections at once, each served.
fn burst(address: SocketAddr, count: usize) -> Result<()> {
    let mut clients: Vec<Client> = (0..count).map(|_| connect_gently(address)).collect::<Result<_>>()?;
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
    }
    for client in &mut clients {
        ensure!(client.response()?.status == 200);
    }
    Ok(())
}

/// A device that speaks virtio 1.x only, where QEMU's usual one is transitional or legacy.
fn modern_nic(kind: Kind) -> Result<()> {
    let port = free_port()?;
    let mut machine = Machine::new(kind, &project::built("http")?);
    machine.net = Net::User(port, 8080);
    machine.nic = Nic::Modern;
    let server = Server::start(machine, "http", 64, port)?;
    burst(server.address, 50)?;
    server.check_alive()
}

fn static_files() -> Result<()> {
    let server = Server::boot("http", Kind::Microvm, 64)?;
    let page = http::get(server.address, "/static/index.html")?;
    let expected = std::fs::read_to_string(project::root().join("apps/http/initrd/www/index.html"))?;
    ensure!(page.status == 200 && page.body == expected, "the page is not the file: {page:?}");
    for path in ["/static/../secret", "/static/%2e%2e/secret", "/static/none.html", "/static//etc/hosts"] {
        let status = http::get(server.address, path)?.status;
        ensure!(status == 404 || status == 400, "{path} answered {status}");
    }
    server.check_alive()
}

/// One client, request by request: an idle core polls for a moment and sees the frame, so no interrupt is wanted for it.
fn interrupts() -> Result<()> {
    const REQUESTS: u64 = 200;
    const BATCHES: usize = 50;
    let port = free_port()?;
    let mut machine = Machine::new(Kind::Q35, &project::built("http")?);
    machine.net = Net::User(port, 8080);
    // The moment that the core polls for is counted in instructions: this host may be busy.
    machine.accelerator = Accelerator::Tcg;
    machine.extra = ["-icount", "shift=0,sleep=on"].map(str::to_owned).into();
    let server = Server::start(machine, "http", 64, port)?;
    let mut client = Client::connect(server.address)?;
    // A client that does not get a processor for longer than that moment finds the core asleep, rightly. A core that does not
    // poll, or not for long enough, needs an interrupt for each request of every batch.
    let mut fewest = u64::MAX;
    for _ in 0..BATCHES {
        let before = server.metric("unikernel_interrupts_total")?;
        for _ in 0..REQUESTS {
            client.get("/")?;
        }
        fewest = fewest.min(server.metric("unikernel_interrupts_total")? - before);
        if fewest < REQUESTS / 2 {
            return server.check_alive();
        }
    }
    bail!("{fewest} interrupts for {REQUESTS} requests")
}

/// Clients that ask for more than they read at once: a file is not copied for each of them, and what they asked for behind
/// it comes behind it.
fn large_files() -> Result<()> {
    const CLIENTS: usize = 16;
    let content = "0123456789abcdef".repeat(256 * 1024);
    let folder = project::work_dir("large-files")?;
    std::fs::create_dir_all(folder.join("www"))?;
    std::fs::write(folder.join("www/large"), &content)?;
    let port = free_port()?;
    let mut machine = Machine::new(Kind::Microvm, &project::built("http")?);
    machine.net = Net::User(port, 8080);
    machine.initrd = Some(initrd_file(&folder, "large-files")?);
    // The file is there twice, in the root and in the server.
    let server = Server::start(machine, "http", 64, port)?;
    let mut clients = (0..CLIENTS).map(|_| Client::connect(server.address)).collect::<Result<Vec<_>>>()?;
    let ask = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    for client in &mut clients {
        client.send(["/static/large", "/", "/static/large"].map(ask).concat().as_bytes())?;
    }
    thread::sleep(Duration::from_millis(500));
    for mut client in clients {
        ensure!(client.response()?.body == content, "the file is another");
        ensure!(client.response()?.body == "Hello, World!");
        ensure!(client.response()?.body == content, "the file is another");
        ensure!(client.get("/json")?.status == 200, "the connection goes on");
    }
    server.check_alive()
}

/// The kernel's counter for used memory, in bytes.
fn used_memory(address: SocketAddr) -> Result<i64> {
    let metrics = http::get(address, "/metrics")?.body;
    let line = metrics.lines().find(|line| line.starts_with("unikernel_memory_free_bytes "));
    let value = line.and_then(|line| line.split(' ').nth(1)?.parse::<i64>().ok());
    value.map(|free| -free).context("/metrics does not tell the free memory")
}

/// Connect, request, close, many times: no failure, and no memory is lost.
fn sequential_connections() -> Result<()> {
    const WARM_UP: usize = 300;
    const CONNECTIONS: usize = 3000;
    /// Caches may still settle.
    const ALLOWED_GROWTH: i64 = 256 * 1024;
    let server = Server::boot("http", Kind::Microvm, 64)?;
    let request_some = |count: usize| -> Result<()> {
        for index in 0..count {
            let response = http::get(server.address, "/").with_context(|| format!("connection {index}"))?;
            ensure!(response.status == 200);
        }
        Ok(())
    };
    request_some(WARM_UP)?;
    let before = used_memory(server.address)?;
    request_some(CONNECTIONS)?;
    let growth = used_memory(server.address)? - before;
    ensure!(growth <= ALLOWED_GROWTH, "memory grew by {growth} bytes");
    server.check_alive()
}

/// Boots in 16 MiB and serves 256 connections.
fn small_memory() -> Result<()> {
    let server = Server::boot("http", Kind::Microvm, 16)?;
    burst(server.address, 256)?;
    server.check_alive()
}

/// Boots the hello image; answers exit code and console.
fn boot_hello(memory_mib: u64, append: &str) -> Result<(Option<u8>, String)> {
    let mut machine = Machine::new(Kind::Microvm, &project::built("hello")?);
    machine.memory_mib = memory_mib;
    machine.append = append.to_owned();
    let mut guest = Vm::start(&machine, Console::Recorded)?;
    let ending = guest.wait(Some(BOOT_TIME_OUT))?.context("it did not end")?;
    Ok((ending.code, ending.console))
}

fn unknown_option() -> Result<()> {
    let (code, console) = boot_hello(64, "lgo=debug")?;
    ensure!(code == Some(125), "ended with {code:?}");
    ensure!(console.contains("unknown option `lgo=debug`; did you mean `log=`?"), "it says: {console}");
    Ok(())
}

/// Too little memory is told, not suffered; much is fine. (What is smaller than the image itself is not the kernel's to tell.)
fn absurd_memory() -> Result<()> {
    let image = std::fs::read(project::built("hello")?)?;
    let end = unikernel_build::memory_end(&image).context("the image has no segments")?;
    let least_mib = end.div_ceil(1 << 20);
    for memory_mib in least_mib..least_mib + 3 {
        let (code, console) = boot_hello(memory_mib, "")?;
        ensure!(code.is_some(), "{memory_mib} MiB ended without a word: {console}");
    }
    let (code, _) = boot_hello(6000, "")?;
    ensure!(code == Some(0), "6000 MiB ended with {code:?}");
    Ok(())
}
