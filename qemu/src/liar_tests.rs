//! Boots with a disk that lies: whatever it says, the kernel does not panic, and the machine ends. The seeds are the same
//! in every run; `LIES=1000` tries more of them (`make fuzz`).

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::boot_tests::hello;
use crate::liar;
use crate::machine::Kind;
use crate::vm::{Console, Vm};

/// A name and what it does.
type NamedTest = (String, Box<dyn Fn() -> Result<()>>);

/// A disk that does not answer is given up after a minute.
const TIME_OUT: Duration = Duration::from_secs(150);
const SEEDS: u64 = 8;

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![("lies_of_a_disk [q35]".to_owned(), Box::new(all_seeds))]
}

fn all_seeds() -> Result<()> {
    let seeds = std::env::var("LIES").ok().and_then(|count| count.parse().ok()).unwrap_or(SEEDS);
    (0..seeds).try_for_each(|seed| lied_to(seed).with_context(|| format!("with the lies of seed {seed}")))
}

/// Makes a filesystem on such a disk, mounts and unmounts it, as far as that goes.
fn lied_to(seed: u64) -> Result<()> {
    let socket = std::env::temp_dir().join(format!("liar-{}", std::process::id()));
    let liar = liar::start(&socket, seed)?;
    let mut machine = hello(Kind::Q35, "format=blk0 mount=/data:blk0")?;
    let memory = format!("memory-backend-memfd,id=memory0,size={}M,share=on", machine.memory_mib);
    let channel = format!("socket,id=liar0,path={}", socket.display());
    let device = "vhost-user-blk-pci,chardev=liar0";
    let words =
        ["-object", &memory, "-machine", "memory-backend=memory0", "-chardev", &channel, "-device", device];
    machine.extra = words.map(str::to_owned).into();
    let mut guest = Vm::start(&machine, Console::Recorded)?;
    let ending = guest.wait(Some(TIME_OUT))?;
    let ending = ending.with_context(|| format!("it does not end: {}", guest.console()))?;
    let _ = std::fs::remove_file(&socket);
    let outcome = liar.join();
    ensure!(matches!(outcome, Ok(Ok(()))), "the liar: {outcome:?}");
    ensure!(!ending.console.contains("PANIC"), "{}", ending.console);
    ensure!(ending.code.is_some(), "it did not end in order: {}", ending.console);
    Ok(())
}
