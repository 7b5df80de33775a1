//! Random operations, on a filesystem and on a model of it that is too simple to be wrong.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;

use super::{ROOT, at, directory, file, pattern};
use crate::{BlockDevice, Error, Ext4, InodeNumber, NewKind, RenameMode, Sync};

/// Random numbers from a seed.
#[derive(Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What a path leads to. The number tells inodes apart over renames.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Node {
    Directory,
    File(u32),
    Symlink(Vec<u8>),
}

/// Paths, and the content of files by their number.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) paths: BTreeMap<String, Node>,
    pub(super) content: BTreeMap<u32, Rc<Vec<u8>>>,
}

/// Names that paths are made of. Few, so that operations meet.
const NAMES: [&str; 6] = ["a", "b", "c", "a-name-that-is-longer", "d", "e"];

/// Operations on both.
pub(super) struct Workload {
    pub(super) model: Model,
    pub(super) random: Random,
    /// The inode of each file's number.
    pub(super) inodes: BTreeMap<u32, InodeNumber>,
    /// Files that are open and have no name. What is written to them may be seen under a name that a power cut
    /// brings back.
    held: Vec<u32>,
    next: u32,
    pub(super) now: i64,
    /// Files are at most this long.
    pub(super) max_bytes: u64,
}

pub(super) fn resolve<D: BlockDevice>(fs: &mut Ext4<D>, path: &str) -> Result<InodeNumber, Error> {
    path.split('/').filter(|name| !name.is_empty()).try_fold(ROOT, |at, name| fs.lookup(at, name.as_bytes()))
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').expect("paths begin with a slash")
}

impl Workload {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            model: Model::default(),
            random: Random::new(seed),
            inodes: BTreeMap::new(),
            held: Vec::new(),
            next: 0,
            now: 10,
            max_bytes: 40_000,
        }
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.random.below(3);
        (0..depth)
            .fold(String::new(), |path, _| path + "/" + NAMES[self.random.below(NAMES.len() as u64) as usize])
    }

    fn has_parent(&self, path: &str) -> bool {
        let parent = split(path).0;
        parent.is_empty() || self.model.paths.get(parent) == Some(&Node::Directory)
    }

    fn children(&self, path: &str) -> Vec<String> {
        let below = std::format!("{path}/");
        self.model.paths.keys().filter(|other| other.starts_with(&below)).cloned().collect()
    }

    /// A path that leads to a file, if there is one.
    fn some_file(&mut self) -> Option<u32> {
        let files: Vec<u32> = self
            .model
            .paths
            .values()
            .filter_map(|node| if let Node::File(number) = node { Some(*number) } else { None })
            .collect();
        let index = self.random.below(files.len().max(1) as u64) as usize;
        files.get(index).copied()
    }

    /// Files that no path leads to any more are forgotten, unless they are open.
    fn forget(&mut self) {
        let (paths, held) = (&self.model.paths, &self.held);
        let lives =
            |number: &u32| held.contains(number) || paths.values().any(|node| *node == Node::File(*number));
        self.model.content.retain(|number, _| lives(number));
        let content = &self.model.content;
        self.inodes.retain(|number, _| content.contains_key(number));
    }

    /// Does one operation that changes something. Panics if the filesystem does not do what the model does.
    pub(super) fn step<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        self.now += 1;
        match self.random.below(25) {
            0..4 => self.make(fs),
            4..7 => self.remove(fs),
            7..10 => self.rename(fs),
            10..11 => self.link(fs),
            11..17 => self.write(fs),
            17..19 => self.truncate(fs),
            19..20 => self.punch(fs),
            20..21 => self.allocate(fs),
            21..22 => self.attribute(fs),
            22..23 => self.hold(fs),
            23..24 => self.write_held(fs),
            _ => self.let_one_go(fs),
        }
        self.forget();
    }

    fn make<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        let path = self.path();
        if !self.has_parent(&path) {
            return;
        }
        let (parent, name) = split(&path);
        let parent = resolve(fs, parent).expect("the parent is there");
        let len = 1 + self.random.below(150) as usize;
        let target: Vec<u8> = pattern(len as u64, len).iter().map(|byte| b'a' + byte % 26).collect();
        let (node, new) = match self.random.below(5) {
            0 => (Node::Directory, directory()),
            1 => {
                (Node::Symlink(target.clone()), crate::NewNode { kind: NewKind::Symlink(&target), ..file() })
            }
            _ => (Node::File(self.next), file()),
        };
        let made = fs.create(parent, name.as_bytes(), new, at(self.now));
        if self.model.paths.contains_key(&path) {
            assert_eq!(made, Err(Error::Exists), "{path}");
            return;
        }
        let made = made.unwrap_or_else(|error| panic!("create {path}: {error:?}"));
        if let Node::File(_) = node {
            self.note_file(made);
        }
        self.model.paths.insert(path, node);
    }

    /// A new file; answers its number.
    fn note_file(&mut self, inode: InodeNumber) -> u32 {
        let number = self.next;
        self.model.content.insert(number, Rc::new(Vec::new()));
        self.inodes.insert(number, inode);
        self.next += 1;
        number
    }

    fn remove<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        let path = self.path();
        if !self.has_parent(&path) {
            return;
        }
        let (parent, name) = split(&path);
        let parent = resolve(fs, parent).expect("the parent is there");
        let node = self.model.paths.get(&path).cloned();
        let done = match node {
            Some(Node::Directory) => fs.remove_directory(parent, name.as_bytes(), at(self.now)),
            _ => fs.unlink(parent, name.as_bytes(), at(self.now)),
        };
        match node {
            None => assert_eq!(done, Err(Error::NotFound), "{path}"),
            Some(Node::Directory) if !self.children(&path).is_empty() => {
                assert_eq!(done, Err(Error::NotEmpty), "{path}");
            }
            Some(_) => {
                assert_eq!(done, Ok(()), "{path}");
                self.model.paths.remove(&path);
            }
        }
    }

    fn rename<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        let (from, to) = (self.path(), self.path());
        if !self.has_parent(&from) || !self.has_parent(&to) {
            return;
        }
        let (from_parent, to_parent) = (split(&from).0, split(&to).0);
        let one = resolve(fs, from_parent).expect("the parent is there");
        let other = resolve(fs, to_parent).expect("the parent is there");
        let (name, new) = (split(&from).1.as_bytes(), split(&to).1.as_bytes());
        let done = fs.rename(one, name, other, new, RenameMode::Replace, at(self.now));
        let moved = self.model.paths.get(&from).cloned();
        let target = self.model.paths.get(&to).cloned();
        let Some(moved) = moved else { return assert_eq!(done, Err(Error::NotFound)) };
        if moved == Node::Directory && std::format!("{to}/").starts_with(&std::format!("{from}/")) {
            let wanted = if from == to { Ok(()) } else { Err(Error::Invalid) };
            return assert_eq!(done, wanted, "{from} to {to}");
        }
        match (&moved, &target) {
            (_, None) => {}
            (Node::File(one), Some(Node::File(other))) if one == other => return assert_eq!(done, Ok(())),
            (Node::Symlink(_), Some(_)) if from == to => return assert_eq!(done, Ok(())),
            (Node::Directory, Some(Node::Directory)) if !self.children(&to).is_empty() => {
                return assert_eq!(done, Err(Error::NotEmpty), "{from} to {to}");
            }
            (Node::Directory, Some(Node::Directory)) => {}
            (Node::Directory, Some(_)) => return assert_eq!(done, Err(Error::NotADirectory)),
            (_, Some(Node::Directory)) => return assert_eq!(done, Err(Error::IsADirectory)),
            _ => {}
        }
        assert_eq!(done, Ok(()), "{from} to {to}");
        for child in self.children(&from) {
            let node = self.model.paths.remove(&child).expect("it was listed");
            self.model.paths.insert(std::format!("{to}{}", &child[from.len()..]), node);
        }
        self.model.paths.remove(&from);
        self.model.paths.insert(to, moved);
    }

    fn link<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        let (path, Some(number)) = (self.path(), self.some_file()) else { return };
        if !self.has_parent(&path) {
            return;
        }
        let (parent, name) = split(&path);
        let parent = resolve(fs, parent).expect("the parent is there");
        let done = fs.link(self.inodes[&number], parent, name.as_bytes(), at(self.now));
        if self.model.paths.contains_key(&path) {
            return assert_eq!(done, Err(Error::Exists));
        }
        assert_eq!(done, Ok(()));
        self.model.paths.insert(path, Node::File(number));
    }

    fn change(&mut self, number: u32, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.model.content[&number].to_vec();
        change(&mut content);
        self.model.content.insert(number, Rc::new(content));
    }

    fn write<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        if let Some(number) = self.some_file() {
            self.write_to(fs, number);
        }
    }

    fn write_to<D: BlockDevice>(&mut self, fs: &mut Ext4<D>, number: u32) {
        let old_len = self.model.content[&number].len() as u64;
        let offset = if self.random.below(2) == 0 { old_len } else { self.random.below(self.max_bytes) };
        let len = 1 + self.random.below(8000) as usize;
        if offset + len as u64 > self.max_bytes * 2 {
            return;
        }
        let bytes = pattern(self.random.next(), len);
        let done = fs.write_at(self.inodes[&number], offset, &bytes, at(self.now));
        if done == Err(Error::NoSpace) {
            return;
        }
        assert_eq!(done, Ok(len));
        let offset = offset as usize;
        self.change(number, |content| {
            let end = content.len().max(offset + len);
            content.resize(end, 0);
            content[offset..offset + len].copy_from_slice(&bytes);
        });
    }

    fn truncate<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        let Some(number) = self.some_file() else { return };
        let size = self.random.below(self.max_bytes);
        fs.set_size(self.inodes[&number], size, at(self.now)).expect("truncate");
        self.change(number, |content| content.resize(size as usize, 0));
    }

    fn punch<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        let Some(number) = self.some_file() else { return };
        let (offset, len) = (self.random.below(self.max_bytes), self.random.below(12_000));
        fs.punch(self.inodes[&number], offset, len, at(self.now)).expect("punch");
        self.change(number, |content| {
            let end = ((offset + len) as usize).min(content.len());
            if let Some(hole) = content.get_mut(offset as usize..end) {
                hole.fill(0);
            }
        });
    }

    fn allocate<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        let Some(number) = self.some_file() else { return };
        let (offset, len) = (self.random.below(self.max_bytes), 1 + self.random.below(12_000));
        match fs.allocate_range(self.inodes[&number], offset, len, true, at(self.now)) {
            Ok(()) | Err(Error::NoSpace) => {}
            Err(error) => panic!("fallocate: {error:?}"),
        }
    }

    fn attribute<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        let Some(number) = self.some_file() else { return };
        let len = self.random.below(400) as usize;
        match fs.set_attribute(self.inodes[&number], b"user.test", &pattern(9, len), at(self.now)) {
            Ok(()) | Err(Error::NoSpace) => {}
            Err(error) => panic!("setxattr: {error:?}"),
        }
    }

    /// Removes the name of an open file, or opens one that never had a name.
    fn hold<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        if self.held.len() >= 3 {
            return;
        }
        if self.random.below(2) == 0 {
            match fs.create_unnamed(ROOT, file(), at(self.now)) {
                Ok(inode) => {
                    let number = self.note_file(inode);
                    self.held.push(number);
                }
                Err(error) => assert_eq!(error, Error::NoSpace),
            }
            return;
        }
        let Some(number) = self.some_file() else { return };
        let paths: Vec<String> = self
            .model
            .paths
            .iter()
            .filter(|(_, node)| **node == Node::File(number))
            .map(|(path, _)| path.clone())
            .collect();
        let [path] = &paths[..] else { return };
        let (parent, name) = split(path);
        let parent = resolve(fs, parent).expect("the parent is there");
        fs.open(self.inodes[&number]).expect("open");
        fs.unlink(parent, name.as_bytes(), at(self.now)).expect("unlink");
        self.held.push(number);
        self.model.paths.remove(path);
    }

    fn write_held<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        if let Some(number) = self.held.last().copied() {
            self.write_to(fs, number);
        }
    }

    /// Closes a file without a name, which ends it.
    fn let_one_go<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        if self.held.is_empty() {
            return;
        }
        let index = self.random.below(self.held.len() as u64) as usize;
        let number = self.held.swap_remove(index);
        fs.close(self.inodes[&number], at(self.now)).expect("close");
    }

    /// Closes them all: before an unmount.
    pub(super) fn let_all_go<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) {
        while !self.held.is_empty() {
            self.let_one_go(fs);
        }
    }

    /// Makes something durable. Returns the file for which `fsync` was called, if it was for one.
    pub(super) fn sync<D: BlockDevice>(&mut self, fs: &mut Ext4<D>) -> Option<u32> {
        self.now += 1;
        let number = if self.random.below(2) == 0 { None } else { self.some_file() };
        match number {
            None => fs.commit(at(self.now)).expect("commit"),
            Some(number) => {
                let what = if self.random.below(2) == 0 { Sync::Data } else { Sync::All };
                fs.sync_inode(self.inodes[&number], what, at(self.now)).expect("fsync");
            }
        }
        number
    }
}
