//! Boots with command lines and machines that are not the usual ones: each serves, or ends with a line that says why not.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::disk::{self, Disk};
use crate::guest_tests::{NamedTest, free_port};
use crate::http_tests::Server;
use crate::machine::{Kind, Machine, Net};
use crate::project::{self, Profile};
use crate::qmp;
use crate::saved_state_tests;
use crate::vm::{Console, Ending, Vm};

const TIME_OUT: Duration = Duration::from_secs(30);
/// The exit code when the app cannot be started.
const CANNOT_BOOT: u8 = 125;
/// What a shell would show for SIGTERM.
const TERMINATED: u8 = 128 + 15;
/// What the image of `http` may have in bytes (`docs/decisions/0042-size-of-images.md`), and compressed.
const MOST_BYTES: usize = 3_803_000;
const MOST_COMPRESSED_BYTES: usize = 1_863_500;

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = Vec::new();
    for kind in [Kind::Q35, Kind::Microvm] {
        tests.push((format!("boot_bad_command_lines [{kind}]"), Box::new(move || bad_command_lines(kind))));
    }
    tests.push(("boot_words_for_linux".into(), Box::new(words_for_linux)));
    tests.push(("boot_ends_without_acpi".into(), Box::new(ends_without_acpi)));
    for (kind, has_serial_port) in
        [Kind::Q35, Kind::Pc, Kind::Microvm].map(|kind| [(kind, true), (kind, false)]).concat()
    {
        let name = if has_serial_port { "serial" } else { "virtio" };
        let check = move || console_both_ways(kind, has_serial_port);
        tests.push((format!("boot_console_{name} [{kind}]"), Box::new(check)));
    }
    tests.push(("boot_ctrl_alt_delete [pc]".into(), Box::new(ctrl_alt_delete)));
    tests.push(("boot_century".into(), Box::new(century)));
    tests.push(("boot_size".into(), Box::new(size)));
    tests.push(("boot_saved_state_twice".into(), Box::new(saved_state_tests::twice)));
    tests.push(("boot_saved_state_generations".into(), Box::new(saved_state_tests::generations)));
    for (name, properties) in
        [("intx", "vectors=0"), ("access_platform", "disable-legacy=on,iommu_platform=on")]
    {
        for kind in [Kind::Q35, Kind::Pc] {
            tests.push((format!("http_{name} [{kind}]"), Box::new(move || serves_with(kind, properties))));
        }
    }
    for (name, property) in [("no_indirect", "indirect_desc=off"), ("intx", "vectors=0")] {
        tests.push((format!("disk_{name} [q35]"), Box::new(move || formats(property))));
    }
    tests
}

/// Boots it until it ends, without a panic.
pub(crate) fn run(machine: &Machine) -> Result<Ending> {
    let mut guest = Vm::start(machine, Console::Recorded)?;
    let ending = guest.wait(Some(TIME_OUT))?;
    let ending = ending.with_context(|| format!("it did not end: {}", guest.console()))?;
    ensure!(!ending.console.contains("PANIC"), "{}", ending.console);
    Ok(ending)
}

/// A machine with the hello image.
pub(crate) fn hello(kind: Kind, append: &str) -> Result<Machine> {
    let mut machine = Machine::new(kind, &project::built("hello")?);
    machine.append = append.to_owned();
    Ok(machine)
}

/// From the first line of the log on all is shown, and what is typed arrives.
fn console_both_ways(kind: Kind, has_serial_port: bool) -> Result<()> {
    project::build("guest-tests", &["typing"], Profile::Release)?;
    let mut machine = Machine::new(kind, &project::image("typing"));
    machine.has_serial_port = has_serial_port;
    // A word of Linux's is named before any device is looked at.
    machine.append = "log=debug quiet".to_owned();
    let socket = std::env::temp_dir().join(format!("console-{}", std::process::id()));
    machine.console = format!("socket,path={}", socket.display());
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)?;
    let mut guest = Vm::start(&machine, Console::Recorded)?;
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(TIME_OUT))?;
    let mut shown = String::new();
    let mut wait_for = |text: &str| -> Result<String> {
        let mut part = [0; 1024];
        while !shown.contains(text) {
            let count = (&stream).read(&mut part).with_context(|| format!("no {text:?} in {shown}"))?;
            ensure!(count > 0, "ended without {text:?}: {shown}");
            shown.push_str(&String::from_utf8_lossy(&part[..count]));
        }
        Ok(shown.clone())
    };
    let early = wait_for("type: ")?;
    ensure!(early.contains("`quiet`: a word for Linux"), "the log's begin is missing: {early}");
    // Ten lines, each longer than a buffer of the device, and one with a letter taken back.
    for number in 0..10 {
        let line = format!("line {number} {}", "x".repeat(60));
        (&stream).write_all(format!("{line}y\x7f\r").as_bytes())?;
        wait_for(&format!("heard {line:?}\r\n"))?;
    }
    (&stream).write_all(b"end\n")?;
    wait_for("heard \"end\"")?;
    let ending = guest.wait(Some(TIME_OUT))?.context("it does not end")?;
    let _ = std::fs::remove_file(&socket);
    ensure!(ending.code == Some(0), "ended with {:?}", ending.code);
    Ok(())
}

/// What is wrong is said, and the machine ends, with and without the port that QEMU takes exit codes from.
fn bad_command_lines(kind: Kind) -> Result<()> {
    let long = |bytes: usize| format!("-- {}", "x".repeat(bytes - 3));
    let lines = [
        ("lgo=debug".into(), "did you mean `log=`"),
        ("log=net:loud".into(), "bad command line: `log=net:loud`"),
        ("ip".into(), "needs a value"),
        ("mount=blk0".into(), "bad command line"),
        ("mount=/a:blk0 mount=/b:blk0".into(), "disk `blk0` is mounted at `/a` and at `/b`"),
        ("virtio_mmio.device=512@0xfeb00e01:5".into(), "`virtio_mmio.device=512@0xfeb00e01:5`: expected"),
        ("cwd=/none".into(), "`cwd=/none`: expected a directory"),
        (long(2049), "it has 2049 bytes; 2048 are the most"),
        (long(4000), "it has 4000 bytes; 2048 are the most"),
        (long(9000), "command line"),
    ];
    for (append, expected) in lines {
        for has_debug_exit in [false, true] {
            let machine = Machine { has_debug_exit, ..hello(kind, &append)? };
            let ending = run(&machine).with_context(|| format!("with {} bytes", append.len()))?;
            ensure!(!has_debug_exit || ending.code == Some(CANNOT_BOOT), "ended with {:?}", ending.code);
            ensure!(ending.console.contains(expected), "not {expected:?}: {}", ending.console);
        }
    }
    ensure!(run(&hello(kind, &long(2048))?)?.code == Some(0), "the longest line does not boot");
    Ok(())
}

/// What Firecracker appends, and its users.
fn words_for_linux() -> Result<()> {
    let line = "console=ttyS0 reboot=k panic=1 pci=off nomodule 8250.nr_uarts=0 i8042.noaux i8042.dumbkbd \
                random.trust_cpu=on root=PARTUUID=1-2 ro";
    let ending = run(&hello(Kind::Microvm, line)?)?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    ensure!(ending.console.contains("`pci=off`: a word for Linux, not used"), "{}", ending.console);
    Ok(())
}

/// Without ACPI there is a reset.
fn ends_without_acpi() -> Result<()> {
    let mut machine = Machine { has_debug_exit: false, ..hello(Kind::Microvm, "")? };
    machine.extra = ["-machine", "acpi=off"].map(str::to_owned).into();
    let ending = run(&machine)?;
    ensure!(ending.console.contains("Hello from ring 3"), "{}", ending.console);
    Ok(())
}

/// Without ACPI, the keyboard is the power button.
fn ctrl_alt_delete() -> Result<()> {
    project::build("guest-tests", &["random_clock"], Profile::Release)?;
    let control = std::env::temp_dir().join(format!("qmp-keys-{}", std::process::id()));
    let mut machine = Machine::new(Kind::Pc, &project::image("random_clock"));
    machine.extra = ["-machine", "acpi=off"].map(str::to_owned).into();
    machine.extra.extend(qmp::arguments(&control));
    let mut guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(TIME_OUT, || !saved_state_tests::printed(&guest).is_empty())?;
    qmp::press_ctrl_alt_delete(&control)?;
    let ending = guest.wait(Some(TIME_OUT))?;
    let ending = ending.with_context(|| format!("it does not end: {}", guest.console()))?;
    ensure!(ending.code == Some(TERMINATED), "ended with {:?}: {}", ending.code, ending.console);
    Ok(())
}

/// The battery-backed clock in several centuries.
fn century() -> Result<()> {
    project::build("guest-tests", &["wall_clock"], Profile::Release)?;
    for (kind, base, expected) in [
        (Kind::Q35, "1999-12-30T12:00:00", 946_555_200),
        (Kind::Microvm, "1999-12-30T12:00:00", 946_555_200),
        (Kind::Q35, "2026-11-29T00:00:00", 1_795_910_400_u64),
        (Kind::Pc, "2071-01-01T00:00:00", 3_187_296_000),
    ] {
        let mut machine = Machine::new(kind, &project::image("wall_clock"));
        machine.extra = ["-rtc".to_owned(), format!("base={base}")].into();
        let console = run(&machine)?.console;
        let found = console.lines().find_map(|line| line.trim().strip_prefix("wall clock ")?.parse().ok());
        let is_near = found.is_some_and(|found: u64| (expected..expected + 60).contains(&found));
        ensure!(is_near, "{base} on {kind}: {found:?}, not {expected}");
    }
    Ok(())
}

/// The image of `http` as it is shipped: the file, and compressed as registries keep it.
fn size() -> Result<()> {
    let folder = project::work_dir("boot")?;
    let (image, debug) = (folder.join("http.stripped"), folder.join("http.debug"));
    std::fs::copy(project::built("http")?, &image)?;
    unikernel_build::split_debug(&image, &debug)?;
    let bytes = std::fs::read(&image)?;
    let mut compressed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    compressed.write_all(&bytes)?;
    let compressed = compressed.finish()?.len();
    for path in [image, debug] {
        std::fs::remove_file(path)?;
    }
    for (what, bytes, most) in
        [("", bytes.len(), MOST_BYTES), (" compressed", compressed, MOST_COMPRESSED_BYTES)]
    {
        ensure!(bytes <= most, "`http` has {bytes} bytes{what}, more than {most}: docs/decisions/0042");
    }
    Ok(())
}

/// Serves from a network card with the given properties.
fn serves_with(kind: Kind, properties: &str) -> Result<()> {
    let port = free_port()?;
    let mut machine = Machine::new(kind, &project::built("http")?);
    machine.net = Net::User(port, 8080);
    machine.nic_properties = properties.to_owned();
    let server = Server::start(machine, "http", 128, port)?;
    for _ in 0..20 {
        server.get("/")?;
    }
    server.check_alive()
}

/// Makes a filesystem on a disk with the given property, and leaves it clean.
fn formats(property: &str) -> Result<()> {
    let path = project::work_dir("disks")?.join(format!("boot-{property}.img"));
    std::fs::File::create(&path)?.set_len(64 << 20)?;
    let mut machine = hello(Kind::Q35, "format=blk0 mount=/data:blk0")?;
    machine.cpus = 2;
    machine.disks = vec![Disk::new(&path)];
    machine.extra = ["-global".to_owned(), format!("virtio-blk-pci.{property}")].into();
    let ending = run(&machine)?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    disk::check(&path)?;
    Ok(std::fs::remove_file(&path)?)
}
