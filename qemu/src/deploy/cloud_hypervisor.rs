//! A script that starts Cloud Hypervisor.

use anyhow::{Result, bail};

use super::{Appliance, File, shell, text};

pub(super) fn files(appliance: &Appliance) -> Result<Vec<File>> {
    let Appliance { name, memory_mib, cpus, .. } = appliance;
    let mut words: Vec<String> = vec!["--kernel".into(), text(&appliance.image)?.into()];
    if let Some(initrd) = &appliance.initrd {
        words.extend(["--initramfs".into(), text(initrd)?.into()]);
    }
    let line = format!("ip=192.168.249.2/24 gw=192.168.249.1 {}", appliance.command_line);
    words.extend(["--cmdline".into(), line.trim().to_owned()]);
    words.extend(["--cpus".into(), format!("boot={cpus}"), "--memory".into(), format!("size={memory_mib}M")]);
    if !appliance.disks.is_empty() {
        words.push("--disk".into());
        for disk in &appliance.disks {
            let path = text(&disk.path)?;
            if path.contains(',') {
                bail!("Cloud Hypervisor cannot be told of a disk with a comma in its name: {path}");
            }
            // It warns of a format that it had to find out, and refuses writes to the first sector of such a disk.
            let read_only = if disk.is_read_only { ",readonly=on" } else { "" };
            words.push(format!("path={path},image_type={}{read_only}", disk.format()));
        }
    }
    // It makes the tap device itself, with the host's address.
    words.extend(
        ["--net", "tap=,ip=192.168.249.1,mask=255.255.255.0", "--rng", "src=/dev/urandom"].map(str::to_owned),
    );
    words.extend(["--serial", "tty", "--console", "off"].map(str::to_owned));
    let words: Vec<String> = words.iter().map(|word| shell(word)).collect();
    // It ends at once by a SIGINT, which a terminal sends to the whole group, and takes a terminal's keys for the
    // machine, Ctrl-C too: so it gets a session of its own, and a pipe.
    let script = format!(
        "#!/bin/sh\n\
         # Starts {name} under Cloud Hypervisor; it answers at 192.168.249.2. Needs CAP_NET_ADMIN and /dev/kvm.\n\
         # SIGTERM and Ctrl-C press the power button and wait for the end.\n\
         set -eu\n\
         socket=$(mktemp -u)\n\
         stop() {{ ch-remote --api-socket \"$socket\" power-button; }}\n\
         trap stop INT TERM\n\
         setsid cloud-hypervisor --api-socket \"$socket\" {} | cat &\n\
         machine=$!\n\
         while kill -0 $machine 2>/dev/null; do wait $machine || true; done\n\
         rm -f \"$socket\"\n",
        words.join(" ")
    );
    Ok(vec![File::script(format!("{name}.sh"), script)])
}
