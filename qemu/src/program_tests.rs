//! Programs that were not linked with the kernel: `init=` starts them from the initrd or a disk. They are compiled here in
//! each form that there is, run on Linux first, and then booted; files that are no programs end with a line that says why.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::boot_tests::{hello, run};
use crate::cpio::Archive;
use crate::disk::{self, Disk};
use crate::guest_tests::NamedTest;
use crate::machine::{Kind, Machine};
use crate::project::{self, GNU_TARGET, TARGET};

/// The exit code when the app cannot be started.
pub(crate) const CANNOT_BOOT: u8 = 125;
pub(crate) const EXECUTABLE: u32 = 0o100_755;
const WORDS: &str = "env.PROBE=yes";
/// What a dynamic program of Rust's needs, by the names under which `ld.so` looks for it.
const LIBRARIES: [&str; 3] =
    ["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libgcc_s.so.1"];
/// Where a static Debian program is.
pub(crate) const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// How the probe is linked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) name: &'static str,
    target: &'static str,
    options: &'static [&'static str],
    is_relocatable: bool,
    pub(crate) is_interpreted: bool,
}

pub(crate) const FORMS: [Form; 4] = [
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
    tests
}

/// The compiled probe.
pub(crate) fn probe(form: Form) -> Result<PathBuf> {
    compiled(form, "probe", form.name)
}

/// A program of `qemu/programs`, compiled.
pub(crate) fn compiled(form: Form, source: &str, name: &str) -> Result<PathBuf> {
    // Two groups of tests want the same programs at the same time, and rustc's own files beside them have the same names.
    static COMPILING: Mutex<()> = Mutex::new(());
    let _one = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = project::work_dir("programs")?.join(name);
    let source = project::root().join("qemu/programs").join(source).with_extension("rs");
    let output = Command::new("rustc")
        .current_dir(project::root())
        .args([
            "--edition=2024",
            "--crate-name=program",
            "-Copt-level=1",
            "-Cstrip=debuginfo",
            "--target",
            form.target,
        ])
        .args(form.options)
        .arg("-o")
        .arg(&path)
        .arg(&source)
        .output()
        .context("cannot run rustc")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(path)
}

pub(crate) fn arguments(form: Form) -> [&'static str; 4] {
    let kind = if form.is_relocatable { "relocatable" } else { "fixed" };
    [kind, if form.is_interpreted { "interpreted" } else { "static" }, "one", "two words"]
}

/// The kernel's words and the probe's.
pub(crate) fn append(form: Form, path: &str) -> String {
    let [kind, way, one, two] = arguments(form);
    format!("init={path} {WORDS} -- {kind} {way} {one} \"{two}\"")
}

/// An initrd with these files.
pub(crate) fn initrd(name: &str, files: &[(&str, u32, Vec<u8>)]) -> Result<PathBuf> {
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
        files.extend(libraries()?);
    }
    Ok(files)
}

/// What a dynamic program needs.
pub(crate) fn libraries() -> Result<Vec<(&'static str, u32, Vec<u8>)>> {
    let read = |path: &'static str| {
        let content = std::fs::read(path).with_context(|| format!("{path}: install libc6"))?;
        Ok((path.trim_start_matches('/'), EXECUTABLE, content))
    };
    LIBRARIES.into_iter().map(read).collect()
}

/// A folder with what the probe needs at `/`.
pub(crate) fn root(form: Form, name: &str) -> Result<PathBuf> {
    let folder = project::work_dir("programs")?.join(name);
    files(form)?.iter().try_for_each(|(path, _, content)| put(&folder.join(path), content))?;
    Ok(folder)
}

/// Writes a file that may be executed, in a folder that need not be there.
pub(crate) fn put(path: &Path, content: &[u8]) -> Result<()> {
    std::fs::create_dir_all(path.parent().context("it is in a folder")?)?;
    std::fs::write(path, content)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

pub(crate) fn machine(form: Form, kind: Kind) -> Result<Machine> {
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
    let folder = root(form, "root")?;
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
    const BOOTS: usize = 8;
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
    // The bits that are promised, of the number of a page (`unikernel_mm::places`).
    for (index, (name, bits)) in
        [("program", 28), ("break", 30), ("stack", 28), ("mappings", 28)].iter().enumerate()
    {
        let found: BTreeSet<u64> = places.iter().map(|place| place[index] >> 12).collect();
        ensure!(found.len() == BOOTS, "the {name} is at the same places: {found:x?}");
        let first = places[0][index] >> 12;
        let moved = found.iter().fold(0, |moved, place| moved | place ^ first) & ((1 << bits) - 1);
        // A bit is the same in eight boots once in 128 times; five of 28 are once in 50,000 times.
        ensure!(moved.count_ones() + 5 > *bits, "few bits of the {name}'s place change: {moved:x}");
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

pub(crate) fn busybox() -> Result<Vec<u8>> {
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
        ("script", "`/bin/sh`, which the script names as its interpreter: there is no such file"),
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
