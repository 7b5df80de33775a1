//! One guest: its QEMU process, its console, its end. Whatever happens to the runner, the process
//! does not outlive it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::machine::{Machine, QEMU};

/// How often a waiting runner looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// The kernel's line with the full exit code; the debug-exit port has seven bits only.
const EXIT_LINE: &str = "the app exited with code ";

/// Where the guest's console goes besides the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Console {
    /// To the runner's own output, with its input going to the guest.
    Shared,
    /// Nowhere.
    Recorded,
}

/// A running guest.
pub(crate) struct Vm {
    child: Arc<Mutex<Child>>,
    console: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
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
        Self::start_in(None, machine, console)
    }

    /// Starts a machine in a network namespace.
    pub(crate) fn start_in(namespace: Option<&str>, machine: &Machine, console: Console) -> Result<Self> {
        if !machine.kernel.exists() {
            bail!("there is no image at {}: build it with `cargo build --release`", machine.kernel.display());
        }
        let mut command = match namespace {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, QEMU]);
                command
            }
            None => Command::new(QEMU),
        };
        let input = if console == Console::Shared { Stdio::inherit() } else { Stdio::null() };
        let stderr = if console == Console::Shared { Stdio::inherit() } else { Stdio::piped() };
        command.args(machine.arguments()).stdin(input).stdout(Stdio::piped()).stderr(stderr);
        let mut child = match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("{QEMU} is not installed: run `make setup`, or `apt-get install qemu-system-x86`")
            }
            outcome => outcome.context("cannot start QEMU")?,
        };
        let record = Arc::new(Mutex::new(Vec::new()));
        let output = child.stdout.take().context("QEMU's output is piped")?;
        let errors = child.stderr.take();
        let reader = {
            let record = Arc::clone(&record);
            thread::spawn(move || copy_console(output, errors, &record, console))
        };
        let child = Arc::new(Mutex::new(child));
        Ok(Self { child, console: record, reader: Some(reader), started: Instant::now() })
    }

    /// When QEMU was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The QEMU process.
    pub(crate) fn pid(&self) -> u32 {
        self.lock_child().id()
    }

    /// A handle for ending the guest from elsewhere, such as a Ctrl-C handler.
    pub(crate) fn process(&self) -> Arc<Mutex<Child>> {
        Arc::clone(&self.child)
    }

    fn lock_child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What the console shows so far.
    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&self.console.lock().unwrap_or_else(std::sync::PoisonError::into_inner)).into_owned()
    }

    /// The exit status, if QEMU has ended.
    pub(crate) fn try_wait(&self) -> Result<Option<ExitStatus>> {
        Ok(self.lock_child().try_wait()?)
    }

    /// Waits for the guest's end; `None` if the time is over first.
    pub(crate) fn wait(&mut self, time_out: Option<Duration>) -> Result<Option<Ending>> {
        let deadline = time_out.map(|time_out| Instant::now() + time_out);
        loop {
            if let Some(status) = self.try_wait()? {
                if let Some(reader) = self.reader.take() {
                    let _ = reader.join();
                }
                let console = self.console();
                return Ok(Some(Ending { code: app_code(status, &console), console }));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Waits until `is_ready` says so. Fails when the guest dies or the time is over.
    pub(crate) fn wait_until(&self, time_out: Duration, mut is_ready: impl FnMut() -> bool) -> Result<Duration> {
        while !is_ready() {
            if let Some(status) = self.try_wait()? {
                bail!("the guest died ({status}); its last words:\n{}", last_lines(&self.console(), 20));
            }
            if self.started.elapsed() > time_out {
                let console = last_lines(&self.console(), 20);
                bail!("not ready after {} s; the console's last lines:\n{console}", time_out.as_secs());
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(self.started.elapsed())
    }

    /// Ends the guest.
    pub(crate) fn kill(&mut self) {
        let mut child = self.lock_child();
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Copies the guest's output until it ends.
fn copy_console(
    mut output: impl Read,
    errors: Option<impl Read + Send + 'static>,
    record: &Arc<Mutex<Vec<u8>>>,
    console: Console,
) {
    let errors_reader = errors.map(|mut errors| {
        let record = Arc::clone(record);
        thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            if let Ok(mut record) = record.lock() {
                record.extend_from_slice(&text);
            }
        })
    });
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = output.read(&mut chunk) {
        if console == Console::Shared {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(&chunk[..count]).and_then(|()| out.flush());
        }
        if let Ok(mut record) = record.lock() {
            record.extend_from_slice(&chunk[..count]);
        }
    }
    if let Some(reader) = errors_reader {
        let _ = reader.join();
    }
}

/// The app's exit code: from the kernel's line, or from `isa-debug-exit`, which makes QEMU end with
/// twice the code plus one.
fn app_code(status: ExitStatus, console: &str) -> Option<u8> {
    let told = console.rfind(EXIT_LINE).and_then(|at| {
        let digits = &console[at + EXIT_LINE.len()..];
        digits.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
    });
    told.or_else(|| status.code().filter(|code| code & 1 == 1).map(|code| (code >> 1) as u8))
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Ends the guest when the runner is asked to end. Answers a flag that tells it happened.
pub(crate) fn end_on_interrupt(vm: &Vm) -> Result<Arc<AtomicBool>> {
    let (process, flag) = (vm.process(), Arc::new(AtomicBool::new(false)));
    let was_interrupted = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        was_interrupted.store(true, Ordering::SeqCst);
        if let Ok(mut child) = process.lock() {
            let _ = child.kill();
        }
    })?;
    Ok(flag)
}

/// Keeps a console for later reading.
pub(crate) fn save_console(path: &std::path::Path, console: &str) -> Result<()> {
    File::create(path)
        .and_then(|mut file| file.write_all(console.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
