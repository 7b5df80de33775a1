//! init_module(2), finit_module(2), delete_module(2).

use alloc::string::String;

use linux_raw_sys::general::{O_NONBLOCK, O_TRUNC};
use unikernel_elf::object::MOST_OBJECT_BYTES;
use unikernel_elf::object::modinfo::MOST_NAME_BYTES;

use crate::abi::{Errno, SysResult};
use crate::file;
use crate::kmem::room;
use crate::mem::user::{UserPtr, UserSlice, read_c_string};
use crate::modules::{boot, load, unload};

/// The longest text of parameters.
const MOST_PARAMETER_BYTES: usize = 4096;
/// Bytes that every object has.
const LEAST_BYTES: usize = 64;
/// Flags of finit_module(2): to believe a file of other versions (`MODULE_INIT_IGNORE_MODVERSIONS`, `_VERMAGIC`), or one that is compressed.
const IGNORE_VERSIONS: u32 = 1;
const IGNORE_INTERFACE: u32 = 2;
const COMPRESSED: u32 = 4;

fn parameters_at(text: UserPtr<u8>) -> Result<String, Errno> {
    let bytes = read_c_string(text, MOST_PARAMETER_BYTES)?.ok_or(Errno::EINVAL)?;
    String::from_utf8(bytes).map_err(|_| Errno::EINVAL)
}

/// init_module(2).
pub(crate) fn sys_init_module(image: u64, len: usize, parameters: UserPtr<u8>) -> SysResult {
    boot::check_allowed()?;
    if !(LEAST_BYTES..=MOST_OBJECT_BYTES).contains(&len) {
        return Err(Errno::ENOEXEC);
    }
    let mut bytes = room::filled(0, len)?;
    UserSlice::checked(image, len)?.read(&mut bytes)?;
    load::load(&bytes, &parameters_at(parameters)?, "init_module")?;
    Ok(0)
}

/// finit_module(2). No file is believed to be what it is not: the flags for that are refused, as by a Linux that was built so.
pub(crate) fn sys_finit_module(descriptor: i32, parameters: UserPtr<u8>, flags: u32) -> SysResult {
    boot::check_allowed()?;
    if flags & !(IGNORE_VERSIONS | IGNORE_INTERFACE | COMPRESSED) != 0 {
        return Err(Errno::EINVAL);
    }
    let opened = file::get(descriptor)?;
    if !opened.flags().can_read() {
        return Err(Errno::EBADF);
    }
    let bytes = boot::read(&opened)?;
    if bytes.is_empty() {
        return Err(Errno::EINVAL);
    }
    if flags & COMPRESSED != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let parameters = parameters_at(parameters)?;
    if flags != 0 {
        return Err(Errno::ENOEXEC);
    }
    load::load(&bytes, &parameters, &opened.file.name())?;
    Ok(0)
}

/// delete_module(2). Nothing waits for a module to be let go of, and none is unloaded by force (`O_TRUNC`).
pub(crate) fn sys_delete_module(name: UserPtr<u8>, flags: u32) -> SysResult {
    boot::check_allowed()?;
    let name = read_c_string(name, MOST_NAME_BYTES)?.ok_or(Errno::ENOENT)?;
    let name = String::from_utf8(name).map_err(|_| Errno::ENOENT)?;
    if flags & !(O_NONBLOCK | O_TRUNC) != 0 {
        return Err(Errno::EINVAL);
    }
    unload::unload(&name)?;
    Ok(0)
}
