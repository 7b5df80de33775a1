//! Rules that a thread puts upon itself (landlock(7)): rights over files and TCP ports that it gives up, except where a rule gives them
//! back. The interface is Linux's version 4.

use alloc::string::String;
use alloc::sync::Arc;

use linux_raw_sys::general::{O_CLOEXEC, O_RDWR, S_IFDIR, S_IFMT};
use linux_raw_sys::landlock::{LANDLOCK_CREATE_RULESET_VERSION, landlock_rule_type};
use unikernel_policy::access::{CannotAdd, Domain, FileAccess, PortAccess, Ruleset};

use crate::abi::{Errno, SysResult};
use crate::file::table::on_exec_of;
use crate::file::{self, File, FileFlags, Metadata};
use crate::fs::{Located, confine};
use crate::mem::user::{UserPtr, UserSlice};
use crate::policy::access;
use crate::sync::SpinLock;
use crate::task::confinement;
use crate::task::credentials::{self, Capability};
use crate::task::current;

/// What `LANDLOCK_CREATE_RULESET_VERSION` tells.
const VERSION: usize = 4;
/// Bytes of `struct landlock_ruleset_attr`: of its first version, and of the one that is known here.
const FIRST_ATTRIBUTE_BYTES: usize = 8;
const ATTRIBUTE_BYTES: usize = 16;
/// The largest structure that is looked at.
const MAX_ATTRIBUTE_BYTES: usize = 4096;

/// A ruleset as a file.
struct RulesetFile(SpinLock<Ruleset>);

impl File for RulesetFile {
    fn metadata(&self) -> Metadata {
        Metadata::anonymous(0, 1)
    }

    fn name(&self) -> String {
        "anon_inode:[landlock-ruleset]".into()
    }
}

fn errno(error: CannotAdd) -> Errno {
    match error {
        CannotAdd::TooMany => Errno::E2BIG,
        CannotAdd::OutOfMemory => Errno::ENOMEM,
    }
}

/// landlock_create_ruleset(2).
pub(crate) fn sys_landlock_create_ruleset(attributes: u64, size: usize, flags: u32) -> SysResult {
    if flags != 0 {
        let asks = flags == LANDLOCK_CREATE_RULESET_VERSION && attributes == 0 && size == 0;
        return if asks { Ok(VERSION) } else { Err(Errno::EINVAL) };
    }
    let [files, ports] = read_attributes(attributes, size)?;
    let files = FileAccess::from_bits(files).ok_or(Errno::EINVAL)?;
    let ports = PortAccess::from_bits(ports).ok_or(Errno::EINVAL)?;
    if files.is_empty() && ports.is_empty() {
        return Err(Errno::ENOMSG);
    }
    let ruleset = Arc::new(RulesetFile(SpinLock::new(Ruleset::new(files, ports))));
    file::install(file::open(ruleset, FileFlags::from_bits_truncate(O_RDWR)), on_exec_of(O_CLOEXEC))
}

/// Reads a structure that may be shorter than the one that is known, or longer with zeros at its end.
fn read_attributes(address: u64, size: usize) -> Result<[u64; 2], Errno> {
    if size < FIRST_ATTRIBUTE_BYTES {
        return Err(Errno::EINVAL);
    }
    if size > MAX_ATTRIBUTE_BYTES {
        return Err(Errno::E2BIG);
    }
    let mut bytes = [0; ATTRIBUTE_BYTES];
    let known = size.min(ATTRIBUTE_BYTES);
    UserSlice::new(address, known).read(&mut bytes[..known])?;
    for offset in known..size {
        if UserPtr::<u8>::new(address).element(offset).read()? != 0 {
            return Err(Errno::E2BIG);
        }
    }
    let (words, _) = bytes.as_chunks();
    Ok([u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])])
}

/// Works on the ruleset that a descriptor leads to.
fn with_ruleset<T>(descriptor: i32, work: impl FnOnce(&mut Ruleset) -> Result<T, Errno>) -> Result<T, Errno> {
    let opened = file::get(descriptor)?;
    let ruleset = opened.downcast::<RulesetFile>().ok_or(Errno::EBADFD)?;
    work(&mut ruleset.0.lock())
}

/// landlock_add_rule(2).
pub(crate) fn sys_landlock_add_rule(descriptor: i32, kind: u32, attributes: u64, flags: u32) -> SysResult {
    const PATH_BENEATH: u32 = landlock_rule_type::LANDLOCK_RULE_PATH_BENEATH as u32;
    const NET_PORT: u32 = landlock_rule_type::LANDLOCK_RULE_NET_PORT as u32;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    with_ruleset(descriptor, |_| Ok(()))?;
    match kind {
        PATH_BENEATH => add_path(descriptor, attributes)?,
        NET_PORT => add_port(descriptor, attributes)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// Rights that a rule gives: some, and only such as the ruleset is about.
fn check_given(bits: u64, handled: u64) -> Result<(), Errno> {
    match bits {
        0 => Err(Errno::ENOMSG),
        _ if bits & !handled != 0 => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

fn add_path(descriptor: i32, attributes: u64) -> Result<(), Errno> {
    // `struct landlock_path_beneath_attr` is packed.
    let mut bytes = [0; 12];
    UserSlice::new(attributes, bytes.len()).read(&mut bytes)?;
    let (chunks, _) = bytes.as_chunks::<4>();
    let bits = u64::from(u32::from_le_bytes(chunks[0])) | u64::from(u32::from_le_bytes(chunks[1])) << 32;
    let parent = i32::from_le_bytes(chunks[2]);
    let handled = with_ruleset(descriptor, |ruleset| Ok(ruleset.files()))?;
    check_given(bits, handled.bits())?;
    let access = FileAccess::from_bits(bits).ok_or(Errno::EINVAL)?;
    // What has no name in a filesystem cannot be named by a rule.
    let located = Located::of(&*file::get_any(parent)?.file).ok_or(Errno::EBADFD)?;
    let is_directory = located.metadata().mode & S_IFMT == S_IFDIR;
    if !is_directory && !FileAccess::OF_FILES.contains(access) {
        return Err(Errno::EINVAL);
    }
    let key = confine::key_of(&located);
    // The rule keeps the file, so that no other gets its number.
    let pin = Arc::new(located);
    with_ruleset(descriptor, |ruleset| ruleset.allow_file(key, access, pin).map_err(errno))
}

fn add_port(descriptor: i32, attributes: u64) -> Result<(), Errno> {
    let [bits, port] = UserPtr::<[u64; 2]>::new(attributes).read()?;
    let handled = with_ruleset(descriptor, |ruleset| Ok(ruleset.ports()))?;
    check_given(bits, handled.bits())?;
    let access = PortAccess::from_bits(bits).ok_or(Errno::EINVAL)?;
    let port = u16::try_from(port).map_err(|_| Errno::EINVAL)?;
    with_ruleset(descriptor, |ruleset| ruleset.allow_port(port, access).map_err(errno))
}

/// landlock_restrict_self(2).
pub(crate) fn sys_landlock_restrict_self(descriptor: i32, flags: u32) -> SysResult {
    let may = current().settings.lock().has_no_new_privileges || credentials::has(Capability::SysAdmin);
    if !may {
        return Err(Errno::EPERM);
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let ruleset = with_ruleset(descriptor, |ruleset| ruleset.copy().map_err(errno))?;
    let domain = Domain::with(confinement::domain().as_deref(), ruleset).map_err(errno)?;
    access::turn_on();
    confinement::set_domain(Arc::new(domain));
    Ok(0)
}
