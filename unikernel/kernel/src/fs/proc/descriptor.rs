//! `/proc/self/fdinfo/N`: what an open file is like (proc_pid_fdinfo(5)).

use alloc::format;
use alloc::string::String;

use linux_raw_sys::general::O_CLOEXEC;

use crate::abi::Errno;
use crate::file;
use crate::file::table::{self, OnExec};
use crate::fs::mounts;

/// The text about a descriptor.
pub(super) fn describe(descriptor: i32) -> Result<String, Errno> {
    let opened = file::get_any(descriptor).map_err(|_| Errno::ENOENT)?;
    let on_exec = table::on_exec(descriptor).map_err(|_| Errno::ENOENT)?;
    let place = if opened.file.is_seekable() { opened.offset() } else { 0 };
    let flags = opened.flags().bits() | if on_exec == OnExec::Close { O_CLOEXEC } else { 0 };
    let metadata = opened.file.metadata();
    let (mount, inode) = (mounts::id_of(metadata.device).unwrap_or(0), metadata.inode);
    let mut text = format!("pos:\t{place}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{inode}\n");
    opened.file.describe(&mut text);
    Ok(text)
}
