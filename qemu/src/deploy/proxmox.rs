//! A script for a Proxmox host (qm(1)): its machines boot a kernel by arguments for QEMU.

use anyhow::Result;

use super::{Appliance, File, shell, text};

pub(super) fn files(appliance: &Appliance) -> Result<Vec<File>> {
    let Appliance { name, memory_mib, cpus, .. } = appliance;
    let mut arguments = vec!["-kernel".to_owned(), text(&appliance.image)?.to_owned()];
    if let Some(initrd) = &appliance.initrd {
        arguments.extend(["-initrd".to_owned(), text(initrd)?.to_owned()]);
    }
    if !appliance.command_line.is_empty() {
        arguments.extend(["-append".to_owned(), appliance.command_line.clone()]);
    }
    arguments.extend(appliance.qemu_arguments.iter().cloned());
    // qm takes the arguments as one word, and splits it as a shell does.
    let arguments: Vec<String> = arguments.iter().map(|word| shell(word)).collect();
    let script = format!(
        "#!/bin/sh\n\
         # Makes and starts {name} on a Proxmox host; the first argument is its number, else the next free one.\n\
         set -eu\n\
         id=${{1:-$(pvesh get /cluster/nextid)}}\n\
         qm create \"$id\" --name {name} --ostype other --machine q35 --cpu host \\\n    \
         --memory {memory_mib} --cores {cpus} --balloon 0 --vga none --serial0 socket --rng0 source=/dev/urandom \\\n    \
         --net0 virtio,bridge=vmbr0 --onboot 1 --args {}\n\
         qm start \"$id\"\n\
         echo \"console: qm terminal $id; power button: qm shutdown $id\"\n",
        shell(&arguments.join(" "))
    );
    Ok(vec![File::script(format!("{name}.sh"), script)])
}
