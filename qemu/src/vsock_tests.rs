//! `AF_VSOCK` through a device that runs as a program of its own (crate `vhost-device-vsock`), since `/dev/vhost-vsock` needs a module
//! that few test machines have. Left out, and said so, where the program is not installed.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::guest_tests::NamedTest;
use crate::machine::{Kind, Machine};
use crate::process::{Console, LOOK_INTERVAL, Process};
use crate::project;
use crate::vm::Vm;

const DEVICE: &str = "vhost-device-vsock";
const GUEST_CID: u32 = 42;
/// As `apps/guest-tests/src/bin/vsock.rs` has them.
const ECHO_PORT: u32 = 1234;
const GUEST_PORT: u32 = 5000;
const BYTES: usize = 1 << 20;
/// More than either side of a stream has room for (64 KiB), less than a socket of the host has.
const PIECE_BYTES: usize = 96 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    if Command::new(DEVICE).arg("--version").output().is_err() {
        println!("left out: vsock_echo, for {DEVICE} is not installed (`cargo install {DEVICE}`)");
        return Vec::new();
    }
    vec![("vsock_echo [q35]".into(), Box::new(echo))]
}

/// Where the device meets QEMU, and where it meets the host's programs.
struct Places {
    vhost: PathBuf,
    uds: PathBuf,
}

impl Places {
    fn new() -> Result<Self> {
        // Not the work folder: a socket's path is short.
        let folder = std::env::temp_dir().join(format!("vsock-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self { vhost: folder.join("vhost"), uds: folder.join("uds") })
    }

    /// Where the device looks for who listens on a port of the host.
    fn of_port(&self, port: u32) -> PathBuf {
        PathBuf::from(format!("{}_{port}", self.uds.display()))
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        let _ = self.uds.parent().map(std::fs::remove_dir_all);
    }
}

/// A megabyte each way, there and back, begun by the guest and then by the host.
fn echo() -> Result<()> {
    let places = Places::new()?;
    let listener = UnixListener::bind(places.of_port(ECHO_PORT))?;
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(echo_back(stream))));
    let _device = start_device(&places)?;
    let mut machine = Machine::new(Kind::Q35, &project::built("vsock")?);
    machine.cpus = 2;
    machine.append = "-- device".into();
    let memory = format!("memory-backend-memfd,id=mem,size={}M,share=on", machine.memory_mib);
    let socket = format!("socket,id=vsock0,path={}", places.vhost.display());
    let words = ["-object", &memory, "-numa", "node,memdev=mem", "-chardev", &socket];
    machine.extra.extend(words.map(str::to_owned));
    machine.extra.extend(["-device", "vhost-user-vsock-pci,chardev=vsock0"].map(str::to_owned));
    let mut guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(PATIENCE, || guest.console().contains("listening on port"))?;
    ask(&places.uds).with_context(|| guest.console())?;
    let ending = guest.wait(Some(PATIENCE))?.with_context(|| format!("no end: {}", guest.console()))?;
    ensure!(ending.code == Some(0), "{}", ending.console);
    Ok(())
}

fn start_device(places: &Places) -> Result<Process> {
    let mut command = Command::new(DEVICE);
    command.args(["--guest-cid", &GUEST_CID.to_string()]);
    command.arg("--socket").arg(&places.vhost).arg("--uds-path").arg(&places.uds);
    let device = Process::start(command, Console::Recorded)?;
    let deadline = Instant::now() + PATIENCE;
    while !places.vhost.exists() {
        if let Some(status) = device.try_wait()? {
            bail!("{DEVICE} ended ({status}): {}", device.errors());
        }
        ensure!(Instant::now() < deadline, "{DEVICE} does not listen");
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(device)
}

/// Sends back as much as the guest sends, and hangs up: that the guest has ended its direction, the device does not tell (0.3).
fn echo_back(mut stream: UnixStream) -> std::io::Result<()> {
    let mut chunk = [0; 4096];
    let mut left = BYTES;
    while left > 0 {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        stream.write_all(&chunk[..count])?;
        left = left.saturating_sub(count);
    }
    Ok(())
}

/// Connects to the guest's port, as the device's host side wants it, and has a megabyte echoed.
fn ask(uds: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(uds).context("cannot reach the device")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("CONNECT {GUEST_PORT}\n").as_bytes())?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut answer = String::new();
    reader.read_line(&mut answer)?;
    ensure!(answer.starts_with("OK "), "the guest does not answer: {answer:?}");
    let sent: Vec<u8> = (0..BYTES).map(|index| (index / 7) as u8).collect();
    // A piece at a time, which the socket's buffer holds: when it is full, the device (0.3) may forget to go on, and says
    // "Failed to re-enable EPOLLOUT".
    let mut echo = vec![0; BYTES];
    for (piece, place) in sent.chunks(PIECE_BYTES).zip(echo.chunks_mut(PIECE_BYTES)) {
        stream.write_all(piece)?;
        reader.read_exact(place).context("the echo was cut short")?;
    }
    ensure!(echo == sent, "the echo is something else");
    Ok(())
}
