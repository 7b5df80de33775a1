//! execve(2) and execveat(2): the words are read and the file is found here; [`replace`] does it.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general::*;
use unikernel_policy::access::FileAccess;

use crate::abi::{Errno, SysResult};
use crate::exec;
use crate::exec::stack::Told;
use crate::exec::{load, replace};
use crate::file::table::{self, OnExec};
use crate::file::{FileFlags, OpenFile};
use crate::fs::{Located, confine, permission};
use crate::kmem::room;
use crate::mem::user::{UserPtr, UserSlice};
use crate::ops::open;
use crate::ops::path::read_path;
use crate::task::limits;

/// The longest argument or variable, with its NUL (Linux: `MAX_ARG_STRLEN`).
const MOST_STRING_BYTES: usize = 32 * 4096;
/// What both lists may have together: a quarter of the stack, but at least this (`ARG_MAX`), and no more than that (three
/// quarters of Linux's `_STK_LIM`).
const LEAST_BYTES: u64 = 32 * 4096;
const MOST_BYTES: u64 = 6 << 20;
const POINTER_BYTES: usize = 8;

/// execve(2).
pub(crate) fn sys_execve(path: UserPtr<u8>, arguments: u64, environment: u64) -> SysResult {
    execute(AT_FDCWD, path, [arguments, environment], 0)?;
    replace::leave()
}

/// execveat(2).
pub(crate) fn sys_execveat(
    directory: i32,
    path: UserPtr<u8>,
    arguments: u64,
    environment: u64,
    flags: u32,
) -> SysResult {
    execute(directory, path, [arguments, environment], flags)?;
    replace::leave()
}

/// When it comes back, all that this has taken is free again: its caller never does.
fn execute(directory: i32, path: UserPtr<u8>, lists: [u64; 2], flags: u32) -> Result<(), Errno> {
    if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let (opened, name, is_hidden) = find(directory, read_path(path)?, flags)?;
    // Before the words are looked at, as on Linux.
    permission::check_execute(&*opened.file)?;
    let mut budget = (limits::soft(RLIMIT_STACK) / 4).clamp(LEAST_BYTES, MOST_BYTES);
    let [arguments, environment] = lists;
    let (arguments, environment) =
        (Strings::read(arguments, &mut budget)?, Strings::read(environment, &mut budget)?);
    let program = load::open_program(opened, &name)?;
    if is_hidden && !program.script_words.is_empty() {
        // What reads the script could not open it: its descriptor is closed by then.
        return Err(Errno::ENOENT);
    }
    let (mut arguments, environment) = (arguments.slices()?, environment.slices()?);
    if arguments.is_empty() {
        // Programs count on a first one (Linux since 5.18).
        room::push(&mut arguments, b"".as_slice())?;
    }
    let arguments = exec::with_script(&program.script_words, &arguments)?;
    replace::replace(&program, &Told { file: &name, arguments: &arguments, environment: &environment })
}

/// The file that is meant, by which name it is executed, and whether that name will be gone.
fn find(directory: i32, path: Vec<u8>, flags: u32) -> Result<(Arc<OpenFile>, Vec<u8>, bool), Errno> {
    if path.is_empty() {
        return find_opened(directory, flags);
    }
    let last = if flags & AT_SYMLINK_NOFOLLOW != 0 { O_NOFOLLOW } else { 0 };
    let opened = open::open_path(directory, &path, O_RDONLY | O_NONBLOCK | open::TO_EXECUTE | last, 0)?;
    if directory == AT_FDCWD || path.starts_with(b"/") {
        return Ok((opened, path, false));
    }
    let name = [format!("/dev/fd/{directory}/").as_bytes(), &path].concat();
    Ok((opened, name, table::on_exec(directory)? == OnExec::Close))
}

/// The same for a descriptor (fexecve(3)).
fn find_opened(descriptor: i32, flags: u32) -> Result<(Arc<OpenFile>, Vec<u8>, bool), Errno> {
    if flags & AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    if descriptor == AT_FDCWD {
        // The current directory.
        return Err(Errno::EACCES);
    }
    let mut opened = table::get_any(descriptor)?;
    if opened.flags().contains(FileFlags::PATH) {
        let name = format!("/proc/self/fd/{descriptor}");
        opened = open::open_path(AT_FDCWD, name.as_bytes(), O_RDONLY | O_NONBLOCK | open::TO_EXECUTE, 0)?;
    }
    if let Some(located) = Located::of(&*opened.file) {
        confine::check_located(&located, FileAccess::EXECUTE | FileAccess::READ_FILE)?;
    }
    let is_hidden = table::on_exec(descriptor)? == OnExec::Close;
    Ok((opened, format!("/dev/fd/{descriptor}").into_bytes(), is_hidden))
}

/// Strings of the app's, one behind the other.
struct Strings {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Strings {
    /// Reads a list that ends with a null pointer; what it takes, addresses included, comes off the budget.
    fn read(list: u64, budget: &mut u64) -> Result<Self, Errno> {
        let mut strings = Self { bytes: Vec::new(), ends: Vec::new() };
        if list == 0 {
            return Ok(strings);
        }
        let mut at = list;
        loop {
            let string = UserPtr::<u64>::new(at).read()?;
            if string == 0 {
                return Ok(strings);
            }
            let taken = read_string(string, &mut strings.bytes)? + 1 + POINTER_BYTES;
            *budget = budget.checked_sub(taken as u64).ok_or(Errno::E2BIG)?;
            let end = strings.bytes.len();
            room::push(&mut strings.ends, end)?;
            at = at.wrapping_add(POINTER_BYTES as u64);
        }
    }

    fn slices(&self) -> Result<Vec<&[u8]>, Errno> {
        let mut slices = room::with_capacity(self.ends.len() + 1)?;
        let mut start = 0;
        for &end in &self.ends {
            slices.push(&self.bytes[start..end]);
            start = end;
        }
        Ok(slices)
    }
}

/// Appends a string of the app's, without its NUL; answers its length.
fn read_string(address: u64, to: &mut Vec<u8>) -> Result<usize, Errno> {
    const CHUNK_BYTES: usize = 256;
    let (mut at, mut len) = (address, 0);
    loop {
        // Never past the end of a page in one step: the next page may not be the app's.
        let in_page = 4096 - (at as usize & 4095);
        let mut chunk = [0; CHUNK_BYTES];
        let chunk = &mut chunk[..in_page.min(CHUNK_BYTES)];
        UserSlice::new(at, chunk.len()).read(chunk)?;
        let end = chunk.iter().position(|&byte| byte == 0);
        let found = &chunk[..end.unwrap_or(chunk.len())];
        len += found.len();
        if len >= MOST_STRING_BYTES {
            return Err(Errno::E2BIG);
        }
        let grows = to.capacity() - to.len() < found.len();
        if grows && !room::is_left_for(2 * to.capacity()) {
            return Err(Errno::ENOMEM);
        }
        to.try_reserve(found.len()).map_err(|_| Errno::ENOMEM)?;
        to.extend_from_slice(found);
        if end.is_some() {
            return Ok(len);
        }
        at = at.wrapping_add(chunk.len() as u64);
    }
}
