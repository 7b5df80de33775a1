//! Goodput of one bulk connection from the guest while frames get lost: between QEMU and the tap device is a wire of
//! 20 ms there and back, the same for both systems.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::Pair;
use super::measure::{self, BOOT_TIME_OUT, System};
use crate::cpio::Archive;
use crate::guest_tests::free_port;
use crate::impairment::{Forwarder, Trouble};
use crate::machine::{Kind, Machine, Net};
use crate::namespace::{self, Queues, guest_address};
use crate::vm::{Console, Vm};
use crate::{http, project};

/// Frames lost in each direction, of a hundred thousand.
const LOSSES: [u64; 4] = [0, 100, 1_000, 3_000];
/// One way: the mark is about 20 ms there and back.
const DELAY: Duration = Duration::from_millis(10);
/// What is sent, at most; more than a spell takes.
const FILE_BYTES: usize = 32 << 20;

/// Goodput with so much loss, in Mbit/s.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Loss {
    /// Percent of the frames that get lost, in each direction.
    pub(crate) percent: f64,
    #[serde(flatten)]
    pub(crate) mbit_per_s: Pair<f64>,
}

/// Measures both systems, in turn.
pub(super) fn measure(rounds: usize, seconds: u64) -> Result<Vec<Loss>> {
    // The forwarder takes and gives whole frames, checksums and all.
    namespace::renew_tap(Queues::One)?;
    let [ours, linux] = [System::Unikernel, System::Linux].map(|system| {
        eprintln!("loss, {system}");
        figures(system, rounds, Duration::from_secs(seconds)).with_context(|| format!("{system}"))
    });
    let both = ours?.into_iter().zip(linux?).zip(LOSSES);
    Ok(both
        .map(|((ours, linux), loss)| Loss {
            percent: loss as f64 / 1000.0,
            mbit_per_s: Pair { ours: Some(ours), linux: Some(linux) },
        })
        .collect())
}

/// The median goodput for each of [`LOSSES`], in Mbit/s.
fn figures(system: System, rounds: usize, spell: Duration) -> Result<Vec<f64>> {
    let wire = (free_port()?, free_port()?);
    let mut machine = measure::machine_for(system, "http", Kind::Q35)?;
    machine.memory_mib = measure::USUAL_MEMORY_MIB;
    machine.net = Net::Frames { wire };
    add_file(&mut machine)?;
    // Before the tap device is opened, for QEMU would inherit it, and keep it from the next to open it.
    let guest = Vm::start(&machine, Console::Recorded)?;
    {
        let _forwarder = Forwarder::start(wire, Trouble::default(), 0)?;
        guest.wait_until(BOOT_TIME_OUT, || http::answers(guest_address()))?;
    }
    let of_loss = |loss| -> Result<f64> {
        let samples = (1..=rounds as u64).map(|seed| {
            let _forwarder =
                Forwarder::start(wire, Trouble { delay: DELAY, loss, ..Trouble::default() }, seed)?;
            goodput(spell)
        });
        measure::median(samples.collect::<Result<_>>()?).context("no round")
    };
    LOSSES.into_iter().map(of_loss).collect::<Result<_>>().with_context(|| guest.console())
}

/// Puts a file to be sent behind the app's own: boot loaders may concatenate archives.
fn add_file(machine: &mut Machine) -> Result<()> {
    let initrd = machine.initrd.as_ref().context("the app has files")?;
    let mut archive = Archive::default();
    archive.add("www/bulk", 0o100_644, 0, &vec![b'x'; FILE_BYTES]);
    let bytes = [fs::read(initrd)?, archive.finish()].concat();
    let path = project::work_dir("bench")?.join("loss.cpio");
    fs::write(&path, bytes)?;
    machine.initrd = Some(path);
    Ok(())
}

/// What one connection brings, in Mbit/s, its slow start included.
fn goodput(spell: Duration) -> Result<f64> {
    let mut stream = TcpStream::connect_timeout(&guest_address(), BOOT_TIME_OUT)?;
    stream.set_read_timeout(Some(spell))?;
    stream.write_all(b"GET /static/bulk HTTP/1.1\r\nHost: appliance\r\n\r\n")?;
    let (started, mut received, mut buffer) = (Instant::now(), 0, vec![0; 256 * 1024]);
    while started.elapsed() < spell && received < FILE_BYTES {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => received += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(received > 1 << 12, "only {received} bytes came");
    Ok(received as f64 * 8.0 / 1e6 / started.elapsed().as_secs_f64())
}
