//! Redis' own test suite, in its external mode: units in Tcl that talk to a server over the network. The server is Debian's,
//! packed with a kernel: the one file runs on Linux and booted. Each unit gets a server of its own in both places, at the same
//! time, with no data; one that fails booted is run there once more.
//!
//! Units open connections and expect that what they send on one is read before what they send on the next. QEMU's user network
//! turns that round, so the guest has a tap device, and all of it is in a network namespace of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::libtest;
use super::redis_output::{self, Outcomes};
use super::results::{Entry, Outcome, Results, Verdict};
use super::source;
use super::suites::Suite;
use crate::cli::ConformanceOptions;
use crate::debian::{self, Program};
use crate::machine::{Machine, Net, QEMU};
use crate::namespace::{self, GUEST, Queues, TAP};
use crate::process::{Console, LOOK_INTERVAL, Process};
use crate::vm::last_lines;
use crate::{ntp_tests, project};

/// What `suites.toml` says of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RedisTests {
    /// Debian's package with the program; its sources lie beside it.
    package: String,
    /// Where in it the program is.
    program: String,
}

const PORT: u16 = 6379;
/// The host's address on the tap device.
const HOST: &str = "10.0.2.1";
const START_TIME_OUT: Duration = Duration::from_secs(60);
/// How well a guest's clock must agree with the host's, as some tests give the server points in time.
const CLOCK_TOLERANCE_US: u64 = 50_000;
const CLOCK_PATIENCE: Duration = Duration::from_secs(15);
/// What the suite's own servers are started with.
const ARGUMENTS: [&str; 8] = [
    "--protected-mode",
    "no",
    "--save",
    "\"\"",
    "--enable-debug-command",
    "yes",
    // Units switch it on, for which a server forks that has run without.
    "--appendonly",
    "yes",
];

/// A suite that is ready to run.
struct Units<'a> {
    suite: &'a Suite,
    options: &'a ConformanceOptions,
    image: PathBuf,
    /// The unpacked packages, whose libraries the program has on Linux.
    packages: PathBuf,
    /// The sources once for each place, as the suite writes into its folder.
    folders: [PathBuf; 2],
    clock: ntp_tests::Running,
}

/// Where a server runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Linux,
    Guest,
}

/// Runs the units that are asked for: fetches what they need, and then does it all again in a namespace, without a network.
pub(super) fn run(
    suite: &Suite,
    redis: &RedisTests,
    options: &ConformanceOptions,
    earlier: &Results,
) -> Result<Results> {
    let packages = [redis.package.as_str()];
    if !namespace::is_inside() {
        let (name, package) = (&suite.name, &redis.package);
        eprintln!("{name}: getting Debian's package {package}, what it needs, and its sources");
    }
    let unpacked = debian::unpack(&packages)?.context("the program's package cannot be downloaded")?;
    let folders = [sources(suite, redis, "linux")?, sources(suite, redis, "guest")?];
    folders.iter().try_for_each(|folder| link_client(&unpacked, folder))?;
    let image = project::work_dir("debian")?.join("redis-server.unikernel");
    if !namespace::is_inside() {
        let program = Program {
            name: "redis-server",
            packages: &packages,
            program: &redis.program,
            folders: &[],
            files: &[],
        };
        eprintln!("{}: packing the server with a kernel, which takes minutes the first time", suite.name);
        program.image()?.context("the program's package cannot be downloaded")?;
        let mut again = namespace::command(["conformance", "--suite", &suite.name])?;
        again.args(options.keeps_results.then_some("--keep"));
        again.args(options.test.iter().flat_map(|test| ["--test", test.as_str()]));
        again.args(["--machine", &options.machine.to_string(), "--smp", &options.cpus.to_string()]);
        // It tells by its exit code whether tests have failed, which its results do, too.
        again.status().context("cannot run `unshare`")?;
        return Results::load(suite);
    }
    namespace::set_up(Queues::One)?;
    let clock = ntp_tests::Running::honest(HOST)?;
    let units = Units { suite, options, image, packages: unpacked, folders, clock };
    let mut results = Results { version: suite.version.clone(), cpus: options.cpus, ..Results::default() };
    let list = units.list()?;
    for (index, unit) in list.iter().enumerate() {
        let is_named = options.test.as_ref().is_none_or(|text| unit.contains(text.as_str()));
        let is_kept = options.keeps_results && has_passed(suite, earlier, unit);
        if is_named && !is_kept && suite.takes(unit) {
            let started = Instant::now();
            eprintln!("{}: unit {} of {}, {unit}", suite.name, index + 1, list.len());
            let ran = units.run_unit(unit)?;
            println!("{unit}: {} tests, {:.1} s", ran.tests.len(), started.elapsed().as_secs_f32());
            if let Some(complaint) = ran.complaint {
                println!("FAILED  {unit}: {complaint}");
                results.broken.insert(unit.clone(), complaint);
            }
            results.tests.extend(ran.tests);
        }
    }
    Ok(results)
}

/// What came of a unit.
struct Ran {
    tests: BTreeMap<String, Entry>,
    /// Why there may be more tests in it than these.
    complaint: Option<String>,
}

/// True if nothing of a unit has failed in an earlier run.
fn has_passed(suite: &Suite, earlier: &Results, unit: &str) -> bool {
    let is_of_unit = |name: &str| name.strip_prefix(unit).is_some_and(|rest| rest.starts_with("::"));
    let mut tests = earlier.tests.iter().filter(|(name, _)| is_of_unit(name)).peekable();
    !earlier.broken.contains_key(unit)
        && tests.peek().is_some()
        && tests.all(|(name, entry)| !matches!(entry.verdict(suite, name), Verdict::Failed(_)))
}

/// The sources for one place, which lie beside the package in Debian's archive.
fn sources(suite: &Suite, redis: &RedisTests, place: &str) -> Result<PathBuf> {
    let workspace = source::work_dir()?.join("suites").join(&suite.name).join(place);
    let folder = workspace.join(suite.folder());
    if !folder.join("tests").exists() {
        fs::create_dir_all(&workspace)?;
        let archive = workspace.join("sources.tar.gz");
        let sum = suite.sha256.as_ref().context("its sources have a checksum")?;
        debian::source(
            &redis.package,
            &format!("{}_{}.orig.tar.gz", suite.name, suite.version),
            sum,
            &archive,
        )?;
        source::run(Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(&workspace))?;
        fs::remove_file(&archive)?;
    }
    Ok(folder)
}

/// Puts the client where the suite would have built it.
fn link_client(packages: &Path, sources: &Path) -> Result<()> {
    let link = sources.join("src/redis-cli");
    if !link.is_symlink() {
        symlink(packages.join("usr/bin/redis-cli"), &link)?;
    }
    Ok(())
}

impl Units<'_> {
    fn list(&self) -> Result<Vec<String>> {
        let output =
            self.tcl(At::Linux).arg("--list-tests").output().context("install tclsh: `make setup`")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    fn tcl(&self, at: At) -> Command {
        let mut command = Command::new("tclsh");
        command.arg("tests/test_helper.tcl").current_dir(&self.folders[at as usize]);
        // For the client.
        command.env("LD_LIBRARY_PATH", debian::libraries(&self.packages));
        command
    }

    fn run_unit(&self, unit: &str) -> Result<Ran> {
        let (linux, guest) = thread::scope(|scope| {
            let linux = scope.spawn(|| self.attempt(unit, At::Linux));
            let guest = self.attempt(unit, At::Guest);
            (linux.join().expect("nothing panics there"), guest)
        });
        let (linux, first) = (linux?, guest?);
        let complaint = (!redis_output::is_over(&linux, unit)).then(|| {
            format!("it does not come to its end on Linux: {}", libtest::shorten(&last_lines(&linux, 3)))
        });
        let [linux, first] = [linux, first].map(|output| redis_output::outcomes(&output));
        let is_failure = |name: &String| {
            let is_excused = self.suite.excuse(&format!("{unit}::{name}")).is_some();
            linux[name] == Outcome::Passed && first.get(name) != Some(&Outcome::Passed) && !is_excused
        };
        let second = if linux.keys().any(is_failure) {
            redis_output::outcomes(&self.attempt(unit, At::Guest)?)
        } else {
            Outcomes::new()
        };
        let entry = |(name, linux): (String, Outcome)| {
            let missing = || Outcome::Failed("the unit ended before it".to_owned());
            let once = first.get(&name).cloned().unwrap_or_else(missing);
            let again =
                second.get(&name).cloned().filter(|_| linux == Outcome::Passed && once != Outcome::Passed);
            let first_failure = again.is_some().then(|| text_of(&once));
            let key = format!("{unit}::{name}");
            let entry = Entry { linux, guest: Some(again.unwrap_or(once)), first_failure };
            if let Verdict::Failed(reason) = entry.verdict(self.suite, &key) {
                println!("FAILED  {key}: {reason}");
            }
            (key, entry)
        };
        Ok(Ran { tests: linux.into_iter().map(entry).collect(), complaint })
    }

    /// Runs a unit with a server of its own; answers what the suite prints.
    fn attempt(&self, unit: &str, at: At) -> Result<String> {
        let server = self.start(at)?;
        let host = Ipv4Addr::from(if at == At::Linux { [127, 0, 0, 1] } else { GUEST.0 });
        wait_for(SocketAddr::from((host, PORT)), &server)?;
        let mut tcl = self.tcl(at);
        tcl.args(["--host", &host.to_string(), "--port", &PORT.to_string(), "--singledb", "--durable"]);
        // Where the suite's own parts talk to each other.
        let base = if at == At::Linux { "21111" } else { "31111" };
        tcl.args(["--clients", "1", "--baseport", base, "--single", unit]);
        let mut process = Process::start(tcl, Console::Recorded)?;
        let deadline = Instant::now() + Duration::from_secs(self.suite.seconds);
        while process.try_wait()?.is_none() && Instant::now() < deadline {
            thread::sleep(LOOK_INTERVAL);
        }
        if process.try_wait()?.is_some() {
            process.drain();
        }
        Ok(process.output())
    }

    /// Where a server on Linux keeps its data: it would load what another has left, and not answer meanwhile.
    fn empty_folder(&self) -> Result<PathBuf> {
        let folder = self.folders[At::Linux as usize].with_file_name("server");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    fn start(&self, at: At) -> Result<Process> {
        let command = match at {
            At::Linux => {
                let mut command = Command::new(&self.image);
                command.args(ARGUMENTS.map(|word| word.trim_matches('"')));
                command.current_dir(self.empty_folder()?);
                command.env("LD_LIBRARY_PATH", debian::libraries(&self.packages));
                command
            }
            At::Guest => {
                namespace::renew_tap(Queues::One)?;
                let mut machine = Machine::new(self.options.machine, &self.image);
                machine.cpus = self.options.cpus;
                machine.memory_mib = self.suite.memory_mib;
                machine.net = Net::Tap { name: TAP.to_owned(), queues: 1 };
                machine.add_rng();
                let address = Ipv4Addr::from(GUEST.0);
                let clock = format!("ntp={HOST}:{}", self.clock.port());
                machine.append = format!("ip={address}/24 gw={HOST} {clock} -- {}", ARGUMENTS.join(" "));
                let mut command = Command::new(QEMU);
                command.args(machine.arguments());
                command
            }
        };
        Process::start(command, Console::Recorded)
    }
}

fn text_of(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(reason) | Outcome::Excused(reason) => reason.clone(),
        Outcome::Passed | Outcome::Ignored => "ignored".to_owned(),
    }
}

/// Waits until a server answers, and until its clock is right or will not become so.
fn wait_for(address: SocketAddr, server: &Process) -> Result<()> {
    let started = Instant::now();
    let mut answers = false;
    while !answers || started.elapsed() < CLOCK_PATIENCE {
        match clock_of(address) {
            Some(off) if off < CLOCK_TOLERANCE_US => return Ok(()),
            off => answers |= off.is_some(),
        }
        let is_there = server.try_wait()?.is_none() && started.elapsed() < START_TIME_OUT;
        ensure!(is_there, "the server does not answer: {}{}", server.output(), server.errors());
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// By how many microseconds a server's clock is off, if it answers.
fn clock_of(address: SocketAddr) -> Option<u64> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(b"TIME\r\nQUIT\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    // An array of two numbers as text: seconds, and the microseconds beside them.
    let mut numbers = answer.lines().filter_map(|line| line.parse::<u64>().ok());
    let (seconds, rest) = (numbers.next()?, numbers.next()?);
    Some(now().abs_diff(seconds * 1_000_000 + rest))
}
