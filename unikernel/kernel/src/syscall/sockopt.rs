//! getsockopt(2), setsockopt(2).

use crate::abi::{Errno, SysResult};
use crate::mem::user::UserPtr;
use crate::ops::socket::SocketRef;
use crate::ops::sockopt;

/// setsockopt(2).
pub(crate) fn sys_setsockopt(descriptor: i32, level: u32, name: u32, value: u64, len: u32) -> SysResult {
    sockopt::set(&*SocketRef::get(descriptor)?, level, name, (value, len))
}

/// getsockopt(2).
pub(crate) fn sys_getsockopt(
    descriptor: i32,
    level: u32,
    name: u32,
    place: u64,
    len: UserPtr<u32>,
) -> SysResult {
    let socket = SocketRef::get(descriptor)?;
    let room = i32::try_from(len.read()?).map_err(|_| Errno::EINVAL)? as usize;
    let written = sockopt::get(&socket, level, name, (place, room))?;
    len.write(written as u32)?;
    Ok(0)
}
