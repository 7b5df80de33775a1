//! Filters of system calls (seccomp(2), prctl(2)): a thread forbids itself calls, and cannot take that back.

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::ptrace::*;
use unikernel_policy::bpf::{BadProgram, Instruction, MAX_INSTRUCTIONS, Program, Subject};
use unikernel_policy::seccomp::{Action, CannotAdd, Chain, Filter};

use super::watch::{self, Watchers};
use crate::abi::{Errno, SysResult};
use crate::kmem::room;
use crate::mem::user::{UserPtr, UserSlice};
use crate::task::confinement::{self, Seccomp};
use crate::task::credentials::{self, Capability};
use crate::task::{current, scheduler};

/// Flags that are understood. `SPEC_ALLOW` is about mitigations that are the same for all.
const FLAGS: u32 = SECCOMP_FILTER_FLAG_TSYNC
    | SECCOMP_FILTER_FLAG_LOG
    | SECCOMP_FILTER_FLAG_SPEC_ALLOW
    | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;

/// seccomp(2).
pub(crate) fn sys_seccomp(operation: u32, flags: u32, args: u64) -> SysResult {
    match operation {
        SECCOMP_SET_MODE_STRICT if flags == 0 && args == 0 => set_strict(),
        SECCOMP_SET_MODE_FILTER => add_filter(flags, args),
        SECCOMP_GET_ACTION_AVAIL if flags == 0 => {
            let is_there = Action::is_available(UserPtr::new(args).read()?);
            if is_there { Ok(0) } else { Err(Errno::EOPNOTSUPP) }
        }
        SECCOMP_GET_NOTIF_SIZES if flags == 0 => {
            // `struct seccomp_notif`, `seccomp_notif_resp` and `seccomp_data`, as 16 bits each.
            UserSlice::new(args, 6).write(&[80, 0, 24, 0, 64, 0])?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// prctl(2), `PR_SET_SECCOMP`.
pub(super) fn set_mode(mode: u64, program: u64) -> SysResult {
    room::ask()?;
    match u32::try_from(mode) {
        Ok(SECCOMP_MODE_STRICT) => set_strict(),
        Ok(SECCOMP_MODE_FILTER) => add_filter(0, program),
        _ => Err(Errno::EINVAL),
    }
}

fn set_strict() -> SysResult {
    confinement::set_seccomp(false, |before| match before {
        Seccomp::Filters(_) => Err(Errno::EINVAL),
        Seccomp::Off | Seccomp::Strict => Ok(Seccomp::Strict),
    })?;
    watch::add(Watchers::FILTERS);
    Ok(0)
}

fn add_filter(flags: u32, program: u64) -> SysResult {
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let program = read_program(program)?;
    let logs = flags & SECCOMP_FILTER_FLAG_LOG != 0;
    let mut rounds = 0;
    let filter = Arc::new(Filter::new(program, logs, || {
        rounds += 1;
        scheduler::breathe_now_and_then(rounds);
    }));
    // Before the filter is there: nobody who has it is to find it unwatched.
    watch::add(Watchers::FILTERS);
    let is_for_all = flags & SECCOMP_FILTER_FLAG_TSYNC != 0;
    let resisting = confinement::set_seccomp(is_for_all, |before| add_to(before, filter))?;
    match resisting {
        None => Ok(0),
        Some(_) if flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH != 0 => Err(Errno::ESRCH),
        Some(thread) => Ok(thread as usize),
    }
}

fn add_to(before: &Seccomp, filter: Arc<Filter>) -> Result<Seccomp, Errno> {
    let older = match before {
        Seccomp::Off => None,
        Seccomp::Filters(chain) => Some(&**chain),
        Seccomp::Strict => return Err(Errno::EINVAL),
    };
    let chain = Chain::with(older, filter).map_err(|error| match error {
        CannotAdd::TooLong | CannotAdd::OutOfMemory => Errno::ENOMEM,
    })?;
    Ok(Seccomp::Filters(Arc::new(chain)))
}

/// Reads a `struct sock_fprog`, and the program that it leads to.
fn read_program(address: u64) -> Result<Program, Errno> {
    let [len, instructions] = UserPtr::<[u64; 2]>::new(address).read()?;
    let len = usize::from(len as u16);
    if len == 0 || len > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    let may = current().settings.lock().has_no_new_privileges || credentials::has(Capability::SysAdmin);
    if !may {
        return Err(Errno::EACCES);
    }
    if instructions == 0 {
        return Err(Errno::EINVAL);
    }
    Program::check(read_instructions(instructions, len)?, Subject::Call).map_err(|error| match error {
        BadProgram::OutOfMemory => Errno::ENOMEM,
        _ => Errno::EINVAL,
    })
}

/// Reads so many instructions.
fn read_instructions(address: u64, len: usize) -> Result<Vec<Instruction>, Errno> {
    let mut bytes: Vec<u8> = room::with_capacity(len * Instruction::BYTES)?;
    bytes.resize(len * Instruction::BYTES, 0);
    UserSlice::new(address, bytes.len()).read(&mut bytes)?;
    let mut instructions = room::with_capacity(len)?;
    let (chunks, _) = bytes.as_chunks();
    instructions.extend(chunks.iter().copied().map(Instruction::from_bytes));
    Ok(instructions)
}
