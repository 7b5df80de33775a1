//! Guests that go on without a terminal: `run --detach` starts one, `logs` shows its console, `stop` ends it.
//!
//! Each has a folder under its name, with the console's text and QEMU's control socket. A guest runs as long as QEMU
//! answers there, so nothing has to be cleaned up after a crash.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::machine::{Machine, QEMU, option_value};
use crate::project::did_you_mean;
use crate::{qmp, vm};

/// What the kernel says when a program ends.
const ENDINGS: [&str; 2] = ["the app exited with code ", "the app was ended by "];
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Until a guest that does not react to its power button is killed, beside the kernel's own `stop=` seconds.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// Which guest's console, and whether to stay.
#[derive(Clone, Debug)]
pub(crate) struct LogsOptions {
    pub(crate) name: Option<String>,
    pub(crate) follows: bool,
}

/// A guest by its name.
struct Guest {
    name: String,
    folder: PathBuf,
}

impl Guest {
    fn new(name: &str) -> Result<Self> {
        ensure!(
            !name.is_empty() && !name.starts_with('.') && !name.contains('/'),
            "`{name}` is no name for a guest: letters, digits and dashes, such as server"
        );
        Ok(Self { name: name.to_owned(), folder: guests_folder()?.join(name) })
    }

    /// One that was started once.
    fn known(name: &str) -> Result<Self> {
        let guest = Self::new(name)?;
        if guest.folder.is_dir() {
            return Ok(guest);
        }
        let names = names()?;
        let hint = did_you_mean(name, names.iter().map(String::as_str));
        bail!("no guest `{name}` was started here{hint}: `cargo unikernel run --detach` starts one");
    }

    fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// An address of a socket has 108 bytes (unix(7)).
    fn control(&self) -> Result<PathBuf> {
        let path = self.folder.join("qmp");
        ensure!(
            path.as_os_str().len() < 108,
            "{} is too long for a socket: set XDG_STATE_HOME",
            path.display()
        );
        Ok(path)
    }

    fn is_running(&self) -> bool {
        self.control().is_ok_and(|path| UnixStream::connect(path).is_ok())
    }

    /// How it ended, by the kernel's words.
    fn ending(&self) -> String {
        let console = fs::read(self.console()).unwrap_or_default();
        let text = String::from_utf8_lossy(&console);
        let told = ENDINGS.iter().filter_map(|words| text.rfind(words)).max();
        match told.and_then(|at| text[at..].lines().next()) {
            Some(line) => line.trim().to_owned(),
            None => "it was ended".to_owned(),
        }
    }
}

fn guests_folder() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(set("HOME")?.join(".local/state")));
    Ok(base.context("where to keep a guest's console? Set XDG_STATE_HOME or HOME")?.join("unikernel/guests"))
}

fn names() -> Result<Vec<String>> {
    let entries = fs::read_dir(guests_folder()?).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Starts a machine under a name, and returns while it runs.
pub(crate) fn start(mut machine: Machine, name: &str, is_verbose: bool) -> Result<u8> {
    let guest = Guest::new(name)?;
    if guest.is_running() {
        bail!("`{name}` runs already: `cargo unikernel stop {name}` ends it, --name NAME starts another");
    }
    fs::create_dir_all(&guest.folder).with_context(|| format!("cannot create {}", guest.folder.display()))?;
    let console = guest.console();
    // Not that of the guest before.
    File::create(&console).with_context(|| format!("cannot write {}", console.display()))?;
    machine.console = format!("file,path={}", option_value(&console));
    machine.extra.extend(qmp::arguments(&guest.control()?));
    machine.extra.push("-daemonize".to_owned());
    if is_verbose {
        eprintln!("{QEMU} {}", machine.arguments().join(" "));
    }
    let status =
        Command::new(QEMU).args(machine.arguments()).status().map_err(|error| vm::explain(error.into()))?;
    ensure!(status.success(), "QEMU did not start; its message is above");
    println!("{name}");
    eprintln!(
        "it runs: `cargo unikernel logs -f {name}` shows its console, `cargo unikernel stop {name}` ends it"
    );
    Ok(0)
}

/// `logs`: what the console shows; without a name, which guests there are.
pub(crate) fn logs(options: &LogsOptions) -> Result<u8> {
    let Some(name) = &options.name else {
        return list();
    };
    let guest = Guest::known(name)?;
    let path = guest.console();
    let mut file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut output = io::stdout().lock();
    loop {
        // Asked first: what is written after the last look is read in any case.
        let is_over = !options.follows || !guest.is_running();
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        match output.write_all(&text).and_then(|()| output.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            outcome => outcome?,
        }
        if is_over {
            return Ok(0);
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

fn list() -> Result<u8> {
    for name in names()? {
        let guest = Guest::new(&name)?;
        let state = if guest.is_running() { "it runs".to_owned() } else { guest.ending() };
        println!("{name}: {state}");
    }
    Ok(0)
}

/// `stop`: presses the power button, and kills what does not react.
pub(crate) fn stop(name: &str) -> Result<u8> {
    let guest = Guest::known(name)?;
    let control = guest.control()?;
    if guest.is_running() {
        qmp::press_power_button(&control)?;
        if !ends(&guest, STOP_PATIENCE) {
            eprintln!("`{name}` does not react to its power button: it is killed");
            // QEMU may be gone before it has answered.
            let _ = qmp::execute(&control, &[r#"{"execute": "quit"}"#]);
            ensure!(ends(&guest, STOP_PATIENCE), "QEMU does not end");
        }
    }
    println!("{}: {}", guest.name, guest.ending());
    remove(&control)?;
    Ok(0)
}

fn ends(guest: &Guest, patience: Duration) -> bool {
    let started = Instant::now();
    while guest.is_running() {
        if started.elapsed() > patience {
            return false;
        }
        thread::sleep(LOOK_INTERVAL);
    }
    true
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_one_folder() {
        for wrong in ["", "..", "a/b", ".hidden"] {
            assert!(Guest::new(wrong).is_err(), "{wrong}");
        }
        assert!(Guest::new("server-1").is_ok());
    }
}
