//! A unit for systemd (systemd.service(5)) that runs QEMU.

use anyhow::Result;

use super::{Appliance, BARE_MACHINE, File, qemu_words};

/// The power button is pressed by QEMU's monitor, on a pipe: it needs no program that a host may lack. systemd
/// kills what is left when `ExecStop` returns, so that waits for the end.
pub(super) fn files(appliance: &Appliance) -> Result<Vec<File>> {
    let Appliance { name, ports: (host, guest), .. } = appliance;
    let mut words: Vec<String> =
        ["-M", "q35", "-accel", "kvm", "-accel", "tcg", "-cpu", "max"].map(str::to_owned).to_vec();
    words.extend(BARE_MACHINE.map(str::to_owned));
    words.extend(qemu_words(appliance)?);
    let forward = |protocol| format!("hostfwd={protocol}::{host}-:{guest}");
    words.extend(["-netdev".into(), format!("user,id=net0,{},{}", forward("tcp"), forward("udp"))]);
    words.extend(["-device", "virtio-net-pci,netdev=net0", "-serial", "stdio"].map(str::to_owned));
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    let text = format!(
        "[Unit]\n\
         Description=Unikernel appliance {name}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         DynamicUser=yes\n\
         SupplementaryGroups=-kvm\n\
         RuntimeDirectory={name}\n\
         ExecStartPre=/usr/bin/mkfifo %t/{name}/monitor.in %t/{name}/monitor.out\n\
         ExecStart=/usr/bin/qemu-system-x86_64 {} \\\n\
         \x20   -chardev pipe,id=monitor,path=%t/{name}/monitor -mon monitor\n\
         ExecStop=/bin/sh -c \"echo system_powerdown > %t/{name}/monitor.in; exec tail --pid=$MAINPID -f /dev/null\"\n\
         TimeoutStopSec=30\n\
         Restart=always\n\
         RestartSec=1\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        words.join(" ")
    );
    Ok(vec![File::new(format!("{name}.service"), text)])
}

/// A word of a command line in a unit: `%` and `$` mean something there, too.
fn quoted(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    if word.chars().all(|character| character.is_ascii_alphanumeric() || "-_./:=,@+%".contains(character)) {
        return word;
    }
    format!("\"{word}\"")
}
