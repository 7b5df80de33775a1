//! QEMU's control socket (QMP): the button that ends a machine in order, and saved states.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const PATIENCE: Duration = Duration::from_secs(10);

/// QEMU's arguments for a control socket at `path`.
pub(crate) fn arguments(path: &Path) -> [String; 2] {
    ["-qmp".into(), format!("unix:{},server=on,wait=off", path.display())]
}

/// Presses the machine's power button. A quick guest is off, and QEMU gone with it, before the answer is read: what the
/// button is for has been reached.
pub(crate) fn press_power_button(path: &Path) -> Result<()> {
    match execute(path, &[r#"{"execute": "system_powerdown"}"#]) {
        Err(error) if has_hung_up(&error) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Whether QEMU was reached, and ended before it answered.
fn has_hung_up(error: &anyhow::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|cause| matches!(cause.kind(), BrokenPipe | ConnectionReset | UnexpectedEof))
}

/// Presses three keys.
pub(crate) fn press_ctrl_alt_delete(path: &Path) -> Result<()> {
    let keys =
        ["ctrl", "alt", "delete"].map(|key| format!(r#"{{"type": "qcode", "data": "{key}"}}"#)).join(", ");
    let command = format!(r#"{{"execute": "send-key", "arguments": {{"keys": [{keys}]}}}}"#);
    execute(path, &[&command]).map(drop)
}

/// Gives commands; answers what QEMU answers to the last.
pub(crate) fn execute(path: &Path, commands: &[&str]) -> Result<String> {
    let stream = UnixStream::connect(path).context("cannot reach QEMU's control socket")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    lines
        .next()
        .unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
        .context("QEMU does not greet")?;
    let mut last = String::new();
    for command in [r#"{"execute": "qmp_capabilities"}"#].iter().chain(commands) {
        writeln!(&stream, "{command}")?;
        // Events may come between.
        let answer = lines.find(|line| line.as_ref().map_or(true, |line| !line.contains("\"event\"")));
        last = answer
            .unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
            .context("QEMU does not answer")?;
        ensure!(last.contains("\"return\""), "QEMU refuses {command}: {last}");
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::{env, fs, process, thread};

    use super::*;

    /// What comes of the button at a machine that reads `commands` of the two commands, answers `answers` of those and
    /// ends. What it has not read makes a reset of the end (unix(7)), what it has read a plain one.
    fn pressed(commands: usize, answers: usize) -> Result<()> {
        let path = env::temp_dir().join(format!("qmp-{}-{commands}-{answers}", process::id()));
        let listener = UnixListener::bind(&path)?;
        let machine = thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            writeln!(stream, r#"{{"QMP": {{}}}}"#)?;
            // A byte at a time: a buffer would read the second command with the first.
            let mut lines = BufReader::with_capacity(1, stream.try_clone()?).lines();
            for number in 0..commands {
                lines.next().expect("a command")?;
                if number < answers {
                    writeln!(stream, r#"{{"return": {{}}}}"#)?;
                }
            }
            Ok(())
        });
        let outcome = press_power_button(&path);
        machine.join().expect("the machine")?;
        fs::remove_file(&path)?;
        outcome
    }

    #[test]
    fn the_button_of_a_machine_that_ends_at_once_is_pressed() {
        for commands in 0..=2_usize {
            // Each command is answered before the next is given.
            for answers in commands.saturating_sub(1)..=commands {
                pressed(commands, answers).unwrap_or_else(|error| panic!("{commands}, {answers}: {error:#}"));
            }
        }
    }

    #[test]
    fn a_machine_that_is_not_there_has_no_button() {
        assert!(press_power_button(Path::new("/nonexistent/qmp")).is_err());
    }
}
