//! open(2), creat(2), openat2(2), memfd_create(2): what is opened gets a descriptor.

use linux_raw_sys::general::*;
use unikernel_fs::{Attributes, Future, Node};

use crate::abi::{Errno, SysResult};
use crate::file;
use crate::file::table::on_exec_of;
use crate::fs::memory_file::MemoryFile;
use crate::fs::{self, Handle, NodeId, node};
use crate::mem::user::{UserPtr, read_c_string};
use crate::ops;
use crate::platform::time;
use crate::task::credentials;

/// open(2).
pub(crate) fn sys_open(path: UserPtr<u8>, flags: u32, mode: u32) -> SysResult {
    sys_openat(AT_FDCWD, path, flags, mode)
}

/// creat(2).
pub(crate) fn sys_creat(path: UserPtr<u8>, mode: u32) -> SysResult {
    sys_openat(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode)
}

/// openat(2).
pub(crate) fn sys_openat(directory: i32, path: UserPtr<u8>, flags: u32, mode: u32) -> SysResult {
    let reserved = file::table::reserve()?;
    Ok(reserved.install(ops::open::openat(directory, path, flags, mode)?, on_exec_of(flags)))
}

/// openat2(2).
pub(crate) fn sys_openat2(
    directory: i32,
    path: UserPtr<u8>,
    how: UserPtr<open_how>,
    size: usize,
) -> SysResult {
    let reserved = file::table::reserve()?;
    let (opened, flags) = ops::open_how::openat2(directory, path, how, size, 0)?;
    Ok(reserved.install(opened, on_exec_of(flags)))
}

/// memfd_create(2): a file without a name in any directory. There is no memory of huge pages.
pub(crate) fn sys_memfd_create(name: UserPtr<u8>, flags: u32) -> SysResult {
    /// The longest name (memfd_create(2)).
    const MAX_NAME_BYTES: usize = 249;
    const EXECUTION: u32 = MFD_NOEXEC_SEAL | MFD_EXEC;
    if flags & !(MFD_CLOEXEC | MFD_ALLOW_SEALING | EXECUTION) != 0 || flags & EXECUTION == EXECUTION {
        return Err(Errno::EINVAL);
    }
    let mut full_name = b"memfd:".to_vec();
    full_name.extend(read_c_string(name, MAX_NAME_BYTES)?.ok_or(Errno::EINVAL)?);
    let (mode, seals) = match flags {
        _ if flags & MFD_NOEXEC_SEAL != 0 => (0o666, F_SEAL_EXEC),
        _ if flags & MFD_ALLOW_SEALING != 0 => (0o777, 0),
        _ => (0o777, F_SEAL_SEAL),
    };
    let content = MemoryFile::empty();
    content.begin_with_seals(seals);
    let attributes = Attributes::new(mode, time::wall_ns()).owned_by(credentials::owner());
    let mut tree = fs::tree();
    let id = tree.create_unnamed(NodeId::ROOT, Node::File(content), attributes, Future::StaysUnnamed)?;
    let handle = Handle::of_unnamed_called(&mut tree, id, &full_name);
    drop(tree);
    let file = node::open(handle, 0)?;
    let on_exec =
        if flags & MFD_CLOEXEC != 0 { file::table::OnExec::Close } else { file::table::OnExec::Keep };
    file::install(file::open(file, file::FileFlags::READ_WRITE), on_exec)
}
