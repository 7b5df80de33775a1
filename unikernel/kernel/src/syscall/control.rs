//! Control messages beside the bytes of a message (cmsg(3)): open files that travel (`SCM_RIGHTS`).

use alloc::vec::Vec;

use linux_raw_sys::net::{MSG_CTRUNC, SCM_RIGHTS, SOL_SOCKET, msghdr};

use super::Errno;
use crate::file;
use crate::file::table::{self, OnExec};
use crate::mem::user::{UserPtr, UserSlice};
use crate::net::unix::Rights;

/// `SCM_CREDENTIALS`, which `linux-raw-sys` does not know (unix(7)).
const SCM_CREDENTIALS: u32 = 2;
/// `struct cmsghdr`: length with the header, level, type.
const HEADER_BYTES: usize = 16;
/// Most files in one message (`SCM_MAX_FD`).
const MAX_RIGHTS: usize = 253;
/// More control bytes than that are refused (Linux: `net.core.optmem_max`).
const MAX_CONTROL_BYTES: usize = 65_536;

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |word| u32::from_ne_bytes(*word))
}

/// Reads the open files that a message takes along.
pub(super) fn read(header: &msghdr) -> Result<Rights, Errno> {
    let len = header.msg_controllen;
    if len == 0 {
        return Ok(Rights::new());
    }
    if len > MAX_CONTROL_BYTES {
        return Err(Errno::ENOBUFS);
    }
    let mut bytes = alloc::vec![0; len];
    UserSlice::new(header.msg_control.addr() as u64, len).read(&mut bytes)?;
    let (mut rights, mut rest) = (Rights::new(), &bytes[..]);
    while rest.len() >= HEADER_BYTES {
        let len = usize::from_ne_bytes(rest[..8].try_into().map_err(|_| Errno::EINVAL)?);
        if !(HEADER_BYTES..=rest.len()).contains(&len) {
            return Err(Errno::EINVAL);
        }
        match (word(rest, 8), word(rest, 12)) {
            (SOL_SOCKET, SCM_RIGHTS) => {
                for descriptor in rest[HEADER_BYTES..len].chunks_exact(4) {
                    rights.push(file::get_any(word(descriptor, 0) as i32)?);
                }
            }
            // There is one process, so there is nothing to claim.
            (SOL_SOCKET, SCM_CREDENTIALS) => {}
            (SOL_SOCKET, _) => return Err(Errno::EINVAL),
            _ => {}
        }
        rest = &rest[len.next_multiple_of(8).min(rest.len())..];
    }
    if rights.len() > MAX_RIGHTS { Err(Errno::EINVAL) } else { Ok(rights) }
}

/// Gives received files descriptors and writes the control message that names them. Answers its length
/// and flags for the message; what does not fit is closed, as Linux does.
pub(super) fn write(header: &msghdr, rights: Rights, on_exec: OnExec) -> Result<(usize, u32), Errno> {
    if rights.is_empty() {
        return Ok((0, 0));
    }
    let room = (header.msg_controllen).saturating_sub(HEADER_BYTES) / 4;
    let mut flags = if rights.len() > room { MSG_CTRUNC } else { 0 };
    let mut descriptors = Vec::new();
    for opened in rights.into_iter().take(room) {
        match file::install(opened, on_exec) {
            Ok(descriptor) => descriptors.push(descriptor as i32),
            Err(_) => flags |= MSG_CTRUNC,
        }
    }
    if descriptors.is_empty() {
        return Ok((0, flags));
    }
    let len = HEADER_BYTES + 4 * descriptors.len();
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend([SOL_SOCKET, SCM_RIGHTS].iter().flat_map(|word| word.to_ne_bytes()));
    bytes.extend(descriptors.iter().flat_map(|descriptor| descriptor.to_ne_bytes()));
    let written = UserPtr::<u8>::new(header.msg_control.addr() as u64);
    if let Err(fault) = UserSlice::new(written.address(), len).write(&bytes) {
        for descriptor in descriptors {
            // Nobody was told of it; if it is gone, another thread has guessed it.
            let _ = table::close(descriptor);
        }
        return Err(fault.into());
    }
    Ok((len.next_multiple_of(8).min(header.msg_controllen), flags))
}
