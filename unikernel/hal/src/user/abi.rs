//! Which types cross the boundary to the app as bytes.

use core::mem::MaybeUninit;

use linux_raw_sys::general::*;
use linux_raw_sys::io_uring::{
    io_uring_buf_reg, io_uring_buf_status, io_uring_getevents_arg, io_uring_params, io_uring_probe_op,
    io_uring_rsrc_register, io_uring_rsrc_update2, io_uring_sync_cancel_reg,
};
use linux_raw_sys::net::{linger, mmsghdr, msghdr};
use linux_raw_sys::system::{new_utsname, sysinfo};

/// Types which cross the boundary as bytes: integers, Linux' structures, arrays of such, and structures that
/// [`user_abi_struct!`](crate::user_abi_struct) has looked through.
///
/// # Safety
///
/// Every bit pattern of the type must be valid.
pub unsafe trait UserAbi: Sized {
    /// The all-zero value; start from it so that padding never carries kernel bytes out.
    #[inline]
    fn zeroed() -> Self {
        // SAFETY: the implementer promises that every bit pattern is valid, zero included.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }
}

macro_rules! user_abi {
    ($($ty:ty),* $(,)?) => {
        // SAFETY: each type named consists of integers, raw pointers, which carry no invariant, and unions and arrays of
        // these, so every bit pattern is valid; the author of the line checked that.
        $(unsafe impl UserAbi for $ty {})*
    };
}

user_abi!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);
user_abi!(clone_args, new_utsname, sysinfo, rlimit64, rusage);
user_abi!(epoll_event, pollfd, flock, open_how, stat, statfs, statx, fstrim_range);
user_abi!(futex_waitv, linger, mmsghdr, msghdr, termios, termios2, winsize);
user_abi!(io_uring_buf_reg, io_uring_buf_status, io_uring_getevents_arg, io_uring_params, io_uring_probe_op);
user_abi!(io_uring_rsrc_register, io_uring_rsrc_update2, io_uring_sync_cancel_reg);
user_abi!(__kernel_timespec, __kernel_itimerspec, __kernel_old_itimerval, __kernel_old_timeval);

// SAFETY: an array of values for which every bit pattern is valid is valid in every pattern too.
unsafe impl<T: UserAbi, const N: usize> UserAbi for [T; N] {}

/// Lets a structure cross the boundary whose fields all may: `user_abi_struct!(Name { field, other })`.
///
/// It cannot be misused: all fields have to be named, and each has to be [`UserAbi`], or it does not compile. The structure should be
/// `repr(C)` and without padding, which would carry kernel bytes out.
#[macro_export]
macro_rules! user_abi_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {
        // SAFETY: `check_fields` compiles only if these are all fields of a structure, and every bit pattern is valid for each.
        unsafe impl $crate::user::UserAbi for $name {}
        const _: () = {
            const fn is_plain<T: $crate::user::UserAbi>(_: &T) {}
            const fn check_fields($name { $($field),* }: &$name) {
                $(is_plain($field);)*
            }
            // It is never called.
            let _ = check_fields;
        };
    };
}
