//! Files on a disk, measured by the app `micro`; and `kv` against the real Redis under Debian's
//! `redis-benchmark`. Both systems get a disk with the same content.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::linux;
use super::measure::{System, USUAL_MEMORY_MIB, machine_for};
use super::micro::{self, Figures};
use crate::disk::{self, Disk};
use crate::kv::REDIS;
use crate::machine::{Kind, Machine, Net};
use crate::namespace::{TAP, guest_address};
use crate::project;
use crate::random::Random;
use crate::vm::{Console, Vm};

const TIME_OUT: Duration = Duration::from_secs(180);
/// What `micro` reads cold.
const COLD_BYTES: usize = 128 << 20;
const SIZE: &str = "1G";
/// The figures of `micro`, as it and, with `disk-` before, `--skip` know them.
const FIGURES: [&str; 5] = ["sync", "random", "sequential", "cached", "files"];
/// All that `--skip` can leave out of this.
pub(super) const PARTS: [&str; 6] =
    ["disk-sync", "disk-random", "disk-sequential", "disk-cached", "disk-files", "redis"];
const REDIS_PORT: u16 = 6379;
const CLIENTS: &str = "50";

/// Measures all that is not left out.
pub(super) fn run(system: System, skip: &[String]) -> Result<Figures> {
    let is_wanted = |name: &str| !skip.iter().any(|skipped| skipped == name);
    let mut figures = Figures::new();
    let names: Vec<&str> = FIGURES.into_iter().filter(|name| is_wanted(&format!("disk-{name}"))).collect();
    if !names.is_empty() {
        figures.extend(files(system, &names)?);
    }
    if is_wanted("redis") {
        figures.extend(redis(system, "no", "100000", &["set", "get"], "")?);
        figures.extend(redis(system, "always", "10000", &["set"], "_always")?);
    }
    Ok(figures)
}

/// An image that is made once; each boot gets a copy.
fn disk_copy(system: System) -> Result<Disk> {
    let folder = project::work_dir("bench")?;
    let original = folder.join("disk.img");
    if !original.exists() {
        let content = folder.join("disk-content");
        fs::create_dir_all(&content)?;
        let mut random = Random::new(1);
        let bytes: Vec<u8> = (0..COLD_BYTES / 8).flat_map(|_| random.below(u64::MAX).to_le_bytes()).collect();
        fs::write(content.join("cold"), bytes)?;
        disk::make(&original, Some(&content), SIZE, &[])?;
    }
    let copy = folder.join(format!("disk-{system}.img"));
    fs::copy(&original, &copy).context("cannot copy the disk")?;
    // Neither system is to find the host busy with writing the copy.
    fs::File::open(&copy)?.sync_all()?;
    Ok(Disk::new(&copy))
}

/// A machine with the disk at `/data` that runs an app with arguments.
fn machine(system: System, app: &str, arguments: &str) -> Result<Machine> {
    let mut machine = machine_for(system, app, Kind::Q35)?;
    machine.disks.push(disk_copy(system)?);
    machine.memory_mib = USUAL_MEMORY_MIB;
    let words = match system {
        System::Unikernel => format!(" mount=/data:blk0:ext4 -- {arguments}"),
        System::Linux => format!(" {}", linux::arguments(arguments)),
    };
    machine.append.push_str(&words);
    Ok(machine)
}

fn files(system: System, names: &[&str]) -> Result<Figures> {
    let machine = machine(system, "micro", &format!("disk /data {}", names.join(" ")))?;
    let vm = Vm::start(&machine, Console::Recorded)?;
    vm.wait_until(TIME_OUT, || vm.console().contains("micro done"))?;
    let figures = micro::parse(&vm.console());
    ensure!(figures.contains_key("done"), "`micro` on {system} did not end: {}", vm.console());
    Ok(figures)
}

/// `kv` on ours, Redis on Linux, with the same policy; requests per second of each test, called
/// `redis_TEST{suffix}_per_s`.
fn redis(system: System, policy: &str, count: &str, tests: &[&str], suffix: &str) -> Result<Figures> {
    let mut machine = match system {
        System::Unikernel => machine(system, "kv", &format!("--appendfsync {policy}"))?,
        System::Linux => {
            // Its usual snapshots would be taken out of a running measurement.
            let options =
                "--dir /data --appendonly yes --protected-mode no --bind 0.0.0.0 --save 3600 1000000000";
            let mut machine = machine(system, "micro", &format!("{options} --appendfsync {policy}"))?;
            machine.initrd = Some(linux::initramfs_of("redis", Path::new(REDIS))?);
            machine
        }
    };
    machine.net = Net::Tap { name: TAP.into(), queues: 1 };
    let vm = Vm::start(&machine, Console::Recorded)?;
    let address = SocketAddr::new(guest_address().ip(), REDIS_PORT);
    let listens = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok();
    vm.wait_until(TIME_OUT, listens)?;
    benchmark(address.ip(), count, tests, suffix)
}

fn benchmark(address: IpAddr, count: &str, tests: &[&str], suffix: &str) -> Result<Figures> {
    let output = Command::new("redis-benchmark")
        .args(["-h", &address.to_string(), "-p", &REDIS_PORT.to_string(), "-c", CLIENTS, "-n", count])
        .args(["-t", &tests.join(","), "--csv"])
        .output()
        .context("cannot run redis-benchmark: `make setup` installs it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures = parse_csv(&text, suffix);
    ensure!(
        figures.len() == tests.len(),
        "redis-benchmark: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(figures)
}

/// Lines such as `"SET","81566.07","0.4",...`, after one with titles.
fn parse_csv(text: &str, suffix: &str) -> Figures {
    let figure = |line: &str| {
        let mut words = line.split(',').map(|word| word.trim_matches('"'));
        let name = words.next()?.to_ascii_lowercase();
        Some((format!("redis_{name}{suffix}_per_s"), words.next()?.parse().ok()?))
    };
    text.lines().skip(1).filter_map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_found() {
        let text = "\"test\",\"rps\"\n\"SET\",\"81566.07\",\"0.4\"\n\"GET\",\"2.0\",\"1\"\n";
        let figures = parse_csv(text, "_always");
        assert_eq!(figures.get("redis_set_always_per_s"), Some(&81566.07));
        assert_eq!(figures.len(), 2);
    }
}
