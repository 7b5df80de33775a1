//! The appliance `kv`, tested as its users would use it.
//!
//! - [`client`]: a client of ours; [`compare`]: the same requests to the real Redis; [`kill`]: the machine killed
//!   at random moments; [`limits`]: no room on the disk, or for what clients send; here: Debian's `redis-cli` and `redis-benchmark`, and the end of the machine.

mod client;
mod compare;
mod kill;
mod limits;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::disk::{self, Disk};
use crate::guest_tests::{NamedTest, free_port};
use crate::machine::{Kind, Machine, Net};
use crate::vm::{Console, Vm};
use crate::{nvme_tests, project, qmp};

const BOOT_TIME_OUT: Duration = Duration::from_secs(60);
const PORT: u16 = 6379;
/// How long a program of `redis-tools` may take.
const TOOL_SECONDS: &str = "180";
/// The real Redis, if it is called by any name but this.
pub(crate) const REDIS: &str = "/usr/bin/redis-check-rdb";

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = vec![
        ("kv_against_redis".to_owned(), Box::new(compare::run)),
        ("kv_redis_tools".to_owned(), Box::new(redis_tools)),
        ("kv_full_disk".to_owned(), Box::new(limits::full_disk)),
        ("kv_hostile_clients".to_owned(), Box::new(limits::hostile_clients)),
    ];
    for kind in [Kind::Q35, Kind::Microvm] {
        tests.push((format!("kv_killed [{kind}]"), Box::new(move || kill::run(kind, Bus::Virtio))));
    }
    tests.push(("kv_killed_nvme [q35]".to_owned(), Box::new(|| kill::run(Kind::Q35, Bus::Nvme))));
    tests
}

/// A disk with a fresh ext4, of the usual size.
fn new_disk(name: &str) -> Result<Disk> {
    new_disk_of(name, "64M")
}

fn new_disk_of(name: &str, size: &str) -> Result<Disk> {
    let path = project::work_dir("disks")?.join(format!("{name}.img"));
    let _ = std::fs::remove_file(&path);
    disk::make(&path, None, size, &[])?;
    Ok(Disk::new(&path))
}

/// How the disk is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bus {
    Virtio,
    /// By a module.
    Nvme,
}

/// A booted `kv`.
struct Booted {
    guest: Vm,
    address: SocketAddr,
    control: PathBuf,
}

impl Booted {
    /// Boots it with a disk at `/data` and waits until it listens.
    fn start(kind: Kind, disk: &Disk, arguments: &str) -> Result<Self> {
        Self::start_on(kind, Bus::Virtio, disk, arguments)
    }

    fn start_on(kind: Kind, bus: Bus, disk: &Disk, arguments: &str) -> Result<Self> {
        let port = free_port()?;
        let mut machine = Machine::new(kind, &project::built("kv")?);
        machine.net = Net::User(port, PORT);
        machine.append = match bus {
            Bus::Virtio => {
                machine.disks.push(disk.clone());
                format!("mount=/data:blk0:ext4 -- {arguments}")
            }
            Bus::Nvme => {
                machine.initrd = Some(nvme_tests::initrd()?);
                machine.extra.extend(nvme_tests::device(disk, 0, ""));
                format!("module=nvme mount=/data:nvme0n1:ext4 -- {arguments}")
            }
        };
        let control = disk.path.with_extension("qmp");
        machine.extra.extend(qmp::arguments(&control));
        let guest = Vm::start(&machine, Console::Recorded)?;
        guest.wait_until(BOOT_TIME_OUT, || guest.console().contains("listening"))?;
        Ok(Self { guest, address: SocketAddr::from(([127, 0, 0, 1], port)), control })
    }

    /// Presses the power button and waits for the end.
    fn end(mut self) -> Result<String> {
        qmp::press_power_button(&self.control)?;
        let ending = self.guest.wait(Some(Duration::from_secs(20)))?;
        let ending = ending.with_context(|| format!("it does not end: {}", self.guest.console()))?;
        ensure!(ending.code == Some(0), "it ended with {:?}: {}", ending.code, ending.console);
        Ok(ending.console)
    }
}

/// Runs a program of the package `redis-tools` against an address; answers what it prints.
fn tool(name: &str, address: SocketAddr, arguments: &[&str]) -> Result<String> {
    // They wait for an answer for ever.
    let output = Command::new("timeout")
        .args([TOOL_SECONDS, name, "-h", "127.0.0.1", "-p", &address.port().to_string()])
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {name}: `make setup` installs it"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{name} {arguments:?} ({}; 124: no answer in {TOOL_SECONDS} s): {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// The real client and the real benchmark; then the machine is switched off, and all is there again.
fn redis_tools() -> Result<()> {
    let disk = new_disk("kv-tools")?;
    let kv = Booted::start(Kind::Q35, &disk, "")?;
    let ask = |address, words: &str, wanted: &str| -> Result<()> {
        let words: Vec<&str> = words.split(' ').collect();
        let answer = tool("redis-cli", address, &words)?;
        ensure!(answer.trim_end() == wanted, "{words:?}: {answer:?}, not {wanted:?}");
        Ok(())
    };
    ask(kv.address, "SET greeting hello EX 1000", "OK")?;
    ask(kv.address, "GET greeting", "hello")?;
    ask(kv.address, "INCRBY counter 41", "41")?;
    ask(kv.address, "CONFIG GET appendfsync", "appendfsync\nalways")?;
    ask(kv.address, "--scan --pattern c*", "counter")?;
    for (tests, pipeline) in [("set,get,incr,mset", "1"), ("set,get", "16")] {
        // Few connections: QEMU's user network has room for one that waits.
        let arguments = ["-n", "500", "-c", "4", "-P", pipeline, "-t", tests, "--csv"];
        let report = tool("redis-benchmark", kv.address, &arguments)?;
        ensure!(report.lines().count() == 1 + tests.split(',').count(), "redis-benchmark: {report}");
    }
    let console = kv.end()?;
    ensure!(console.contains("everything is on the disk"), "{console}");
    disk::check(&disk.path)?;
    let kv = Booted::start(Kind::Microvm, &disk, "--appendfsync everysec")?;
    ask(kv.address, "INCR counter", "42")?;
    ask(kv.address, "GET greeting", "hello")?;
    let left: u32 = tool("redis-cli", kv.address, &["TTL", "greeting"])?.trim().parse()?;
    ensure!((900..=1000).contains(&left), "{left} s are left of 1000");
    // No power button here; what `everysec` promises is there after two seconds.
    thread::sleep(Duration::from_secs(2));
    drop(kv);
    let kv = Booted::start(Kind::Q35, &disk, "")?;
    ask(kv.address, "GET counter", "42")?;
    ask(kv.address, "FLUSHALL", "OK")?;
    kv.end()?;
    Ok(std::fs::remove_file(&disk.path)?)
}
