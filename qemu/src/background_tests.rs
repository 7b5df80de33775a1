//! `run --detach`, `logs` and `stop`, and `debug`, as a person uses them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::guest_tests::{NamedTest, free_port};
use crate::package_tests::{Folder, text_of};
use crate::{http, project};

const TIME_OUT: Duration = Duration::from_secs(60);

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![("run_detached".to_owned(), Box::new(detached)), ("debug_command".to_owned(), Box::new(debugged))]
}

/// This program, with a place of its own for guests; its console is not waited for.
fn told(state: &Path, words: &[&str]) -> Result<Output> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words).env("XDG_STATE_HOME", state).stdin(Stdio::null());
    Ok(command.output()?)
}

/// Ends the guest whatever happens to the test.
struct Guest<'a>(&'a Folder);

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let _ = told(&self.0.0, &["stop", "server"]);
    }
}

fn detached() -> Result<()> {
    let image = project::build_app("http")?;
    let folder = Folder::new("d")?;
    let port = free_port()?;
    let ports = format!("{port}:8080");
    let image = image.to_string_lossy();
    let start = ["run", &image, "--detach", "--name", "server", "--port", &ports, "--append", "log=info"];
    let output = told(&folder.0, &start)?;
    ensure!(output.status.success() && output.stdout == b"server\n", "{}", text_of(&output));
    let guest = Guest(&folder);
    let started = Instant::now();
    while !http::answers(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
        ensure!(
            started.elapsed() < TIME_OUT,
            "no answer: {}",
            text_of(&told(&folder.0, &["logs", "server"])?)
        );
        thread::sleep(Duration::from_millis(20));
    }
    let other = format!("{}:8080", free_port()?);
    let again = ["run", &image, "-d", "--name", "server", "--port", &other];
    for (words, code, expected) in [
        (&["logs"][..], 0, "server: it runs"),
        (&["logs", "server"], 0, "INFO"),
        (&again, 2, "runs already"),
        (&["logs", "sever"], 2, "did you mean `server`?"),
        (&["run", &image, "--name", "other"], 2, "--name is for --detach"),
        (&["stop", "server"], 0, "server: the app exited with code 143"),
        (&["stop", "server"], 0, "server: the app exited with code 143"),
        (&["logs", "-f", "server"], 0, "the app exited with code 143"),
        (&["stop", "../server"], 2, "no name for a guest"),
    ] {
        let output = told(&folder.0, words)?;
        let text = text_of(&output);
        ensure!(
            output.status.code() == Some(code) && text.contains(expected),
            "{words:?}: {}\n{text}",
            output.status
        );
    }
    drop(guest);
    Ok(())
}

/// Stopped at `main`, by its name.
fn debugged() -> Result<()> {
    if Command::new("gdb").arg("--version").output().is_err() {
        println!("left out: debug_command, for gdb is not installed");
        return Ok(());
    }
    let image = project::built("hello")?;
    let folder = Folder::new("debug")?;
    let words = [
        "debug",
        &image.to_string_lossy(),
        "--net",
        "none",
        "--ex",
        "backtrace",
        "--ex",
        "kill",
        "--ex",
        "quit",
    ];
    let output = told(&folder.0, &words)?;
    let text = text_of(&output);
    ensure!(
        output.status.success() && text.contains("Breakpoint 1, ") && text.contains(" in main ("),
        "{text}"
    );
    ensure!(!text.contains("outside of ELF segments"), "{text}");
    Ok(())
}
