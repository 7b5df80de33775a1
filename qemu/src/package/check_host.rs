//! `check-host`: what is missing on this host, and the command that installs it.

use std::path::Path;

use anyhow::Result;
use unikernel_build::{has_objcopy, has_target};

use crate::machine::QEMU;
use crate::project::TARGET;

/// Something that building or running needs.
struct Need {
    what: String,
    is_there: bool,
    /// Without it most things work.
    is_optional: bool,
    remedy: String,
}

/// Lists what is there and what is not; answers 0 if nothing that is needed is missing.
pub(crate) fn check_host() -> Result<u8> {
    let needs = needs();
    for need in &needs {
        let state = match (need.is_there, need.is_optional) {
            (true, _) => "ok      ",
            (false, false) => "MISSING ",
            (false, true) => "absent  ",
        };
        println!("{state}{}", need.what);
        if !need.is_there {
            println!("        {}", need.remedy);
        }
    }
    let is_ready = needs.iter().all(|need| need.is_there || need.is_optional);
    println!(
        "{}",
        if is_ready {
            "ready: `cargo unikernel new NAME`"
        } else {
            "run the commands above, then `cargo unikernel check-host` again"
        }
    );
    Ok(u8::from(!is_ready))
}

fn needs() -> Vec<Need> {
    let target = |target: &str, of_what: &str| Need {
        what: format!("Rust target {target} ({of_what})"),
        is_there: has_target(target),
        is_optional: false,
        remedy: format!("rustup target add {target}"),
    };
    let program = |name: &str, what: &str, package: &str, is_optional| Need {
        what: format!("{name} ({what})"),
        is_there: finds(name),
        is_optional,
        remedy: format!("apt-get install {package}"),
    };
    vec![
        target(TARGET, "programs"),
        target("x86_64-unknown-none", "the kernel"),
        Need {
            what: "rust-objcopy of the toolchain (images)".into(),
            is_there: has_objcopy(),
            is_optional: false,
            remedy: "rustup component add llvm-tools".into(),
        },
        program(QEMU, "boots images", "qemu-system-x86", false),
        program("cc", "build scripts", "gcc libc6-dev", false),
        program("musl-gcc", "C code in crates, such as SQLite or ring", "musl-tools", true),
        program("grub-mkimage", "disk images: `image`", GRUB, true),
        part_of_grub("i386-pc", "BIOS"),
        part_of_grub("x86_64-efi", "UEFI"),
        program("qemu-img", "disk images in QEMU's format", "qemu-utils", true),
        Need {
            what: "/dev/kvm (speed; without it QEMU translates)".into(),
            is_there: std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok(),
            is_optional: true,
            remedy: "a host with virtualisation, and a user in the group kvm: usermod -aG kvm $USER".into(),
        },
    ]
}

/// Packages of Debian's that `image` needs.
const GRUB: &str = "grub-common grub-pc-bin grub-efi-amd64-bin";

fn part_of_grub(form: &str, firmware: &str) -> Need {
    Need {
        what: format!("GRUB for {firmware} (disk images: `image`)"),
        is_there: Path::new("/usr/lib/grub").join(form).is_dir(),
        is_optional: true,
        remedy: format!("apt-get install {GRUB}"),
    }
}

/// True if a program is in one of the folders of `PATH`.
pub(crate) fn finds(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_path() {
        assert!(finds("sh"));
        assert!(!finds("no-such-program-anywhere"));
    }
}
