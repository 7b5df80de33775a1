//! Boots with devices that lie: whatever they say, the kernel does not panic, and the machine ends. The seeds are the same
//! in every run; `fuzz disk` and `fuzz card` try more of them (`make fuzz`).

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::boot_tests::hello;
use crate::guest_tests::NamedTest;
use crate::liar;
use crate::machine::{Kind, Machine};
use crate::project;
use crate::qmp;
use crate::vm::{Console, Vm};

/// A disk that does not answer is given up after a minute.
const TIME_OUT: Duration = Duration::from_secs(150);
const SEEDS: Range<u64> = 0..8;
/// A machine with one core, and one with two.
const BOTH_MACHINES: Range<u64> = 0..2;

/// The app behind a card that lies.
pub(crate) const SERVER: &str = "http";
/// How long a server stands behind a card that lies.
const SPELL: Duration = Duration::from_secs(2);
const STOP_TIME_OUT: Duration = Duration::from_secs(30);

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![
        ("lies_of_a_disk [q35]".to_owned(), Box::new(|| each_seed(SEEDS, disk_lies))),
        ("lies_of_a_card [q35]".to_owned(), Box::new(card_lies_all)),
        ("lies_of_a_clogged_card [q35]".to_owned(), Box::new(card_clogs)),
    ]
}

/// Runs a test with each seed.
fn each_seed(mut seeds: Range<u64>, test: impl Fn(u64) -> Result<()>) -> Result<()> {
    seeds.try_for_each(|seed| test(seed).with_context(|| format!("with the lies of seed {seed}")))
}

/// The socket between QEMU and a device that lies.
fn socket(device: &str) -> PathBuf {
    std::env::temp_dir().join(format!("lying-{device}-{}", std::process::id()))
}

/// Gives a machine the memory and the channel that a device in another process needs.
fn connect(machine: &mut Machine, socket: &Path) {
    let memory = format!("memory-backend-memfd,id=memory0,size={}M,share=on", machine.memory_mib);
    let channel = format!("socket,id=liar0,path={}", socket.display());
    let words = ["-object", &memory, "-machine", "memory-backend=memory0", "-chardev", &channel];
    machine.extra.extend(words.map(str::to_owned));
}

/// Makes a filesystem on such a disk, mounts and unmounts it, as far as that goes.
pub(crate) fn disk_lies(seed: u64) -> Result<()> {
    let socket = socket("disk");
    let liar = liar::start(&socket, seed, Box::new(liar::Disk::new()))?;
    let mut machine = hello(Kind::Q35, "format=blk0 mount=/data:blk0")?;
    connect(&mut machine, &socket);
    machine.extra.extend(["-device", "vhost-user-blk-pci,chardev=liar0"].map(str::to_owned));
    let mut guest = Vm::start(&machine, Console::Recorded)?;
    judge(&mut guest, TIME_OUT, liar)?;
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

fn card_lies_all() -> Result<()> {
    project::build_app(SERVER)?;
    let answers = Arc::new(AtomicUsize::new(0));
    each_seed(SEEDS, |seed| card_lies(seed, &answers))?;
    // Most seeds come far.
    ensure!(answers.load(Ordering::Relaxed) > 0, "no guest has answered anybody");
    Ok(())
}

/// Serves behind such a card, as far as that goes, and stops when the power button is pressed.
pub(crate) fn card_lies(seed: u64, answers: &Arc<AtomicUsize>) -> Result<()> {
    serve_behind(liar::Card::new(seed, Arc::clone(answers)), seed)
}

/// A card that has no room for answers, while requests come in, keeps no core from hearing the power button.
fn card_clogs() -> Result<()> {
    project::build_app(SERVER)?;
    each_seed(BOTH_MACHINES, |seed| serve_behind(liar::Card::clogging(seed, Arc::default()), seed))
}

fn serve_behind(card: liar::Card, seed: u64) -> Result<()> {
    let socket = socket("card");
    let control = socket.with_extension("qmp");
    let liar = liar::start(&socket, seed, Box::new(card))?;
    let mut machine = Machine::new(Kind::Q35, &project::image(SERVER));
    machine.cpus = 1 + seed as u32 % 2;
    machine.append = format!("ip={}/24", liar::GUEST.ip());
    connect(&mut machine, &socket);
    // QEMU 7.2 crashes where such a card has MSI-X and the machine is TCG's (a null pointer below `vhost_net_start`).
    let words = [
        "-netdev",
        "vhost-user,id=net0,chardev=liar0",
        "-device",
        "virtio-net-pci,netdev=net0,romfile=,vectors=0",
    ];
    machine.extra.extend(words.map(str::to_owned));
    machine.extra.extend(qmp::arguments(&control));
    let mut guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(TIME_OUT, || guest.console().contains("listening"))?;
    thread::sleep(SPELL);
    let is_pressed = qmp::press_power_button(&control);
    is_pressed.with_context(|| format!("after {}", guest.console()))?;
    judge(&mut guest, STOP_TIME_OUT, liar)?;
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

/// Waits for the end of a guest that was lied to, and of the liar.
fn judge(guest: &mut Vm, time_out: Duration, liar: JoinHandle<Result<()>>) -> Result<()> {
    let ending = guest.wait(Some(time_out))?;
    let ending = ending.with_context(|| format!("it does not end: {}", guest.console()))?;
    let outcome = liar.join();
    ensure!(matches!(outcome, Ok(Ok(()))), "the liar: {outcome:?}");
    ensure!(!ending.console.contains("PANIC"), "{}", ending.console);
    ensure!(ending.code.is_some(), "it did not end in order: {}", ending.console);
    Ok(())
}
