//! Sockets: making, naming, connecting, ending (socket(2), bind(2), listen(2), accept(2), ...).

use linux_raw_sys::net::*;

use crate::abi::{Errno, SysResult};
use crate::file;
use crate::file::table::on_exec_of;
use crate::mem::user::UserPtr;
use crate::net::address::{self, Address, Raw};
use crate::net::events;
use crate::net::socket::Socket;
use crate::net::unix;
use crate::ops::socket::{self, SOCK_FLAGS, SocketRef, install, open, unix_socket_type};

/// socket(2).
pub(crate) fn sys_socket(domain: u32, kind: u32, protocol: u32) -> SysResult {
    install(socket::socket(domain, kind, protocol)?, kind)
}

/// socketpair(2), for `AF_UNIX`.
pub(crate) fn sys_socketpair(
    domain: u32,
    kind: u32,
    protocol: u32,
    descriptors: UserPtr<[i32; 2]>,
) -> SysResult {
    match domain {
        AF_UNIX => {}
        AF_INET | AF_INET6 => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EAFNOSUPPORT),
    }
    let [first, second] = unix::pair(unix_socket_type(kind, protocol)?);
    let first = install(first, kind)? as i32;
    let both = install(second, kind).and_then(|second| {
        descriptors.write([first, second as i32]).map_err(|fault| {
            // The descriptor was made a moment ago; if it is gone, there is nothing to undo.
            let _ = file::table::close(second as i32);
            fault.into()
        })
    });
    if let Err(error) = both {
        let _ = file::table::close(first);
        return Err(error);
    }
    Ok(0)
}

/// bind(2).
pub(crate) fn sys_bind(descriptor: i32, address: u64, len: u32) -> SysResult {
    socket::bind(&*SocketRef::get(descriptor)?, address, len)
}

/// listen(2).
pub(crate) fn sys_listen(descriptor: i32, backlog: i32) -> SysResult {
    socket::listen(&*SocketRef::get(descriptor)?, backlog)
}

/// accept(2).
pub(crate) fn sys_accept(descriptor: i32, address: u64, len: UserPtr<u32>) -> SysResult {
    sys_accept4(descriptor, address, len, 0)
}

/// accept4(2).
pub(crate) fn sys_accept4(descriptor: i32, address: u64, len: UserPtr<u32>, flags: u32) -> SysResult {
    if flags & !SOCK_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let socket = SocketRef::get(descriptor)?;
    let reserved = file::table::reserve()?;
    let (accepted, peer) = socket.accept(socket.wait_mode())?;
    let family = accepted.family;
    let descriptor = reserved.install(open(accepted, flags), on_exec_of(flags));
    if let Err(error) = address::write(&peer, family, address, len) {
        // Nobody has seen the descriptor yet.
        let _ = file::table::close(descriptor as i32);
        return Err(error);
    }
    events::note_open(descriptor);
    Ok(descriptor)
}

/// connect(2).
pub(crate) fn sys_connect(descriptor: i32, address: u64, len: u32) -> SysResult {
    let opened = file::get(descriptor)?;
    // The bytes are fetched before anybody asks whether there is a socket, as Linux does.
    let raw = Raw::read(address, len)?;
    let socket = SocketRef::of(opened)?;
    let address = socket.peer_of(&raw, Errno::EAFNOSUPPORT)?;
    socket.connect(address, socket.wait_mode())?;
    Ok(0)
}

/// shutdown(2).
pub(crate) fn sys_shutdown(descriptor: i32, how: u32) -> SysResult {
    socket::shutdown(&*SocketRef::get(descriptor)?, how)
}

/// getsockname(2).
pub(crate) fn sys_getsockname(descriptor: i32, place: u64, len: UserPtr<u32>) -> SysResult {
    let socket = SocketRef::get(descriptor)?;
    write_name(&socket, &socket.local(), place, len)
}

/// getpeername(2).
pub(crate) fn sys_getpeername(descriptor: i32, place: u64, len: UserPtr<u32>) -> SysResult {
    let socket = SocketRef::get(descriptor)?;
    write_name(&socket, &socket.peer()?, place, len)
}

fn write_name(socket: &Socket, name: &Address, place: u64, len: UserPtr<u32>) -> SysResult {
    if place == 0 || len.is_null() {
        return Err(Errno::EFAULT);
    }
    address::write(name, socket.family, place, len)?;
    Ok(0)
}
