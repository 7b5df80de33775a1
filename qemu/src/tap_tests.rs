//! Tests over a tap device, which QEMU's user network cannot stand in for. Each runs in a child process in a
//! network namespace of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::http::{self, Client};
use crate::machine::{Kind, Machine, Net, Nic};
use crate::namespace::{self, Queues, TAP, guest_address};
use crate::project;
use crate::vm::{Console, Vm};

/// A name and what it does.
type NamedTest = (String, Box<dyn Fn() -> Result<()>>);

/// The command of the child.
pub(crate) const COMMAND: &str = "tap-test";
const BOOT_TIME_OUT: Duration = Duration::from_secs(30);
const CLIENTS: usize = 32;
const REQUESTS: usize = 25;

/// All of them; none where there are no tap devices.
pub(crate) fn all() -> Vec<NamedTest> {
    if !namespace::is_possible() {
        println!("left out: tests over a tap device, for /dev/net/tun cannot be opened");
        return Vec::new();
    }
    let test = |kind: Kind| (format!("http_two_queues [{kind}]"), Box::new(move || outside(kind)) as _);
    [Kind::Q35, Kind::Microvm].map(test).into()
}

fn outside(kind: Kind) -> Result<()> {
    let output =
        namespace::command([COMMAND, &kind.to_string()])?.output().context("cannot run `unshare`")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", text.trim());
    Ok(())
}

/// Inside: many clients at once, whose connections the card spreads over two pairs of queues.
pub(crate) fn inside(kind: Kind) -> Result<u8> {
    namespace::set_up(Queues::Several)?;
    let mut machine = Machine::new(kind, &project::image("http-threads"));
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
    Ok(0)
}
