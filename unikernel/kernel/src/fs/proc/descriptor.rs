//! `/proc/self/fdinfo/N`: what an open file is like (proc_pid_fdinfo(5)).

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use linux_raw_sys::general::{O_CLOEXEC, S_IFREG};

use crate::file::table::{self, OnExec};
use crate::file::{self, File, Metadata};
use crate::mem::user::UserSlice;
use crate::syscall::{Errno, SysResult};

/// The text about one descriptor, made when it is opened.
struct DescriptorInfo {
    descriptor: i32,
    text: String,
}

/// Opens the text about a descriptor.
pub fn open(descriptor: i32) -> Result<Arc<dyn File>, Errno> {
    let opened = file::get_any(descriptor).map_err(|_| Errno::ENOENT)?;
    let on_exec = table::on_exec(descriptor).map_err(|_| Errno::ENOENT)?;
    let place = if opened.file.is_seekable() { opened.with_offset(|offset| *offset) } else { 0 };
    let flags = opened.flags().bits() | if on_exec == OnExec::Close { O_CLOEXEC } else { 0 };
    let metadata = opened.file.metadata();
    let (mount, inode) = (metadata.device, metadata.inode);
    let mut text = format!("pos:\t{place}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{inode}\n");
    opened.file.describe(&mut text);
    Ok(Arc::new(DescriptorInfo { descriptor, text }))
}

impl File for DescriptorInfo {
    fn is_seekable(&self) -> bool {
        true
    }

    fn read_at(&self, offset: u64, into: UserSlice) -> SysResult {
        let bytes = self.text.as_bytes();
        let rest = &bytes[usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len())..];
        let count = rest.len().min(into.len());
        into.write(&rest[..count])?;
        Ok(count)
    }

    fn write_at(&self, _offset: u64, _from: UserSlice) -> SysResult {
        Err(Errno::EINVAL)
    }

    fn metadata(&self) -> Metadata {
        Metadata { mode: S_IFREG | 0o444, ..Metadata::anonymous(S_IFREG, self.descriptor as u64) }
    }

    fn name(&self) -> String {
        format!("/proc/1/fdinfo/{}", self.descriptor)
    }
}
