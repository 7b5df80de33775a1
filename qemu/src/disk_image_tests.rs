//! Disks made by `image`, booted by each firmware; what is wrong with one is said.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cli::{ImageFormat, ImageOptions, RunOptions};
use crate::disk::Disk;
use crate::guest_tests::{NamedTest, free_port};
use crate::machine::{Boot, Kind, Machine, Net};
use crate::program_tests::{FORMS, arguments, probe, root};
use crate::vm::{Console, Vm};
use crate::{http, image, pack_tests, project};

/// UEFI alone takes some seconds, and many on a busy machine.
const TIME_OUT: Duration = Duration::from_secs(180);
/// The size of the data partition, as `--data` has it.
const DATA_BYTES: u64 = 32 << 20;

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = Vec::new();
    let mut add = |name: &str, check: fn() -> Result<()>| tests.push((name.to_owned(), Box::new(check)));
    add("image_serves [bios]", || serves(Boot::Bios, Kind::Q35, 256));
    add("image_serves [bios, pc, 5 GiB]", || serves(Boot::Bios, Kind::Pc, 5 << 10));
    add("image_serves [uefi]", || serves(Boot::Uefi, Kind::Q35, 256));
    add("image_serves [uefi, 5 GiB]", || serves(Boot::Uefi, Kind::Q35, 5 << 10));
    add("image_serves [kernel, q35]", || serves(Boot::Kernel, Kind::Q35, 256));
    add("image_serves [kernel, microvm]", || serves(Boot::Kernel, Kind::Microvm, 256));
    add("image_edited", edited);
    add("image_packed [bios]", || packed(Boot::Bios));
    add("image_packed [uefi]", || packed(Boot::Uefi));
    tests
}

/// A disk, removed in the end.
pub(crate) struct TestDisk(PathBuf);

impl TestDisk {
    fn new(name: &str, app: &str, format: ImageFormat, arguments: &[&str]) -> Result<Self> {
        Self::of(name, &project::built(app)?, format, "log=debug", arguments)
    }

    pub(crate) fn of(
        name: &str,
        image: &Path,
        format: ImageFormat,
        append: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let path = project::work_dir("disk-images")?.join(name).with_extension(format.extension());
        let _ = std::fs::remove_file(&path);
        let mut run = RunOptions::of_image(image);
        run.append = append.to_owned();
        run.app_arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let data_bytes = Some(DATA_BYTES);
        image::make(&ImageOptions { output: Some(path.clone()), format, data_bytes, run })?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Runs one of mtools on the EFI system partition, which begins behind the table and GRUB.
    fn mtool(&self, tool: &str, arguments: &[&str]) -> Result<()> {
        let volume = format!("{}@@2M", self.0.display());
        let output = Command::new(tool).args(["-i", &volume]).args(arguments).output();
        let output = output.context("mtools are not installed: run `make setup`")?;
        ensure!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

impl Drop for TestDisk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn machine(boot: Boot, kind: Kind, disk: &Path) -> Result<Machine> {
    let mut machine = Machine::new(kind, &project::built("http")?);
    machine.boot = boot;
    machine.disks = vec![Disk::new(disk)];
    machine.add_rng();
    Ok(machine)
}

/// The app answers, and has its data partition.
fn serves(boot: Boot, kind: Kind, memory_mib: u64) -> Result<()> {
    let format = if boot == Boot::Bios { ImageFormat::Qcow2 } else { ImageFormat::Raw };
    let disk = TestDisk::new(&format!("serves-{}", std::process::id()), "http", format, &[])?;
    let port = free_port()?;
    let mut machine = machine(boot, kind, &disk.0)?;
    machine.net = Net::User(port, 8080);
    machine.memory_mib = memory_mib;
    if boot == Boot::Kernel {
        machine.append = "log=debug mount=/data:PARTLABEL=data".to_owned();
    }
    let guest = Vm::start(&machine, Console::Recorded)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    guest.wait_until(TIME_OUT, || http::answers(address))?;
    let response = http::get(address, "/")?;
    ensure!(response.body == "Hello, World!", "it answers {response:?}");
    let console = guest.console();
    ensure!(console.contains("ext4 at /data"), "no data partition: {console}");
    Ok(())
}

/// A program that was packed, with its files: in the image's file it comes first, where GRUB looks for its own.
fn packed(boot: Boot) -> Result<()> {
    let form = FORMS[3];
    let name = format!("packed-{}", std::process::id());
    let image = project::work_dir("disk-images")?.join(&name);
    pack_tests::pack(&probe(form)?, "probe", Some(&root(form, "root-disk-image")?), &image)?;
    let disk = TestDisk::of(&name, &image, ImageFormat::Raw, "env.PROBE=yes", &arguments(form));
    std::fs::remove_file(&image)?;
    let disk = disk?;
    let mut guest = Vm::start(&machine(boot, Kind::Q35, &disk.0)?, Console::Recorded)?;
    let ending = guest.wait(Some(TIME_OUT))?.with_context(|| guest.console())?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    Ok(())
}

/// People edit the file with the words, and make mistakes.
fn edited() -> Result<()> {
    let name = format!("edited-{}", std::process::id());
    let disk = TestDisk::new(&name, "hello", ImageFormat::Raw, &["first", "two words"])?;
    let boot = || -> Result<String> {
        let mut guest = Vm::start(&machine(Boot::Bios, Kind::Q35, &disk.0)?, Console::Recorded)?;
        let ending = guest.wait(Some(TIME_OUT))?;
        Ok(ending.with_context(|| format!("it did not end: {}", guest.console()))?.console)
    };
    let expect = |expected: &str| -> Result<()> {
        let console = boot()?;
        ensure!(console.contains(expected), "not {expected:?}: {console}");
        Ok(())
    };
    expect("two words")?;
    let words = disk.0.with_extension("txt");
    let long = [&b"-- "[..], &[b'x'; 3000]].concat();
    for (content, expected) in [
        (&b"# by hand\r\nlog=info\r\n--\r\n\"another word\"\r\n"[..], "another word"),
        (b"lgo=debug\n", "did you mean `log=`"),
        (b"log=info \xff\xfe\n", "`\\xff\\xfe`: expected text"),
        (b"log=\0\0\0\0", "`log=\\x00\\x00\\x00\\x00`: expected text"),
        (b"-- \"open\n", "bad command line"),
        (&long, "2048 are the most"),
        (b"", "Hello from ring 3"),
    ] {
        std::fs::write(&words, content)?;
        let outcome = disk.mtool("mcopy", &["-o", &words.to_string_lossy(), "::/cmdline.txt"]);
        std::fs::remove_file(&words)?;
        outcome?;
        expect(expected)
            .with_context(|| content.escape_ascii().take(80).map(char::from).collect::<String>())?;
    }
    disk.mtool("mdel", &["::/cmdline.txt"])?;
    expect("Hello from ring 3")
}
