//! A child process whose output is recorded while it runs, and which does not outlive the runner:
//! [`Process`] kills it when dropped, [`crate::interrupt`] on signals. Guests ([`crate::vm`]) are such
//! processes, and programs that run on Linux for comparison.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::interrupt;

/// How often a waiting runner looks.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How long the output of a process that has ended may take to arrive.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// Where the output goes besides the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Console {
    /// To the runner's own output, with its input going to the process.
    Shared,
    /// Nowhere.
    Recorded,
}

/// Bytes that a thread collects while others look.
type Record = Arc<Mutex<Vec<u8>>>;

/// A running process, the leader of a process group of its own.
pub(crate) struct Process {
    child: Arc<Mutex<Child>>,
    output: Record,
    errors: Record,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a command.
    pub(crate) fn start(mut command: Command, console: Console) -> Result<Self> {
        // It never sees the terminal: QEMU would put it into raw mode and, when killed, leave it so.
        let input = if console == Console::Shared { Stdio::piped() } else { Stdio::null() };
        command.process_group(0).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = interrupt::guarded(|| Ok(command.spawn()?))?;
        let mut process =
            Self { child, output: Record::default(), errors: Record::default(), readers: Vec::new() };
        process.connect(console)?;
        Ok(process)
    }

    /// Starts the threads that carry input and output.
    fn connect(&mut self, console: Console) -> Result<()> {
        let (input, output, errors) = {
            let mut child = self.lock_child();
            let input = child.stdin.take();
            let output = child.stdout.take().context("the output is piped")?;
            (input, output, child.stderr.take().context("the errors are piped")?)
        };
        let is_shared = console == Console::Shared;
        let (record, error_record) = (Arc::clone(&self.output), Arc::clone(&self.errors));
        self.readers = vec![
            thread::spawn(move || collect(output, &record, is_shared.then(std::io::stdout))),
            thread::spawn(move || collect(errors, &error_record, is_shared.then(std::io::stderr))),
        ];
        if let Some(input) = input.filter(|_| may_read_terminal()) {
            // Not joined: it sleeps in a read that only the user can end.
            thread::spawn(move || forward_input(input));
        }
        Ok(())
    }

    /// Its id.
    pub(crate) fn pid(&self) -> u32 {
        self.lock_child().id()
    }

    fn lock_child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has written to its standard output so far.
    pub(crate) fn output(&self) -> String {
        text_of(&self.output)
    }

    /// What it has written to its standard error so far.
    pub(crate) fn errors(&self) -> String {
        text_of(&self.errors)
    }

    /// The exit status, if it has ended.
    pub(crate) fn try_wait(&self) -> Result<Option<ExitStatus>> {
        Ok(self.lock_child().try_wait()?)
    }

    /// Waits for the output's end, after the process's; not for long, as a child of the process may have
    /// inherited the pipe.
    pub(crate) fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN_PATIENCE;
        while Instant::now() < deadline && self.readers.iter().any(|reader| !reader.is_finished()) {
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Ends it, with its children.
    fn kill(&mut self) {
        let mut child = self.lock_child();
        // Once waited for, its id may be another's.
        if let Ok(None) = child.try_wait() {
            let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn text_of(record: &Record) -> String {
    String::from_utf8_lossy(&record.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// Copies what comes until it ends.
fn collect(mut from: impl Read, record: &Record, mut echo: Option<impl Write>) {
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        if let Some(echo) = &mut echo {
            let _ = echo.write_all(&chunk[..count]).and_then(|()| echo.flush());
        }
        record.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..count]);
    }
}

/// A background job that reads its terminal would be stopped (SIGTTIN).
fn may_read_terminal() -> bool {
    match nix::unistd::tcgetpgrp(std::io::stdin()) {
        Ok(foreground) => foreground == nix::unistd::getpgrp(),
        // Not a terminal.
        Err(_) => true,
    }
}

/// Copies the runner's input to the process, as it comes.
fn forward_input(mut process: ChildStdin) {
    let mut input = std::io::stdin();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = input.read(&mut chunk) {
        if process.write_all(&chunk[..count]).is_err() {
            return;
        }
    }
}
