//! Which types cross the boundary to the app as bytes.

use core::mem::MaybeUninit;

use crate::user_abi_struct;

use linux_raw_sys::general::*;
use linux_raw_sys::io_uring::{
    io_cqring_offsets, io_sqring_offsets, io_uring_buf_reg, io_uring_buf_status, io_uring_getevents_arg,
    io_uring_params, io_uring_probe_op, io_uring_rsrc_register, io_uring_rsrc_update2,
    io_uring_sync_cancel_reg,
};
use linux_raw_sys::net::{linger, mmsghdr, msghdr};
use linux_raw_sys::system::new_utsname;

/// Types which cross the boundary as bytes: integers, Linux' structures, arrays of such, and structures that
/// [`user_abi_struct!`](crate::user_abi_struct) has looked through.
///
/// # Safety
///
/// Every bit pattern of the type must be valid.
pub unsafe trait UserAbi: Sized {
    /// The all-zero value.
    #[inline]
    fn zeroed() -> Self {
        // SAFETY: the implementer promises that every bit pattern is valid, zero included.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }
}

/// Types all of whose bytes are bytes of fields, so that a copy of a value is what was put into it and nothing of the kernel's. Only these can
/// be written to the app. (Zeroes in padding do not do: a value that is moved may leave its padding behind.)
///
/// # Safety
///
/// The type must have no padding.
pub unsafe trait NoPadding: UserAbi {}

macro_rules! user_abi {
    ($($ty:ty),* $(,)?) => {
        // SAFETY: each type named consists of integers, raw pointers, which carry no invariant, and unions and arrays of
        // these, so every bit pattern is valid; the author of the line checked that.
        $(unsafe impl UserAbi for $ty {})*
    };
}

macro_rules! integers {
    ($($ty:ty),* $(,)?) => {
        // SAFETY: every bit pattern is an integer.
        $(unsafe impl UserAbi for $ty {})*
        // SAFETY: all bytes of an integer are its value.
        $(unsafe impl NoPadding for $ty {})*
    };
}

integers!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);
// These are read only: they have padding, pointers, or a type of their own for what others have.
user_abi!(mmsghdr, msghdr, io_uring_sync_cancel_reg);
user_abi!(epoll_event);
// SAFETY: it is packed, 4 bytes and 8.
unsafe impl NoPadding for epoll_event {}
const _: () = assert!(size_of::<epoll_event>() == 12);

user_abi_struct!(clone_args {
    flags,
    pidfd,
    child_tid,
    parent_tid,
    exit_signal,
    stack,
    stack_size,
    tls,
    set_tid,
    set_tid_size,
    cgroup
});
user_abi_struct!(rlimit64 { rlim_cur, rlim_max });
user_abi_struct!(rusage {
    ru_utime,
    ru_stime,
    ru_maxrss,
    ru_ixrss,
    ru_idrss,
    ru_isrss,
    ru_minflt,
    ru_majflt,
    ru_nswap,
    ru_inblock,
    ru_oublock,
    ru_msgsnd,
    ru_msgrcv,
    ru_nsignals,
    ru_nvcsw,
    ru_nivcsw
});
user_abi_struct!(pollfd { fd, events, revents });
user_abi_struct!(open_how { flags, mode, resolve });
user_abi_struct!(stat {
    st_dev,
    st_ino,
    st_nlink,
    st_mode,
    st_uid,
    st_gid,
    __pad0,
    st_rdev,
    st_size,
    st_blksize,
    st_blocks,
    st_atime,
    st_atime_nsec,
    st_mtime,
    st_mtime_nsec,
    st_ctime,
    st_ctime_nsec,
    __unused
});
user_abi_struct!(statfs {
    f_type,
    f_bsize,
    f_blocks,
    f_bfree,
    f_bavail,
    f_files,
    f_ffree,
    f_fsid,
    f_namelen,
    f_frsize,
    f_flags,
    f_spare
});
user_abi_struct!(statx {
    stx_mask,
    stx_blksize,
    stx_attributes,
    stx_nlink,
    stx_uid,
    stx_gid,
    stx_mode,
    __spare0,
    stx_ino,
    stx_size,
    stx_blocks,
    stx_attributes_mask,
    stx_atime,
    stx_btime,
    stx_ctime,
    stx_mtime,
    stx_rdev_major,
    stx_rdev_minor,
    stx_dev_major,
    stx_dev_minor,
    stx_mnt_id,
    stx_dio_mem_align,
    stx_dio_offset_align,
    stx_subvol,
    stx_atomic_write_unit_min,
    stx_atomic_write_unit_max,
    stx_atomic_write_segments_max,
    stx_dio_read_offset_align,
    stx_atomic_write_unit_max_opt,
    __spare2,
    __spare3
});
user_abi_struct!(statx_timestamp { tv_sec, tv_nsec, __reserved });
user_abi_struct!(fstrim_range { start, len, minlen });
user_abi_struct!(futex_waitv { val, uaddr, flags, __reserved });
user_abi_struct!(termios { c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc });
user_abi_struct!(termios2 { c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc, c_ispeed, c_ospeed });
user_abi_struct!(winsize { ws_row, ws_col, ws_xpixel, ws_ypixel });
user_abi_struct!(__kernel_fsid_t { val });
user_abi_struct!(__kernel_timespec { tv_sec, tv_nsec });
user_abi_struct!(__kernel_itimerspec { it_interval, it_value });
user_abi_struct!(__kernel_old_itimerval { it_interval, it_value });
user_abi_struct!(__kernel_old_timeval { tv_sec, tv_usec });
user_abi_struct!(new_utsname { sysname, nodename, release, version, machine, domainname });
user_abi_struct!(linger { l_onoff, l_linger });
user_abi_struct!(io_uring_buf_reg { ring_addr, ring_entries, bgid, flags, resv });
user_abi_struct!(io_uring_buf_status { buf_group, head, resv });
user_abi_struct!(io_uring_getevents_arg { sigmask, sigmask_sz, min_wait_usec, ts });
user_abi_struct!(io_uring_params {
    sq_entries,
    cq_entries,
    flags,
    sq_thread_cpu,
    sq_thread_idle,
    features,
    wq_fd,
    resv,
    sq_off,
    cq_off
});
user_abi_struct!(io_sqring_offsets {
    head,
    tail,
    ring_mask,
    ring_entries,
    flags,
    dropped,
    array,
    resv1,
    user_addr
});
user_abi_struct!(io_cqring_offsets {
    head,
    tail,
    ring_mask,
    ring_entries,
    overflow,
    cqes,
    flags,
    resv1,
    user_addr
});
user_abi_struct!(io_uring_probe_op { op, resv, flags, resv2 });
user_abi_struct!(io_uring_rsrc_register { nr, flags, resv2, data, tags });
user_abi_struct!(io_uring_rsrc_update2 { offset, resv, data, tags, nr, resv2 });

// SAFETY: an array of values for which every bit pattern is valid is valid in every pattern too.
unsafe impl<T: UserAbi, const N: usize> UserAbi for [T; N] {}
// SAFETY: elements of an array follow each other without gaps.
unsafe impl<T: NoPadding, const N: usize> NoPadding for [T; N] {}

/// Lets a structure cross the boundary whose fields all may: `user_abi_struct!(Name { field, other })`.
///
/// It cannot be misused: all fields have to be named, each has to be [`NoPadding`], and there must be no padding between or behind them, or it
/// does not compile. The structure should be `repr(C)`, of which there is no check.
#[macro_export]
macro_rules! user_abi_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {
        // SAFETY: `bytes_of_fields` compiles only if these are all fields of a structure, and every bit pattern is valid for each.
        unsafe impl $crate::user::UserAbi for $name {}
        // SAFETY: the fields have no padding, and take all bytes of the structure: it is asserted below.
        unsafe impl $crate::user::NoPadding for $name {}
        const _: () = {
            const fn size_of_field<T: $crate::user::NoPadding>(_: &T) -> usize {
                ::core::mem::size_of::<T>()
            }
            const fn bytes_of_fields($name { $($field),* }: &$name) -> usize {
                0 $(+ size_of_field($field))*
            }
            // SAFETY: every bit pattern is valid, zeros are.
            let zeros: $name = unsafe { ::core::mem::zeroed() };
            assert!(bytes_of_fields(&zeros) == ::core::mem::size_of::<$name>(), "the structure has padding");
        };
    };
}
