//! One guest: its QEMU process, its console, its end.

use std::io::{self, ErrorKind};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::machine::{Machine, QEMU};
pub(crate) use crate::process::Console;
use crate::process::{LOOK_INTERVAL, Process};

/// How much of the console goes into a message.
const LAST_LINES: usize = 20;
/// The kernel's line with the full exit code; the debug-exit port has seven bits only.
const EXIT_LINE: &str = "the app exited with code ";

/// A running guest.
pub(crate) struct Vm {
    process: Process,
    started: Instant,
}

/// How a guest ended.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// The app's exit code, if the guest told it.
    pub(crate) code: Option<u8>,
    /// Everything on the console.
    pub(crate) console: String,
}

impl Vm {
    /// Starts a machine.
    pub(crate) fn start(machine: &Machine, console: Console) -> Result<Self> {
        let image = &machine.kernel;
        if !image.exists() {
            bail!("there is no image at {}: build it with `cargo build --release`", image.display());
        }
        let mut command = Command::new(QEMU);
        command.args(machine.arguments());
        let started = Instant::now();
        let process = Process::start(command, console).map_err(explain)?;
        Ok(Self { process, started })
    }

    /// When QEMU was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The QEMU process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What the console shows so far.
    pub(crate) fn console(&self) -> String {
        self.process.output()
    }

    /// The exit status, if QEMU has ended.
    pub(crate) fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// Waits for the guest's end; `None` if the time is over first.
    pub(crate) fn wait(&mut self, time_out: Option<Duration>) -> Result<Option<Ending>> {
        let deadline = time_out.map(|time_out| Instant::now() + time_out);
        loop {
            if let Some(status) = self.try_wait()? {
                self.process.drain();
                let (console, errors) = (self.console(), self.process.errors());
                return Ok(Some(Ending { code: app_code(status, &console, &errors)?, console }));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Waits until `is_ready` says so. Fails when the guest dies or the time is over.
    pub(crate) fn wait_until(
        &self,
        time_out: Duration,
        mut is_ready: impl FnMut() -> bool,
    ) -> Result<Duration> {
        while !is_ready() {
            if let Some(status) = self.try_wait()? {
                bail!(
                    "the guest died ({status}); its last words:\n{}{}",
                    self.last_words(),
                    self.process.errors()
                );
            }
            if self.started.elapsed() > time_out {
                bail!(
                    "not ready after {} s; the console's last lines:\n{}",
                    time_out.as_secs(),
                    self.last_words()
                );
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(self.started.elapsed())
    }

    fn last_words(&self) -> String {
        last_lines(&self.console(), LAST_LINES)
    }
}

/// What to do if QEMU cannot be started.
pub(crate) fn explain(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(ErrorKind::NotFound) => {
            anyhow!(
                "{QEMU} is not installed: `apt-get install qemu-system-x86`, or what `cargo unikernel check-host` says"
            )
        }
        _ => error.context("cannot start QEMU"),
    }
}

/// The app's exit code. `isa-debug-exit` makes QEMU end with twice the code plus one, of which a
/// process's status keeps eight bits; the kernel's line has the whole code.
fn app_code(status: ExitStatus, console: &str, errors: &str) -> Result<Option<u8>> {
    // An app's 0 and QEMU's own failure are the same status; QEMU explains itself.
    let complaint = errors.lines().find(|line| line.starts_with(QEMU) && !line.contains("warning"));
    if let (Some(1), Some(complaint)) = (status.code(), complaint) {
        bail!("QEMU failed: {complaint}");
    }
    let told = told_code(console);
    let from_port = status.code().filter(|code| code & 1 == 1).map(|code| (code >> 1) as u8);
    Ok(match (told, from_port) {
        // The app may print anything; the port is believed about the bits that it has.
        (Some(told), Some(port)) if told & 0x7f != port => Some(port),
        (told, port) => told.or(port),
    })
}

/// The exit code by the kernel's own words.
fn told_code(console: &str) -> Option<u8> {
    let at = console.rfind(EXIT_LINE)?;
    let digits = &console[at + EXIT_LINE.len()..];
    digits.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Keeps a console for later reading.
pub(crate) fn save_console(path: &std::path::Path, console: &str) -> Result<()> {
    std::fs::write(path, console).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn code(status: i32, console: &str, errors: &str) -> Option<u8> {
        app_code(ExitStatus::from_raw(status << 8), console, errors).unwrap()
    }

    #[test]
    fn exit_code_comes_from_the_port() {
        assert_eq!(code(7 * 2 + 1, "", ""), Some(7));
        assert_eq!(code(0, "", ""), None);
    }

    #[test]
    fn exit_code_above_127_comes_from_the_console() {
        let status = (139 * 2 + 1) & 0xff;
        assert_eq!(code(status, "INFO the app exited with code 139\n", ""), Some(139));
        assert_eq!(code(status, "the app exited with code 3\n", ""), Some(11));
    }

    #[test]
    fn failure_of_qemu_is_no_exit_code() {
        let status = ExitStatus::from_raw(1 << 8);
        assert!(app_code(status, "", "qemu-system-x86_64: no such device").is_err());
        assert_eq!(code(1, "", "qemu-system-x86_64: warning: TCG lacks a feature"), Some(0));
    }

    #[test]
    fn last_lines_are_the_last() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("", 2), "");
    }
}
