//! Names: looking up, making, linking, removing.

use crate::directory::check_name;
use crate::{BlockDevice, Error, Ext4, InodeNumber};

impl<D: BlockDevice> Ext4<D> {
    /// Returns what a name in a directory leads to. `.` and `..` are names too.
    pub fn lookup(&mut self, directory: InodeNumber, name: &[u8]) -> Result<InodeNumber, Error> {
        let directory = self.directory(directory)?;
        check_name(name)?;
        let found = self.find_name(&directory, name)?.ok_or(Error::NotFound)?;
        Ok(InodeNumber(found.inode))
    }
}
