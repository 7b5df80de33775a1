//! GRUB, as Debian ships it, in the two forms that a disk needs: a boot block with what it loads for BIOS, and a program for
//! UEFI. `grub-mkimage` makes both of them; putting the first onto a disk takes a few numbers in it, which
//! `grub-bios-setup` would write, but only to a device and as root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Where its parts lie.
const FOLDER: &str = "/usr/lib/grub";
/// What to do if it is not there.
const REMEDY: &str = "apt-get install grub-common grub-pc-bin grub-efi-amd64-bin";
/// Parts that both forms need.
const MODULES: [&str; 8] =
    ["part_gpt", "fat", "normal", "configfile", "test", "multiboot2", "boot", "reboot"];

const BLOCK_BYTES: usize = 512;
/// In the boot block: on which block of the disk the rest begins (`GRUB_BOOT_MACHINE_KERNEL_SECTOR`).
const CORE_BLOCK: usize = 0x5c;
/// In the boot block: a jump over the BIOS' number of the disk, which is only for floppy disks
/// (`GRUB_BOOT_MACHINE_DRIVE_CHECK`); two `nop` in its place.
const DRIVE_CHECK: usize = 0x66;
/// In the first block of the rest: where the others lie, how many they are, and the segment that they go to.
const BLOCK_LIST: usize = BLOCK_BYTES - 12;
const LOAD_SEGMENT: u16 = 0x820;

/// What starts an appliance; `/` is the EFI system partition.
pub(super) const CONFIGURATION: &str = "\
# Starts the appliance. What it is told is in cmdline.txt.
multiboot2 /kernel
if [ -f /cmdline.txt ]; then
    module2 /cmdline.txt cmdline
fi
if [ -f /initrd ]; then
    module2 /initrd initrd
fi
boot
";

/// Both forms.
pub(super) struct Loaders {
    boot_block: Vec<u8>,
    pub(super) core: Vec<u8>,
    /// The program for UEFI.
    pub(super) efi: Vec<u8>,
}

impl Loaders {
    pub(super) fn make() -> Result<Self> {
        let boot_block = Path::new(FOLDER).join("i386-pc/boot.img");
        let boot_block =
            std::fs::read(&boot_block).with_context(|| format!("GRUB is not installed: `{REMEDY}`"))?;
        // The firmware tells which disk; partition 2 of it has the configuration.
        let core = mkimage("i386-pc", "(,gpt2)/grub", &["biosdisk"])?;
        let efi = mkimage("x86_64-efi", "/grub", &[])?;
        ensure!(
            boot_block.len() == BLOCK_BYTES && core.len() > BLOCK_BYTES,
            "GRUB's parts have sizes that are not known"
        );
        Ok(Self { boot_block, core, efi })
    }

    /// The disk's first block, for a rest that begins at block `core`.
    pub(super) fn boot_block(&self, core: u64) -> Vec<u8> {
        let mut block = self.boot_block.clone();
        block[CORE_BLOCK..CORE_BLOCK + 8].copy_from_slice(&core.to_le_bytes());
        block[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
        block
    }

    /// The rest, for that place.
    pub(super) fn core_at(&self, core: u64) -> Vec<u8> {
        let mut bytes = self.core.clone();
        let blocks = bytes.len().div_ceil(BLOCK_BYTES) as u16;
        let list = &mut bytes[BLOCK_LIST..BLOCK_BYTES];
        list[..8].copy_from_slice(&(core + 1).to_le_bytes());
        list[8..10].copy_from_slice(&(blocks - 1).to_le_bytes());
        list[10..].copy_from_slice(&LOAD_SEGMENT.to_le_bytes());
        bytes
    }
}

fn mkimage(form: &str, prefix: &str, modules: &[&str]) -> Result<Vec<u8>> {
    let folder: PathBuf = Path::new(FOLDER).join(form);
    ensure!(folder.is_dir(), "GRUB's parts for {form} are not installed: `{REMEDY}`");
    let output = std::env::temp_dir().join(format!("unikernel-grub-{form}-{}", std::process::id()));
    let mut command = Command::new("grub-mkimage");
    command.args(["-O", form, "-p", prefix, "-d"]).arg(&folder).arg("-o").arg(&output);
    let outcome = command.args(MODULES).args(modules).output();
    let outcome = outcome.with_context(|| format!("grub-mkimage is not installed: `{REMEDY}`"))?;
    if !outcome.status.success() {
        bail!("grub-mkimage: {}", String::from_utf8_lossy(&outcome.stderr).trim());
    }
    let bytes = std::fs::read(&output)?;
    std::fs::remove_file(&output)?;
    Ok(bytes)
}
