//! io_uring(7): setting a ring up, handing requests over and waiting for completions, registering.

use alloc::sync::Arc;

use linux_raw_sys::general::__kernel_timespec;
use linux_raw_sys::io_uring::*;

use super::signal::{read_mask, with_mask};
use crate::abi::{Errno, SysResult};
use crate::file::table::OnExec;
use crate::file::{self, File, FileFlags};
use crate::mem::user::UserPtr;
use crate::process::clocks::{ClockBase, deadline_ns, timespec_ns};
use crate::task::signal::SignalSet;
use crate::uring::Ring;

/// What `io_uring_enter` may be asked.
const ENTER_FLAGS: u32 = IORING_ENTER_GETEVENTS
    | IORING_ENTER_SQ_WAKEUP
    | IORING_ENTER_SQ_WAIT
    | IORING_ENTER_EXT_ARG
    | IORING_ENTER_ABS_TIMER;

/// io_uring_setup(2).
pub(crate) fn sys_io_uring_setup(entries: u32, place: UserPtr<io_uring_params>) -> SysResult {
    let mut params = place.read()?;
    // Opened first: what it has begun ends with the file if its parameters cannot be written.
    let ring: Arc<dyn File> = Ring::new(entries, &mut params)?;
    let opened = file::open(ring, FileFlags::READ_WRITE);
    place.write(params)?;
    file::install(opened, OnExec::Close)
}

/// io_uring_enter(2).
pub(crate) fn sys_io_uring_enter(
    fd: i32,
    to_submit: u32,
    min_complete: u32,
    flags: u32,
    argument: u64,
    size: usize,
) -> SysResult {
    if flags & !ENTER_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let opened = file::get(fd)?;
    let ring = opened.downcast::<Ring>().ok_or(Errno::EOPNOTSUPP)?;
    let submitted = ring.enter(to_submit, flags)?;
    if flags & IORING_ENTER_GETEVENTS == 0 {
        return Ok(submitted);
    }
    let waited = wait_argument(flags, argument, size).and_then(|(mask, deadline_ns)| {
        with_mask(mask, || ring.wait(min_complete as usize, deadline_ns).map(|()| 0))
    });
    match waited {
        // What is there is not kept from the app by what ended the wait for more.
        Err(Errno::ETIME | Errno::EINTR) if ring.has_completions() => Ok(submitted),
        Err(error) if submitted == 0 => Err(error),
        _ => Ok(submitted),
    }
}

/// The signal mask and the deadline of a wait.
fn wait_argument(flags: u32, argument: u64, size: usize) -> Result<(Option<SignalSet>, Option<u64>), Errno> {
    if flags & IORING_ENTER_EXT_ARG == 0 {
        return Ok((read_mask(UserPtr::new(argument), size)?, None));
    }
    if size != size_of::<io_uring_getevents_arg>() {
        return Err(Errno::EINVAL);
    }
    let extended = UserPtr::<io_uring_getevents_arg>::new(argument).read()?;
    let mask = read_mask(UserPtr::new(extended.sigmask), extended.sigmask_sz as usize)?;
    let base =
        if flags & IORING_ENTER_ABS_TIMER != 0 { ClockBase::AbsoluteMonotonic } else { ClockBase::Relative };
    let deadline_ns = match UserPtr::<__kernel_timespec>::new(extended.ts).non_null() {
        Some(time) => Some(deadline_ns(timespec_ns(time.read()?)?, base)),
        None => None,
    };
    Ok((mask, deadline_ns))
}

/// io_uring_register(2).
pub(crate) fn sys_io_uring_register(fd: i32, operation: u32, argument: u64, count: u32) -> SysResult {
    // Without a ring (-1) only operations of newer kernels are made, and no operation that there is not.
    if operation >= io_uring_register_op::IORING_REGISTER_LAST as u32 || fd == -1 {
        return Err(Errno::EINVAL);
    }
    let opened = file::get(fd)?;
    opened.downcast::<Ring>().ok_or(Errno::EOPNOTSUPP)?.register(operation, argument, count)
}
