//! Which modules are loaded before the app starts, and who may load others afterwards.
//!
//! First come those that the kernel was built with, then the lines of `/etc/modules`, then `module=` of the command line, in order. A name is that of
//! `/lib/modules/NAME.ko`; one with a `/` is a path. What cannot be loaded is told, and the machine goes on.
//!
//! That happens twice: before disks are mounted, which may be a module's, with what the image and the initrd have, and afterwards with the rest.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use linux_raw_sys::general::{AT_FDCWD, O_RDONLY};
use spin::Once;
use unikernel_cmdline::{Options, Shown};
use unikernel_elf::object::MOST_OBJECT_BYTES;
use unikernel_hal::module::Loaded;
use unikernel_module::abi::Descriptor;

use super::{load, services, sysfs};
use crate::abi::Errno;
use crate::file::OpenFile;
use crate::fs::attribute::{self, Attribute};
use crate::kmem::room;
use crate::mem::user::with_kernel_buffer;
use crate::ops::open;
use crate::task::credentials::{self, Capability};

/// A module's file, which has been judged.
type Judge = for<'a> fn(&'a [u8]) -> Result<&'a [u8], Untrusted>;

/// A module is none that this kernel may load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Untrusted;

/// Modules that the kernel was built with (its features).
const BUILT_IN: &[&Descriptor] = &[
    #[cfg(feature = "count")]
    &unikernel_module_count::UNIKERNEL_MODULE,
    #[cfg(feature = "hello")]
    &unikernel_module_hello::UNIKERNEL_MODULE,
    #[cfg(feature = "nvme")]
    &unikernel_module_nvme::UNIKERNEL_MODULE,
    #[cfg(feature = "watchdog")]
    &unikernel_module_watchdog::UNIKERNEL_MODULE,
];

static JUDGE: Once<Judge> = Once::new();
/// The lines that have had their turn before disks were mounted.
static EARLY: Once<Vec<String>> = Once::new();
static IS_SEALED: AtomicBool = AtomicBool::new(false);
const LIST: &str = "/etc/modules";

/// Sets who says which files may be loaded: it answers the part of the file that is the module. By default every file may.
pub(crate) fn set_judge(judge: Judge) {
    JUDGE.call_once(|| judge);
}

pub(super) fn judge(file: &[u8]) -> Result<&[u8], Untrusted> {
    JUDGE.get().map_or(Ok(file), |judge| judge(file))
}

/// Starts what the kernel was built with, and loads what is in the image and the initrd, before disks are mounted.
pub(crate) fn start_early(options: &Options) {
    unikernel_hal::module::set_services(&services::Kernel);
    sysfs::init();
    add_seal();
    let named = &options.system.modules;
    BUILT_IN.iter().for_each(|descriptor| start_built_in(descriptor, named));
    let mut lines = wanted(options);
    // What is not there may be on a disk.
    lines.retain(|line| !matches!(open_file(&path_of(line)), Err(Errno::ENOENT | Errno::ENOTDIR)));
    lines.iter().for_each(|line| _ = load_line(line));
    EARLY.call_once(|| lines);
}

/// The lines of `/etc/modules` and of the command line, but for what is built in.
fn wanted(options: &Options) -> Vec<String> {
    let listed = listed();
    let listed = listed.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let named = options.system.modules.iter().map(String::as_str);
    let named = named.filter(|line| !is_built_in(split(line).0));
    listed.chain(named).map(String::from).collect()
}

/// Loads the rest of what is to be there before the app starts; from then on nothing can be loaded or unloaded, unless `modules=open`.
pub(crate) fn start(options: &Options) {
    let early = EARLY.get().map_or(&[][..], Vec::as_slice);
    for line in wanted(options).iter().filter(|line| !early.contains(line)) {
        let _ = load_line(line);
    }
    IS_SEALED.store(!options.system.opens_modules, Ordering::Relaxed);
}

/// What `/etc/modules` says.
fn listed() -> String {
    match open_file(LIST).and_then(|file| read(&file)) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_else(|_| {
            log::warn!("{LIST}: it is no text");
            String::new()
        }),
        Err(Errno::ENOENT | Errno::ENOTDIR) => String::new(),
        Err(error) => {
            log::warn!("{LIST}: {}", error.name());
            String::new()
        }
    }
}

/// What a line names, and with which parameters: `NAME key=value ...`.
fn split(line: &str) -> (&str, &str) {
    line.split_once(char::is_whitespace).unwrap_or((line, ""))
}

/// Starts a module of the kernel's own, with what `module=` says of it.
fn start_built_in(descriptor: &'static Descriptor, named: &[String]) {
    let loaded = Loaded::built_in(descriptor);
    let name = String::from(loaded.name());
    let line = named.iter().map(|line| split(line)).find(|(known, _)| *known == name);
    load::start_built_in(&name, loaded, line.map_or("", |(_, parameters)| parameters));
}

fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|descriptor| Loaded::built_in(descriptor).name() == name)
}

/// The file that a line names.
fn path_of(line: &str) -> String {
    let name = split(line).0;
    if name.contains('/') { String::from(name) } else { alloc::format!("/lib/modules/{name}.ko") }
}

/// Loads what a line names.
fn load_line(line: &str) -> Result<(), Errno> {
    let (name, parameters) = split(line);
    let path = path_of(line);
    let file = open_file(&path).and_then(|file| read(&file)).inspect_err(|error| {
        log::error!("module {}: {} cannot be read: {}", Shown(name), Shown(&path), error.name());
    })?;
    load::load(&file, parameters, &alloc::format!("module {name}"))
}

fn open_file(path: &str) -> Result<Arc<OpenFile>, Errno> {
    open::open_path(AT_FDCWD, path.as_bytes(), O_RDONLY, 0)
}

/// All bytes of a file that may be a module's.
pub(crate) fn read(opened: &OpenFile) -> Result<Vec<u8>, Errno> {
    if !opened.file.is_regular() {
        return Err(Errno::EINVAL);
    }
    let size = usize::try_from(opened.file.metadata().size).unwrap_or(usize::MAX);
    if size > MOST_OBJECT_BYTES {
        return Err(Errno::EFBIG);
    }
    let mut bytes = room::filled(0, size)?;
    let mut done = 0;
    while done < size {
        let at = done as u64;
        match with_kernel_buffer(&mut bytes[done..], |rest| opened.file.read_at(at, rest))? {
            0 => break,
            count => done += count,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Whether the caller may load and unload modules: `EPERM` without `CAP_SYS_MODULE`, and for everybody once they are sealed.
pub(crate) fn check_allowed() -> Result<(), Errno> {
    let may = credentials::has(Capability::SysModule) && !IS_SEALED.load(Ordering::Relaxed);
    if may { Ok(()) } else { Err(Errno::EPERM) }
}

/// `/proc/sys/kernel/modules_disabled`: whoever may load modules can end that, for good.
fn add_seal() {
    struct Seal;
    impl Attribute for Seal {
        fn show(&self) -> Result<Vec<u8>, Errno> {
            Ok(alloc::format!("{}\n", u8::from(IS_SEALED.load(Ordering::Relaxed))).into_bytes())
        }

        fn store(&self, bytes: &[u8]) -> Result<(), Errno> {
            if !credentials::has(Capability::SysModule) {
                return Err(Errno::EPERM);
            }
            match bytes.trim_ascii() {
                b"1" => IS_SEALED.store(true, Ordering::Relaxed),
                b"0" if !IS_SEALED.load(Ordering::Relaxed) => {}
                _ => return Err(Errno::EINVAL),
            }
            Ok(())
        }
    }
    if let Err(error) = attribute::add("/proc/sys/kernel/modules_disabled", Arc::new(Seal), 0o644) {
        log::warn!("/proc/sys/kernel/modules_disabled cannot be made: {}", error.name());
    }
}
