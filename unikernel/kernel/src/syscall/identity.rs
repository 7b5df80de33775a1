//! Who and where the app is: ids, names, limits, usage, randomness (getpid(2), uname(2),
//! prlimit(2), getrandom(2)). The app is root, alone, and init.

use core::sync::atomic::{AtomicU32, Ordering};

use linux_raw_sys::general::*;
use linux_raw_sys::system::{new_utsname, sysinfo};
use unikernel_hal::user_abi_struct;

use crate::abi::{Errno, RELEASE, SysResult, VERSION};
use crate::kmem::frames;
use crate::mem::user::{UserAbi, UserPtr, UserSlice};
use crate::platform::{random, time};
use crate::process::clocks::to_timespec;
use crate::process::host_name;
use crate::task::limits::{self, Limit};
use crate::task::process::{PROCESS_ID, process};
use crate::task::{self, current, scheduler};
use crate::tty::session;

/// getpid(2).
pub(crate) fn sys_getpid() -> SysResult {
    Ok(PROCESS_ID as usize)
}

/// getppid(2) and others that answer 0: init has no parent, and the app is root.
pub(crate) fn sys_zero() -> SysResult {
    Ok(0)
}

/// getpgid(2) and getsid(2): the app is its own group and session.
pub(crate) fn sys_getpgid(pid: i32) -> SysResult {
    if pid == 0 || pid == PROCESS_ID { Ok(PROCESS_ID as usize) } else { Err(Errno::ESRCH) }
}

/// setsid(2): once, the app may begin the session that it always had.
pub(crate) fn sys_setsid() -> SysResult {
    if session::begin() { Ok(PROCESS_ID as usize) } else { Err(Errno::EPERM) }
}

/// setpgid(2): the group of a session's leader does not change.
pub(crate) fn sys_setpgid(pid: i32, group: i32) -> SysResult {
    // No group means one of the process's own number.
    let group = if group == 0 { pid } else { group };
    match (pid, group) {
        (_, ..0) => Err(Errno::EINVAL),
        (0 | PROCESS_ID, _) => Err(Errno::EPERM),
        _ => Err(Errno::ESRCH),
    }
}

/// uname(2).
pub(crate) fn sys_uname(name: UserPtr<new_utsname>) -> SysResult {
    let mut names = new_utsname::zeroed();
    let set = |field: &mut [core::ffi::c_char], text: &str| {
        for (to, from) in field.iter_mut().zip(text.bytes()) {
            *to = from as core::ffi::c_char;
        }
    };
    set(&mut names.sysname, "Linux");
    set(&mut names.nodename, &host_name::get());
    set(&mut names.release, RELEASE);
    set(&mut names.version, VERSION);
    set(&mut names.machine, "x86_64");
    set(&mut names.domainname, "(none)");
    name.write(names)?;
    Ok(0)
}

/// `struct sysinfo`, with the gaps that are in it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct SystemInfo {
    uptime: i64,
    loads: [u64; 3],
    total_ram: u64,
    free_ram: u64,
    shared_ram: u64,
    buffer_ram: u64,
    total_swap: u64,
    free_swap: u64,
    procs: u16,
    gap: [u16; 3],
    total_high: u64,
    free_high: u64,
    mem_unit: u32,
    end: u32,
}
user_abi_struct!(SystemInfo {
    uptime,
    loads,
    total_ram,
    free_ram,
    shared_ram,
    buffer_ram,
    total_swap,
    free_swap,
    procs,
    gap,
    total_high,
    free_high,
    mem_unit,
    end,
});
const _: () = assert!(size_of::<SystemInfo>() == size_of::<sysinfo>());

/// sysinfo(2).
pub(crate) fn sys_sysinfo(info: UserPtr<SystemInfo>) -> SysResult {
    let mut answer = SystemInfo::zeroed();
    answer.uptime = to_timespec(time::now_ns()).tv_sec;
    answer.total_ram = frames::total_pages() as u64;
    answer.free_ram = frames::free_pages() as u64;
    answer.procs = process().thread_count() as u16;
    answer.mem_unit = 4096;
    info.write(answer)?;
    Ok(0)
}

/// getrandom(2). The generator is seeded before the app starts, so no flag makes a difference.
pub(crate) fn sys_getrandom(buffer: u64, len: usize, flags: u32) -> SysResult {
    const CONTRADICTION: u32 = GRND_RANDOM | GRND_INSECURE;
    if flags & !(GRND_NONBLOCK | CONTRADICTION) != 0 || flags & CONTRADICTION == CONTRADICTION {
        return Err(Errno::EINVAL);
    }
    let len = len.min(i32::MAX as usize);
    let mut left = UserSlice::checked(buffer, len)?;
    /// So many bytes, or fewer, come at once (getrandom(2)).
    const UNINTERRUPTED_BYTES: usize = 256;
    let mut rounds = 0;
    let mut chunk = [0; 256];
    while !left.is_empty() {
        let bytes = &mut chunk[..left.within_page().len().min(256)];
        random::fill(bytes);
        if left.write(bytes).is_err() {
            let done = len - left.len();
            return if done == 0 { Err(Errno::EFAULT) } else { Ok(done) };
        }
        left = left.skip(bytes.len());
        rounds += 1;
        scheduler::breathe_now_and_then(rounds);
        // As on Linux, a signal does not wait for the rest of so much.
        if len > UNINTERRUPTED_BYTES && task::has_signal() {
            break;
        }
    }
    Ok(len - left.len())
}

/// prlimit64(2).
pub(crate) fn sys_prlimit64(
    pid: i32,
    resource: u32,
    new: UserPtr<rlimit64>,
    old: UserPtr<rlimit64>,
) -> SysResult {
    if pid != 0 && pid != PROCESS_ID {
        return Err(Errno::ESRCH);
    }
    let before = match new.non_null() {
        Some(new) => {
            let new = new.read()?;
            limits::set(resource, Limit { soft: new.rlim_cur, hard: new.rlim_max })?
        }
        None => limits::get(resource).ok_or(Errno::EINVAL)?,
    };
    if let Some(old) = old.non_null() {
        old.write(rlimit64 { rlim_cur: before.soft, rlim_max: before.hard })?;
    }
    Ok(0)
}

/// getrlimit(2).
pub(crate) fn sys_getrlimit(resource: u32, old: UserPtr<rlimit64>) -> SysResult {
    let limit = limits::get(resource).ok_or(Errno::EINVAL)?;
    old.write(rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard })?;
    Ok(0)
}

/// setrlimit(2).
pub(crate) fn sys_setrlimit(resource: u32, new: UserPtr<rlimit64>) -> SysResult {
    sys_prlimit64(0, resource, UserPtr::new(new.non_null().ok_or(Errno::EFAULT)?.address()), UserPtr::new(0))
}

/// getrusage(2): processor time; the other fields are not counted.
pub(crate) fn sys_getrusage(who: i32, usage: UserPtr<rusage>) -> SysResult {
    let nanoseconds = match who {
        RUSAGE_SELF => process().cpu_time_ns(),
        RUSAGE_THREAD => scheduler::cpu_time_ns(&current()),
        RUSAGE_CHILDREN => 0,
        _ => return Err(Errno::EINVAL),
    };
    let time = to_timespec(nanoseconds);
    let mut answer = rusage::zeroed();
    answer.ru_utime.tv_sec = time.tv_sec;
    answer.ru_utime.tv_usec = time.tv_nsec / 1000;
    usage.write(answer)?;
    Ok(0)
}

const RUSAGE_SELF: i32 = linux_raw_sys::general::RUSAGE_SELF as i32;
const RUSAGE_THREAD: i32 = linux_raw_sys::general::RUSAGE_THREAD as i32;
const RUSAGE_CHILDREN: i32 = linux_raw_sys::general::RUSAGE_CHILDREN;

/// personality(2).
pub(crate) fn sys_personality(persona: u32) -> SysResult {
    const ASK: u32 = u32::MAX;
    static PERSONA: AtomicU32 = AtomicU32::new(0);
    let before = match persona {
        ASK => PERSONA.load(Ordering::Relaxed),
        persona => PERSONA.swap(persona, Ordering::Relaxed),
    };
    Ok(before as usize)
}

/// arch_prctl(2): the TLS pointer.
pub(crate) fn sys_arch_prctl(code: u32, argument: u64) -> SysResult {
    const ARCH_SET_FS: u32 = 0x1002;
    const ARCH_GET_FS: u32 = 0x1003;
    match code {
        ARCH_SET_FS if argument >= crate::kmem::layout::USER_END => Err(Errno::EPERM),
        ARCH_SET_FS => {
            crate::arch::cpu::write_fs_base(argument);
            Ok(0)
        }
        ARCH_GET_FS => {
            UserPtr::new(argument).write(crate::arch::cpu::read_fs_base())?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
