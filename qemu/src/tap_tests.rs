//! Tests over a tap device, which QEMU's user network cannot stand in for. Each runs in a child process in a
//! network namespace of its own.

use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::config_tests;
use crate::guest_tests::NamedTest;
use crate::http::{self, Client};
use crate::icmpv6::{self, Router};
use crate::load_tests;
use crate::machine::{Kind, Machine, Net, Nic};
use crate::namespace::{self, GUEST, Queues, TAP, guest_address};
use crate::offload_tests;
use crate::tail_tests;
use crate::vm::{Console, Vm};
use crate::{project, tcp_tests};

/// The command of the child.
pub(crate) const COMMAND: &str = "tap-test";
const BOOT_TIME_OUT: Duration = Duration::from_secs(30);
/// Where the host answers the guest with two cards.
const PEER_PORT: u16 = 9000;
/// The host's address as a router.
const ROUTER: &str = "fe80::1/64";
const CLIENTS: usize = 32;
const REQUESTS: usize = 25;

/// The one without a guest.
const AGAINST_LINUX: &str = "tcp_against_linux";

/// A test that runs inside.
#[derive(Clone, Copy)]
pub(crate) struct TapTest {
    name: &'static str,
    run: fn(Kind) -> Result<()>,
    machines: &'static [Kind],
    /// A program of others' that it needs.
    tool: Option<&'static str>,
}

const MACHINES: &[Kind] = &[Kind::Q35, Kind::Microvm];

impl TapTest {
    /// A test for both machines.
    pub(crate) const fn new(name: &'static str, run: fn(Kind) -> Result<()>) -> Self {
        Self { name, run, machines: MACHINES, tool: None }
    }

    /// The same for one machine: for what takes long and has nothing to do with the machine.
    pub(crate) const fn on_one(self) -> Self {
        Self { machines: &[Kind::Microvm], ..self }
    }

    /// The same where a program is installed.
    pub(crate) const fn with(self, tool: &'static str) -> Self {
        Self { tool: Some(tool), ..self }
    }

    /// True if what it needs is there; else it is left out, and that is said.
    fn is_possible(&self) -> bool {
        let is_missing = |tool: &&str| Command::new(tool).arg("--version").output().is_err();
        let missing = self.tool.filter(is_missing);
        if let Some(tool) = missing {
            println!("left out: {}, for {tool} is not installed (`make setup` installs it)", self.name);
        }
        missing.is_none()
    }

    fn named(self) -> impl Iterator<Item = NamedTest> {
        let named = move |kind: &Kind| {
            let kind = *kind;
            (format!("{} [{kind}]", self.name), Box::new(move || outside(self.name, Some(kind))) as _)
        };
        self.machines.iter().map(named)
    }
}

const TESTS: [TapTest; 4] = [
    TapTest::new("http_two_queues", two_queues),
    TapTest::new("two_cards", two_cards),
    TapTest::new("http_ipv6", ipv6),
    TapTest::new("offloads", offload_tests::every_combination),
];

fn known() -> impl Iterator<Item = TapTest> {
    TESTS.into_iter().chain(config_tests::TESTS).chain(load_tests::TESTS).chain(tail_tests::TESTS)
}

/// All of them; none where there are no tap devices.
pub(crate) fn all() -> Vec<NamedTest> {
    if !namespace::is_possible() {
        println!("left out: tests over a tap device, for /dev/net/tun cannot be opened");
        return Vec::new();
    }
    let without_guest: NamedTest = (AGAINST_LINUX.into(), Box::new(|| outside(AGAINST_LINUX, None)));
    known().filter(TapTest::is_possible).flat_map(TapTest::named).chain([without_guest]).collect()
}

fn outside(name: &str, kind: Option<Kind>) -> Result<()> {
    let kind = kind.map(|kind| kind.to_string());
    let words = [COMMAND, name].into_iter().chain(kind.as_deref());
    let output = namespace::command(words)?.output().context("cannot run `unshare`")?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", text.trim());
    Ok(())
}

/// Runs a test, on a machine or on none, in the namespace that is there for it.
pub(crate) fn inside(name: &str, kind: Option<Kind>) -> Result<u8> {
    let test = known().find(|test| test.name == name);
    match (test, kind) {
        (Some(test), Some(kind)) => (test.run)(kind)?,
        (None, None) if name == AGAINST_LINUX => tcp_tests::inside()?,
        _ => bail!("no such test"),
    }
    Ok(0)
}

/// A tap device with one pair of queues.
fn tap(name: &str) -> Net {
    Net::Tap { name: name.into(), queues: 1 }
}

/// The machine with two cards on two networks: each address answers by its own card and, as on Linux, by the other;
/// what the guest begins leaves by the card with the better route, or the one that it is bound to.
fn two_cards(kind: Kind) -> Result<()> {
    namespace::set_up(Queues::One)?;
    namespace::add_tap("tap1", Queues::One, &["10.0.3.1/24"])?;
    // Behind both cards, by way of the default routes, and behind the second.
    ["10.9.0.1/32", "10.9.8.1/32"].iter().try_for_each(|address| namespace::add_address(address, "lo"))?;
    ["10.0.2.1", "10.0.3.1", "10.9.0.1", "10.9.8.1"].into_iter().try_for_each(tell_who_asks)?;
    let mut machine = Machine::new(kind, &project::built("cards")?);
    machine.net = tap(TAP);
    machine.more_nets = vec![tap("tap1")];
    machine.cpus = 2;
    machine.append = "ip=10.0.2.15/24 gw=10.0.2.1 eth1.ip=10.0.3.15/24 eth1.gw=10.0.3.1 \
                      eth1.route=10.9.8.0/24:10.0.3.1"
        .into();
    let mut guest = Vm::start(&machine, Console::Recorded)?;
    let ending = guest.wait(Some(BOOT_TIME_OUT))?;
    let ending = ending.with_context(|| format!("it did not end: {}", guest.console()))?;
    ensure!(ending.code == Some(0), "{}", ending.console);
    Ok(())
}

/// The host's end of the test with two cards, which lives as long as this process: TCP and UDP on one port of each address,
/// which tell whoever asks who he is.
fn tell_who_asks(address: &str) -> Result<()> {
    let tcp = TcpListener::bind((address, PEER_PORT))?;
    let udp = UdpSocket::bind((address, PEER_PORT))?;
    thread::spawn(move || {
        while let Ok((mut stream, peer)) = tcp.accept() {
            // Who does not wait for the answer gets none.
            let _ = write!(stream, "{}", peer.ip());
        }
    });
    thread::spawn(move || {
        let mut nothing = [0; 16];
        while let Ok((_, peer)) = udp.recv_from(&mut nothing) {
            let _ = udp.send_to(peer.ip().to_string().as_bytes(), peer);
        }
    });
    Ok(())
}

/// Addresses of IPv6 from a router's advertisement: they answer requests and echo requests, those from behind the router too.
fn ipv6(kind: Kind) -> Result<()> {
    namespace::set_up(Queues::One)?;
    for (address, device) in [(ROUTER, TAP), ("2001:db8:2::1/64", TAP), ("2001:db8:99::1/128", "lo")] {
        namespace::add_address(address, device)?;
    }
    let mut machine = Machine::new(kind, &project::built("http-threads")?);
    machine.net = tap(TAP);
    machine.append = "ip=none log=net:info,warn".into();
    let guest = Vm::start(&machine, Console::Recorded)?;
    let router = Router::on(TAP)?;
    let learnt: Ipv6Addr = "2001:db8:2::5054:ff:fe12:3456".parse()?;
    let address = SocketAddr::from((learnt, GUEST.1));
    let advertised = || router.advertise("2001:db8:2::".parse()?);
    guest.wait_until(BOOT_TIME_OUT, || advertised().is_ok() && http::answers(address))?;
    let link_local = SocketAddrV6::new("fe80::5054:ff:fe12:3456".parse()?, GUEST.1, 0, router.interface());
    let answer = || -> Result<()> {
        for address in [address, link_local.into()] {
            ensure!(http::get(address, "/")?.body == "Hello, World!", "{address} answers something else");
        }
        for from in ["2001:db8:2::1", "2001:db8:99::1"] {
            icmpv6::ping(from.parse()?, learnt).with_context(|| format!("no echo for {from}"))?;
        }
        Ok(())
    };
    answer().with_context(|| guest.console())
}

/// Many clients at once, whose connections the card spreads over two pairs of queues.
fn two_queues(kind: Kind) -> Result<()> {
    namespace::set_up(Queues::Several)?;
    let mut machine = Machine::new(kind, &project::built("http-threads")?);
    machine.net = Net::Tap { name: TAP.into(), queues: 2 };
    machine.nic = Nic::ManyQueues;
    machine.cpus = 2;
    machine.append = "ip=10.0.2.15/24 log=drivers:debug".into();
    let guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(BOOT_TIME_OUT, || http::answers(guest_address()))?;
    let answered = AtomicUsize::new(0);
    let client = || -> Result<()> {
        let mut client = Client::connect(guest_address())?;
        for _ in 0..REQUESTS {
            ensure!(client.get("/")?.body == "Hello, World!");
            answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))
    })
    .with_context(|| guest.console())?;
    ensure!(answered.into_inner() == CLIENTS * REQUESTS, "requests were lost");
    ensure!(guest.console().contains("2 of 2 pairs"), "it uses one queue: {}", guest.console());
    Ok(())
}
