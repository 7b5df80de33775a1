//! Firecracker's configuration file (`--config-file`), and a script that makes its network and starts it.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Appliance, File, shell, text};

/// The link between host and appliance: a network of two, of the block that is for such links (RFC 3927 has no
/// use for it here, since nothing routes it).
const HOST: &str = "172.31.255.1";
const GUEST: &str = "172.31.255.2";

pub(super) fn files(appliance: &Appliance) -> Result<Vec<File>> {
    let Appliance { name, memory_mib, cpus, .. } = appliance;
    ensure!(*cpus <= 32, "Firecracker gives a machine 32 processors at most");
    let drive = |(number, disk): (usize, &crate::disk::Disk)| {
        let path = text(&disk.path)?;
        ensure!(
            disk.format() == "raw",
            "Firecracker takes raw disks alone: `qemu-img convert -O raw` makes one of {path}"
        );
        Ok(json!({
            "drive_id": format!("disk{number}"),
            "path_on_host": path,
            "is_root_device": false,
            "is_read_only": disk.is_read_only,
        }))
    };
    let drives: Vec<_> = appliance.disks.iter().enumerate().map(drive).collect::<Result<_>>()?;
    let words = format!("ip={GUEST}/30 gw={HOST} {}", appliance.command_line);
    let mut boot = json!({
        "kernel_image_path": text(&appliance.image)?,
        "boot_args": words.trim(),
    });
    if let Some(initrd) = &appliance.initrd {
        boot["initrd_path"] = json!(text(initrd)?);
    }
    let configuration = json!({
        "boot-source": boot,
        "drives": drives,
        "machine-config": { "vcpu_count": cpus, "mem_size_mib": memory_mib },
        "network-interfaces": [{ "iface_id": "eth0", "host_dev_name": tap(name) }],
        "entropy": {},
    });
    let text = serde_json::to_string_pretty(&configuration)? + "\n";
    Ok(vec![File::new(format!("{name}.json"), text), File::script(format!("{name}.sh"), script(appliance))])
}

/// What the tap device is called: an interface's name has 15 bytes.
fn tap(name: &str) -> String {
    format!("fc-{}", name.chars().take(12).collect::<String>())
}

fn script(appliance: &Appliance) -> String {
    let (name, tap) = (&appliance.name, tap(&appliance.name));
    format!(
        "#!/bin/sh\n\
         # Starts {name} under Firecracker; it answers at {GUEST}. Needs root for the tap device, and /dev/kvm.\n\
         # SIGTERM and Ctrl-C press the power button (SendCtrlAltDel) and wait for the end.\n\
         set -eu\n\
         cd \"$(dirname \"$0\")\"\n\
         ip link show {tap} >/dev/null 2>&1 || ip tuntap add {tap} mode tap\n\
         ip addr replace {HOST}/30 dev {tap}\n\
         ip link set {tap} up\n\
         socket=$(mktemp -u)\n\
         stop() {{ curl -s --unix-socket \"$socket\" -X PUT http://localhost/actions -d '{{\"action_type\":\"SendCtrlAltDel\"}}'; }}\n\
         trap stop INT TERM\n\
         firecracker --api-sock \"$socket\" --config-file {} &\n\
         machine=$!\n\
         while kill -0 $machine 2>/dev/null; do wait $machine || true; done\n\
         rm -f \"$socket\"\n",
        shell(&format!("{name}.json"))
    )
}
