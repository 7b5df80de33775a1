//! Extended attributes. A value is read and written through a fid of its own.

use alloc::vec;
use alloc::vec::Vec;

use unikernel_vfs::{Error, InodeNumber};

use crate::P9;
use crate::connection::CONTENT_HEADER_BYTES;
use crate::messages::{Fid, Read, Write, XATTR_REPLACE, Xattrcreate, Xattrwalk};
use crate::wire::Data;

/// The longest value, and the longest list of names, in bytes (`XATTR_SIZE_MAX`).
const MAX_VALUE_BYTES: usize = 65536;

/// The longest name, in bytes (`XATTR_NAME_MAX`).
const MAX_NAME_BYTES: usize = 255;

fn check_name(name: &[u8]) -> Result<(), Error> {
    match name {
        // To the server this is the list of all names.
        [] => Err(Error::Invalid),
        name if name.len() > MAX_NAME_BYTES => Err(Error::NameTooLong),
        name if name.contains(&0) => Err(Error::Invalid),
        _ => Ok(()),
    }
}

impl P9 {
    pub(crate) fn attribute(&mut self, number: InodeNumber, name: &[u8]) -> Result<Vec<u8>, Error> {
        check_name(name)?;
        self.read_attribute(number, name)
    }

    pub(crate) fn attribute_names(&mut self, number: InodeNumber) -> Result<Vec<Vec<u8>>, Error> {
        let list = match self.read_attribute(number, b"") {
            Err(Error::Unsupported) => return Ok(Vec::new()),
            list => list?,
        };
        let Some(names) = list.strip_suffix(&[0]) else {
            return if list.is_empty() { Ok(Vec::new()) } else { Err(Error::Corrupt("9p: a list of names")) };
        };
        let names: Vec<&[u8]> = names.split(|byte| *byte == 0).collect();
        if names.iter().any(|name| check_name(name).is_err()) {
            return Err(Error::Corrupt("9p: a list of names"));
        }
        Ok(names.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// Reads a value, or, with an empty name, the names.
    fn read_attribute(&mut self, number: InodeNumber, name: &[u8]) -> Result<Vec<u8>, Error> {
        let fid = self.resolve(number)?;
        let new_fid = self.connection.new_fid()?;
        let size = self.connection.make_fid(new_fid, &Xattrwalk { fid, new_fid, name }, Ok)?;
        let value = self.read_value(new_fid, size);
        self.connection.discard(new_fid);
        value
    }

    fn read_value(&mut self, fid: Fid, size: u64) -> Result<Vec<u8>, Error> {
        let size =
            usize::try_from(size).ok().filter(|size| *size <= MAX_VALUE_BYTES).ok_or(Error::TooLarge)?;
        let mut value = vec![0; size];
        let mut done = 0;
        while done < size {
            let room = (self.connection.message_bytes() - CONTENT_HEADER_BYTES) as usize;
            let count = (size - done).min(room);
            let read = Read { fid, offset: done as u64, count: count as u32 };
            let Data(data) = self.connection.call(&read)?;
            if data.is_empty() || data.len() > count {
                return Err(Error::Corrupt("9p: the length of an extended attribute"));
            }
            value[done..done + data.len()].copy_from_slice(data);
            done += data.len();
        }
        Ok(value)
    }

    /// Sets an extended attribute. The protocol has no empty values: these take the attribute away.
    pub(crate) fn set_attribute(
        &mut self,
        number: InodeNumber,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), Error> {
        if value.is_empty() {
            return self.writable().and(Err(Error::Unsupported));
        }
        self.write_attribute(number, name, value, 0)
    }

    pub(crate) fn remove_attribute(&mut self, number: InodeNumber, name: &[u8]) -> Result<(), Error> {
        self.write_attribute(number, name, b"", XATTR_REPLACE)
    }

    fn write_attribute(
        &mut self,
        number: InodeNumber,
        name: &[u8],
        value: &[u8],
        flags: u32,
    ) -> Result<(), Error> {
        self.writable()?;
        check_name(name)?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(Error::TooLarge);
        }
        let fid = self.resolve(number)?;
        let fid = self.connection.duplicate(fid)?;
        let create = Xattrcreate { fid, name, size: value.len() as u64, flags };
        if let Err(failure) = self.connection.call(&create) {
            self.connection.discard_unless_silent(fid, failure);
            return Err(failure.into());
        }
        let written = self.write_value(fid, value);
        // The end of the fid is what sets the attribute. If the value is not whole the server sets nothing.
        let set = self.connection.clunk(fid);
        written.and(set)?;
        self.unsynced.insert(number);
        Ok(())
    }

    fn write_value(&mut self, fid: Fid, value: &[u8]) -> Result<(), Error> {
        let room = (self.connection.message_bytes() - CONTENT_HEADER_BYTES) as usize;
        let mut done = 0;
        while done < value.len() {
            let piece = &value[done..value.len().min(done + room)];
            let count =
                self.connection.call(&Write { fid, offset: done as u64, data: Data(piece) })? as usize;
            if count == 0 || count > piece.len() {
                return Err(Error::Corrupt("9p: the length of an extended attribute"));
            }
            done += count;
        }
        Ok(())
    }
}
