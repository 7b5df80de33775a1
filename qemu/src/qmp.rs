//! QEMU's control socket (QMP): the button that ends a machine in order, and saved states.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const PATIENCE: Duration = Duration::from_secs(10);

/// QEMU's arguments for a control socket at `path`.
pub(crate) fn arguments(path: &Path) -> [String; 2] {
    ["-qmp".into(), format!("unix:{},server=on,wait=off", path.display())]
}

/// Presses the machine's power button.
pub(crate) fn press_power_button(path: &Path) -> Result<()> {
    execute(path, &[r#"{"execute": "system_powerdown"}"#]).map(drop)
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
    lines.next().context("QEMU does not greet")??;
    let mut last = String::new();
    for command in [r#"{"execute": "qmp_capabilities"}"#].iter().chain(commands) {
        writeln!(&stream, "{command}")?;
        // Events may come between.
        let answer = lines.find(|line| line.as_ref().map_or(true, |line| !line.contains("\"event\"")));
        last = answer.context("QEMU does not answer")??;
        ensure!(last.contains("\"return\""), "QEMU refuses {command}: {last}");
    }
    Ok(last)
}
