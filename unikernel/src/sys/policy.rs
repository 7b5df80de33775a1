//! What the program forbids itself.

use core::ffi::CStr;

use linux_raw_sys::general::*;
use linux_raw_sys::prctl::PR_SET_NO_NEW_PRIVS;
use linux_raw_sys::ptrace::{SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_SET_MODE_FILTER};
use unikernel_policy::access::FileAccess;
use unikernel_policy::bpf::Instruction;

use super::descriptor::{Fd, open, status};
use super::raw::call;
use crate::Error;

/// prctl(2), `PR_SET_NO_NEW_PRIVS`.
pub(crate) fn forbid_new_privileges() -> Result<(), Error> {
    // SAFETY: no pointers.
    unsafe { call!(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1) }.map(drop)
}

/// seccomp(2) with a filter, for all threads.
pub(crate) fn add_call_filter(program: &[Instruction]) -> Result<(), Error> {
    // `struct sock_fprog`: on this machine the length stands in the low bits of a word of its own.
    let head = [program.len(), program.as_ptr().addr()];
    let _exposed = program.as_ptr().expose_provenance();
    // SAFETY: the kernel reads both words, and as many instructions, whose layout is that of `struct sock_filter`.
    let answer =
        unsafe { call!(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, head.as_ptr()) }?;
    // The id of a thread that has filters of its own.
    if answer == 0 { Ok(()) } else { Err(Error::INVALID) }
}

/// landlock_create_ruleset(2): about these rights over files.
pub(crate) fn create_file_ruleset(access: FileAccess) -> Result<Fd, Error> {
    let attributes = [access.bits()];
    // SAFETY: the kernel reads as many bytes as are told.
    unsafe { call!(__NR_landlock_create_ruleset, attributes.as_ptr(), size_of_val(&attributes), 0) }
        .map(Fd::new)
}

/// landlock_add_rule(2): gives rights over a file, or over all that is below a directory.
pub(crate) fn allow_path(ruleset: &Fd, path: &CStr, access: FileAccess) -> Result<(), Error> {
    const PATH_BENEATH: usize = 1;
    let parent = open(path, O_PATH)?;
    let is_directory = status(parent.number())?.st_mode & S_IFMT == S_IFDIR;
    let access = if is_directory { access } else { access & FileAccess::OF_FILES };
    let bits = access.bits();
    // `struct landlock_path_beneath_attr` is packed: 64 bits of rights, and the descriptor.
    let attributes = [bits as u32, (bits >> 32) as u32, parent.number() as u32];
    // SAFETY: the kernel reads these twelve bytes.
    unsafe { call!(__NR_landlock_add_rule, ruleset.number(), PATH_BENEATH, attributes.as_ptr(), 0) }.map(drop)
}

/// landlock_restrict_self(2).
pub(crate) fn restrict_files(ruleset: &Fd) -> Result<(), Error> {
    // SAFETY: no pointers.
    unsafe { call!(__NR_landlock_restrict_self, ruleset.number(), 0) }.map(drop)
}
