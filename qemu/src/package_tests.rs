//! Packages outside of this repository, built and booted by `cargo unikernel` as their owners would.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::guest_tests::{NamedTest, free_port};
use crate::process::{Console, LOOK_INTERVAL, Process};
use crate::{http, project};

/// For the builds of a kernel and of axum on a busy machine.
const TIME_OUT: Duration = Duration::from_secs(600);

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![
        ("package_new".to_owned(), Box::new(new_package)),
        ("package_of_any_shape".to_owned(), Box::new(any_shape)),
        ("package_slips".to_owned(), Box::new(slips)),
        ("package_as_container".to_owned(), Box::new(container)),
    ]
}

/// A folder outside of the repository, as a user's may be called; removed in the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("unikernel é {name} {}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> Result<PathBuf> {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `cargo unikernel` in a folder. Its cache lies with what else the tests build, and the settings of this
/// repository's own build do not reach it.
pub(crate) fn unikernel<I: AsRef<OsStr>>(
    folder: &Path,
    arguments: impl IntoIterator<Item = I>,
) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("unikernel").args(arguments).current_dir(folder);
    usual_environment(&mut command)?;
    Ok(command)
}

/// That of a user, but for the cache.
pub(crate) fn usual_environment(command: &mut Command) -> Result<()> {
    command.env("XDG_CACHE_HOME", project::work_dir("package-cache")?);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.ends_with("RUSTFLAGS") || text.starts_with("CARGO_") && text != "CARGO_HOME" {
            command.env_remove(&name);
        }
    }
    Ok(())
}

pub(crate) fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

pub(crate) fn succeeds(mut command: Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}\n{}", output.status, text_of(&output));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Two commands to an answer, and an orderly end.
fn new_package() -> Result<()> {
    let folder = Folder::new("new")?;
    succeeds(unikernel(&folder.0, ["new", "server"])?)?;
    let port = free_port()?;
    let command = unikernel(&folder.0.join("server"), ["run", "--release", "--port", &port.to_string()])?;
    let mut runner = Process::start(command, Console::Recorded)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let started = Instant::now();
    while !http::answers(address) {
        let state = || format!("{}{}", runner.output(), runner.errors());
        ensure!(runner.try_wait()?.is_none(), "it ended: {}", state());
        ensure!(started.elapsed() < TIME_OUT, "no answer: {}", state());
        thread::sleep(LOOK_INTERVAL);
    }
    // The button of the runner is there as soon as the runner itself has seen an answer.
    while !runner.errors().contains("Ctrl-C presses") {
        ensure!(started.elapsed() < TIME_OUT, "not ready: {}", runner.errors());
        thread::sleep(LOOK_INTERVAL);
    }
    kill(Pid::from_raw(runner.pid() as i32), Signal::SIGINT)?;
    let status = loop {
        if let Some(status) = runner.try_wait()? {
            break status;
        }
        ensure!(started.elapsed() < TIME_OUT, "it does not end: {}", runner.output());
        thread::sleep(LOOK_INTERVAL);
    };
    runner.drain();
    ensure!(status.code() == Some(0), "it ended with {status}: {}{}", runner.output(), runner.errors());
    Ok(())
}

/// It has one of glibc's second names, as crates on an old `libc` do.
const SHAPED_MAIN: &str = r#"
unsafe extern "C" {
    fn open64(path: *const std::ffi::c_char, flags: i32, ...) -> i32;
}

fn main() {
    assert!(unsafe { open64(c"/".as_ptr(), 0) } >= 0);
    println!("{} says {}", env!("OF_BUILD_SCRIPT"), shaped::word());
    std::process::exit(std::env::args().count() as i32 + 40);
}
"#;

/// A workspace with a package that has a build script, a library, two programs and an example; with settings of
/// cargo's own in a file, in the environment and on the command line.
fn any_shape() -> Result<()> {
    let (folder, again) = (Folder::new("shape")?, Folder::new("the same shape")?);
    write_shapes(&folder)?;
    let built = succeeds(unikernel(&folder.0, ["build", "--release", "--offline"])?)?;
    let images: Vec<&str> = built.lines().collect();
    let image = |folder: &Folder, name| folder.0.join("out put/unikernel/release").join(name);
    let expected = ["first", "second"].map(|name| image(&folder, name));
    ensure!(images.iter().map(Path::new).eq(expected.iter()), "the images are {images:?}");
    check_image(&folder, &expected[0])?;
    check_debug_file(&expected[0])?;

    // The folder leaves no trace in the image.
    write_shapes(&again)?;
    succeeds(unikernel(&again.0, ["build", "--release", "--bin", "first"])?)?;
    ensure!(
        fs::read(&expected[0])? == fs::read(image(&again, "first"))?,
        "another folder makes another image"
    );

    // A user's own flags, wrapper and target folder, and an example for the other C library.
    let wrapper = folder.write("wrapper", "#!/bin/sh\nexec \"$@\"\n")?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let mut command = unikernel(&folder.0, ["build", "-rp", "shaped", "--example", "third"])?;
    command.arg("--target").arg(project::GNU_TARGET);
    command.env("RUSTFLAGS", "-Dwarnings -Ctarget-cpu=x86-64-v2").env("RUSTC_WRAPPER", &wrapper);
    command.env("CARGO_TARGET_DIR", folder.0.join("else where"));
    let built = succeeds(command)?;
    check_image(&folder, Path::new(built.trim()))?;
    check_debug_file(Path::new(built.trim()))
}

pub(crate) fn write_shapes(folder: &Folder) -> Result<()> {
    folder.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"shaped\", \"other\"]\n\
        [profile.release]\nstrip = true\npanic = \"abort\"\n",
    )?;
    let manifest =
        "[package]\nname = \"shaped\"\nversion = \"1.0.0\"\nedition = \"2024\"\ndefault-run = \"first\"\n";
    folder.write("shaped/Cargo.toml", manifest)?;
    folder
        .write("shaped/build.rs", "fn main() { println!(\"cargo::rustc-env=OF_BUILD_SCRIPT=script\"); }\n")?;
    folder.write("shaped/src/lib.rs", "pub fn word() -> &'static str { \"library\" }\n")?;
    folder.write("shaped/src/bin/first.rs", SHAPED_MAIN)?;
    folder.write("shaped/src/bin/second.rs", SHAPED_MAIN)?;
    folder.write("shaped/examples/third.rs", SHAPED_MAIN)?;
    folder.write(
        "other/Cargo.toml",
        "[package]\nname = \"other\"\nversion = \"1.0.0\"\nedition = \"2024\"\n",
    )?;
    folder.write("other/src/lib.rs", "")?;
    folder
        .write(".cargo/config.toml", "[build]\nrustflags = [\"-Dwarnings\"]\ntarget-dir = \"out put\"\n")?;
    Ok(())
}

/// The same file as a program of Linux's, and booted.
pub(crate) fn check_image(folder: &Folder, image: &Path) -> Result<()> {
    let output = Command::new(image).arg("argument").output()?;
    let is_right = output.status.code() == Some(42) && output.stdout == b"script says library\n";
    ensure!(is_right, "on Linux: {}\n{}", output.status, text_of(&output));
    let words = ["run", "--net", "none", "--accel", "tcg"].map(OsStr::new);
    let words = words.into_iter().chain([image.as_os_str(), OsStr::new("--"), OsStr::new("argument")]);
    let output = unikernel(&folder.0, words)?.output()?;
    let is_right = output.status.code() == Some(42) && text_of(&output).contains("script says library");
    ensure!(is_right, "booted: {}\n{}", output.status, text_of(&output));
    Ok(())
}

fn check_debug_file(image: &Path) -> Result<()> {
    let file = image.with_extension("debug");
    ensure!(file.exists(), "there is nothing for a debugger beside {}", image.display());
    Ok(())
}

/// Each is told in a line that says what to do.
fn slips() -> Result<()> {
    let folder = Folder::new("slips")?;
    folder.write("library/Cargo.toml", "[package]\nname = \"library\"\nedition = \"2024\"\n")?;
    folder.write("library/src/lib.rs", "")?;
    folder.write("plain", "no ELF")?;
    // A server whose dependency knows one C library.
    let dependency = "library = { path = \"../library\" }";
    let manifest = |name: &str| format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n[dependencies]\n");
    folder.write("gnu-only/Cargo.toml", &manifest("gnu-only"))?;
    let error = "#[cfg(not(target_env = \"gnu\"))]\ncompile_error!(\"another C library\");";
    folder.write("gnu-only/src/lib.rs", error)?;
    folder.write("server/Cargo.toml", &(manifest("server") + &dependency.replace("library", "gnu-only")))?;
    folder.write("server/src/main.rs", "fn main() { println!(\"served\") }")?;
    let slips: [(&str, &[&str], &str); 11] = [
        ("", &["build"], "`cargo unikernel new NAME` makes a new server here"),
        ("", &["buidl"], "did you mean `build`?"),
        ("library", &["build"], "`library` is a library"),
        ("library", &["run", "--bin", "server"], "`library` has no bin `server`: it has none"),
        ("library", &["build", "--target", "aarch64-unknown-linux-musl"], "no kernel for the target"),
        ("library", &["build", "--relaese"], "did you mean `--release`?"),
        ("", &["run", "plain"], "it is no ELF file"),
        ("", &["new", "library"], "is there already"),
        ("server", &["build", "--release"], "error: another C library"),
        ("server", &["build", "--release"], "\n`gnu-only` did not compile with musl"),
        ("server", &["build", "--release"], "add `--target x86_64-unknown-linux-gnu`"),
    ];
    for (place, words, expected) in slips {
        let output = unikernel(&folder.0.join(place), words)?.output()?;
        let text = text_of(&output);
        ensure!(
            output.status.code() == Some(2) && text.contains(expected),
            "{words:?}: {}\n{text}",
            output.status
        );
    }
    // Before anything is built.
    let taken = TcpListener::bind(("127.0.0.1", 0))?;
    let port = taken.local_addr()?.port();
    let output =
        unikernel(&folder.0.join("server"), ["run", "--release", "--port", &port.to_string()])?.output()?;
    let text = text_of(&output);
    let is_first = text.starts_with(&format!("error: port {port} of this host is taken"));
    ensure!(output.status.code() == Some(2) && is_first, "{text}");
    Ok(())
}

/// A container image, judged by the tools that others will use on it.
fn container() -> Result<()> {
    let folder = Folder::new("container")?;
    let image = project::built("hello")?;
    fs::copy(&image, folder.0.join("hello"))?;
    let disk = folder.write("disk.img", "a disk")?;
    let words = ["oci", "hello", "-o", "layout", "--append", "log=info", "--disk"].map(OsStr::new);
    succeeds(unikernel(&folder.0, words.into_iter().chain([disk.as_os_str()]))?)?;
    // Their names for images have no room for spaces and other letters.
    let plain = std::env::temp_dir().join(format!("unikernel-container-{}", std::process::id()));
    fs::rename(folder.0.join("layout"), &plain)?;
    let layout = Folder(plain);
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["inspect", "--config", &format!("oci:{}:latest", layout.0.display())]);
    let config: serde_json::Value = serde_json::from_str(&succeeds(skopeo)?)?;
    ensure!(config["config"]["Labels"]["com.urunc.unikernel.binary"] == "/boot/hello", "{config}");
    let mut umoci = Command::new("umoci");
    umoci.args(["unpack", "--rootless", "--image", &format!("{}:latest", layout.0.display())]);
    umoci.arg(layout.0.join("bundle"));
    succeeds(umoci)?;
    let root = layout.0.join("bundle/rootfs");
    ensure!(fs::read(root.join("boot/hello"))? == fs::read(image)?, "the image was changed");
    ensure!(fs::read(root.join("disk/disk.img"))? == b"a disk", "the disk was changed");
    Ok(())
}
