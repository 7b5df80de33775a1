//! What the model server does for each request.

use std::vec::Vec;

use super::bytes::{Builder, Parser};
use super::server::{Answer, Attribute, Fid, Open, Server, Style};
use super::tree::*;

impl Server {
    pub(super) fn version(&mut self, parser: &mut Parser<'_>) -> Answer {
        let asked = parser.u32();
        assert_eq!(parser.text(), b"9P2000.L");
        self.fids.clear();
        self.agreed = asked.min(self.message_bytes);
        Ok(Builder::default().u32(self.agreed).text(self.version))
    }

    pub(super) fn attach(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, auth_fid) = (parser.u32(), parser.u32());
        let (_user_name, tree, _user) = (parser.text(), parser.text(), parser.u32());
        assert_eq!(auth_fid, u32::MAX);
        match &*tree {
            b"" => {}
            b"file" => return Ok(Builder::default().u8(0).u32(0).u64(77)),
            _ => return Err(EACCES),
        }
        self.add_fid(fid, Fid { path: Vec::new(), number: ROOT, open: None, attribute: None })?;
        self.qid_reply(ROOT)
    }

    pub(super) fn walk(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (from, new) = (parser.u32(), parser.u32());
        let names: Vec<Vec<u8>> = (0..parser.u16()).map(|_| parser.name()).collect();
        let fid = self.fid(from)?;
        if fid.open.is_some() {
            return Err(self.misuse("a walk from a fid that is open"));
        }
        let mut path = fid.path.clone();
        let mut number = if names.is_empty() { fid.number } else { self.file(from)? };
        let mut answer = Builder::default().u16(names.len() as u16);
        for name in names {
            number = self.tree.lookup(number, &name)?;
            answer = self.qid(answer, number)?;
            match (&*name, self.style) {
                // QEMU takes names away, diod adds these like others.
                (b"..", Style::Qemu) => drop(path.pop()),
                _ => path.push(name),
            }
        }
        self.add_fid(new, Fid { path, number, open: None, attribute: None })?;
        Ok(answer)
    }

    pub(super) fn statfs(&mut self, fid: u32) -> Answer {
        self.file(fid)?;
        let builder = Builder::default().u32(0xef53).u32(12288).u64(1000).u64(600).u64(500);
        Ok(builder.u64(77).u64(66).u64(0x1122_3344_5566_7788).u32(255))
    }

    pub(super) fn getattr(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, mask) = (parser.u32(), parser.u64());
        let number = self.file_of_attributes(fid)?;
        let inode = self.tree.get(number)?.clone();
        let builder = self.qid(Builder::default().u64(mask & 0x7ff), number)?;
        let builder = builder.u32(inode.mode).u32(inode.user).u32(inode.group).u64(inode.links.into());
        let builder = builder.u64(inode.device).u64(inode.data.len() as u64).u64(4096);
        let builder = builder.u64(inode.data.len().div_ceil(512) as u64);
        let (accessed, modified) = (inode.accessed, inode.modified);
        let builder = builder.u64(accessed.0).u64(accessed.1).u64(modified.0).u64(modified.1);
        Ok((0..6).fold(builder, |builder, _| builder.u64(0)))
    }

    pub(super) fn setattr(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, valid, mode, user, group) =
            (parser.u32(), parser.u32(), parser.u32(), parser.u32(), parser.u32());
        let size = parser.u64();
        let (accessed, modified) = ((parser.u64(), parser.u64()), (parser.u64(), parser.u64()));
        assert_eq!(valid & !0x1bf, 0, "bits of Tsetattr");
        let number = self.file_of_attributes(fid)?;
        if valid & 6 != 0 && self.refuses_chown {
            return Err(EPERM);
        }
        if valid & 8 != 0 {
            if self.style == Style::Diod && self.fid(fid)?.open.is_some_and(|open| open.flags & 3 == 0) {
                return Err(self.misuse("a change of size by a fid that only reads"));
            }
            self.tree.truncate(number, size)?;
        }
        let inode = self.tree.get_mut(number)?;
        if valid & 1 != 0 {
            // As QEMU does it where it keeps modes itself: with the type.
            assert_eq!((mode ^ inode.mode) & !0o7777, 0, "the mode of Tsetattr");
            assert_ne!(inode.mode & S_IFMT, S_IFLNK, "the mode of a link");
            inode.mode = mode;
        }
        if valid & 2 != 0 {
            inode.user = user;
        }
        if valid & 4 != 0 {
            inode.group = group;
        }
        if valid & 0x10 != 0 {
            assert_ne!(valid & 0x80, 0);
            inode.accessed = accessed;
        }
        if valid & 0x20 != 0 {
            assert_ne!(valid & 0x100, 0);
            inode.modified = modified;
        }
        Ok(Builder::default())
    }

    pub(super) fn xattrwalk(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, new, name) = (parser.u32(), parser.u32(), parser.text());
        let number = self.file(fid)?;
        let attributes = &self.tree.get(number)?.attributes;
        let value = if name.is_empty() {
            attributes.keys().flat_map(|name| name.iter().copied().chain([0])).collect()
        } else {
            attributes.get(&name).cloned().ok_or(ENODATA)?
        };
        let len = value.len() as u64;
        let path = self.fid(fid)?.path.clone();
        let attribute = Some(Attribute { name, value, written: None });
        self.add_fid(new, Fid { path, number, open: None, attribute })?;
        Ok(Builder::default().u64(len))
    }

    pub(super) fn xattrcreate(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, name, size, flags) = (parser.u32(), parser.text(), parser.u64(), parser.u32());
        assert!((1..=255).contains(&name.len()) && size <= 65536 && flags == if size == 0 { 2 } else { 0 });
        if self.fid(fid)?.open.is_some() || self.fid(fid)?.attribute.is_some() {
            return Err(self.misuse("Txattrcreate with a fid that is in use"));
        }
        let value = std::vec![0; size as usize];
        self.fids.get_mut(&fid).expect("a fid").attribute = Some(Attribute { name, value, written: Some(0) });
        Ok(Builder::default())
    }

    fn may_open(&self, number: u64, flags: u32) -> Result<(), u32> {
        let inode = self.tree.get(number)?;
        let wants = match flags & 3 {
            0 => 0o400,
            1 => 0o200,
            _ => 0o600,
        };
        if inode.is_directory() != (flags & 0o200_000 != 0) || inode.is_directory() && flags & 3 != 0 {
            return Err(self.misuse("the flags of Tlopen"));
        }
        if !inode.is_directory() && inode.mode & S_IFMT != S_IFREG {
            return Err(self.misuse("Tlopen of what is neither file nor directory"));
        }
        if self.checks_permissions && inode.mode & wants != wants { Err(EACCES) } else { Ok(()) }
    }

    pub(super) fn lopen(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, flags) = (parser.u32(), parser.u32());
        let number = self.directory(fid)?;
        assert_eq!(flags & !0o300_003, 0, "the flags of Tlopen");
        self.may_open(number, flags)?;
        self.tree.hold(number)?;
        self.fids.get_mut(&fid).expect("a fid").open = Some(Open { number, flags });
        Ok(self.qid_reply(number)?.u32(self.unit_bytes))
    }

    pub(super) fn lcreate(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, name) = (parser.u32(), parser.name());
        let (flags, mode, group) = (parser.u32(), parser.u32(), parser.u32());
        assert_eq!(flags, 0o100_302, "the flags of Tlcreate");
        assert_eq!(mode & !0o7777, 0, "the mode of Tlcreate");
        let directory = self.directory(fid)?;
        let inode = Inode { mode: S_IFREG | mode, group, ..Inode::default() };
        let number = self.tree.create(directory, &name, inode)?;
        self.tree.hold(number)?;
        if self.style == Style::Ideal {
            self.tree.hold(number)?;
            self.tree.release(directory);
        }
        let fid = self.fids.get_mut(&fid).expect("a fid");
        fid.path.push(name);
        fid.number = number;
        fid.open = Some(Open { number, flags });
        Ok(self.qid_reply(number)?.u32(self.unit_bytes))
    }

    pub(super) fn read(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, offset, count) = (parser.u32(), parser.u64(), parser.u32());
        assert!(count <= self.agreed - 11, "the count of Tread");
        if let Some(attribute) = &self.fid(fid)?.attribute {
            // As diod wants it: never past the end.
            let start = offset as usize;
            let value = attribute.value.get(start..start + count as usize);
            return value.map(|value| Builder::default().data(value)).ok_or(EINVAL);
        }
        let open = self.opened(fid)?;
        assert_ne!(open.flags & 3, 1, "Tread of a fid that only writes");
        let count = (count as usize).min(self.most_content);
        Ok(Builder::default().data(self.tree.read(open.number, offset, count)?))
    }

    pub(super) fn write(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, offset, count) = (parser.u32(), parser.u64(), parser.u32() as usize);
        let bytes = parser.bytes(count);
        if self.fid(fid)?.attribute.is_some() {
            let attribute = self.fids.get_mut(&fid).and_then(|fid| fid.attribute.as_mut()).expect("a fid");
            let taken = count.min(self.most_content);
            let start = offset as usize;
            attribute.value[start..start + taken].copy_from_slice(&bytes[..taken]);
            *attribute.written.as_mut().expect("Twrite of an attribute that is read") += taken;
            return Ok(Builder::default().u32(taken as u32));
        }
        let open = self.opened(fid)?;
        assert_ne!(open.flags & 3, 0, "Twrite of a fid that only reads");
        let taken = count.min(self.most_content);
        self.tree.write(open.number, offset, &bytes[..taken])?;
        Ok(Builder::default().u32(taken as u32))
    }

    pub(super) fn readdir(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, offset, count) = (parser.u32(), parser.u64(), parser.u32());
        assert!(count <= self.agreed - 24, "the count of Treaddir");
        let inode = self.tree.get(self.opened(fid)?.number)?.clone();
        let mut data = Builder::default();
        let last = inode.names.keys().next_back().copied();
        for (after, (name, number)) in inode.names.range(offset.saturating_add(1)..) {
            if data.0.len() + 24 + name.len() > count as usize {
                break;
            }
            let mode = self.tree.get(*number).map_or(0, |inode| inode.mode);
            let kind = if self.hides_types { 0 } else { (mode >> 12) as u8 };
            let after = if self.ends_at_max && Some(*after) == last { i64::MAX as u64 } else { *after };
            // As QEMU does it: only the number.
            data = data.u8(0).u32(0).u64(*number).u64(after).u8(kind).text(name);
        }
        Ok(Builder::default().data(&data.0))
    }

    pub(super) fn readlink(&mut self, fid: u32) -> Answer {
        let inode = self.tree.get(self.file(fid)?)?;
        if inode.mode & S_IFMT != S_IFLNK {
            return Err(self.misuse("Treadlink of what is no link"));
        }
        Ok(Builder::default().text(&inode.data))
    }

    pub(super) fn fsync(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, data_only) = (parser.u32(), parser.u32());
        assert!(data_only <= 1);
        let number = self.opened(fid)?.number;
        self.synced.insert(number);
        Ok(Builder::default())
    }

    pub(super) fn mkdir(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, name, mode, group) = (parser.u32(), parser.name(), parser.u32(), parser.u32());
        assert_eq!(mode & !0o7777, 0, "the mode of Tmkdir");
        let inode = Inode { mode: S_IFDIR | mode, group, ..Inode::default() };
        let number = self.tree.create(self.directory(fid)?, &name, inode)?;
        self.qid_reply(number)
    }

    pub(super) fn symlink(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, name, target, group) = (parser.u32(), parser.name(), parser.text(), parser.u32());
        assert!((1..4096).contains(&target.len()) && !target.contains(&0), "the target of Tsymlink");
        let inode = Inode { mode: S_IFLNK | 0o777, group, data: target, ..Inode::default() };
        let number = self.tree.create(self.directory(fid)?, &name, inode)?;
        self.qid_reply(number)
    }

    pub(super) fn mknod(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, name, mode) = (parser.u32(), parser.name(), parser.u32());
        let (major, minor, group) = (parser.u32(), parser.u32(), parser.u32());
        let is_device = matches!(mode & S_IFMT, 0o020_000 | 0o060_000);
        assert!(is_device || matches!(mode & S_IFMT, 0o010_000 | 0o140_000), "the mode of Tmknod");
        // As glibc's `makedev`.
        let device = u64::from(minor & 0xff | (major & 0xfff) << 8) | u64::from(minor & !0xff) << 12;
        assert!(is_device || device == 0);
        let inode = Inode { mode, group, device, ..Inode::default() };
        let number = self.tree.create(self.directory(fid)?, &name, inode)?;
        self.qid_reply(number)
    }

    pub(super) fn link(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (directory, fid, name) = (parser.u32(), parser.u32(), parser.name());
        let (directory, number) = (self.directory(directory)?, self.file(fid)?);
        self.tree.link(number, directory, &name).map(|()| Builder::default())
    }

    pub(super) fn renameat(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (from, from_name, to, to_name) = (parser.u32(), parser.name(), parser.u32(), parser.name());
        let (from_directory, to_directory) = (self.directory(from)?, self.directory(to)?);
        self.tree.rename((from_directory, &from_name), (to_directory, &to_name))?;
        let old = self.path(from, from_name);
        self.follow(&old, &self.path(to, to_name));
        Ok(Builder::default())
    }

    /// The path of a name in the directory of a fid.
    fn path(&self, directory: u32, name: Vec<u8>) -> Vec<Vec<u8>> {
        let mut path = self.fids[&directory].path.clone();
        path.push(name);
        path
    }

    /// After a rename: takes the fids along, if this is a server that does so.
    fn follow(&mut self, old: &[Vec<u8>], new: &[Vec<u8>]) {
        if self.style == Style::Qemu {
            for fid in self.fids.values_mut().filter(|fid| fid.path.starts_with(old)) {
                fid.path.splice(..old.len(), new.iter().cloned());
            }
        }
    }

    /// The file of a fid, and the directory and name by which it was walked to.
    fn place(&self, fid: u32) -> Result<(u64, Vec<u8>), u32> {
        self.directory(fid)?;
        let (name, directory) = self.fid(fid)?.path.split_last().expect("the root stays where it is");
        let directory = directory.iter().try_fold(ROOT, |at, name| self.tree.lookup(at, name))?;
        Ok((directory, name.clone()))
    }

    pub(super) fn rename(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, to, to_name) = (parser.u32(), parser.u32(), parser.name());
        let (directory, name) = self.place(fid)?;
        self.tree.rename((directory, &name), (self.directory(to)?, &to_name))?;
        let (old, new) = (self.fid(fid)?.path.clone(), self.path(to, to_name));
        self.follow(&old, &new);
        self.fids.get_mut(&fid).expect("a fid").path = new;
        Ok(Builder::default())
    }

    /// Removes a file or an empty directory, as `remove` of the C library does.
    pub(super) fn remove(&mut self, fid: u32) -> Answer {
        let removed = self.place(fid).and_then(|(directory, name)| {
            let number = self.tree.lookup(directory, &name)?;
            let is_directory = self.tree.get(number)?.is_directory();
            self.tree.remove(directory, &name, is_directory)
        });
        self.drop_fid(fid)?;
        removed.map(|()| Builder::default())
    }

    pub(super) fn unlinkat(&mut self, parser: &mut Parser<'_>) -> Answer {
        let (fid, name, flags) = (parser.u32(), parser.name(), parser.u32());
        assert_eq!(flags & !0x200, 0, "the flags of Tunlinkat");
        let directory = self.directory(fid)?;
        self.tree.remove(directory, &name, flags != 0).map(|()| Builder::default())
    }
}
