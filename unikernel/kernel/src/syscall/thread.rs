//! Threads: creation, end, identity, yielding (clone(2), gettid(2), sched_yield(2)).

use alloc::sync::Arc;

use linux_raw_sys::general::*;
use unikernel_sched::Schedulable as _;

use crate::abi::{Errno, SysResult};
use crate::event::pidfd::PidFd;
use crate::file;
use crate::kmem::layout::USER_END;
use crate::mem::user::{UserPtr, UserSlice};
use crate::task::confinement;
use crate::task::credentials::{self, Capability};
use crate::task::limits;

use crate::process::exit;
use crate::task::process::{MAX_THREADS, process};
use crate::task::thread::Thread;
use crate::task::{current, scheduler};

/// What every thread of this process shares; anything less would be a process of its own.
const THREAD_FLAGS: u64 = (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD) as u64;
/// Further flags that are understood. `CLONE_DETACHED` has no effect on Linux either.
const OPTIONAL_FLAGS: u64 = (CLONE_SETTLS
    | CLONE_PARENT_SETTID
    | CLONE_CHILD_SETTID
    | CLONE_CHILD_CLEARTID
    | CLONE_SYSVSEM
    | CLONE_DETACHED) as u64;

/// A decoded `clone`.
struct Request {
    flags: u64,
    stack: u64,
    parent_tid: UserPtr<i32>,
    child_tid: UserPtr<i32>,
    tls: u64,
}

/// clone(2), in the x86-64 argument order.
pub(crate) fn sys_clone(
    flags: u64,
    stack: u64,
    parent_tid: UserPtr<i32>,
    child_tid: UserPtr<i32>,
    tls: u64,
) -> SysResult {
    // The low byte is the signal for the parent of a process, which a thread has not.
    spawn(&Request { flags: flags & !u64::from(CSIGNAL), stack, parent_tid, child_tid, tls })
}

/// clone3(2).
pub(crate) fn sys_clone3(args: UserPtr<clone_args>, size: usize) -> SysResult {
    /// Size of the structure's first version.
    const FIRST_VERSION_BYTES: usize = 64;
    if size < FIRST_VERSION_BYTES {
        return Err(Errno::EINVAL);
    }
    if size > size_of::<clone_args>() {
        return Err(Errno::E2BIG);
    }
    let mut bytes = [0; size_of::<clone_args>()];
    UserSlice::new(args.address(), size).read(&mut bytes[..size])?;
    let word = |index: usize| u64::from_le_bytes(bytes[index * 8..][..8].try_into().expect("eight bytes"));
    let [flags, _, child_tid, parent_tid, _, stack, stack_size, tls] = core::array::from_fn(word);
    // A place and its size, or neither.
    if (stack == 0) != (stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    spawn(&Request {
        flags,
        stack: stack.wrapping_add(stack_size),
        parent_tid: UserPtr::new(parent_tid),
        child_tid: UserPtr::new(child_tid),
        tls,
    })
}

/// `RLIMIT_NPROC` does not bind root, nor who has one of two capabilities (setrlimit(2)).
fn most_threads() -> u64 {
    let is_free = credentials::mine().user.real == 0
        || credentials::has(Capability::SysResource)
        || credentials::has(Capability::SysAdmin);
    if is_free { MAX_THREADS as u64 } else { limits::soft(RLIMIT_NPROC) }
}

fn spawn(request: &Request) -> SysResult {
    let has = |flag: u32| request.flags & u64::from(flag) != 0;
    if request.flags & THREAD_FLAGS != THREAD_FLAGS {
        return no_processes();
    }
    if request.flags & !(THREAD_FLAGS | OPTIONAL_FLAGS) != 0 {
        return Err(Errno::EINVAL);
    }
    // As arch_prctl(2): a non-canonical base would fault in ring 0 when the thread is switched to.
    if has(CLONE_SETTLS) && request.tls >= USER_END {
        return Err(Errno::EPERM);
    }
    if process().thread_count() as u64 >= most_threads() {
        return Err(Errno::EAGAIN);
    }
    let mut frame = current().user_frame();
    frame.rax = 0;
    if request.stack != 0 {
        frame.rsp = request.stack;
    }
    let fs_base = if has(CLONE_SETTLS) { request.tls } else { crate::arch::cpu::read_fs_base() };
    let id = process().allocate_id();
    let child = Thread::new(id, &frame, fs_base, true)?;
    let mask = current().signals.lock().mask;
    child.signals.lock().mask = mask;
    let name = *current().name.lock();
    *child.name.lock() = name;
    let settings = current().settings.lock().inherited();
    *child.settings.lock() = settings;
    credentials::pass_on(&child);
    scheduler::set_allowed(&child, current().allowed());
    if has(CLONE_PARENT_SETTID) {
        request.parent_tid.write(id)?;
    }
    if has(CLONE_CHILD_SETTID) {
        request.child_tid.write(id)?;
    }
    if has(CLONE_CHILD_CLEARTID) {
        child.clear_child_tid.store(request.child_tid.address(), core::sync::atomic::Ordering::Relaxed);
    }
    confinement::inherit(&child, || process().start_thread(Arc::clone(&child)));
    Ok(id as usize)
}

/// An appliance is one process: said once, clearly, because the app's next step is often a puzzle.
fn no_processes() -> SysResult {
    static SAID: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);
    if !SAID.swap(true, core::sync::atomic::Ordering::Relaxed) {
        log::warn!("the app tried to start a process (fork): an appliance has exactly one");
    }
    Err(Errno::ENOSYS)
}

/// fork(2), vfork(2): refused.
pub(crate) fn sys_fork() -> SysResult {
    no_processes()
}

/// wait4(2): there are no children.
pub(crate) fn sys_wait4(_id: i32, _status: u64, options: u32, _usage: u64) -> SysResult {
    const KNOWN: u32 = WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL;
    if options & !KNOWN != 0 { Err(Errno::EINVAL) } else { Err(Errno::ECHILD) }
}

/// waitid(2): there are no children.
pub(crate) fn sys_waitid(
    id_type: u32,
    id: i32,
    info: UserPtr<[u32; 7]>,
    options: u32,
    _usage: u64,
) -> SysResult {
    const WANTED: u32 = WEXITED | WSTOPPED | WCONTINUED;
    const KNOWN: u32 = WANTED | WNOHANG | WNOWAIT | __WNOTHREAD | __WCLONE | __WALL;
    if let Some(info) = info.non_null() {
        // "Nobody" is told even when the call fails.
        info.write([0; 7])?;
    }
    let names_somebody = match id_type {
        P_ALL => true,
        P_PID => id > 0,
        P_PGID => id >= 0,
        P_PIDFD => id >= 0,
        _ => false,
    };
    let is_known = options & !KNOWN == 0 && options & WANTED != 0 && names_somebody;
    if !is_known {
        return Err(Errno::EINVAL);
    }
    if id_type == P_PIDFD {
        file::get(id)?.downcast::<PidFd>().ok_or(Errno::EBADF)?;
    }
    Err(Errno::ECHILD)
}

/// _exit(2) of one thread.
pub(crate) fn sys_exit(code: i32) -> SysResult {
    exit::exit_thread(code & 0xff)
}

/// exit_group(2).
pub(crate) fn sys_exit_group(code: i32) -> SysResult {
    exit::exit_process(code & 0xff)
}

/// gettid(2).
pub(crate) fn sys_gettid() -> SysResult {
    Ok(current().id as usize)
}

/// set_tid_address(2).
pub(crate) fn sys_set_tid_address(address: u64) -> SysResult {
    current().clear_child_tid.store(address, core::sync::atomic::Ordering::Relaxed);
    sys_gettid()
}

/// set_robust_list(2).
pub(crate) fn sys_set_robust_list(head: u64, size: usize) -> SysResult {
    if size != size_of::<robust_list_head>() {
        return Err(Errno::EINVAL);
    }
    current().robust_list.store(head, core::sync::atomic::Ordering::Relaxed);
    Ok(0)
}

/// get_robust_list(2).
pub(crate) fn sys_get_robust_list(id: i32, head: UserPtr<u64>, size: UserPtr<usize>) -> SysResult {
    let thread = if id == 0 { Arc::clone(&current()) } else { process().thread(id).ok_or(Errno::ESRCH)? };
    size.write(size_of::<robust_list_head>())?;
    head.write(thread.robust_list.load(core::sync::atomic::Ordering::Relaxed))?;
    Ok(0)
}

/// rseq(2). Libraries ask at every start, and take the answer as an ordinary one, so it is not worth a
/// line in the log.
pub(crate) fn sys_rseq() -> SysResult {
    Err(Errno::ENOSYS)
}
