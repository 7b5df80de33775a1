//! A TPM 2.0 for a guest: `swtpm` (Debian's package of that name), in a process of its own, with a state of its own that is forgotten at the end.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const START: Duration = Duration::from_secs(10);
/// How long it may take to end once QEMU has.
const END: Duration = Duration::from_secs(2);

/// The program, while it runs.
pub(crate) struct Tpm {
    child: Child,
    folder: PathBuf,
}

impl Tpm {
    /// True if it is installed.
    pub(crate) fn is_there() -> bool {
        Command::new("swtpm")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Starts one.
    pub(crate) fn start() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // The path of a socket is short.
        let folder = std::env::temp_dir().join(format!("unikernel-tpm-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let socket = folder.join("socket");
        let state = format!("dir={}", folder.display());
        let control = format!("type=unixio,path={}", socket.display());
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--terminate", "--tpmstate", &state, "--ctrl", &control])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("a TPM takes `swtpm`: install the package of that name")?;
        let mut tpm = Self { child, folder };
        let started = Instant::now();
        while !socket.exists() {
            if let Some(status) = tpm.child.try_wait()? {
                bail!("swtpm: {status}");
            }
            ensure!(started.elapsed() < START, "swtpm does not start");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(tpm)
    }

    /// QEMU's arguments for it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let socket = self.folder.join("socket");
        [
            "-chardev".to_owned(),
            format!("socket,id=tpm-control,path={}", socket.display()),
            "-tpmdev".to_owned(),
            "emulator,id=tpm0,chardev=tpm-control".to_owned(),
            "-device".to_owned(),
            "tpm-crb,tpmdev=tpm0".to_owned(),
        ]
        .into()
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let started = Instant::now();
        // It ends by itself when QEMU has.
        while started.elapsed() < END && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
