//! Files, read only: an appliance's come from its initrd.

use core::ffi::CStr;

use embedded_io::{ErrorType, Read, Seek, SeekFrom};
use linux_raw_sys::general::{O_DIRECTORY, O_RDONLY, S_IFDIR, S_IFMT, SEEK_CUR, SEEK_END, SEEK_SET};

use crate::Error;
use crate::sys::{self, Fd};

/// Longer paths are refused (Linux: `PATH_MAX`, here without the heap).
const MAX_PATH_BYTES: usize = 1024;

/// Runs `call` with a path as a C string.
pub(crate) fn with_path<T>(path: &str, call: impl FnOnce(&CStr) -> Result<T, Error>) -> Result<T, Error> {
    let mut buffer = [0; MAX_PATH_BYTES];
    let room = buffer
        .get_mut(..path.len())
        .filter(|room| room.len() < MAX_PATH_BYTES)
        .ok_or(Error::NAME_TOO_LONG)?;
    room.copy_from_slice(path.as_bytes());
    let path = CStr::from_bytes_with_nul(&buffer[..=path.len()]).map_err(|_| Error::INVALID)?;
    call(path)
}

/// What is known about a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metadata {
    len: u64,
    mode: u32,
}

impl Metadata {
    /// Its size in bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// True if it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True for a directory.
    pub const fn is_directory(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }
}

/// An open file.
///
/// ```
/// use unikernel::embedded_io::{Read, Seek, SeekFrom};
/// use unikernel::fs::File;
///
/// let mut file = File::open("/etc/hosts")?;
/// assert!(!file.metadata()?.is_directory());
/// let mut bytes = [0; 64];
/// let filled = file.read(&mut bytes)?;
/// assert_eq!(file.seek(SeekFrom::Current(0))?, filled as u64);
/// # Ok::<(), unikernel::Error>(())
/// ```
#[derive(Debug)]
pub struct File(Fd);

impl File {
    /// Opens a file for reading.
    pub fn open(path: &str) -> Result<Self, Error> {
        with_path(path, |path| sys::open(path, O_RDONLY)).map(Self)
    }

    /// What is known about it.
    pub fn metadata(&self) -> Result<Metadata, Error> {
        let status = sys::status(self.0.number())?;
        Ok(Metadata { len: status.st_size as u64, mode: status.st_mode })
    }
}

impl ErrorType for File {
    type Error = Error;
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        sys::read(self.0.number(), buffer)
    }
}

impl Seek for File {
    fn seek(&mut self, position: SeekFrom) -> Result<u64, Error> {
        let (offset, whence) = match position {
            SeekFrom::Start(offset) => (offset as i64, SEEK_SET),
            SeekFrom::End(offset) => (offset, SEEK_END),
            SeekFrom::Current(offset) => (offset, SEEK_CUR),
        };
        sys::seek(self.0.number(), offset, whence).map(|position| position as u64)
    }
}

/// Calls `visit` with the name of each entry of a directory, but for `.` and `..`.
///
/// ```
/// let mut has_hosts = false;
/// unikernel::fs::read_directory("/etc", |name| has_hosts |= name == "hosts")?;
/// assert!(has_hosts);
/// # Ok::<(), unikernel::Error>(())
/// ```
pub fn read_directory(path: &str, mut visit: impl FnMut(&str)) -> Result<(), Error> {
    /// `d_reclen` and `d_name` in `struct linux_dirent64` (getdents64(2)).
    const LENGTH_AT: usize = 16;
    const NAME_AT: usize = 19;
    let directory = with_path(path, |path| sys::open(path, O_RDONLY | O_DIRECTORY))?;
    let mut buffer = [0; 2048];
    loop {
        let filled = sys::directory_entries(directory.number(), &mut buffer)?;
        let mut rest = &buffer[..filled];
        if rest.is_empty() {
            return Ok(());
        }
        while rest.len() > NAME_AT {
            let len = usize::from(u16::from_ne_bytes([rest[LENGTH_AT], rest[LENGTH_AT + 1]]));
            let (entry, next) = rest.split_at_checked(len.max(NAME_AT + 1)).ok_or(Error::INVALID)?;
            let name = CStr::from_bytes_until_nul(&entry[NAME_AT..]).map_err(|_| Error::INVALID)?;
            match name.to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => visit(name),
            }
            rest = next;
        }
    }
}
