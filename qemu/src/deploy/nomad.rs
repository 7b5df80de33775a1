//! A job for Nomad, by its QEMU driver.

use anyhow::Result;

use super::{Appliance, File, qemu_words, text};

/// The driver wants a disk as `image_path`, and gives it to the machine: the image itself is one that nobody
/// mounts. What boots is named behind it.
pub(super) fn files(appliance: &Appliance) -> Result<Vec<File>> {
    let Appliance { name, memory_mib, cpus, replicas, ports: (_, guest), .. } = appliance;
    let mut words: Vec<String> = vec!["-nodefaults".into(), "-serial".into(), "stdio".into()];
    let mut described = qemu_words(appliance)?.into_iter();
    // Memory and processors are the driver's own business.
    while let Some(word) = described.next() {
        if word == "-m" || word == "-smp" {
            described.next();
        } else {
            words.push(word);
        }
    }
    words.extend(["-smp".into(), cpus.to_string()]);
    let words: Vec<String> = words.iter().map(|word| format!("          {},\n", quoted(word))).collect();
    let job = format!(
        "job \"{name}\" {{\n  type = \"service\"\n\n  group \"{name}\" {{\n    count = {replicas}\n\n    \
         network {{\n      port \"main\" {{\n        to = {guest}\n      }}\n    }}\n\n    \
         service {{\n      name     = \"{name}\"\n      port     = \"main\"\n      provider = \"nomad\"\n\n      \
         check {{\n        type     = \"tcp\"\n        interval = \"10s\"\n        timeout  = \"2s\"\n      }}\n    }}\n\n    \
         task \"{name}\" {{\n      driver = \"qemu\"\n\n      config {{\n        image_path        = {}\n        \
         accelerator       = \"{}\"\n        graceful_shutdown = true\n        port_map {{\n          \
         main = {guest}\n        }}\n        args = [\n{}        ]\n      }}\n\n      kill_timeout = \"30s\"\n\n      \
         resources {{\n        cores  = {cpus}\n        memory = {memory_mib}\n      }}\n    }}\n  }}\n}}\n",
        quoted(text(&appliance.image)?),
        if appliance.is_translated { "tcg" } else { "kvm" },
        words.concat()
    );
    Ok(vec![File::new(format!("{name}.nomad.hcl"), job)])
}

/// A string of HCL, in which `${` and `%{` begin templates.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${").replace("%{", "%%{");
    format!("\"{text}\"")
}
