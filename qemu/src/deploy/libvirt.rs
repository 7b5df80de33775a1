//! A domain for libvirt (formatdomain): direct kernel boot under QEMU.

use std::fmt::Write;

use anyhow::{Result, ensure};

use super::{Appliance, File, text};

/// Disks are called by a letter each.
const LETTERS: usize = 26;

pub(super) fn files(appliance: &Appliance) -> Result<Vec<File>> {
    let Appliance { name, memory_mib, cpus, .. } = appliance;
    let mut boot = format!("    <kernel>{}</kernel>\n", escaped(text(&appliance.image)?));
    if let Some(initrd) = &appliance.initrd {
        writeln!(boot, "    <initrd>{}</initrd>", escaped(text(initrd)?))?;
    }
    if !appliance.command_line.is_empty() {
        writeln!(boot, "    <cmdline>{}</cmdline>", escaped(&appliance.command_line))?;
    }
    let mut disks = String::new();
    ensure!(appliance.disks.len() <= LETTERS, "there are names for {LETTERS} disks (vda to vdz)");
    for (disk, letter) in appliance.disks.iter().zip('a'..='z') {
        writeln!(
            disks,
            "    <disk type='file' device='disk'>\n      <driver name='qemu' type='{}'/>\n      \
             <source file='{}'/>\n      <target dev='vd{letter}' bus='virtio'/>{}\n    </disk>",
            disk.format(),
            escaped(text(&disk.path)?),
            if disk.is_read_only { "\n      <readonly/>" } else { "" }
        )?;
    }
    let mut shares = String::new();
    for (number, share) in appliance.shares.iter().enumerate() {
        let (folder, tag, is_read_only) = share.parts(number);
        // `squash` is QEMU's `security_model=none`: what the guest makes belongs to QEMU's user.
        writeln!(
            shares,
            "    <filesystem type='mount' accessmode='squash' multidevs='remap'>\n      <source dir='{}'/>\n      \
             <target dir='{tag}'/>{}\n    </filesystem>",
            escaped(text(folder)?),
            if is_read_only { "\n      <readonly/>" } else { "" }
        )?;
    }
    let (kind, cpu) = if appliance.is_translated { ("qemu", "maximum") } else { ("kvm", "host-passthrough") };
    let network = match appliance.has_user_network {
        true => "<interface type='user'>\n",
        false => "<interface type='network'>\n      <source network='default'/>\n",
    };
    // The button is pressed by `virsh shutdown`; `pvpanic` and the like have no driver in the kernel.
    let xml = format!(
        "<domain type='{kind}'>\n  <name>{name}</name>\n  <memory unit='MiB'>{memory_mib}</memory>\n  \
         <vcpu>{cpus}</vcpu>\n  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n{boot}  </os>\n  \
         <features>\n    <acpi/>\n  </features>\n  <cpu mode='{cpu}'/>\n  \
         <on_poweroff>destroy</on_poweroff>\n  <on_reboot>restart</on_reboot>\n  <on_crash>restart</on_crash>\n  \
         <devices>\n{disks}{shares}    {network}      <model type='virtio'/>\n    </interface>\n    <serial type='pty'/>\n    <console type='pty'/>\n    \
         <rng model='virtio'>\n      <backend model='random'>/dev/urandom</backend>\n    </rng>\n    \
         <memballoon model='none'/>\n  </devices>\n</domain>\n"
    );
    Ok(vec![File::new(format!("{name}.xml"), xml)])
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
        .replace('"', "&quot;")
}
