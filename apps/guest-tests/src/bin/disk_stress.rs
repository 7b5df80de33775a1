//! Four threads that make, link, rename, write, truncate and remove names at random (after SGI's `fsstress`).
//! Each has names of its own in folders that all share, and knows what must be there: at the end all is compared. A
//! fifth of the operations take names of the others, with whatever outcome: those names lie apart.
//! Arguments: the folder; `SEED` and `STEPS` in the environment choose another run.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::thread;

use guest_tests::data_folder;
use guest_tests::random::{Random, number_from_environment};

const THREADS: u64 = 4;
const FOLDERS: usize = 6;
/// Names of a kind that a thread has at most.
const NAMES: usize = 40;
const MOST_BYTES: usize = 50_000;

/// What a name is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Node {
    /// The number of a file's content: several names may have the same.
    File(usize),
    Symlink(PathBuf),
    Folder,
}

/// One thread's part of the tree.
struct Worker {
    root: PathBuf,
    shared: PathBuf,
    id: u64,
    random: Random,
    names: BTreeMap<PathBuf, Node>,
    contents: BTreeMap<usize, Vec<u8>>,
    made: usize,
}

fn main() {
    let root = data_folder().join("stress");
    let seed = number_from_environment("SEED", 1);
    let steps = number_from_environment("STEPS", 1500);
    fs::create_dir(&root).unwrap();
    let shared = root.join("shared");
    fs::create_dir(&shared).unwrap();
    (0..FOLDERS).for_each(|number| fs::create_dir(root.join(format!("d{number}"))).unwrap());
    let workers: Vec<Worker> = thread::scope(|scope| {
        let start = |id| {
            let mut worker = Worker::new(&root, &shared, id, seed);
            scope.spawn(move || {
                (0..steps).for_each(|_| worker.step());
                worker
            })
        };
        let threads: Vec<_> = (0..THREADS).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut found = 0;
    for worker in &workers {
        worker.check();
        found += worker.names.len();
    }
    check_links(&workers);
    let listed: usize = (0..FOLDERS).map(|number| count(&root.join(format!("d{number}")))).sum();
    if listed != found {
        eprintln!("disk_stress: {listed} names are listed, {found} were made and not removed");
        exit(1);
    }
    if std::env::var_os("KEEP").is_none() {
        fs::remove_dir_all(&root).unwrap();
    }
    println!("disk_stress: all well");
}

/// All names below a folder.
fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| 1 + if entry.file_type().unwrap().is_dir() { count(&entry.path()) } else { 0 }).sum()
}

/// Every file has as many links as names.
fn check_links(workers: &[Worker]) {
    for worker in workers {
        let mut names: BTreeMap<usize, Vec<&Path>> = BTreeMap::new();
        for (path, node) in &worker.names {
            if let Node::File(content) = node {
                names.entry(*content).or_default().push(path);
            }
        }
        for paths in names.values() {
            let links = fs::metadata(paths[0]).unwrap().nlink();
            worker.expect(
                links == paths.len() as u64,
                paths[0],
                &format!("{links} links, not {}", paths.len()),
            );
        }
    }
}

impl Worker {
    fn new(root: &Path, shared: &Path, id: u64, seed: u64) -> Self {
        let (root, shared, random) = (root.to_owned(), shared.to_owned(), Random::new(seed * 100 + id));
        Self { root, shared, id, random, names: BTreeMap::new(), contents: BTreeMap::new(), made: 0 }
    }

    fn expect(&self, is_good: bool, path: &Path, what: &str) {
        if !is_good {
            eprintln!("disk_stress: thread {}: {}: {what}", self.id, path.display());
            exit(1);
        }
    }

    /// Nobody else knows these names: no operation may fail.
    fn must<T>(&self, path: &Path, what: &str, outcome: std::io::Result<T>) -> T {
        outcome.unwrap_or_else(|error| {
            eprintln!("disk_stress: thread {}: {what} {}: {error}", self.id, path.display());
            exit(1)
        })
    }

    /// A name that is not there, in a shared folder or in one of the thread's own.
    fn new_name(&mut self) -> PathBuf {
        self.made += 1;
        let folders: Vec<&PathBuf> =
            self.names.iter().filter(|(_, node)| **node == Node::Folder).map(|(path, _)| path).collect();
        let name = format!("t{}-{}{}", self.id, self.made, "x".repeat(self.made % 60));
        if folders.is_empty() || self.random.below(2) == 0 {
            let number = self.random.below(FOLDERS);
            return self.root.join(format!("d{number}")).join(name);
        }
        let index = self.random.below(folders.len());
        folders[index].join(name)
    }

    fn existing(&mut self, is_wanted: impl Fn(&Node) -> bool) -> Option<PathBuf> {
        let paths: Vec<&PathBuf> =
            self.names.iter().filter(|(_, node)| is_wanted(node)).map(|(path, _)| path).collect();
        let index = self.random.below(paths.len().max(1));
        paths.get(index).map(|&path| path.clone())
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..4 => self.create(),
            4..6 => self.write(),
            6 => self.truncate(),
            7..9 => self.link(),
            9 => self.symlink(),
            10..12 => self.make_folder(),
            12..14 => self.rename(),
            14 => self.replace(),
            15..17 => self.remove(),
            _ => self.meddle(),
        }
    }

    fn is_full(&self) -> bool {
        self.names.len() > 4 * NAMES
    }

    fn create(&mut self) {
        if self.is_full() {
            return self.remove();
        }
        let (path, len) = (self.new_name(), self.random.below(MOST_BYTES));
        let bytes = self.random.bytes(len);
        self.must(&path, "write", fs::write(&path, &bytes));
        self.contents.insert(self.made, bytes);
        self.names.insert(path, Node::File(self.made));
    }

    fn file(&mut self) -> Option<(PathBuf, usize)> {
        let path = self.existing(|node| matches!(node, Node::File(_)))?;
        let Node::File(content) = self.names[&path] else { return None };
        Some((path, content))
    }

    fn write(&mut self) {
        let Some((path, content)) = self.file() else { return };
        let (at, len) = (self.random.below(MOST_BYTES), self.random.below(5000));
        let bytes = self.random.bytes(len);
        let file = self.must(&path, "open", OpenOptions::new().write(true).open(&path));
        self.must(&path, "write", file.write_all_at(&bytes, at as u64));
        if self.random.below(8) == 0 {
            self.must(&path, "sync", file.sync_all());
        }
        let model = self.contents.entry(content).or_default();
        if len > 0 {
            model.resize(model.len().max(at + len), 0);
            model[at..at + len].copy_from_slice(&bytes);
        }
    }

    fn truncate(&mut self) {
        let Some((path, content)) = self.file() else { return };
        let len = self.random.below(MOST_BYTES);
        let file = self.must(&path, "open", OpenOptions::new().write(true).open(&path));
        self.must(&path, "truncate", file.set_len(len as u64));
        self.contents.entry(content).or_default().resize(len, 0);
    }

    fn link(&mut self) {
        let Some((path, content)) = self.file().filter(|_| !self.is_full()) else { return };
        let name = self.new_name();
        self.must(&name, "link", fs::hard_link(&path, &name));
        self.names.insert(name, Node::File(content));
    }

    fn symlink(&mut self) {
        let name = self.new_name();
        // Short ones lie in the inode, long ones in a block.
        let target = PathBuf::from("y".repeat(1 + self.random.below(200)));
        self.must(&name, "symlink", symlink(&target, &name));
        self.names.insert(name, Node::Symlink(target));
    }

    fn make_folder(&mut self) {
        if self.names.values().filter(|node| **node == Node::Folder).count() < NAMES {
            let name = self.new_name();
            self.must(&name, "mkdir", fs::create_dir(&name));
            self.names.insert(name, Node::Folder);
        }
    }

    fn is_empty_folder(&self, path: &Path) -> bool {
        !self.names.keys().any(|other| other != path && other.starts_with(path))
    }

    fn rename(&mut self) {
        let Some(from) = self.existing(|_| true) else { return };
        let to = self.new_name();
        if to.starts_with(&from) {
            let error = fs::rename(&from, &to).err().and_then(|error| error.raw_os_error());
            return self.expect(
                error == Some(libc::EINVAL),
                &to,
                &format!("a folder into itself: {error:?}"),
            );
        }
        self.must(&from, "rename", fs::rename(&from, &to));
        let moved: Vec<PathBuf> = self.names.keys().filter(|path| path.starts_with(&from)).cloned().collect();
        for path in moved {
            let node = self.names.remove(&path).unwrap();
            let name = path.strip_prefix(&from).unwrap();
            self.names.insert(if name == Path::new("") { to.clone() } else { to.join(name) }, node);
        }
    }

    /// Renames a file over another.
    fn replace(&mut self) {
        let (Some((from, content)), Some((to, old))) = (self.file(), self.file()) else { return };
        self.must(&from, "rename", fs::rename(&from, &to));
        // Two names of one file: nothing happens (rename(2)).
        if content != old {
            self.names.remove(&from);
            self.names.insert(to, Node::File(content));
        }
    }

    fn remove(&mut self) {
        let Some(path) = self.existing(|_| true) else { return };
        match &self.names[&path] {
            Node::Folder if self.is_empty_folder(&path) => self.must(&path, "rmdir", fs::remove_dir(&path)),
            Node::Folder => {
                let error = fs::remove_dir(&path).err().and_then(|error| error.raw_os_error());
                return self.expect(error == Some(libc::ENOTEMPTY), &path, &format!("rmdir: {error:?}"));
            }
            _ => self.must(&path, "unlink", fs::remove_file(&path)),
        }
        self.names.remove(&path);
    }

    /// Does something to names that the others do something to as well; any outcome is right.
    fn meddle(&mut self) {
        let mut name = || self.shared.join(format!("s{}", self.random.below(12)));
        let (one, two) = (name(), name());
        match self.random.below(8) {
            0 => drop(fs::write(&one, self.random.bytes(300))),
            1 => drop(fs::rename(&one, &two)),
            2 => drop(fs::hard_link(&one, &two)),
            3 => drop(fs::remove_file(&one)),
            4 => drop(fs::create_dir(&one)),
            5 => drop(fs::remove_dir(&one)),
            6 => drop(fs::rename(&one, two.join("below"))),
            _ => drop(fs::read_dir(&self.shared).unwrap().count()),
        }
    }

    /// Compares everything with what must be there.
    fn check(&self) {
        for (path, node) in &self.names {
            let found = self.must(path, "lstat", fs::symlink_metadata(path)).file_type();
            match node {
                Node::Folder => self.expect(found.is_dir(), path, "is no folder"),
                Node::Symlink(target) => {
                    let read = self.must(path, "readlink", fs::read_link(path));
                    self.expect(read == *target, path, "points elsewhere");
                }
                Node::File(content) => {
                    let read = self.must(path, "read", fs::read(path));
                    self.expect(read == self.contents[content], path, "has another content");
                }
            }
        }
    }
}
