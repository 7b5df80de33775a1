//! NVMe disks, by a module: loaded from the initrd, or built into the kernel. QEMU has the controller; `mke2fs` makes the disks, and `e2fsck` judges them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::boot_tests::hello;
use crate::disk::{self, Disk};
use crate::guest_tests::NamedTest;
use crate::machine::{Kind, Machine};
use crate::module_tests;
use crate::package_tests::unikernel;
use crate::program_tests::BUSYBOX;
use crate::vm::{Console, Ending, Vm};
use crate::{project, run};

const TIME_OUT: Duration = Duration::from_secs(180);
const SIZE: &str = "128M";
/// How often the module comes and goes.
const TIMES: usize = 30;

/// All of them. Their names begin as those of all tests of modules.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = Vec::new();
    for kind in [Kind::Q35, Kind::Pc] {
        tests.push((format!("modules_nvme [{kind}]"), Box::new(move || mounted(kind))));
    }
    tests.push(("modules_nvme_root [q35]".into(), Box::new(root)));
    tests.push(("modules_nvme_programs [q35]".into(), Box::new(programs)));
    tests.push(("modules_nvme_come_and_go [q35]".into(), Box::new(come_and_go)));
    tests.push(("modules_nvme_several [q35]".into(), Box::new(several)));
    tests.push(("modules_nvme_fails [q35]".into(), Box::new(fails)));
    tests.push(("modules_nvme_unusable [q35]".into(), Box::new(unusable)));
    tests.push(("modules_nvme_built_in [q35]".into(), Box::new(built_in)));
    tests
}

/// An initrd with the module and nothing else, made once.
pub(crate) fn initrd() -> Result<PathBuf> {
    static MADE: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*made {
        return Ok(path.clone());
    }
    let folder = project::work_dir("module-tests")?.join("nvme-initrd");
    fs::create_dir_all(folder.join("lib/modules"))?;
    fs::write(folder.join("lib/modules/nvme.ko"), module_tests::module("nvme")?)?;
    let path = run::initrd_file(&folder, "modules-nvme")?;
    *made = Some(path.clone());
    Ok(path)
}

/// QEMU's arguments for a controller with a disk.
pub(crate) fn device(disk: &Disk, number: usize, options: &str) -> [String; 4] {
    let [drive_word, drive, device_word, _] = disk.arguments(number, Kind::Q35);
    [drive_word, drive, device_word, format!("nvme,drive=disk{number},serial=disk{number}{options}")]
}

/// A disk with ext4 and a file.
fn new_disk(name: &str) -> Result<Disk> {
    let folder = project::work_dir("module-tests")?.join("nvme-disk");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("greeting"), "from the disk\n")?;
    let path = project::work_dir("disks")?.join(format!("{name}.img"));
    let _ = fs::remove_file(&path);
    // Blocks as large as the largest sectors.
    disk::make(&path, Some(&folder), SIZE, &["-b", "4096"])?;
    Ok(Disk::new(&path))
}

fn machine(kind: Kind, program: &str, disk: &Disk, options: &str, append: &str) -> Result<Machine> {
    let mut machine = Machine::new(kind, &project::built(program)?);
    machine.cpus = 2;
    machine.initrd = Some(initrd()?);
    machine.append = append.to_owned();
    machine.extra.extend(device(disk, 0, options));
    Ok(machine)
}

fn boot(machine: &Machine) -> Result<Ending> {
    let mut guest = Vm::start(machine, Console::Recorded)?;
    let ending = guest.wait(Some(TIME_OUT))?;
    let ending = ending.with_context(|| format!("it did not end: {}", guest.console()))?;
    ensure!(ending.code == Some(0), "{:?}: {}", ending.code, ending.console);
    Ok(ending)
}

fn finish(disk: &Disk) -> Result<()> {
    disk::check(&disk.path)?;
    Ok(fs::remove_file(&disk.path)?)
}

/// A disk is mounted, on two processors; the module cannot be unloaded meanwhile. QEMU tells that its cache was flushed.
fn mounted(kind: Kind) -> Result<()> {
    let disk = new_disk(&format!("nvme-{kind}"))?;
    let words = "modules=open module=nvme mount=/data:nvme0n1 -- mounted /data";
    let mut machine = machine(kind, "nvme", &disk, "", words)?;
    let trace = disk.path.with_extension("trace");
    machine.extra.extend(["-trace", "pci_nvme_flush*", "-D", &trace.to_string_lossy()].map(str::to_owned));
    let console = boot(&machine)?.console;
    for line in ["nvme: nvme0: QEMU NVMe Ctrl", "nvme0n1: 128 MiB, by module nvme", "nvme0n1: ext4 at /data"]
    {
        ensure!(console.contains(line), "the console does not show `{line}`: {console}");
    }
    let flushes = fs::read_to_string(&trace)?.lines().count();
    ensure!(flushes > 10, "fsync(2) has flushed the disk's cache {flushes} times");
    fs::remove_file(&trace)?;
    finish(&disk)
}

/// A machine whose root is on NVMe, by our name for it and by Linux's.
fn root() -> Result<()> {
    let disk = new_disk("nvme-root")?;
    for name in ["root=nvme0n1", "root=/dev/nvme0n1 rw"] {
        boot(&machine(Kind::Q35, "nvme", &disk, "", &format!("modules=open module=nvme {name} -- root"))?)?;
        disk::check(&disk.path)?;
    }
    // Without the module, Linux's form means nothing, and ours is an error that says what there is.
    let machine = |words: &str| machine(Kind::Q35, "nvme", &disk, "", words);
    let linux = boot(&machine("root=/dev/nvme0n1 -- listed")?)?.console;
    ensure!(linux.contains("there is no `nvme0n1` here"), "{linux}");
    let mut guest = Vm::start(&machine("root=nvme0n1 -- listed")?, Console::Recorded)?;
    let ending = guest.wait(Some(TIME_OUT))?.context("it does not end")?;
    ensure!(
        ending.console.contains("there is no disk `nvme0n1`: the machine has none"),
        "{}",
        ending.console
    );
    Ok(fs::remove_file(&disk.path)?)
}

/// What is tested on virtio's disks, on one with large blocks that takes little at once, and on one as it comes.
fn programs() -> Result<()> {
    let large = ",logical_block_size=4096,physical_block_size=4096,mdts=1";
    for (program, boots, options) in
        [("disk_persist", 3, large), ("disk_fsx", 1, ""), ("disk_stress", 1, ""), ("disk_posix", 1, large)]
    {
        let disk = new_disk(&format!("nvme-{program}"))?;
        for boot_number in 1..=boots {
            let words = format!("module=nvme mount=/data:nvme0n1:ext4 env.DATA=/data env.BOOT={boot_number}");
            boot(&machine(Kind::Q35, program, &disk, options, &words)?)
                .with_context(|| format!("{program}, boot {boot_number}"))?;
            disk::check(&disk.path)?;
        }
        fs::remove_file(&disk.path)?;
    }
    Ok(())
}

/// A disk with partitions that nobody has mounted comes and goes, and leaves nothing.
fn come_and_go() -> Result<()> {
    let path = project::work_dir("disks")?.join("nvme-partitions.img");
    // An MBR with two partitions of Linux's type.
    let mut image = vec![0u8; 16 << 20];
    for (number, first) in [2048u32, 16_384].into_iter().enumerate() {
        let entry = &mut image[446 + 16 * number..][..16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&first.to_le_bytes());
        entry[12..].copy_from_slice(&8192u32.to_le_bytes());
    }
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&path, image)?;
    let words = format!("modules=open -- reload {TIMES}");
    let console = boot(&machine(Kind::Q35, "nvme", &Disk::new(&path), "", &words)?)?.console;
    ensure!(console.matches("module nvme: unloaded").count() == TIMES + 5, "{console}");
    Ok(fs::remove_file(&path)?)
}

/// Two controllers, of which one has two namespaces with numbers of its own; a third has nothing to offer.
fn several() -> Result<()> {
    let disks: Vec<Disk> =
        (0..3).map(|number| new_disk(&format!("nvme-several-{number}"))).collect::<Result<_>>()?;
    let mut machine = machine(Kind::Q35, "nvme", &disks[0], ",addr=05.0", "")?;
    machine.append =
        "module=nvme mount=/data:nvme0n1 mount=/more:nvme1n2 -- listed nvme0n1 nvme1n1 nvme1n2".into();
    machine.extra.extend(["-device", "nvme,id=many,serial=many,addr=06.0"].map(str::to_owned));
    for (number, disk) in disks.iter().enumerate().skip(1) {
        let [drive_word, drive, device_word, _] = disk.arguments(number, Kind::Q35);
        let namespace = format!("nvme-ns,bus=many,drive=disk{number},nsid={}", 4 * number);
        machine.extra.extend([drive_word, drive, device_word, namespace]);
    }
    machine.extra.extend(["-device", "nvme,serial=empty,addr=07.0"].map(str::to_owned));
    boot(&machine)?;
    disks.iter().try_for_each(finish)
}

/// A disk that cannot write everything: the program is told, and the machine goes on.
fn fails() -> Result<()> {
    let mut disk = new_disk("nvme-fails")?;
    let faults = disk.path.with_extension("conf");
    let rule = |sector: u64| {
        format!(
            "[inject-error]\nevent = \"write_aio\"\niotype = \"write\"\nerrno = \"5\"\nsector = \"{sector}\"\n\n"
        )
    };
    fs::write(&faults, (0..400).map(|index| rule(20_000 + 512 * index)).collect::<String>())?;
    disk.faults = Some(faults.clone());
    let words = "module=nvme mount=/data:nvme0n1 -- failing";
    let mut guest = Vm::start(&machine(Kind::Q35, "nvme", &disk, "", words)?, Console::Recorded)?;
    let ending = guest.wait(Some(TIME_OUT))?.context("it does not end")?;
    // QEMU complains, too, and would be believed to have failed if this was 0.
    ensure!(ending.code == Some(3) && ending.console.contains("nvme: all well"), "{}", ending.console);
    ensure!(ending.console.contains("nvme0n1: a request failed: status type"), "{}", ending.console);
    fs::remove_file(&faults)?;
    Ok(fs::remove_file(&disk.path)?)
}

/// Without a controller the module does not start, and nothing is left of the attempt. A namespace that cannot be used is named.
fn unusable() -> Result<()> {
    let disk = new_disk("nvme-unusable")?;
    let mut machine = machine(Kind::Q35, "nvme", &disk, "", "modules=open module=nvme -- absent")?;
    let with_device = std::mem::take(&mut machine.extra);
    boot(&machine)?;
    // Blocks with metadata: the controller is good for something, but not for this.
    machine.extra.extend(with_device[..2].iter().cloned());
    machine.extra.extend(["-device", "nvme,id=odd,serial=odd"].map(str::to_owned));
    machine.extra.extend(["-device", "nvme-ns,bus=odd,drive=disk0,ms=8"].map(str::to_owned));
    machine.append = "modules=open module=nvme -- listed".into();
    let console = boot(&machine)?.console;
    ensure!(console.contains("namespace 1: not used: its blocks have 8 bytes of metadata"), "{console}");
    finish(&disk)
}

/// A kernel that was built with the module, behind a program of Debian's: what is written in one boot is there in the next.
fn built_in() -> Result<()> {
    let program = BUSYBOX.iter().map(Path::new).find(|path| path.exists());
    let program = program.context("there is no busybox: `make setup` installs it")?;
    let folder = project::work_dir("programs")?;
    let image = folder.join("nvme.unikernel");
    let mut command = unikernel(&folder, ["pack", "--name", "busybox"])?;
    command.env("UNIKERNEL_MODULES", "nvme").arg("-o").args([&image, program]);
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let disk = new_disk("nvme-built-in")?;
    for words in [
        "mount=/data:nvme0n1 -- cp /data/greeting /data/copy",
        "root=nvme0n1 -- cmp /greeting /copy",
        "root=nvme0n1 -- cat /copy",
    ] {
        let mut machine = hello(Kind::Q35, words)?;
        machine.kernel = image.clone();
        machine.extra.extend(device(&disk, 0, ""));
        let console = boot(&machine)?.console;
        ensure!(console.contains("module nvme: started"), "{console}");
        ensure!(console.contains("from the disk") == words.contains("cat"), "{console}");
        disk::check(&disk.path)?;
    }
    fs::remove_file(&image)?;
    finish(&disk)
}
