//! `make run` and `make debug` as a person at a terminal meets them: Ctrl-C, a port that is taken, a name with a slip, and
//! a backtrace through both halves.

use std::net::TcpListener;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::guest_tests::{NamedTest, free_port};
use crate::machine::{Kind, Machine};
use crate::messages::Message;
use crate::process::{Console, LOOK_INTERVAL, Process};
use crate::vm::Vm;
use crate::{bench, namespace, project};

const TIME_OUT: Duration = Duration::from_secs(60);
/// What a shell shows for an app that SIGTERM ended, and for a runner that Ctrl-C ended.
const TERMINATED: i32 = 128 + 15;
const INTERRUPTED: i32 = 128 + 2;

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![
        ("run_interrupted".to_owned(), Box::new(interrupted)),
        ("run_interrupted_twice".to_owned(), Box::new(interrupted_twice)),
        ("run_with_slips".to_owned(), Box::new(slips)),
        ("run_builds_once".to_owned(), Box::new(builds_once)),
        ("debug_backtrace".to_owned(), Box::new(backtrace)),
        ("bench_of_a_server".to_owned(), Box::new(measured)),
    ]
}

/// A runner that runs `http`.
struct Run {
    runner: Process,
}

impl Run {
    fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").args(arguments);
        Ok(Self { runner: Process::start(command, Console::Recorded)? })
    }

    fn serving() -> Result<Self> {
        project::build_app("http")?;
        let run = Self::start(&["http", "--port", &free_port()?.to_string()])?;
        run.wait_for("Ctrl-C presses its power button")?;
        Ok(run)
    }

    fn wait_for(&self, text: &str) -> Result<()> {
        let started = Instant::now();
        while !self.runner.errors().contains(text) {
            ensure!(started.elapsed() < TIME_OUT, "no {text:?} in: {}", self.runner.errors());
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// What Ctrl-C at a terminal does.
    fn interrupt(&self) -> Result<()> {
        Ok(kill(Pid::from_raw(self.runner.pid() as i32), Signal::SIGINT)?)
    }

    fn end(mut self) -> Result<(ExitStatus, String)> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.runner.try_wait()? {
                self.runner.drain();
                return Ok((status, self.runner.output() + &self.runner.errors()));
            }
            ensure!(started.elapsed() < TIME_OUT, "it does not end: {}", self.runner.errors());
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// The QEMU that it started.
    fn guest(&self) -> Result<Pid> {
        let runner = self.runner.pid();
        let children = std::fs::read_to_string(format!("/proc/{runner}/task/{runner}/children"))?;
        Ok(Pid::from_raw(children.split(' ').next().context("it has no guest")?.parse()?))
    }
}

/// A server is measured on both systems, for as short as can be. The kernel of the Linux guest is fetched by `make bench`,
/// not by a test.
fn measured() -> Result<()> {
    if !bench::has_linux() || !namespace::is_possible() {
        println!(
            "left out: bench_of_a_server, for there is no Linux guest (`make bench` fetches it) or no tap device"
        );
        return Ok(());
    }
    let image = project::build_app("http")?;
    let folder = project::work_dir("bench-test")?.join(std::process::id().to_string());
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bench").arg(image).arg("--output").arg(&folder);
    command.args(["--rounds", "1", "--duration", "1", "--connections", "2", "--path", "/"]);
    command.args(["--env", "A=it's", "--", "two words"]);
    let output = command.output()?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && text.contains("start of QEMU to first response"), "{text}");
    let picture = std::fs::read_to_string(folder.join("http.svg"))?;
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(folder.join("http.json"))?)?;
    std::fs::remove_dir_all(&folder)?;
    let rate = |system: &str| json["loads"][0][system]["requests_per_second"].as_f64().unwrap_or(0.0);
    ensure!(picture.contains("http") && rate("ours") > 1.0 && rate("linux") > 1.0, "{json}");
    Ok(())
}

/// The guest is asked to stop, and does.
fn interrupted() -> Result<()> {
    let run = Run::serving()?;
    run.interrupt()?;
    let (status, output) = run.end()?;
    ensure!(status.code() == Some(TERMINATED), "it ended with {status}: {output}");
    ensure!(output.contains("the app was ended by SIGTERM"), "{output}");
    Ok(())
}

/// A guest that cannot stop is killed by the second.
fn interrupted_twice() -> Result<()> {
    let run = Run::serving()?;
    let guest = run.guest()?;
    kill(guest, Signal::SIGSTOP)?;
    run.interrupt()?;
    run.wait_for("Ctrl-C again kills it")?;
    run.interrupt()?;
    let (status, output) = run.end()?;
    ensure!(status.code() == Some(INTERRUPTED), "it ended with {status}: {output}");
    // Dead, or waited for by whoever inherited it.
    let state = std::fs::read_to_string(format!("/proc/{guest}/stat")).unwrap_or_default();
    ensure!(state.is_empty() || state.contains(") Z "), "the guest is left: {state}");
    Ok(())
}

/// Each is told in a line that says what to do.
fn slips() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let slips: [(&[&str], &str); 6] = [
        (&["htp"], "did you mean `http`?"),
        (&["http", "--smp", "0"], "one processor at least"),
        (&["http", "--prot", "8080"], "--prot"),
        (&["http", "--port", &port], "choose another"),
        // Told before the app is looked for and built, which may take minutes.
        (&["htp", "--disk", "/nowhere.img"], "there is no disk at /nowhere.img"),
        (&["htp", "--initrd", "/nowhere"], "there is no initrd at /nowhere"),
    ];
    for (arguments, expected) in slips {
        let (status, output) = Run::start(arguments)?.end()?;
        ensure!(status.code() == Some(2) && output.contains(expected), "{arguments:?} {status}: {output}");
    }
    Ok(())
}

/// An app of which nothing has changed is not compiled and linked again.
fn builds_once() -> Result<()> {
    project::build_app("hello")?;
    let mut again = project::cargo();
    again.current_dir(project::root()).args(["build", "--manifest-path", "apps/hello/Cargo.toml"]);
    again.args(["--release", "--target", project::TARGET, "--message-format=json", "--target-dir"]);
    let output = again.arg(project::target_dir()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let program = text.lines().filter_map(Message::parse).find(|message| message.executable.is_some());
    let program = program.context("cargo names no program")?;
    ensure!(program.fresh == Some(true), "hello is built again: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// From a system call back into the app, to its start.
fn backtrace() -> Result<()> {
    if Command::new("gdb").arg("--version").output().is_err() {
        println!("left out: debug_backtrace, for gdb is not installed");
        return Ok(());
    }
    let image = project::built("hello")?;
    let mut machine = Machine::new(Kind::Q35, &image);
    machine.append = "kaslr=off".to_owned();
    let port = free_port()?;
    machine.extra.extend(["-S".to_owned(), "-gdb".to_owned(), format!("tcp:127.0.0.1:{port}")]);
    let _guest = Vm::start(&machine, Console::Recorded)?;
    let target = format!("target remote 127.0.0.1:{port}");
    let words = ["set tcp connect-timeout 30", &target, "hbreak syscall_handler", "continue", "backtrace"];
    let mut gdb = Command::new("timeout");
    gdb.args(["60", "gdb", "-nx", "-batch", "-q"])
        .args(words.iter().flat_map(|word| ["-ex", *word]))
        .arg(&image);
    let output = gdb.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("syscall_handler") && text.contains("in __libc_start_main"), "{text}");
    Ok(())
}
