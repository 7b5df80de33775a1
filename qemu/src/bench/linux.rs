//! The Linux guest: Debian's cloud kernel, the virtio modules it needs, a static busybox, and the
//! app as the only process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::cpio::Archive;
use crate::project;
use crate::run::app_files;

/// Debian's name for "the current kernel for virtual machines".
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// What the guest needs; dependencies come from `modules.dep`.
const MODULES: [&str; 4] = ["virtio_mmio", "virtio_pci", "virtio_net", "virtio_blk"];

fn folder() -> Result<PathBuf> {
    project::work_dir("linux-guest")
}

/// The kernel image.
pub(super) fn kernel() -> Result<PathBuf> {
    Ok(folder()?.join("vmlinuz"))
}

/// True if it needs no fetching.
pub(crate) fn is_there() -> bool {
    kernel().is_ok_and(|path| path.exists())
}

/// Fetches and unpacks the kernel package, once.
pub(super) fn prepare() -> Result<()> {
    let folder = folder()?;
    if folder.join("vmlinuz").exists() {
        return Ok(());
    }
    let package = kernel_package()?;
    eprintln!("fetching {package} for the Linux guest");
    run(Command::new("apt-get").current_dir(&folder).args(["download", &package]))?;
    let archive = find(&folder, |name| name.starts_with(&package) && name.ends_with(".deb"))?;
    run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(folder.join("package")))?;
    let vmlinuz = find(&folder.join("package/boot"), |name| name.starts_with("vmlinuz"))?;
    fs::copy(vmlinuz, folder.join("vmlinuz"))?;
    Ok(())
}

/// The package that the meta package stands for at present.
fn kernel_package() -> Result<String> {
    let output = Command::new("apt-cache").args(["depends", META_PACKAGE]).output().context(
        "cannot run apt-cache, which finds the kernel of the Linux guest (Debian's linux-image-cloud-amd64)",
    )?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let Some(version) = line else {
        bail!(
            "apt knows no {META_PACKAGE}, the kernel of the Linux guest: run `apt-get update`, or measure on Debian"
        );
    };
    Ok(format!("linux-image-{}", version.trim()))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn find(folder: &Path, is_it: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let found = entries.flatten().find(|entry| is_it(&entry.file_name().to_string_lossy()));
    Ok(found.with_context(|| format!("not found in {}", folder.display()))?.path())
}

/// What the guest runs as its only process.
pub(super) struct Program<'a> {
    /// What its archive is called.
    pub(super) name: &'a str,
    pub(super) file: &'a Path,
    /// An archive with the files that it finds.
    pub(super) files: Option<&'a Path>,
    /// The shell's line that turns into it; it is `/app`.
    pub(super) start: &'a str,
}

/// How an app is started: its arguments are on the kernel's command line ([`arguments`]).
const START_APP: &str = "exec /app $ARGS";

/// Makes the guest's initramfs with one app in it, and its files.
pub(super) fn initramfs(app: &str) -> Result<PathBuf> {
    let files = app_files(app, app)?;
    let file = project::image(app);
    initramfs_with(&Program { name: app, file: &file, files: files.as_deref(), start: START_APP })
}

/// The same with a program of others'.
pub(super) fn initramfs_of(name: &str, file: &Path) -> Result<PathBuf> {
    initramfs_with(&Program { name, file, files: None, start: START_APP })
}

/// The same with any program, and the libraries that it is linked with.
pub(super) fn initramfs_with(program: &Program<'_>) -> Result<PathBuf> {
    let folder = folder()?;
    let modules_root = find(&folder.join("package/lib/modules"), |_| true)?;
    let mut archive = Archive::default();
    for directory in ["bin", "data", "dev", "lib", "lib/x86_64-linux-gnu", "lib64", "modules", "proc", "sys"]
    {
        archive.add(directory, 0o040_755, 0, &[]);
    }
    archive.add("bin/busybox", 0o100_755, 0, &fs::read(busybox()?)?);
    let mut insert = String::new();
    for path in in_load_order(&modules_root)? {
        let name = path.file_name().context("a module has a name")?.to_string_lossy().into_owned();
        let content = plain_module(&path)?;
        let name = name.trim_end_matches(".xz").to_owned();
        insert.push_str(&format!("/bin/busybox insmod /modules/{name}\n"));
        archive.add(&format!("modules/{name}"), 0o100_644, 0, &content);
    }
    archive.add("init", 0o100_755, 0, init_script(&insert, program.start).as_bytes());
    archive.add("app", 0o100_755, 0, &fs::read(program.file)?);
    for library in libraries(program.file)? {
        let name = library.to_string_lossy();
        archive.add(name.trim_start_matches('/'), 0o100_755, 0, &fs::read(&library)?);
    }
    let mut bytes = archive.finish();
    if let Some(files) = program.files {
        // Archives may follow each other, each from a multiple of four bytes on (Linux: early-userspace/buffer-format).
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(fs::read(files).with_context(|| format!("cannot read {}", files.display()))?);
    }
    let path = folder.join(format!("{}.cpio", program.name));
    fs::write(&path, bytes)?;
    Ok(path)
}

fn init_script(insert: &str, start: &str) -> String {
    format!(
        "#!/bin/busybox sh\n\
         /bin/busybox mount -t devtmpfs none /dev\n\
         /bin/busybox mount -t proc none /proc\n\
         {insert}\
         /bin/busybox ip link set lo up\n\
         /bin/busybox ip addr add 10.0.2.15/24 dev eth0\n\
         /bin/busybox ip link set eth0 up\n\
         echo 4096 > /proc/sys/net/core/somaxconn\n\
         [ -b /dev/vda ] && /bin/busybox mount -t ext4 /dev/vda /data\n\
         {start}\n"
    )
}

/// What the dynamic linker would load for a program: the second word of `NAME => PATH (ADDRESS)`, or the path of the
/// linker itself (ldd(1)).
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path_of =
        |line: &str| line.split_ascii_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(text.lines().filter_map(path_of).collect())
}

/// The word that gives the app its arguments: what the kernel does not know, `init` gets as environment.
pub(super) fn arguments(words: &str) -> String {
    format!("ARGS=\"{words}\"")
}

fn busybox() -> Result<PathBuf> {
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    found.context("there is no static busybox: `apt-get install busybox-static`")
}

/// The wanted modules, each after what it depends on (modules.dep(5)).
fn in_load_order(root: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    collect_modules(root, &mut all)?;
    let by_name = |name: &str| all.iter().find(|path| module_name(path) == name);
    let mut ordered: Vec<PathBuf> = Vec::new();
    for name in MODULES {
        // What is built in has no file.
        if let Some(path) = by_name(name) {
            add_with_dependencies(path, &all, &mut ordered)?;
        }
    }
    Ok(ordered)
}

fn module_name(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.split('.').next().unwrap_or_default().replace('-', "_")
}

fn collect_modules(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            collect_modules(&path, found)?;
        } else if path.to_string_lossy().contains(".ko") {
            found.push(path);
        }
    }
    Ok(())
}

/// A module names what it needs in its `.modinfo` section, as `depends=a,b`.
fn add_with_dependencies(path: &Path, all: &[PathBuf], ordered: &mut Vec<PathBuf>) -> Result<()> {
    if ordered.iter().any(|done| done == path) {
        return Ok(());
    }
    let content = plain_module(path)?;
    let depends = content.split(|&byte| byte == 0).find_map(|text| text.strip_prefix(b"depends="));
    let depends = String::from_utf8_lossy(depends.unwrap_or_default()).into_owned();
    for name in depends.split(',').filter(|name| !name.is_empty()) {
        if let Some(dependency) = all.iter().find(|path| module_name(path) == name.replace('-', "_")) {
            add_with_dependencies(dependency, all, ordered)?;
        }
    }
    ordered.push(path.to_owned());
    Ok(())
}

/// A module's bytes, unpacked if need be.
fn plain_module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        let output = Command::new("xz").arg("-dc").arg(path).output().context("cannot run xz")?;
        return Ok(output.stdout);
    }
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Words for the guest kernel's command line.
pub(super) fn command_line() -> String {
    env::var("UNIKERNEL_BENCH_LINUX_APPEND")
        .unwrap_or_else(|_| "console=ttyS0 quiet panic=-1 mitigations=off rdinit=/init".into())
}
