//! Opening files with a say in where their paths may lead (openat2(2)).

use alloc::sync::Arc;

use linux_raw_sys::general::*;
use unikernel_fs::LastLink;

use super::open::{
    O_PATH_FLAGS, OPEN_FLAGS, check_flags, creates, last_link, open_from, open_path, reopen, tell_opened,
};
use super::path::{base_of, read_path};
use crate::abi::Errno;
use crate::file::OpenFile;
use crate::fs::resolve::{Limits, Resolved, resolve};
use crate::mem::user::{UserPtr, UserSlice};

/// The largest structure that is looked at (openat2(2)).
const MAX_HOW_BYTES: usize = 4096;
/// How often a name is tried anew that turns into a link between being found and being opened.
const MAX_ATTEMPTS: usize = 8;

/// openat2(2), with `added` to the flags that are asked for. Those are answered, and say what becomes of the descriptor.
pub(crate) fn openat2(
    directory: i32,
    path: UserPtr<u8>,
    how: UserPtr<open_how>,
    size: usize,
    added: u32,
) -> Result<(Arc<OpenFile>, u32), Errno> {
    if size < size_of::<open_how>() {
        return Err(Errno::EINVAL);
    }
    if size > MAX_HOW_BYTES {
        return Err(Errno::E2BIG);
    }
    check_rest_is_zero(UserSlice::new(how.address(), size).skip(size_of::<open_how>()))?;
    let how = how.read()?;
    let known = if how.flags & u64::from(O_PATH) != 0 { O_PATH_FLAGS } else { OPEN_FLAGS };
    let flags = u32::try_from(how.flags).ok().filter(|flags| flags & !known == 0).ok_or(Errno::EINVAL)?;
    let limits = Limits::from_bits(how.resolve).ok_or(Errno::EINVAL)?;
    let makes = flags & (O_CREAT | O_TMPFILE & !O_DIRECTORY) != 0;
    if how.mode & !0o7777 != 0
        || how.mode != 0 && !makes
        || limits.contains(Limits::BENEATH | Limits::IN_ROOT)
    {
        return Err(Errno::EINVAL);
    }
    // What is made or cut off waits for a disk.
    if limits.contains(Limits::CACHED) && (makes || flags & O_TRUNC != 0) {
        return Err(Errno::EAGAIN);
    }
    let path = read_path(path)?;
    let opened = if limits.is_empty() {
        open_path(directory, &path, flags | added, how.mode as u32)?
    } else {
        open_limited(directory, &path, limits, (flags | added, how.mode as u32))?
    };
    Ok((opened, flags))
}

/// Opens a path within limits.
fn open_limited(
    directory: i32,
    path: &[u8],
    limits: Limits,
    (flags, mode): (u32, u32),
) -> Result<Arc<OpenFile>, Errno> {
    check_flags(flags)?;
    // Even an absolute path begins at the directory if that is the root.
    let base = base_of(directory, if limits.contains(Limits::IN_ROOT) { b"." } else { path })?;
    for _ in 0..MAX_ATTEMPTS {
        let opened = match resolve(base.clone(), path, last_link(flags), limits)? {
            Resolved::Descriptor(descriptor) => reopen(descriptor, flags).map(|opened| (opened, false)),
            // A directory is not made here.
            Resolved::Name(_, name) if name.ends_with(b"/") => {
                Err(if creates(flags) { Errno::EISDIR } else { Errno::ENOENT })
            }
            Resolved::Name(parent, name) => open_from(&parent, &name, LastLink::Keep, (flags, mode)),
        };
        match opened {
            // The name has become a link since.
            Err(Errno::ELOOP) if last_link(flags) == LastLink::Follow => {}
            opened => {
                let (opened, is_new) = opened?;
                tell_opened(&opened, flags, is_new);
                return Ok(opened);
            }
        }
    }
    Err(Errno::EAGAIN)
}

/// What a structure has behind the part that is known here must say nothing (openat2(2), "Extensibility").
fn check_rest_is_zero(mut rest: UserSlice) -> Result<(), Errno> {
    let mut byte = [0];
    while !rest.is_empty() {
        rest.read(&mut byte)?;
        if byte != [0] {
            return Err(Errno::E2BIG);
        }
        rest = rest.skip(1);
    }
    Ok(())
}
