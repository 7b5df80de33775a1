//! Random operations, compared with the same ones on a tree in memory.

use std::collections::BTreeMap;
use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use unikernel_vfs::{
    AttributeChange, ByteStorage, Error, FileSystem, InodeNumber, NewKind, NewNode, RenameMode, Sync,
};

use super::server::{Link, Server, Style};
use super::tree::{self, Inode, S_IFDIR, S_IFLNK, S_IFREG, Tree};
use super::{NOW, ROOT, names};
use crate::errno::error;
use crate::{MountOptions, P9};

/// An operation; files and directories are chosen among those that exist, by their place in the list.
#[derive(Clone, Debug)]
enum Step {
    Create { directory: usize, name: u8, kind: u8, permissions: u16, user: u32 },
    Link { file: usize, directory: usize, name: u8 },
    Remove { directory: usize, name: u8, wants_directory: bool },
    Rename { from: (usize, u8), to: (usize, u8), keeps: bool },
    Write { file: usize, offset: u16, len: u16, byte: u8 },
    Read { file: usize, offset: u16, len: u16 },
    Resize { file: usize, size: u16 },
    Change { file: usize, permissions: u16, group: u32 },
    SetAttribute { file: usize, name: u8, len: u16 },
    Attributes { file: usize },
    List { directory: usize, at_once: usize },
    Hold { file: usize },
    Release { held: usize },
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    let any_index = 0usize..64;
    let name = 0u8..5;
    prop_oneof![
        4 => (any_index.clone(), name.clone(), 0u8..8, 0u16..0o10000, 0u32..3)
            .prop_map(|(directory, name, kind, permissions, user)| Step::Create { directory, name, kind, permissions, user }),
        2 => (any_index.clone(), any_index.clone(), name.clone())
            .prop_map(|(file, directory, name)| Step::Link { file, directory, name }),
        3 => (any_index.clone(), name.clone(), any::<bool>())
            .prop_map(|(directory, name, wants_directory)| Step::Remove { directory, name, wants_directory }),
        4 => ((any_index.clone(), name.clone()), (any_index.clone(), name.clone()), any::<bool>())
            .prop_map(|(from, to, keeps)| Step::Rename { from, to, keeps }),
        3 => (any_index.clone(), 0u16..20_000, 0u16..20_000, any::<u8>())
            .prop_map(|(file, offset, len, byte)| Step::Write { file, offset, len, byte }),
        3 => (any_index.clone(), 0u16..30_000, 0u16..30_000)
            .prop_map(|(file, offset, len)| Step::Read { file, offset, len }),
        1 => (any_index.clone(), 0u16..30_000).prop_map(|(file, size)| Step::Resize { file, size }),
        1 => (any_index.clone(), 0u16..0o10000, 0u32..3)
            .prop_map(|(file, permissions, group)| Step::Change { file, permissions, group }),
        1 => (any_index.clone(), name.clone(), 0u16..20_000)
            .prop_map(|(file, name, len)| Step::SetAttribute { file, name, len }),
        2 => any_index.clone().prop_map(|file| Step::Attributes { file }),
        1 => (any_index.clone(), 1usize..9).prop_map(|(directory, at_once)| Step::List { directory, at_once }),
        2 => any_index.clone().prop_map(|file| Step::Hold { file }),
        2 => any_index.prop_map(|held| Step::Release { held }),
        1 => Just(Step::Commit),
    ]
}

fn name_of(name: u8) -> [u8; 1] {
    [b'a' + name]
}

struct Both {
    fs: P9,
    link: Link,
    style: Style,
    /// What the tree shall be.
    tree: Tree,
    held: Vec<u64>,
}

impl Both {
    fn new(style: Style, is_old: bool) -> Self {
        let link = Link::new(Server { is_old, most_content: 3000, ..Server::new(style) });
        let options = MountOptions { message_bytes: 8192, idle_inodes: 8, ..MountOptions::default() };
        let fs = P9::mount(link.clone(), &options).expect("mount");
        Self { fs, link, style, tree: Tree::new(), held: Vec::new() }
    }

    fn is_directory(&self, number: u64) -> bool {
        self.tree.get(number).is_ok_and(Inode::is_directory)
    }

    fn has_name(&self, number: u64) -> bool {
        self.tree.get(number).is_ok_and(|inode| inode.links > 0)
    }

    /// One of all files.
    fn file(&self, index: usize) -> u64 {
        *self.tree.inodes.keys().nth(index % self.tree.inodes.len()).expect("a file")
    }

    /// One of all directories that can be reached.
    fn directory(&self, index: usize) -> u64 {
        let directories: Vec<u64> = self
            .tree
            .inodes
            .keys()
            .copied()
            .filter(|number| self.is_directory(*number) && self.has_name(*number))
            .collect();
        directories[index % directories.len()]
    }

    /// Looks a file up, as the kernel does before it uses it. What has no name is held.
    fn reach(&mut self, number: u64) -> InodeNumber {
        let mut path = Vec::new();
        let mut at = number;
        while at != tree::ROOT && self.has_name(number) {
            let (directory, name) = self.parent_of(at);
            path.push(name);
            at = directory;
        }
        let mut found = ROOT;
        for name in path.iter().rev() {
            found = self.fs.lookup(found, name).expect("lookup");
        }
        if self.has_name(number) {
            assert_eq!(found.0, number);
        }
        InodeNumber(number)
    }

    fn parent_of(&self, number: u64) -> (u64, Vec<u8>) {
        let found = self.tree.inodes.iter().find_map(|(directory, inode)| {
            let mut names = inode.names.values();
            let entry = names.find(|(name, to)| *to == number && !matches!(&**name, b"." | b".."))?;
            Some((*directory, entry.0.clone()))
        });
        found.expect("a name")
    }

    /// True if a server of this style can do what needs the file's name.
    fn can_change(&self, number: u64) -> bool {
        self.has_name(number) || self.style == Style::Ideal
    }

    /// True if a file has no name and was none that can be opened, so that nothing is left but its attributes.
    fn is_out_of_reach(&self, number: u64) -> bool {
        !self.can_change(number)
            && self.tree.get(number).is_ok_and(|inode| inode.mode & tree::S_IFMT != S_IFREG)
    }

    fn create(&mut self, directory: usize, name: u8, kind: u8, permissions: u16, user: u32) {
        let directory = self.directory(directory);
        let name = name_of(name);
        let at = self.reach(directory);
        let (new, mode, device, data): (_, _, _, &[u8]) = match kind {
            0..=2 => (NewKind::File, S_IFREG, 0, b""),
            3..=4 => (NewKind::Directory, S_IFDIR, 0, b""),
            5 => (NewKind::Symlink(b"target"), S_IFLNK, 0, b"target"),
            6 => (NewKind::Fifo, 0o010_000, 0, b""),
            _ => (NewKind::CharacterDevice(0x501), 0o020_000, 0x501, b""),
        };
        let bits = if kind == 5 { 0o777 } else { u32::from(permissions) };
        let inode =
            Inode { mode: mode | bits, user, group: 1, device, data: data.to_vec(), ..Inode::default() };
        let expected = self.tree.create(directory, &name, inode).map(InodeNumber).map_err(error);
        let node = NewNode { kind: new, permissions, user, group: 1 };
        assert_eq!(self.fs.create(at, &name, node, NOW), expected);
    }

    fn rename(&mut self, from: (usize, u8), to: (usize, u8), keeps: bool) {
        let (from_directory, to_directory) = (self.directory(from.0), self.directory(to.0));
        let (from, to) = (name_of(from.1), name_of(to.1));
        let (from_at, to_at) = (self.reach(from_directory), self.reach(to_directory));
        let is_taken = self.tree.lookup(to_directory, &to).is_ok();
        let exists = self.tree.lookup(from_directory, &from);
        let expected = match exists {
            Ok(_) if keeps && is_taken => Err(Error::Exists),
            _ => self.tree.rename((from_directory, &from), (to_directory, &to)).map_err(error),
        };
        let mode = if keeps { RenameMode::NoReplace } else { RenameMode::Replace };
        assert_eq!(self.fs.rename(from_at, &from, to_at, &to, mode, NOW), expected);
    }

    /// What reading, writing and resizing say to what is no file.
    fn content_error(&self, number: u64) -> Option<Error> {
        match self.tree.get(number).expect("a file").mode & tree::S_IFMT {
            S_IFREG => None,
            S_IFDIR => Some(Error::IsADirectory),
            _ => Some(Error::Invalid),
        }
    }

    fn write(&mut self, file: usize, offset: u16, len: u16, byte: u8) {
        let number = self.file(file);
        let at = self.reach(number);
        let bytes: Vec<u8> = (0..len).map(|at| byte.wrapping_add(at as u8)).collect();
        let expected = self
            .content_error(number)
            .map_or_else(|| self.tree.write(number, offset.into(), &bytes).map_err(error), Err);
        assert_eq!(self.fs.write(at, offset.into(), &bytes), expected);
    }

    fn read(&mut self, file: usize, offset: u16, len: u16) {
        let number = self.file(file);
        let at = self.reach(number);
        let mut into = vec![0; len.into()];
        let result = self.fs.read(at, offset.into(), &mut into);
        match self.content_error(number) {
            Some(error) => assert_eq!(result, Err(error)),
            None => {
                let expected = self.tree.read(number, offset.into(), len.into()).expect("content");
                assert_eq!(result, Ok(expected.len()));
                assert!(into[..expected.len()] == *expected);
            }
        }
    }

    fn compare_attributes(&mut self, number: u64) {
        let at = self.reach(number);
        let told = self.fs.attributes(at).expect("attributes");
        let inode = self.tree.get(number).expect("a file");
        assert_eq!(told.size, inode.data.len() as u64);
        assert_eq!((told.links, told.device), (inode.links, inode.device as u32));
        assert_eq!((told.user, told.group), (inode.user, inode.group));
        assert_eq!(u32::from(told.permissions), inode.mode & 0o7777);
    }

    fn set_attribute(&mut self, file: usize, name: u8, len: u16) {
        let number = self.file(file);
        if !self.can_change(number) {
            return;
        }
        let at = self.reach(number);
        let name = [b"user.".to_vec(), name_of(name).to_vec()].concat();
        let attributes = &mut self.tree.get_mut(number).expect("a file").attributes;
        if len.is_multiple_of(4) {
            let expected = attributes.remove(&name).map(drop).ok_or(Error::NoAttribute);
            assert_eq!(self.fs.remove_extended_attribute(at, &name, NOW), expected);
        } else {
            let value = vec![len as u8; len.into()];
            attributes.insert(name.clone(), value.clone());
            assert_eq!(self.fs.set_extended_attribute(at, &name, &value, NOW), Ok(()));
            assert_eq!(self.fs.extended_attribute(at, &name), Ok(value));
        }
        let expected: Vec<Vec<u8>> =
            self.tree.get(number).expect("a file").attributes.keys().cloned().collect();
        assert_eq!(self.fs.extended_attribute_names(at), Ok(expected));
    }

    fn list(&mut self, directory: usize, at_once: usize) {
        let number = self.directory(directory);
        let at = self.reach(number);
        let mut listed = names(&mut self.fs, at, at_once).expect("list");
        assert_eq!(listed[..2], [".", ".."]);
        listed.sort();
        let names = self.tree.get(number).expect("a directory").names.values();
        let mut expected: Vec<String> =
            names.map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
        expected.sort();
        assert_eq!(listed, expected);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Create { directory, name, kind, permissions, user } => {
                self.create(directory, name, kind, permissions, user);
            }
            Step::Link { file, directory, name } => {
                let (number, directory) = (self.file(file), self.directory(directory));
                let (at, directory_at) = (self.reach(number), self.reach(directory));
                if !self.can_change(number) {
                    return;
                }
                let expected = match self.is_directory(number) {
                    true => Err(Error::IsADirectory),
                    false => self.tree.link(number, directory, &name_of(name)).map_err(error),
                };
                assert_eq!(self.fs.link(at, directory_at, &name_of(name), NOW), expected);
            }
            Step::Remove { directory, name, wants_directory } => {
                let directory = self.directory(directory);
                let at = self.reach(directory);
                let name = name_of(name);
                let expected = self.tree.remove(directory, &name, wants_directory).map_err(error);
                let result = match wants_directory {
                    true => self.fs.remove_directory(at, &name, NOW),
                    false => self.fs.unlink(at, &name, NOW),
                };
                assert_eq!(result, expected);
            }
            Step::Rename { from, to, keeps } => self.rename(from, to, keeps),
            Step::Write { file, offset, len, byte } => self.write(file, offset, len, byte),
            Step::Read { file, offset, len } => self.read(file, offset, len),
            Step::Resize { file, size } => {
                let number = self.file(file);
                if self.has_name(number) || self.style == Style::Ideal && !self.is_out_of_reach(number) {
                    let at = self.reach(number);
                    let expected = self.tree.truncate(number, size.into()).map_err(error);
                    assert_eq!(self.fs.set_size(at, size.into(), NOW), expected);
                }
            }
            Step::Change { file, permissions, group } => {
                let number = self.file(file);
                let is_link = self.tree.get(number).expect("a file").mode & tree::S_IFMT == S_IFLNK;
                if !self.can_change(number) || is_link {
                    return;
                }
                let at = self.reach(number);
                let change = AttributeChange {
                    permissions: Some(permissions),
                    group: Some(group),
                    ..AttributeChange::default()
                };
                assert_eq!(self.fs.set_attributes(at, change, NOW), Ok(()));
                let inode = self.tree.get_mut(number).expect("a file");
                inode.mode = inode.mode & tree::S_IFMT | u32::from(permissions);
                inode.group = group;
            }
            Step::SetAttribute { file, name, len } => self.set_attribute(file, name, len),
            Step::Attributes { file } => self.compare_attributes(self.file(file)),
            Step::List { directory, at_once } => self.list(directory, at_once),
            Step::Hold { file } => {
                let number = self.file(file);
                let at = self.reach(number);
                self.fs.open(at).expect("open");
                self.tree.hold(number).expect("hold");
                self.held.push(number);
            }
            Step::Release { held } => {
                if !self.held.is_empty() {
                    let number = self.held.swap_remove(held % self.held.len());
                    self.fs.close(InodeNumber(number), NOW).expect("close");
                    self.tree.release(number);
                }
            }
            Step::Commit => {
                self.fs.commit(NOW).expect("commit");
                assert!(!self.fs.has_uncommitted());
            }
        }
        assert!(self.fs.nodes.idle_count() <= 8);
    }

    fn finish(mut self) {
        for number in self.tree.inodes.keys().copied().collect::<Vec<_>>() {
            self.compare_attributes(number);
        }
        for number in core::mem::take(&mut self.held) {
            self.fs.sync_inode(InodeNumber(number), Sync::Data, NOW).expect("fdatasync");
            self.fs.close(InodeNumber(number), NOW).expect("close");
            self.tree.release(number);
        }
        self.fs.unmount(NOW).expect("unmount");
        let server = self.link.server();
        assert_eq!(server.fid_count(), 0);
        let whole: BTreeMap<u64, Inode> = server.tree.inodes.clone();
        assert!(whole == self.tree.inodes, "{whole:#?}\n{:#?}", self.tree.inodes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn operations_do_what_they_do_to_a_tree_in_memory(
        steps in proptest::collection::vec(step(), 1..120),
        style in prop_oneof![Just(Style::Ideal), Just(Style::Qemu), Just(Style::Diod)],
        is_old in any::<bool>(),
    ) {
        let mut both = Both::new(style, is_old);
        for step in &steps {
            both.take(step);
        }
        both.finish();
    }
}
