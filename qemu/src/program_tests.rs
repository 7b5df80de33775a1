//! Programs that were not linked with the kernel: `init=` starts them from the initrd or a disk. They are compiled here in
//! each form that there is, run on Linux first, and then booted; files that are no programs end with a line that says why.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::boot_tests::{hello, run};
use crate::cpio::Archive;
use crate::disk::{self, Disk};
use crate::machine::{Kind, Machine};
use crate::package_tests::unikernel;
use crate::project::{self, GNU_TARGET, TARGET};

/// A name and what it does.
type NamedTest = (String, Box<dyn Fn() -> Result<()>>);

/// The exit code when the app cannot be started.
const CANNOT_BOOT: u8 = 125;
const EXECUTABLE: u32 = 0o100_755;
const WORDS: &str = "env.PROBE=yes";
/// What a dynamic program of Rust's needs, by the names under which `ld.so` looks for it.
const LIBRARIES: [&str; 3] =
    ["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libgcc_s.so.1"];
/// Where a static Debian program is.
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// How the probe is linked.
#[derive(Clone, Copy, Debug)]
struct Form {
    name: &'static str,
    target: &'static str,
    options: &'static [&'static str],
    is_relocatable: bool,
    is_interpreted: bool,
}

const FORMS: [Form; 4] = [
    Form {
        name: "static",
        target: GNU_TARGET,
        options: &["-Crelocation-model=static", "-Ctarget-feature=+crt-static"],
        is_relocatable: false,
        is_interpreted: false,
    },
    Form {
        name: "static_pie",
        target: GNU_TARGET,
        options: &["-Crelocation-model=pie", "-Ctarget-feature=+crt-static"],
        is_relocatable: true,
        is_interpreted: false,
    },
    Form {
        name: "static_pie_musl",
        target: TARGET,
        options: &["-Crelocation-model=pie", "-Clink-self-contained=yes", "-Clinker=unikernel/build/lld"],
        is_relocatable: true,
        is_interpreted: false,
    },
    Form { name: "dynamic", target: GNU_TARGET, options: &[], is_relocatable: true, is_interpreted: true },
];

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = Vec::new();
    for form in FORMS {
        for kind in [Kind::Microvm, Kind::Q35] {
            tests.push((format!("init_{} [{kind}]", form.name), Box::new(move || starts(form, kind))));
        }
    }
    tests.push(("init_from_disk [q35]".into(), Box::new(starts_from_disk)));
    tests.push(("init_at_random_places".into(), Box::new(random_places)));
    tests.push(("init_other_image".into(), Box::new(starts_other_image)));
    tests.push(("init_busybox".into(), Box::new(starts_busybox)));
    tests.push(("init_bad_programs".into(), Box::new(bad_programs)));
    for form in FORMS {
        for kind in [Kind::Microvm, Kind::Q35] {
            tests.push((format!("pack_{} [{kind}]", form.name), Box::new(move || packed(form, kind))));
        }
    }
    tests.push(("pack_busybox".into(), Box::new(packed_busybox)));
    tests.push(("pack_bad_programs".into(), Box::new(bad_packs)));
    tests
}

/// The compiled probe.
fn probe(form: Form) -> Result<PathBuf> {
    let path = project::work_dir("programs")?.join(form.name);
    let source = project::root().join("qemu/programs/probe.rs");
    let output = Command::new("rustc")
        .current_dir(project::root())
        .args(["--edition=2024", "--crate-name=probe", "-Copt-level=1", "--target", form.target])
        .args(form.options)
        .arg("-o")
        .arg(&path)
        .arg(&source)
        .output()
        .context("cannot run rustc")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(path)
}

fn arguments(form: Form) -> [&'static str; 4] {
    let kind = if form.is_relocatable { "relocatable" } else { "fixed" };
    [kind, if form.is_interpreted { "interpreted" } else { "static" }, "one", "two words"]
}

/// The kernel's words and the probe's.
fn append(form: Form, path: &str) -> String {
    let [kind, way, one, two] = arguments(form);
    format!("init={path} {WORDS} -- {kind} {way} {one} \"{two}\"")
}

/// An initrd with these files.
fn initrd(name: &str, files: &[(&str, u32, Vec<u8>)]) -> Result<PathBuf> {
    let mut archive = Archive::default();
    let mut folders = BTreeSet::new();
    for (path, mode, content) in files {
        let above = Path::new(path).ancestors().skip(1).filter(|folder| *folder != Path::new(""));
        let mut above: Vec<&Path> = above.collect();
        above.reverse();
        for folder in above {
            if folders.insert(folder.to_owned()) {
                archive.add(&folder.to_string_lossy(), 0o040_755, 0, &[]);
            }
        }
        archive.add(path, *mode, 0, content);
    }
    let path = project::work_dir("initrd")?.join(format!("{name}.cpio"));
    std::fs::write(&path, archive.finish())?;
    Ok(path)
}

/// The probe as `bin/probe`, with its libraries.
fn files(form: Form) -> Result<Vec<(&'static str, u32, Vec<u8>)>> {
    let mut files = vec![("bin/probe", EXECUTABLE, std::fs::read(probe(form)?)?)];
    if form.is_interpreted {
        for path in LIBRARIES {
            let content = std::fs::read(path).with_context(|| format!("{path}: install libc6"))?;
            files.push((path.trim_start_matches('/'), EXECUTABLE, content));
        }
    }
    Ok(files)
}

fn machine(form: Form, kind: Kind) -> Result<Machine> {
    let mut machine = hello(kind, &append(form, "/bin/probe"))?;
    machine.initrd = Some(initrd(&format!("probe-{}", form.name), &files(form)?)?);
    Ok(machine)
}

fn starts(form: Form, kind: Kind) -> Result<()> {
    let on_linux = Command::new(probe(form)?).env("PROBE", "yes").args(arguments(form)).output()?;
    ensure!(on_linux.status.success(), "on Linux: {}", String::from_utf8_lossy(&on_linux.stderr));
    let ending = run(&machine(form, kind)?)?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    Ok(())
}

/// The pages of a program on a disk come when they are touched.
fn starts_from_disk() -> Result<()> {
    let form = FORMS[3];
    let folder = project::work_dir("programs/root")?;
    for (path, _, content) in files(form)? {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().context("it is in a folder")?)?;
        std::fs::write(&path, content)?;
        Command::new("chmod").arg("755").arg(&path).status()?;
    }
    let image = project::work_dir("programs")?.join("root.img");
    disk::make(&image, Some(&folder), "64M", &[])?;
    let mut machine = hello(Kind::Q35, &format!("root=blk0 {}", append(form, "/bin/probe")))?;
    machine.disks = vec![Disk::new(&image)];
    let ending = run(&machine)?;
    let _ = std::fs::remove_file(&image);
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    Ok(())
}

/// Program, break, stack and mappings are elsewhere in each boot.
fn random_places() -> Result<()> {
    const BOOTS: usize = 6;
    let machine = machine(FORMS[1], Kind::Microvm)?;
    let mut places = Vec::new();
    for _ in 0..BOOTS {
        let ending = run(&machine)?;
        let line =
            ending.console.lines().find_map(|line| line.split_once("places: ")).map(|(_, places)| places);
        let line = line.with_context(|| ending.console.clone())?;
        let numbers = line.split_whitespace().map(|word| u64::from_str_radix(word, 16).map_err(Into::into));
        places.push(numbers.collect::<Result<Vec<u64>>>()?);
    }
    for (index, name) in ["program", "break", "stack", "mappings"].iter().enumerate() {
        let found: BTreeSet<u64> = places.iter().map(|place| place[index]).collect();
        // With the 13 bits of the least random of them, two of six are equal once in 550 times; three never.
        ensure!(found.len() >= BOOTS - 1, "the {name} is at the same places: {found:x?}");
        let moved = found.iter().fold(0, |moved, place| moved | place ^ places[0][index]);
        ensure!(moved.count_ones() >= 10, "few bits of the {name}'s place change: {moved:x}");
    }
    Ok(())
}

/// An image is a static program, too: its kernel is data that nobody looks at.
fn starts_other_image() -> Result<()> {
    project::build("guest-tests", &["threads"], project::Profile::Release)?;
    let mut machine = hello(Kind::Q35, "init=/bin/threads")?;
    machine.cpus = 2;
    let image = std::fs::read(project::image("threads"))?;
    machine.initrd = Some(initrd("other-image", &[("bin/threads", EXECUTABLE, image)])?);
    let ending = run(&machine)?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    Ok(())
}

fn busybox() -> Result<Vec<u8>> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(bytes) = BYTES.get() {
        return Ok(bytes.clone());
    }
    let bytes = BUSYBOX.iter().find_map(|path| std::fs::read(path).ok());
    Ok(BYTES.get_or_init(|| bytes.unwrap_or_default()).clone())
}

/// A program of Debian's, through a link that says which part of it is meant.
fn starts_busybox() -> Result<()> {
    let bytes = busybox()?;
    ensure!(!bytes.is_empty(), "there is no busybox: `make setup` installs it");
    let files = [("bin/busybox", EXECUTABLE, bytes), ("bin/sha256sum", 0o120_777, b"busybox".to_vec())];
    let mut machine = hello(Kind::Q35, "init=/bin/sha256sum -- /proc/self/exe")?;
    machine.initrd = Some(initrd("busybox", &files)?);
    let ending = run(&machine)?;
    let on_linux =
        Command::new("sha256sum").args(BUSYBOX.iter().find(|path| Path::new(path).exists())).output()?;
    let expected = String::from_utf8_lossy(&on_linux.stdout);
    let expected = expected.split_whitespace().next().context("sha256sum answers")?;
    ensure!(
        ending.code == Some(0) && ending.console.contains(expected),
        "not {expected}: {}",
        ending.console
    );
    Ok(())
}

/// Each ends the machine with a line that says what is wrong.
fn bad_programs() -> Result<()> {
    let good = std::fs::read(probe(FORMS[0])?)?;
    let dynamic = std::fs::read(probe(FORMS[3])?)?;
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    // The address of the first segment that is loaded.
    let loads = (0..usize::from(good[56])).map(|index| 64 + index * 56).find(|&at| good[at] == 1);
    let address = loads.context("it has segments")? + 16;
    let kernel = 0xffff_ffff_8000_0000u64.to_le_bytes();
    let files = [
        ("bin/narrow", EXECUTABLE, with(4, &[1])),
        ("bin/arm", EXECUTABLE, with(18, &[183])),
        ("bin/short", EXECUTABLE, good[..5000].to_vec()),
        ("bin/head", EXECUTABLE, good[..40].to_vec()),
        ("bin/empty", EXECUTABLE, Vec::new()),
        ("bin/script", EXECUTABLE, b"#!/bin/sh\necho\n".to_vec()),
        ("bin/plain", 0o100_644, good.clone()),
        ("bin/high", EXECUTABLE, with(address, &kernel)),
        ("bin/null", EXECUTABLE, with(address, &[0; 8])),
        ("bin/dynamic", EXECUTABLE, dynamic),
    ];
    let initrd = initrd("bad-programs", &files)?;
    let expected = [
        ("narrow", "it is a 32-bit program"),
        ("arm", "it is for ARM (AArch64), and this processor is x86-64"),
        ("short", "the file is truncated"),
        ("head", "the file is truncated"),
        ("empty", "it is no ELF file"),
        ("script", "it is no ELF file"),
        ("plain", "nobody may execute it"),
        ("high", "which no program can have"),
        ("null", "which no program can have"),
        (
            "dynamic",
            "`/lib64/ld-linux-x86-64.so.2`, which the program names as its interpreter: there is no such file",
        ),
        ("none", "`/bin/none`: there is no such file"),
        ("", "it is no regular file"),
    ];
    for (name, expected) in expected {
        let mut machine = hello(Kind::Microvm, &format!("init=/bin/{name}"))?;
        machine.initrd = Some(initrd.clone());
        let ending = run(&machine)?;
        ensure!(ending.code == Some(CANNOT_BOOT), "{name} ended with {:?}: {}", ending.code, ending.console);
        ensure!(ending.console.contains(expected), "{name}: not {expected:?}: {}", ending.console);
    }
    Ok(())
}

/// A folder with what the probe needs at `/`.
fn root(form: Form, name: &str) -> Result<PathBuf> {
    let folder = project::work_dir("programs")?.join(name);
    for (path, _, content) in files(form)? {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().context("it is in a folder")?)?;
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    std::fs::write(folder.join("note"), "of the root\n")?;
    Ok(folder)
}

/// Packs as a user does; an error is the message.
fn pack(program: &Path, name: &str, root: Option<&Path>, image: &Path) -> Result<()> {
    let folder = project::work_dir("programs")?;
    let mut command = unikernel(&folder, ["pack", "--name", name])?;
    if let Some(root) = root {
        command.arg("--root").arg(root);
    }
    let output = command.arg("-o").args([image, program]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// One file runs on Linux and boots.
fn packed(form: Form, kind: Kind) -> Result<()> {
    let program = probe(form)?;
    let image = project::work_dir("programs")?.join(format!("{}-{kind}.unikernel", form.name));
    let root = form.is_interpreted.then(|| root(form, &format!("root-{kind}"))).transpose()?;
    pack(&program, "probe", root.as_deref(), &image)?;
    let on_linux = Command::new(&image).env("PROBE", "yes").args(arguments(form)).output()?;
    ensure!(on_linux.status.success(), "on Linux: {}", String::from_utf8_lossy(&on_linux.stderr));
    let mut machine = machine(form, kind)?;
    machine.initrd = None;
    machine.kernel = image.clone();
    machine.append = machine.append.replace("init=/bin/probe ", "");
    let ending = run(&machine)?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    std::fs::remove_file(&image)?;
    Ok(())
}

/// Debian's own, which was never meant for this: the file that is packed with it is read.
fn packed_busybox() -> Result<()> {
    let program = BUSYBOX.iter().map(Path::new).find(|path| path.exists());
    let program = program.context("there is no busybox: `make setup` installs it")?;
    let root = root(FORMS[0], "root-busybox")?;
    let image = project::work_dir("programs")?.join("busybox.unikernel");
    pack(program, "cat", Some(&root), &image)?;
    let on_linux = Command::new(&image).arg0("cat").arg(root.join("note")).output()?;
    ensure!(on_linux.stdout == b"of the root\n", "on Linux: {on_linux:?}");
    let mut machine = hello(Kind::Microvm, "-- /note")?;
    machine.kernel = image;
    let ending = run(&machine)?;
    ensure!(ending.code == Some(0) && ending.console.contains("of the root"), "{}", ending.console);
    Ok(())
}

/// Each is refused with a line that says why, and leaves no file.
fn bad_packs() -> Result<()> {
    let good = std::fs::read(probe(FORMS[0])?)?;
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let folder = project::work_dir("programs/bad")?;
    let (program, image) = (folder.join("program"), folder.join("image"));
    let own = project::image("hello");
    let files = [
        (with(4, &[1]), "it is a 32-bit program"),
        (with(18, &[183]), "it is for ARM (AArch64)"),
        (good[..5000].to_vec(), "the file is truncated"),
        (good[..63].to_vec(), "the file is truncated"),
        (Vec::new(), "it is no ELF file"),
        (b"#!/bin/sh\n".to_vec(), "it is no ELF file"),
        (std::fs::read(probe(FORMS[3])?)?, "(`--root`)"),
        (std::fs::read(own)?, "it is an image already"),
    ];
    for (file, expected) in files {
        std::fs::write(&program, file)?;
        let error = pack(&program, "bad", None, &image).err().context(expected)?;
        ensure!(format!("{error:#}").contains(expected), "not {expected:?}: {error:#}");
        ensure!(!image.exists(), "{expected}: there is a file");
    }
    let dynamic = probe(FORMS[3])?;
    let error = pack(&dynamic, "bad", Some(&folder), &image).err().context("a root without ld.so")?;
    ensure!(format!("{error:#}").contains("is not in it"), "{error:#}");
    ensure!(pack(&dynamic, "../bad", Some(&folder), &image).is_err(), "a name with a path");
    Ok(())
}
