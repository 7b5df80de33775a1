//! The EFI system partition: FAT32, as the UEFI specification wants it on a disk (2.10, section 13.3.1.1).

use std::io::{Cursor, Write};

use anyhow::{Context, Result};
use fatfs::{Dir, FatType, FileSystem, FormatVolumeOptions, FsOptions};

use super::Content;
use super::grub::{CONFIGURATION, Loaders};
use crate::partition_table::ALIGNMENT_BYTES;

/// FAT32 has 65,525 clusters or more, here of a block each, and its two tables.
const LEAST_BYTES: u64 = 36 << 20;
/// From here on clusters have a page, or the tables would be larger than they need be.
const LARGE_BYTES: u64 = 512 << 20;
/// Room for another kernel's size, longer words, files of the user's.
const SPARE_BYTES: u64 = 4 << 20;

/// The partition's bytes.
pub(super) fn make(content: &Content, loaders: &Loaders) -> Result<Vec<u8>> {
    let words = words_file(&content.command_line);
    let files: [(&str, Option<&[u8]>); 5] = [
        ("EFI/BOOT/BOOTX64.EFI", Some(&loaders.efi)),
        ("grub/grub.cfg", Some(CONFIGURATION.as_bytes())),
        ("kernel", Some(&content.kernel)),
        ("initrd", content.initrd.as_deref()),
        ("cmdline.txt", Some(words.as_bytes())),
    ];
    let used: u64 = files.iter().filter_map(|(_, file)| Some(file.as_ref()?.len() as u64)).sum();
    // Tables and half-used clusters take less than an eighth.
    let bytes = (used + used / 8 + SPARE_BYTES).max(LEAST_BYTES).next_multiple_of(ALIGNMENT_BYTES);
    let bytes = usize::try_from(bytes).context("files of this size do not fit the memory")?;
    let mut volume = Cursor::new(vec![0; bytes]);
    let [a, b, c, d, ..] = content.identifier("volume");
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(if (bytes as u64) < LARGE_BYTES { 512 } else { 4096 })
        .volume_id(u32::from_le_bytes([a, b, c, d]))
        .volume_label(*b"APPLIANCE  ");
    fatfs::format_volume(&mut volume, options)?;
    let system = FileSystem::new(&mut volume, FsOptions::new())?;
    for (path, file) in files {
        if let Some(file) = file {
            write(&system.root_dir(), path, file)?;
        }
    }
    system.unmount()?;
    Ok(volume.into_inner())
}

fn write(folder: &Dir<'_, &mut Cursor<Vec<u8>>>, path: &str, content: &[u8]) -> Result<()> {
    if let Some((parent, rest)) = path.split_once('/') {
        return write(&folder.create_dir(parent)?, rest, content);
    }
    let mut file = folder.create_file(path)?;
    file.write_all(content)?;
    Ok(file.flush()?)
}

/// The command line, for people.
fn words_file(command_line: &str) -> String {
    format!(
        "# What the appliance is told: words for the kernel, then `--` and arguments for the program.\n\
         # Lines that begin with `#` are left out. docs/deploy.md says more.\n{command_line}\n"
    )
}
