//! The configuration at boot: a NoCloud volume, or a service that is not there.

use alloc::string::String;
use std::io::{Cursor, Write};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;
use unikernel_hal::sim::disk::{Disk, Faults};
use unikernel_hal::sim::platform::smbios;

use super::super::app::Outcome;
use super::super::app::calls::{Room, sys};
use super::super::files::read_file;
use super::machine;

const USER_DATA: &str = "#cloud-config
write_files:
  - path: /etc/app.toml
    permissions: '0600'
    content: |
      port = 80
  - path: /new/folder/file
    content: x
  - {path: /etc/bin, encoding: b64, content: \"AAECAw==\"}
environment:
  COLOUR: green
  KEPT: by the volume
packages: [nginx]
";
const META_DATA: &str = "instance-id: i-1\nlocal-hostname: web-1\n";

/// A disk with FAT on it.
fn fat(label: &str, files: &[(&str, &str)]) -> Disk {
    let mut name = [b' '; 11];
    name[..label.len()].copy_from_slice(label.as_bytes());
    let mut bytes = Cursor::new(alloc::vec![0; 8 << 20]);
    let options = FormatVolumeOptions::new().fat_type(FatType::Fat16).volume_label(name);
    fatfs::format_volume(&mut bytes, options).unwrap();
    let system = FileSystem::new(&mut bytes, FsOptions::new()).unwrap();
    for (path, content) in files {
        if let Some((folder, _)) = path.rsplit_once('/') {
            system.root_dir().create_dir(folder).unwrap();
        }
        system.root_dir().create_file(path).unwrap().write_all(content.as_bytes()).unwrap();
    }
    system.unmount().unwrap();
    let disk = Disk::new(8 << 20);
    disk.write(0, &bytes.into_inner());
    disk
}

#[track_caller]
fn run(line: &str, disk: &Disk, app: impl FnOnce() + 'static) -> Outcome {
    run_with(line, disk, || {}, app)
}

#[track_caller]
fn run_with(line: &str, disk: &Disk, prepare: impl FnOnce(), app: impl FnOnce() + 'static) -> Outcome {
    let plug_in = || {
        prepare();
        disk.plug_in(Faults::default());
    };
    let outcome = machine(line).run_with(plug_in, || {
        app();
        0
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    outcome
}

fn text(path: &str) -> String {
    String::from_utf8(read_file(path)).unwrap()
}

fn has_variable(variable: &str) -> bool {
    text("/proc/self/environ").split('\0').any(|found| found == variable)
}

#[test]
fn volume_gives_name_files_and_variables() {
    let disk = fat("CIDATA", &[("meta-data", META_DATA), ("user-data", USER_DATA)]);
    let outcome = run("config=nocloud env.KEPT=by-the-line", &disk, || {
        assert_eq!(text("/proc/sys/kernel/hostname"), "web-1\n");
        assert_eq!(text("/etc/app.toml"), "port = 80\n");
        assert_eq!(text("/new/folder/file"), "x");
        assert_eq!(read_file("/etc/bin"), [0, 1, 2, 3]);
        let stat = super::super::files::Stat::of("/etc/app.toml");
        assert_eq!(stat.mode(), S_IFREG | 0o600);
        assert_eq!(
            (text("/run/meta-data").as_str(), text("/run/user-data").as_str()),
            (META_DATA, USER_DATA)
        );
        assert_eq!(super::super::files::Stat::of("/run/user-data").mode(), S_IFREG | 0o600);
        assert!(has_variable("COLOUR=green") && has_variable("KEPT=by-the-line"));
    });
    assert!(outcome.console.contains("packages"), "what is not understood is told: {}", outcome.console);
}

#[test]
fn command_line_counts_before_the_volume() {
    let disk = fat("cidata", &[("meta-data", META_DATA), ("user-data", "#cloud-config\nhostname: other\n")]);
    run("config=nocloud hostname=mine", &disk, || {
        assert_eq!(text("/proc/sys/kernel/hostname"), "mine\n");
    });
}

#[test]
fn serial_number_names_the_source() {
    let disk = fat("CIDATA", &[("meta-data", "local-hostname: of-the-volume\n")]);
    let serial = || smbios::set_serial("ds=nocloud;h=of-the-serial;i=1;x=y");
    let outcome = run_with("", &disk, serial, || {
        assert_eq!(text("/proc/sys/kernel/hostname"), "of-the-serial\n");
        assert_eq!(text("/run/meta-data"), "local-hostname: of-the-volume\n");
    });
    assert!(outcome.console.contains("serial number: `x=y` is not used"), "{}", outcome.console);
    // Any other number means nothing.
    run_with(
        "",
        &disk,
        || smbios::set_serial("1234"),
        || {
            assert_eq!(sys!(open, "/run/meta-data", O_RDONLY, 0), Err(ENOENT));
        },
    );
}

#[test]
fn damaged_parts_are_told_and_left_out() {
    let files = [
        ("meta-data", "local-hostname: '-no name-'\n"),
        ("user-data", "#cloud-config\nkey: ["),
        ("network-config", "version: 2\nethernets:\n  eth7:\n    addresses: [10.0.0.1/24]\n"),
    ];
    let outcome = run("config=nocloud", &fat("CIDATA", &files), || {
        assert_ne!(text("/proc/sys/kernel/hostname"), "-no name-\n");
        assert_eq!(text("/run/user-data"), "#cloud-config\nkey: [");
    });
    for reason in ["is no host name", "user-data: not used", "network-config: eth7: there is no such card"] {
        assert!(outcome.console.contains(reason), "{reason}: {}", outcome.console);
    }
    let files = [("meta-data", "key: ["), ("network-config", ": [")];
    let outcome = run("config=nocloud", &fat("CIDATA", &files), || {});
    for reason in ["meta-data: not used", "network-config: not used"] {
        assert!(outcome.console.contains(reason), "{reason}: {}", outcome.console);
    }
}

#[test]
fn missing_volume_is_told_and_the_app_starts() {
    let outcome = run("config=nocloud", &fat("OTHER", &[("meta-data", META_DATA)]), || {});
    assert!(outcome.console.contains("there is no volume called `cidata`"), "{}", outcome.console);
}

#[test]
fn service_that_is_not_there_is_not_waited_for_for_ever() {
    for source in ["mmds", "ec2"] {
        let outcome = machine(&std::format!("config={source}")).run(|| 6);
        assert_eq!(outcome.code, Some(6), "{}", outcome.console);
        assert!(outcome.console.contains("the machine's configuration cannot be had"), "{}", outcome.console);
        assert!((59..70).contains(&(outcome.now_ns / 1_000_000_000)), "{} ns", outcome.now_ns);
    }
}

#[test]
fn fat_is_mounted_for_reading() {
    let disk = fat("FILES", &[("file.txt", "plain"), ("folder/A long name.txt", "long")]);
    let outcome = run("mount=/data:blk0", &disk, || {
        assert_eq!(text("/data/file.txt"), "plain");
        assert_eq!(text("/data/folder/A long name.txt"), "long");
        assert_eq!(text("/data/FOLDER/a LONG name.TXT"), "long");
        assert_eq!(sys!(open, "/data/none", O_RDONLY, 0), Err(ENOENT));
        assert_eq!(sys!(open, "/data/file.txt", O_RDWR, 0), Err(EROFS));
        assert_eq!(sys!(mkdir, "/data/new", 0o700), Err(EROFS));
        let room = Room::new(120);
        assert_eq!(sys!(statfs, "/data", &room), Ok(0));
        assert_eq!(room.long(0), MSDOS_SUPER_MAGIC.into());
        assert_eq!(sys!(getxattr, "/data/file.txt", "user.a", &room, 8), Err(EOPNOTSUPP));
    });
    assert!(outcome.console.contains("this kernel does not write FAT"), "{}", outcome.console);
    run("mount=/data:LABEL=FILES:ro", &disk, || assert_eq!(text("/data/file.txt"), "plain"));
}
