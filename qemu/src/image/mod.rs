//! `image`: a disk that boots an appliance under BIOS and under UEFI.
//!
//! ```text
//! GPT │ BIOS boot partition: GRUB │ EFI system partition (FAT32) │ data (ext4, if asked for) │ GPT again
//! ```
//!
//! The EFI system partition has everything: GRUB for UEFI, its `grub.cfg`, the ELF (`kernel`), the `initrd`, and
//! `cmdline.txt`, which people may edit. [`grub`] makes the loaders, [`esp`] the partition. Nothing needs root, and the
//! same input makes the same bytes: what else would be random or a time is derived from the input.

mod esp;
mod grub;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use gpt_disk_types::{GptPartitionType, Guid};
use sha2::{Digest, Sha256};
use unikernel_build::pack::for_grub;

use crate::cli::{ImageFormat, ImageOptions};
use crate::disk;
use crate::partition_table::{ALIGNMENT_BYTES, NewPartition, write_gpt};
use crate::run::{self, Bootable};
use crate::unfinished::Unfinished;

const BLOCK_BYTES: u64 = 512;
/// What the data partition is called, in the table and by its filesystem.
const DATA: &str = "data";
/// ext4 with a journal needs that much.
const LEAST_DATA_BYTES: u64 = 8 << 20;

/// Makes the image, and says what comes next.
pub(crate) fn run(options: &ImageOptions) -> Result<u8> {
    println!("{}", make(options)?.display());
    eprintln!(
        "next: copy it to a disk, or boot it; what the program is told is in cmdline.txt on partition 2"
    );
    Ok(0)
}

/// Makes the image; answers its path.
pub(crate) fn make(options: &ImageOptions) -> Result<PathBuf> {
    let bootable = run::bootable(&options.run.what)?;
    let content = Content::of(options, &bootable)?;
    let name = bootable.image.file_name().context("an image has a name")?;
    let usual = || PathBuf::from(name).with_extension(options.format.extension());
    let output = options.output.clone().unwrap_or_else(usual);
    ensure!(
        !output.exists(),
        "{} exists already, and may hold data: remove it, or choose another file with -o",
        output.display()
    );
    write_as(&content, options.format, &output)
        .with_context(|| format!("cannot make {}", output.display()))?;
    Ok(output)
}

fn write_as(content: &Content, format: ImageFormat, output: &Path) -> Result<()> {
    let raw = Unfinished::of_step(output, "raw");
    write(content, raw.path())?;
    match format {
        ImageFormat::Raw => Ok(raw.finish()?),
        ImageFormat::Qcow2 => {
            let converted = Unfinished::new(output);
            convert(raw.path(), converted.path())?;
            Ok(converted.finish()?)
        }
    }
}

/// What goes onto the disk.
struct Content {
    kernel: Vec<u8>,
    initrd: Option<Vec<u8>>,
    command_line: String,
    /// Bytes of the data partition.
    data_bytes: Option<u64>,
}

impl Content {
    fn of(options: &ImageOptions, bootable: &Bootable) -> Result<Self> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let told = || bootable.image.display().to_string();
        let kernel = for_grub(read(&bootable.image)?).with_context(|| {
            format!("{} has no way in for GRUB: build it again with this version", told())
        })?;
        let kernel = kernel.with_context(told)?;
        let initrd = run::initrd(&options.run, bootable)?;
        let words =
            run::command_line(&options.run.append, &options.run.environment, &options.run.app_arguments);
        let mount = options.data_bytes.map(|_| format!("mount=/{DATA}:PARTLABEL={DATA}"));
        let words: Vec<String> = mount.into_iter().chain([words]).collect();
        let command_line = words.join(" ").trim().to_owned();
        unikernel_cmdline::parse(&command_line)
            .map_err(|problem| anyhow::anyhow!("bad command line: {problem}"))?;
        Ok(Self {
            kernel,
            initrd: initrd.as_deref().map(read).transpose()?,
            command_line,
            data_bytes: options.data_bytes,
        })
    }

    /// An identifier that depends on the program, and on what it is for.
    fn identifier(&self, purpose: &str) -> [u8; 16] {
        let digest = Sha256::new().chain_update(&self.kernel).chain_update(purpose).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        // A UUID of our own making (RFC 9562, section 5.8), its bytes in that order.
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        bytes
    }

    /// The same for a partition table, which has its first three fields in the other byte order.
    fn guid(&self, purpose: &str) -> Guid {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.identifier(purpose);
        let mut bytes = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[8..].copy_from_slice(&rest);
        Guid::from_bytes(bytes)
    }
}

/// Writes the whole disk.
fn write(content: &Content, path: &Path) -> Result<()> {
    let loaders = grub::Loaders::make()?;
    let core_bytes = loaders.core.len() as u64;
    let system = esp::make(content, &loaders)?;
    let parts = [
        Some(("BIOS boot", BIOS_BOOT, core_bytes)),
        Some(("EFI system", GptPartitionType::EFI_SYSTEM, system.len() as u64)),
        content.data_bytes.map(|bytes| (DATA, LINUX_FILESYSTEM, bytes)),
    ];
    let mut end = ALIGNMENT_BYTES;
    let mut partitions = Vec::new();
    for (name, kind, bytes) in parts.into_iter().flatten() {
        let bytes = bytes.next_multiple_of(ALIGNMENT_BYTES);
        let (first, blocks) = (end / BLOCK_BYTES, bytes / BLOCK_BYTES);
        partitions.push(NewPartition { kind, name, uuid: content.guid(name), first, blocks });
        end += bytes;
    }
    let disk = File::options().read(true).write(true).create_new(true).open(path)?;
    disk.set_len(end + ALIGNMENT_BYTES)?;
    let (core, esp) = (partitions[0].first, partitions[1].first);
    disk.write_all_at(&loaders.boot_block(core), 0)?;
    disk.write_all_at(&loaders.core_at(core), core * BLOCK_BYTES)?;
    write_sparsely(&disk, &system, esp * BLOCK_BYTES)?;
    write_gpt(&disk, BLOCK_BYTES, content.guid("disk"), &partitions)?;
    if let Some(data) = partitions.get(2) {
        let uuid = uuid_text(&content.identifier("filesystem"));
        let hash_seed = uuid_text(&content.identifier("hash seed"));
        disk::make_fixed(path, data.first * BLOCK_BYTES, data.blocks * BLOCK_BYTES, DATA, &uuid, &hash_seed)?;
    }
    Ok(disk.sync_all()?)
}

/// GRUB's kind of partition: its ASCII is "Hah!IdontNeedEFI".
const BIOS_BOOT: GptPartitionType =
    GptPartitionType(gpt_disk_types::guid!("21686148-6449-6e6f-744e-656564454649"));

/// "Linux filesystem data" (UEFI's list has no such; systemd's Discoverable Partitions Specification has).
const LINUX_FILESYSTEM: GptPartitionType =
    GptPartitionType(gpt_disk_types::guid!("0fc63daf-8483-4772-8e79-3d69d8477de4"));

/// Leaves holes where there is nothing.
fn write_sparsely(disk: &File, bytes: &[u8], start: u64) -> Result<()> {
    const CHUNK_BYTES: usize = 64 << 10;
    for (number, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
        if chunk.iter().any(|&byte| byte != 0) {
            disk.write_all_at(chunk, start + (number * CHUNK_BYTES) as u64)?;
        }
    }
    Ok(())
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn convert(raw: &Path, output: &Path) -> Result<()> {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", "raw", "-O", "qcow2"]).args([raw, output]);
    let outcome =
        command.output().context("qemu-img is not installed: `apt-get install qemu-utils`, or use raw")?;
    if !outcome.status.success() {
        bail!("qemu-img: {}", String::from_utf8_lossy(&outcome.stderr).trim());
    }
    Ok(())
}

/// A size for the data partition, such as 512M or 2G.
pub(crate) fn data_bytes(text: &str) -> Result<u64> {
    let (digits, shift) = match text.as_bytes() {
        [digits @ .., b'M' | b'm'] => (digits, 20),
        [digits @ .., b'G' | b'g'] => (digits, 30),
        _ => bail!("--data {text}: a size such as 512M or 2G"),
    };
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
    // What a file may have.
    let bytes = number.and_then(|number| number.checked_mul(1 << shift)).filter(|&bytes| bytes < 1 << 50);
    let bytes = bytes.with_context(|| format!("--data {text}: a size such as 512M or 2G"))?;
    ensure!(bytes >= LEAST_DATA_BYTES, "--data {text}: {}M are the least", LEAST_DATA_BYTES >> 20);
    Ok(bytes)
}
