//! The power button under load: the machine stops in order and in time, and its disk is whole.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::disk::{self, Disk};
use crate::guest_tests::{NamedTest, free_port};
use crate::machine::{Kind, Machine, Net};
use crate::project::{self, Profile};
use crate::qmp;
use crate::vm::{Console, Ending, Vm};

const TIME_OUT: Duration = Duration::from_secs(30);
const CLIENTS: usize = 24;
/// What a shell would show for SIGTERM and SIGKILL.
const TERMINATED: u8 = 128 + 15;
const KILLED: u8 = 128 + 9;

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![
        ("stop_under_load".to_owned(), Box::new(under_load)),
        ("stop_of_a_deaf_app".to_owned(), Box::new(deaf)),
    ]
}

struct Booted {
    guest: Vm,
    address: SocketAddr,
    control: PathBuf,
    disk: PathBuf,
}

impl Booted {
    fn start(name: &str, words: &str) -> Result<Self> {
        project::build("guest-tests", &["stopping"], Profile::Release)?;
        let disk = project::work_dir("disks")?.join(format!("{name}.img"));
        let _ = std::fs::remove_file(&disk);
        disk::make(&disk, None, "32M", &[])?;
        let port = free_port()?;
        let mut machine = Machine::new(Kind::Q35, &project::image("stopping"));
        machine.net = Net::User(port, 8080);
        machine.disks.push(Disk::new(&disk));
        machine.append = format!("mount=/data:blk0:ext4 {words}");
        let control = std::env::temp_dir().join(format!("qmp-{name}-{}", std::process::id()));
        machine.extra.extend(qmp::arguments(&control));
        let guest = Vm::start(&machine, Console::Recorded)?;
        guest.wait_until(TIME_OUT, || guest.console().contains("ready"))?;
        Ok(Self { guest, address: SocketAddr::from(([127, 0, 0, 1], port)), control, disk })
    }

    /// Presses the power button; answers how it ended, and after how long.
    fn end(&mut self) -> Result<(Ending, Duration)> {
        let start = Instant::now();
        qmp::press_power_button(&self.control)?;
        let ending = self.guest.wait(Some(TIME_OUT))?;
        let ending = ending.with_context(|| format!("it does not end: {}", self.guest.console()))?;
        ensure!(!ending.console.contains("PANIC"), "{}", ending.console);
        disk::check(&self.disk)?;
        Ok((ending, start.elapsed()))
    }
}

/// Asks once; answers how many bytes came.
fn ask(address: SocketAddr) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer.len())
}

fn under_load() -> Result<()> {
    for round in 0..3 {
        let mut booted = Booted::start("stop-load", "")?;
        let (address, is_over, answered) = (booted.address, AtomicBool::new(false), AtomicUsize::new(0));
        let ended = thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        answered
                            .fetch_add(usize::from(ask(address).is_ok_and(|len| len > 0)), Ordering::Relaxed);
                    }
                });
            }
            thread::sleep(Duration::from_millis(1500 + 300 * round));
            let ended = booted.end();
            is_over.store(true, Ordering::Relaxed);
            ended
        });
        let (ending, took) = ended?;
        ensure!(ending.code == Some(TERMINATED), "it ended with {:?}: {}", ending.code, ending.console);
        ensure!(answered.load(Ordering::Relaxed) > 20, "{answered:?} answers");
        ensure!(took < Duration::from_secs(10), "it took {took:?}");
    }
    Ok(())
}

/// An app that does not hear SIGTERM has `stop=` seconds.
fn deaf() -> Result<()> {
    let mut booted = Booted::start("stop-deaf", "stop=1 -- deaf")?;
    ensure!(ask(booted.address)? > 0);
    let (ending, took) = booted.end()?;
    ensure!(ending.code == Some(KILLED), "it ended with {:?}: {}", ending.code, ending.console);
    ensure!((Duration::from_millis(900)..Duration::from_secs(8)).contains(&took), "it took {took:?}");
    Ok(())
}
