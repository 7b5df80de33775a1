//! The same app on every kind of machine that images are for: how long until it answers.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

use super::measure::{Guest, USUAL_MEMORY_MIB, median};
use crate::cli::{ImageFormat, ImageOptions, RunOptions};
use crate::disk::{self, Disk};
use crate::machine::{Boot, Kind, Machine};
use crate::{image, like_vmm, project};

/// What the others are held against; the first.
const REFERENCE: &str = "`-kernel`, `microvm`";
/// The firmware of a disk takes seconds.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);
const ADDRESS: &str = "ip=10.0.2.15/24 log=warn";

/// One machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Place {
    pub(crate) name: String,
    /// From the start of QEMU to the first response, the median.
    pub(crate) ms: f64,
}

/// Boots `http` on each so often, one after the other.
pub(super) fn measure(rounds: usize) -> Result<Vec<Place>> {
    let machines = machines()?;
    let mut times = vec![Vec::new(); machines.len()];
    for _ in 0..rounds {
        for ((name, machine), times) in machines.iter().zip(&mut times) {
            let guest = Guest::start(machine.clone(), PATIENCE).with_context(|| (*name).to_owned())?;
            times.push(guest.boot_time.as_secs_f64() * 1000.0);
        }
    }
    let named = machines.iter().zip(times);
    Ok(named
        .filter_map(|((name, _), times)| Some(Place { name: (*name).to_owned(), ms: median(times)? }))
        .collect())
}

fn machines() -> Result<Vec<(&'static str, Machine)>> {
    let app = project::image("http");
    let direct = |kind| {
        let mut machine = Machine::new(kind, &app);
        machine.append = ADDRESS.into();
        machine
    };
    let bootable = Disk::new(&disk_image()?);
    let from_disk = |boot| {
        let mut machine = Machine { boot, disks: vec![bootable.clone()], ..Machine::new(Kind::Q35, &app) };
        machine.add_rng();
        machine
    };
    let root = project::work_dir("bench")?.join("root.img");
    disk::make(&root, None, "32M", &[])?;
    let with_root = |machine: Machine, words: &str| {
        let append = format!("{words} {}", machine.append);
        Machine { append, disks: vec![Disk::new(&root)], ..machine }
    };
    let mut machines = vec![
        (REFERENCE, direct(Kind::Microvm)),
        ("`-kernel`, `q35`", direct(Kind::Q35)),
        ("like Firecracker", with_root(like_vmm::firecracker(&app), "log=warn")),
        ("like Cloud Hypervisor", with_root(like_vmm::cloud_hypervisor(&app), ADDRESS)),
        ("disk image, SeaBIOS", from_disk(Boot::Bios)),
        ("disk image, OVMF (UEFI)", from_disk(Boot::Uefi)),
    ];
    machines.iter_mut().for_each(|(_, machine)| machine.memory_mib = USUAL_MEMORY_MIB);
    Ok(machines)
}

/// A disk that both firmwares boot.
fn disk_image() -> Result<std::path::PathBuf> {
    let path = project::work_dir("bench")?.join("http.img");
    let _ = fs::remove_file(&path);
    let mut run = RunOptions::of_image(&project::image("http"));
    run.append = ADDRESS.into();
    image::make(&ImageOptions { output: Some(path), format: ImageFormat::Raw, data_bytes: None, run })
}

/// Ratios, as the times of a start vary with the host.
pub(super) fn table(page: &mut String, places: &[Place]) {
    let Some(reference) = places.iter().find(|place| place.name == REFERENCE) else { return };
    let _ = write!(
        page,
        "## The same app on each machine\n\n`http`, from the start of QEMU to the first response; the times of firmware and boot loader are in it.\n\n\
         | machine | ms | against {REFERENCE} |\n|---|---|---|\n"
    );
    for Place { name, ms } in places {
        let _ = writeln!(page, "| {name} | {ms:.0} | **{:.1}×** |", ms / reference.ms);
    }
    page.push('\n');
}
