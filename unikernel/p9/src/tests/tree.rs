//! A tree of files in memory, with the errors of Linux: what the model server shares, and what its client is compared with.

use std::collections::BTreeMap;
use std::vec::Vec;

pub(super) const EPERM: u32 = 1;
pub(super) const ENOENT: u32 = 2;
pub(super) const EIO: u32 = 5;
pub(super) const EACCES: u32 = 13;
pub(super) const EEXIST: u32 = 17;
pub(super) const ENOTDIR: u32 = 20;
pub(super) const EISDIR: u32 = 21;
pub(super) const EINVAL: u32 = 22;
pub(super) const ENOSYS: u32 = 38;
pub(super) const ENOTEMPTY: u32 = 39;
pub(super) const ENODATA: u32 = 61;

pub(super) const S_IFMT: u32 = 0o170_000;
pub(super) const S_IFDIR: u32 = 0o040_000;
pub(super) const S_IFREG: u32 = 0o100_000;
pub(super) const S_IFLNK: u32 = 0o120_000;

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Inode {
    pub(super) mode: u32,
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) links: u32,
    pub(super) device: u64,
    /// Content of a file, target of a link.
    pub(super) data: Vec<u8>,
    /// Names of a directory, by the offset after them in a listing. `.` and `..` are among them.
    pub(super) names: BTreeMap<u64, (Vec<u8>, u64)>,
    pub(super) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) accessed: (u64, u64),
    pub(super) modified: (u64, u64),
    /// Who keeps it without a name.
    pub(super) holds: u32,
}

impl Inode {
    pub(super) fn is_directory(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<(u64, u64)> {
        self.names
            .iter()
            .find(|(_, (known, _))| known == name)
            .map(|(offset, (_, number))| (*offset, *number))
    }

    fn add(&mut self, name: &[u8], number: u64) {
        // Scattered, as a hash does it, but each once.
        let mut offset =
            name.iter().fold(7u64, |hash, byte| hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(*byte)) >> 1;
        while offset == 0 || self.names.contains_key(&offset) {
            offset = (offset + 1) & i64::MAX as u64;
        }
        self.names.insert(offset, (name.to_vec(), number));
    }
}

pub(super) const ROOT: u64 = 2;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tree {
    pub(super) inodes: BTreeMap<u64, Inode>,
    /// Give numbers of removed files to new ones, as ext4 does.
    pub(super) reuses_numbers: bool,
    next: u64,
}

impl Tree {
    pub(super) fn new() -> Self {
        let mut root = Inode { mode: S_IFDIR | 0o755, links: 2, ..Inode::default() };
        root.add(b".", ROOT);
        root.add(b"..", ROOT);
        Self { inodes: BTreeMap::from([(ROOT, root)]), reuses_numbers: false, next: 11 }
    }

    pub(super) fn get(&self, number: u64) -> Result<&Inode, u32> {
        self.inodes.get(&number).ok_or(ENOENT)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Result<&mut Inode, u32> {
        self.inodes.get_mut(&number).ok_or(ENOENT)
    }

    fn directory(&mut self, number: u64) -> Result<&mut Inode, u32> {
        let inode = self.get_mut(number)?;
        if inode.is_directory() { Ok(inode) } else { Err(ENOTDIR) }
    }

    pub(super) fn lookup(&self, directory: u64, name: &[u8]) -> Result<u64, u32> {
        let inode = self.get(directory)?;
        if !inode.is_directory() {
            return Err(ENOTDIR);
        }
        inode.find(name).map(|(_, number)| number).ok_or(ENOENT)
    }

    pub(super) fn create(&mut self, directory: u64, name: &[u8], mut inode: Inode) -> Result<u64, u32> {
        if self.directory(directory)?.links == 0 {
            return Err(ENOENT);
        }
        if self.lookup(directory, name).is_ok() {
            return Err(EEXIST);
        }
        let number = if self.reuses_numbers {
            (11..).find(|number| !self.inodes.contains_key(number)).expect("numbers")
        } else {
            self.next
        };
        self.next = self.next.max(number + 1);
        inode.links = 1;
        if inode.is_directory() {
            inode.links = 2;
            inode.add(b".", number);
            inode.add(b"..", directory);
            self.directory(directory)?.links += 1;
        }
        self.inodes.insert(number, inode);
        self.directory(directory)?.add(name, number);
        Ok(number)
    }

    pub(super) fn link(&mut self, number: u64, directory: u64, name: &[u8]) -> Result<(), u32> {
        if self.directory(directory)?.links == 0 || self.get(number)?.links == 0 {
            return Err(ENOENT);
        }
        if self.lookup(directory, name).is_ok() {
            return Err(EEXIST);
        }
        if self.get(number)?.is_directory() {
            return Err(EPERM);
        }
        self.get_mut(number)?.links += 1;
        self.directory(directory)?.add(name, number);
        Ok(())
    }

    pub(super) fn remove(&mut self, directory: u64, name: &[u8], wants_directory: bool) -> Result<(), u32> {
        let number = self.lookup(directory, name)?;
        let inode = self.get(number)?;
        match (inode.is_directory(), wants_directory) {
            (true, false) => return Err(EISDIR),
            (false, true) => return Err(ENOTDIR),
            (true, true) if inode.names.len() > 2 => return Err(ENOTEMPTY),
            _ => {}
        }
        self.take_name(directory, name, number);
        Ok(())
    }

    fn take_name(&mut self, directory: u64, name: &[u8], number: u64) {
        let is_directory = self.inodes[&number].is_directory();
        let parent = self.directory(directory).expect("the directory of a name");
        let (offset, _) = parent.find(name).expect("a name");
        parent.names.remove(&offset);
        if is_directory {
            parent.links -= 1;
        }
        let inode = self.get_mut(number).expect("an inode with a name");
        inode.links = if is_directory { 0 } else { inode.links - 1 };
        self.free_if_unused(number);
    }

    fn free_if_unused(&mut self, number: u64) {
        if self.inodes.get(&number).is_some_and(|inode| inode.links == 0 && inode.holds == 0) {
            self.inodes.remove(&number);
        }
    }

    fn is_below(&self, number: u64, above: u64) -> bool {
        let mut at = number;
        loop {
            if at == above {
                return true;
            }
            match self.inodes.get(&at).and_then(|inode| inode.find(b"..")) {
                Some((_, parent)) if parent != at => at = parent,
                _ => return false,
            }
        }
    }

    pub(super) fn rename(&mut self, from: (u64, &[u8]), to: (u64, &[u8])) -> Result<(), u32> {
        let number = self.lookup(from.0, from.1)?;
        if self.directory(to.0)?.links == 0 {
            return Err(ENOENT);
        }
        let is_directory = self.get(number)?.is_directory();
        if is_directory && self.is_below(to.0, number) {
            return Err(EINVAL);
        }
        if let Ok(other) = self.lookup(to.0, to.1) {
            if other == number {
                return Ok(());
            }
            let replaced = self.get(other)?;
            match (is_directory, replaced.is_directory()) {
                (true, false) => return Err(ENOTDIR),
                (false, true) => return Err(EISDIR),
                (true, true) if replaced.names.len() > 2 => return Err(ENOTEMPTY),
                _ => {}
            }
            self.take_name(to.0, to.1, other);
        }
        let old = self.directory(from.0)?;
        let (offset, _) = old.find(from.1).expect("a name");
        old.names.remove(&offset);
        if is_directory {
            old.links -= 1;
            self.directory(to.0)?.links += 1;
            let moved = self.directory(number)?;
            let (offset, _) = moved.find(b"..").expect("a name");
            moved.names.insert(offset, (b"..".to_vec(), to.0));
        }
        self.directory(to.0)?.add(to.1, number);
        Ok(())
    }

    pub(super) fn hold(&mut self, number: u64) -> Result<(), u32> {
        self.get_mut(number)?.holds += 1;
        Ok(())
    }

    pub(super) fn release(&mut self, number: u64) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.holds -= 1;
        }
        self.free_if_unused(number);
    }

    pub(super) fn read(&self, number: u64, offset: u64, count: usize) -> Result<&[u8], u32> {
        let data = &self.get(number)?.data;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
        Ok(&data[start..data.len().min(start.saturating_add(count))])
    }

    pub(super) fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) -> Result<(), u32> {
        if bytes.is_empty() {
            return Ok(());
        }
        let start = usize::try_from(offset).ok().filter(|start| *start < 1 << 24).ok_or(27u32)?;
        let data = &mut self.get_mut(number)?.data;
        data.resize(data.len().max(start + bytes.len()), 0);
        data[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn truncate(&mut self, number: u64, size: u64) -> Result<(), u32> {
        let size = usize::try_from(size).ok().filter(|size| *size < 1 << 24).ok_or(27u32)?;
        let inode = self.get_mut(number)?;
        if inode.mode & S_IFMT != S_IFREG {
            return Err(if inode.is_directory() { EISDIR } else { EINVAL });
        }
        inode.data.resize(size, 0);
        Ok(())
    }
}
