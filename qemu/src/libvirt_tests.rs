//! `deploy libvirt`, run by libvirt's own QEMU driver as an ordinary user (session mode), without KVM: the domain is
//! defined, starts, has an address by DHCP, reacts to its power button, and is off.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guest_tests::NamedTest;
use crate::package::finds;
use crate::process::LOOK_INTERVAL;
use crate::project;

const TIME_OUT: Duration = Duration::from_secs(120);
const NAME: &str = "unikernel-test";

/// What root runs as somebody else. Sandboxes may keep the devices that everybody has elsewhere for root, so they are
/// made once more where nobody else sees them.
const AS_NOBODY: &str = r#"
mount -t tmpfs -o dev,mode=755 none "$1"
for device in null:3 urandom:9; do
    mknod -m 666 "$1/${device%:*}" c 1 "${device#*:}"
    mount --bind "$1/${device%:*}" "/dev/${device%:*}"
done
shift
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
"#;

/// All of them; none where libvirt is not installed.
pub(crate) fn all() -> Vec<NamedTest> {
    if !finds("virsh") || !Path::new("/usr/sbin/libvirtd").exists() {
        println!(
            "left out: deploy_libvirt, for libvirt is not installed (Debian: libvirt-clients, libvirt-daemon)"
        );
        return Vec::new();
    }
    vec![("deploy_libvirt".to_owned(), Box::new(runs))]
}

/// A user's own libvirt: its state, and the domain in it. The daemon ends by itself when nobody talks to it.
struct Session {
    home: PathBuf,
}

impl Session {
    fn new() -> Result<Self> {
        // A socket's address has 108 bytes (unix(7)), and no folder above may be root's alone.
        let home = std::env::temp_dir().join(format!("unikernel-libvirt-{}", std::process::id()));
        fs::create_dir_all(home.join("dev"))?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        Ok(Self { home })
    }

    fn give_to_user(&self) -> Result<()> {
        if nix::unistd::geteuid().is_root() {
            let nobody = Some(65534);
            for path in [self.home.clone(), self.home.join(NAME), self.home.join("domain.xml")] {
                std::os::unix::fs::chown(path, nobody, nobody)?;
            }
        }
        Ok(())
    }

    fn virsh(&self, words: &[&str]) -> Result<Output> {
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-ec", AS_NOBODY, "sh"]).arg(self.home.join("dev")).arg("virsh");
            command
        } else {
            Command::new("virsh")
        };
        command.args(["--connect", "qemu:///session"]).args(words);
        command.env("HOME", &self.home).env("XDG_RUNTIME_DIR", &self.home);
        for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"] {
            command.env_remove(name);
        }
        command.output().context("cannot run virsh")
    }

    fn succeeds(&self, words: &[&str]) -> Result<String> {
        let output = self.virsh(words)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "virsh {}: {errors}", words.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.home.join("console.log")).unwrap_or_default()).into_owned()
    }

    fn wait_for(&self, text: &str) -> Result<()> {
        let started = Instant::now();
        while !self.console().contains(text) {
            ensure!(started.elapsed() < TIME_OUT, "no {text:?} on the console: {}", self.console());
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.virsh(&["destroy", NAME]);
        let _ = self.virsh(&["undefine", NAME]);
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn runs() -> Result<()> {
    let session = Session::new()?;
    let image = session.home.join(NAME);
    fs::copy(project::build_app("http")?, &image)?;
    let mut deploy = Command::new(std::env::current_exe()?);
    deploy.args(["deploy", "libvirt"]).arg(&image).arg("-o").arg(&session.home);
    deploy.args(["--memory", "64", "--accel", "tcg", "--net", "user", "--append", "log=info"]);
    let output = deploy.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let xml = fs::read_to_string(session.home.join(format!("{NAME}.xml")))?;
    // A file in place of the terminal that `virsh console` would take.
    let console = session.home.join("console.log");
    let to_file = format!("<serial type='file'><source path='{}'/></serial>", console.display());
    let xml = xml.replace("<serial type='pty'/>", &to_file).replace("<console type='pty'/>", "");
    ensure!(xml.contains(&to_file), "it has another console: {xml}");
    let domain = session.home.join("domain.xml");
    fs::write(&domain, xml)?;
    session.give_to_user()?;

    let domain = domain.to_string_lossy().into_owned();
    session.succeeds(&["define", "--validate", &domain])?;
    session.succeeds(&["start", NAME])?;
    session.wait_for("lease of 10.0.2.15/24")?;
    session.wait_for("listening on port 8080")?;
    ensure!(session.succeeds(&["domstate", NAME])? == "running", "it is not running");
    session.succeeds(&["shutdown", NAME])?;
    session.wait_for("the app exited with code 143")?;
    let started = Instant::now();
    while session.succeeds(&["domstate", NAME])? != "shut off" {
        ensure!(started.elapsed() < TIME_OUT, "it is not off");
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}
