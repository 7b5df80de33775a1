//! Measured boot, with `swtpm`: what was booted is in the registers, and the log says how it came there. `tpm2_eventlog` (Debian's package `tpm2-tools`) replays it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::guest_tests::NamedTest;
use crate::machine::{Kind, Machine};
use crate::program_tests::initrd;
use crate::project::{self, Profile};
use crate::tpm::Tpm;
use crate::vm::{Console, Vm};

const PROGRAM: &str = "measured";
const TIME_OUT: Duration = Duration::from_secs(120);

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = Vec::new();
    if !Tpm::is_there() {
        let left_out = || {
            println!("tpm: left out: no `swtpm`");
            Ok(())
        };
        tests.push(("tpm".into(), Box::new(left_out)));
        return tests;
    }
    tests.push(("tpm_measured [q35]".into(), Box::new(|| measured(Profile::Release))));
    tests.push(("tpm_measured [q35, checked]".into(), Box::new(|| measured(Profile::Debug))));
    tests
}

/// What a machine has shown: the registers of SHA-256, and the log.
struct Shown {
    registers: BTreeMap<u8, String>,
    log: Vec<u8>,
}

impl Shown {
    fn of(console: &str) -> Result<Self> {
        let (mut registers, mut log) = (BTreeMap::new(), Vec::new());
        for line in console.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["pcr", "sha256", number, value] => {
                    registers.insert(number.parse()?, value.to_lowercase());
                }
                ["log", part] => log.extend(from_hex(part)?),
                _ => {}
            }
        }
        ensure!(registers.len() == 24 && !log.is_empty(), "{console}");
        Ok(Self { registers, log })
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    (0..text.len() / 2).map(|at| Ok(u8::from_str_radix(&text[2 * at..2 * at + 2], 16)?)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A register that was extended with these once each.
fn extended(contents: &[&[u8]]) -> String {
    let value = contents.iter().fold([0; 32], |value, content| {
        Sha256::new().chain_update(value).chain_update(Sha256::digest(content)).finalize().into()
    });
    hex(&value)
}

fn boot(profile: Profile, initrd: &Path, words: &str) -> Result<Shown> {
    let tpm = Tpm::start()?;
    let mut machine = Machine::new(Kind::Q35, &project::image_of(PROGRAM, profile));
    machine.initrd = Some(initrd.to_owned());
    machine.append = words.to_owned();
    machine.extra.extend(tpm.arguments());
    let ending = Vm::start(&machine, Console::Recorded)?.wait(Some(TIME_OUT))?.context("it does not end")?;
    let is_good = ending.code == Some(0) && ending.console.contains("measured: all well");
    ensure!(is_good, "{:?}: {}", ending.code, ending.console);
    Shown::of(&ending.console)
}

fn measured(profile: Profile) -> Result<()> {
    project::build("guest-tests", &[PROGRAM], profile)?;
    let name = format!("measured-{}", profile == Profile::Debug);
    let first = initrd(&format!("{name}-first"), &[("etc/some", 0o100_644, b"some".to_vec())])?;
    let other = initrd(&format!("{name}-other"), &[("etc/some", 0o100_644, b"other".to_vec())])?;
    let shown = boot(profile, &first, "env.WHO=first")?;
    let files = extended(&[&fs::read(&first)?]);
    ensure!(shown.registers[&9] == files, "the initrd: {} and not {files}", shown.registers[&9]);
    let is_told = shown.log.windows(13).any(|part| part == b"env.WHO=first");
    ensure!(is_told && shown.registers[&8] != extended(&[]), "the command line is not in the log");
    ensure!(shown.registers[&11] != hex(&[0; 32]), "the program is not measured");
    replays(&name, &shown)?;
    // What is booted again is measured the same; what is not is not.
    let again = boot(profile, &first, "env.WHO=first")?;
    ensure!(again.registers == shown.registers, "{:?} and {:?}", shown.registers, again.registers);
    let changed = boot(profile, &other, "env.WHO=other")?;
    let differ = |number: u8| changed.registers[&number] != shown.registers[&number];
    ensure!(differ(8) && differ(9) && !differ(11), "{:?} and {:?}", shown.registers, changed.registers);
    replays(&name, &changed)
}

/// `tpm2_eventlog` finds the log whole, and the registers as they are.
fn replays(name: &str, shown: &Shown) -> Result<()> {
    let path = project::work_dir("tpm")?.join(format!("{name}.log"));
    fs::write(&path, &shown.log)?;
    let Ok(output) = Command::new("tpm2_eventlog").arg(&path).output() else {
        println!("tpm: not replayed: no `tpm2_eventlog` (tpm2-tools)");
        return Ok(());
    };
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "tpm2_eventlog: {}{text}", String::from_utf8_lossy(&output.stderr));
    let (_, values) = text.split_once("\npcrs:").with_context(|| text.to_string())?;
    let values = values.split_once("sha256:").context("values of sha256")?.1;
    let mut found = 0;
    for line in values.lines().skip(1).map_while(|line| line.split_once(": 0x")) {
        let (number, value) = (line.0.trim().parse::<u8>()?, line.1.trim());
        // The firmware's own events are in a log of its own.
        if (8..=13).contains(&number) {
            ensure!(shown.registers[&number] == value, "register {number}: {value}: {text}");
            found += 1;
        }
    }
    ensure!(found >= 3, "{text}");
    Ok(())
}
