//! `test`: small programs that first pass on Linux, then booted; the exit code is the verdict.
//!
//! `apps/guest-tests/tests.toml` lists them. A test that fails leaves its console in
//! `target/guest-tests/`.

use std::collections::BTreeSet;
use std::fmt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::cli::TestOptions;
use crate::disk_tests::{DATA, DiskPlan};
use crate::machine::{Kind, Machine, Net};
use crate::observe_tests;
use crate::project::Profile;
use crate::stop_tests;
use crate::tail_tests;
use crate::vm::{self, Console, Vm};
use crate::{
    app_tests, background_tests, balloon_tests, boot_tests, config_tests, container_tests, debian_tests,
    device_tests, disk_image_tests, exec_tests, http_tests, init_tests, interrupt, kaslr_tests, kv,
    liar_tests, libvirt_tests, like_vmm_tests, loopback_tests, module_tests, ntp_tests, nvme_tests,
    pack_tests, package_tests, program_tests, project, run, run_tests, share_tests, sign_tests, syslog_tests,
    tap_tests, tpm_tests, verity_tests, vfat_tests, vsock_tests,
};

/// Guests at once: one a core of a small machine.
const WORKERS: usize = 2;
const DEFAULT_SECONDS: u64 = 60;
/// How long a test that steers guests from outside may take, builds of its apps on a busy machine included. It is
/// there for what has no bound of its own, such as a client that waits for an answer: a test that hangs is to
/// fail and say so, not to take the time of all the others.
const LONGEST_TEST: Duration = Duration::from_secs(900);

/// A test that steers guests from outside.
pub(crate) type Test = Box<dyn Fn() -> Result<()> + Send + Sync>;
pub(crate) type NamedTest = (String, Test);

/// `tests.toml`.
#[derive(Deserialize)]
struct Manifest {
    test: Vec<GuestTest>,
}

/// One program and what is expected of it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuestTest {
    /// The binary of package `guest-tests`, or of an app.
    name: String,
    #[serde(default)]
    args: Vec<String>,
    /// The exit code, 128 + signal for a death by signal.
    #[serde(default)]
    exit: u8,
    /// What the guest's console must show.
    #[serde(default)]
    console: Vec<String>,
    /// False for attacks and for what only the kernel does.
    #[serde(default = "yes")]
    linux: bool,
    /// True if the lines that begin with `| ` must be the same on Linux and booted.
    #[serde(default)]
    same: bool,
    /// True to run it once more with a kernel that checks its locks.
    #[serde(default)]
    checked: bool,
    /// True to run it once more with the GNU C library.
    #[serde(default)]
    gnu: bool,
    #[serde(default = "common_machines")]
    machines: Vec<String>,
    #[serde(default)]
    append: String,
    /// A folder below `apps/guest-tests`.
    initrd: Option<String>,
    disk: Option<DiskPlan>,
    #[serde(default)]
    network: bool,
    #[serde(default = "default_memory")]
    memory_mib: u64,
    #[serde(default = "default_seconds")]
    seconds: u64,
}

fn yes() -> bool {
    true
}

fn common_machines() -> Vec<String> {
    vec!["microvm".into(), "q35".into()]
}

fn default_memory() -> u64 {
    256
}

fn default_seconds() -> u64 {
    DEFAULT_SECONDS
}

/// One run of one test.
struct Job<'a> {
    test: &'a GuestTest,
    place: Place,
}

/// Where a test runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// As a program of this machine.
    Linux,
    /// Booted, with the kernel as it ships or with one that checks itself. A `q35` has two processors,
    /// the others one.
    Machine(Kind, Profile),
}

impl Place {
    fn profile(self) -> Profile {
        match self {
            Self::Linux => Profile::Release,
            Self::Machine(_, profile) => profile,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linux => f.write_str("linux"),
            Self::Machine(kind, Profile::Release) => write!(f, "{kind}"),
            Self::Machine(kind, Profile::Debug) => write!(f, "{kind}, checked"),
            Self::Machine(kind, Profile::Gnu) => write!(f, "{kind}, GNU C library"),
        }
    }
}

/// Runs all tests whose names contain the filter; answers the process's exit code.
pub(crate) fn run(options: &TestOptions) -> Result<u8> {
    let path = project::root().join("apps/guest-tests/tests.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: Manifest = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    let is_chosen = |name: &str| options.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let mut jobs = Vec::new();
    for test in manifest.test.iter().filter(|test| is_chosen(&test.name)) {
        jobs.extend(test.linux.then_some(Job { test, place: Place::Linux }));
        for machine in &test.machines {
            let place = Place::Machine(machine.parse()?, Profile::Release);
            jobs.push(Job { test, place });
        }
        jobs.extend(test.gnu.then_some(Job { test, place: Place::Machine(Kind::Q35, Profile::Gnu) }));
        jobs.extend(test.checked.then_some(Job { test, place: Place::Machine(Kind::Q35, Profile::Debug) }));
    }
    build(&jobs)?;
    project::work_dir("guest-tests")?;
    // Two groups at a time, whose tests come one after the other: they share files. The long ones are first.
    let beside = [
        package_tests::all(),
        debian_tests::all(),
        disk_image_tests::all(),
        init_tests::all(),
        container_tests::all(),
        boot_tests::all(),
        kaslr_tests::all(),
        device_tests::all(),
        share_tests::all(),
        vfat_tests::all(),
        verity_tests::all(),
        tpm_tests::all(),
        like_vmm_tests::all(),
        libvirt_tests::all(),
        // They share programs and volumes.
        [program_tests::all(), config_tests::all(), sign_tests::all()].into_iter().flatten().collect(),
        pack_tests::all(),
        exec_tests::all(),
        run_tests::all(),
        ntp_tests::all(),
        syslog_tests::all(),
    ];
    // What measures times, or loads a guest as far as it goes, has the machine to itself.
    let alone = [
        module_tests::all(),
        nvme_tests::all(),
        balloon_tests::all(),
        liar_tests::all(),
        observe_tests::all(),
        tail_tests::all(),
        stop_tests::all(),
        http_tests::all(),
        loopback_tests::all(),
        app_tests::all(),
        kv::all(),
        tap_tests::all(),
        vsock_tests::all(),
        background_tests::all(),
    ];
    let chosen = |tests: Vec<NamedTest>| tests.into_iter().filter(|(name, _)| is_chosen(name)).collect();
    let beside: Vec<Vec<NamedTest>> = beside.into_iter().map(chosen).collect();
    let alone: Vec<Vec<NamedTest>> = alone.into_iter().map(chosen).collect();
    let run_group = |group: &Vec<NamedTest>| {
        let passes = |(name, check): &&NamedTest| report(name, || in_time(check));
        group.iter().filter(|test| !passes(test)).count()
    };
    let failed = run_all(WORKERS, &jobs, |job| usize::from(!report(&job.title(), || job.run())))
        + run_all(WORKERS, &beside, run_group)
        + run_all(1, &alone, run_group);
    let passed = jobs.len() + beside.iter().chain(&alone).map(Vec::len).sum::<usize>() - failed;
    ensure!(passed + failed > 0, "no test has this name");
    // Once more what failed: a log of seven hundred lines is read from its end, and often kept only there.
    FAILURES.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|failure| println!("{failure}"));
    println!("{passed} passed, {failed} failed");
    Ok(u8::from(failed > 0))
}

/// The lines of the tests that failed.
static FAILURES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Builds what the jobs run, and no more: each program stands for a kernel to link.
fn build(jobs: &[Job<'_>]) -> Result<()> {
    let apps = project::apps();
    for profile in [Profile::Release, Profile::Debug, Profile::Gnu] {
        let here = jobs.iter().filter(|job| job.place.profile() == profile);
        let names: BTreeSet<&str> = here.map(|job| job.test.name.as_str()).collect();
        let (apps, programs): (Vec<&str>, Vec<&str>) =
            names.into_iter().partition(|name| apps.iter().any(|app| app == name));
        if !programs.is_empty() {
            project::build("guest-tests", &programs, profile)?;
        }
        apps.into_iter().try_for_each(|app| project::build(app, &[], profile))?;
    }
    Ok(())
}

/// Runs all of `tests`, so many at once, by a function that answers how many failed; answers how many did in all.
fn run_all<T: Sync>(workers: usize, tests: &[T], run: impl Fn(&T) -> usize + Sync) -> usize {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    failed.fetch_add(run(test), Ordering::Relaxed);
                }
            });
        }
    });
    failed.into_inner()
}

/// Does a test; when its time is over, its guests are ended, so that whoever waits for them goes on.
fn in_time(check: impl FnOnce() -> Result<()>) -> Result<()> {
    let (done, is_done) = mpsc::channel();
    let watch = thread::spawn(move || {
        let is_late = is_done.recv_timeout(LONGEST_TEST) == Err(mpsc::RecvTimeoutError::Timeout);
        if is_late {
            interrupt::end_guests();
        }
        is_late
    });
    let outcome = check();
    let _ = done.send(());
    let is_late = watch.join().unwrap_or(true);
    if !is_late {
        return outcome;
    }
    let late = format!("not over after {} s, so its guests were ended", LONGEST_TEST.as_secs());
    Err(outcome.err().map_or_else(|| anyhow::anyhow!("{late}"), |error| error.context(late.clone())))
}

/// Does a test and prints a line; true if it passed.
fn report(title: &str, run: impl FnOnce() -> Result<()>) -> bool {
    let started = Instant::now();
    let outcome = run();
    let seconds = started.elapsed().as_secs_f32();
    match &outcome {
        Ok(()) => println!("ok      {title} ({seconds:.1} s)"),
        Err(error) => {
            let failure = format!("FAILED  {title} ({seconds:.1} s): {error:#}");
            println!("{failure}");
            FAILURES.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
        }
    }
    outcome.is_ok()
}

impl Job<'_> {
    fn title(&self) -> String {
        let arguments = self.test.args.join(" ");
        format!("{} {arguments} [{}]", self.test.name, self.place).replace("  ", " ")
    }

    fn run(&self) -> Result<()> {
        match self.place {
            Place::Linux => self.run_on_linux(),
            Place::Machine(kind, profile) => self.boot(kind, profile),
        }
    }

    fn linux_output(&self) -> Result<Output> {
        self.linux_command().output().context("cannot run it")
    }

    fn linux_command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.arg(self.test.seconds.to_string()).arg(project::image(&self.test.name)).args(&self.test.args);
        command
    }

    fn run_on_linux(&self) -> Result<()> {
        let Some(plan) = &self.test.disk else { return self.run_once_on_linux(|_| {}) };
        let folder = plan.folder(&self.file_name())?;
        (1..=plan.boots).try_for_each(|boot| {
            self.run_once_on_linux(|command| {
                command.env(DATA, &folder).env("BOOT", boot.to_string());
            })
        })
    }

    fn run_once_on_linux(&self, prepare: impl Fn(&mut Command)) -> Result<()> {
        use std::os::unix::process::ExitStatusExt;
        let mut command = self.linux_command();
        prepare(&mut command);
        let output = command.output().context("cannot run it")?;
        let signal_code = output.status.signal().map(|signal| 128 + signal);
        let code = output.status.code().or(signal_code);
        if code != Some(i32::from(self.test.exit)) {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("ended with {code:?} instead of {}: {}", self.test.exit, vm::last_lines(&text, 4));
        }
        Ok(())
    }

    /// The title, as a file can be called.
    fn file_name(&self) -> String {
        self.title().replace([' ', '/'], "_")
    }

    fn boot(&self, kind: Kind, profile: Profile) -> Result<()> {
        let Some(plan) = &self.test.disk else { return self.boot_once(kind, profile, |_| {}) };
        let disk = plan.make(&self.file_name())?;
        for boot in 1..=plan.boots {
            self.boot_once(kind, profile, |machine| plan.attach(machine, &disk, boot))?;
            plan.judge(&disk)?;
        }
        Ok(std::fs::remove_file(&disk.path)?)
    }

    fn boot_once(&self, kind: Kind, profile: Profile, prepare: impl Fn(&mut Machine)) -> Result<()> {
        let test = self.test;
        let mut machine = Machine::new(kind, &project::image_of(&test.name, profile));
        machine.cpus = if kind == Kind::Q35 { 2 } else { 1 };
        machine.memory_mib = test.memory_mib;
        machine.append = test.append.clone();
        prepare(&mut machine);
        if !test.args.is_empty() {
            machine.append = format!("{} -- {}", machine.append, test.args.join(" "));
        }
        if let Some(folder) = &test.initrd {
            let folder = project::root().join("apps/guest-tests").join(folder);
            machine.initrd = Some(run::initrd_file(&folder, &format!("{}-{kind}", test.name))?);
        }
        if test.network {
            machine.net = Net::User(free_port()?, 8080);
        }
        let mut guest = Vm::start(&machine, Console::Recorded)?;
        let ending = guest.wait(Some(Duration::from_secs(test.seconds)))?;
        let console = guest.console();
        let outcome = match ending {
            Some(ending) => test.judge(ending.code, &console).and_then(|()| self.compare(&console)),
            None => Err(anyhow::anyhow!("not over after {} s", test.seconds)),
        };
        if outcome.is_err() {
            let path = project::work_dir("guest-tests")?.join(format!("{}.log", self.file_name()));
            vm::save_console(&path, &console)?;
            return outcome.with_context(|| format!("console in {}", path.display()));
        }
        outcome
    }
}

/// The lines of a test's output that are to be compared.
fn answers(output: &str) -> Vec<&str> {
    output.lines().map(str::trim_end).filter(|line| line.starts_with("| ")).collect()
}

impl Job<'_> {
    /// Compares what the guest has printed with what the same program prints on Linux.
    fn compare(&self, console: &str) -> Result<()> {
        if !self.test.same {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&self.linux_output()?.stdout).into_owned();
        let (linux, booted) = (answers(&output), answers(console));
        ensure!(!linux.is_empty(), "Linux answers nothing");
        ensure!(linux.len() == booted.len(), "{} answers, and {} on Linux", booted.len(), linux.len());
        let different: Vec<String> = linux
            .iter()
            .zip(&booted)
            .filter(|(linux, booted)| linux != booted)
            .map(|(linux, booted)| format!("\n  linux:  {linux}\n  booted: {booted}"))
            .collect();
        ensure!(different.is_empty(), "{} answers differ:{}", different.len(), different.concat());
        Ok(())
    }
}

impl GuestTest {
    fn judge(&self, code: Option<u8>, console: &str) -> Result<()> {
        ensure!(!console.contains("KERNEL PANIC"), "the kernel panicked");
        ensure!(code == Some(self.exit), "ended with {code:?} instead of {}", self.exit);
        for expected in &self.console {
            ensure!(console.contains(expected.as_str()), "the console does not show {expected:?}");
        }
        Ok(())
    }
}

/// A port of this host that nobody uses.
pub(crate) fn free_port() -> Result<u16> {
    // Both kinds are forwarded; another program may have the port of one.
    for _ in 0..100 {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free for TCP and UDP")
}
