//! What is known of the server's files: a table from numbers to fids, and which of them to forget.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};

use unikernel_vfs::{Attributes, Error, FileKind, InodeNumber};

use crate::connection::Handle;
use crate::messages::Fid;
use crate::wire::Qid;

/// A name by which a file was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) directory: InodeNumber,
    pub(crate) name: Box<[u8]>,
}

impl Place {
    pub(crate) fn new(directory: InodeNumber, name: &[u8]) -> Self {
        Self { directory, name: name.into() }
    }
}

/// A file of the server's that is known here.
pub(crate) struct Node {
    /// Leads to the file, and is never opened: walks start at it.
    pub(crate) fid: Fid,
    /// The bits of its qid that tell kinds apart ([`Qid::sort`]).
    pub(crate) sort: u8,
    /// What it is, once the server was asked.
    pub(crate) kind: Option<FileKind>,
    /// How often it is held.
    pub(crate) opens: u32,
    /// The name by which it was found last.
    pub(crate) place: Option<Place>,
    /// How many directories had been moved when `fid` was walked to.
    pub(crate) walked_at: u64,
    /// For reading: content, or the names of a directory.
    pub(crate) reader: Option<Handle>,
    /// For writing.
    pub(crate) writer: Option<Handle>,
    /// True if `writer` reads, too.
    pub(crate) writer_reads: bool,
    /// What the server said last, with what was done to the content since. Only for files whose name is gone.
    pub(crate) known: Option<Attributes>,
    /// True if its last name was removed through us.
    pub(crate) is_nameless: bool,
    /// When it was used last, if nobody holds it: its key in [`Nodes::idle`].
    used_at: u64,
}

impl Node {
    pub(crate) fn new(fid: Fid, qid: Qid, place: Option<Place>, walked_at: u64) -> Self {
        Self {
            fid,
            sort: qid.sort(),
            kind: None,
            opens: 0,
            place,
            walked_at,
            reader: None,
            writer: None,
            writer_reads: false,
            known: None,
            is_nameless: false,
            used_at: 0,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.sort & Qid::DIRECTORY != 0
    }

    pub(crate) fn is_symlink(&self) -> bool {
        self.sort & Qid::SYMLINK != 0
    }

    /// The handle to read with.
    pub(crate) fn for_reading(&self) -> Option<Handle> {
        self.writer.filter(|_| self.writer_reads).or(self.reader)
    }

    /// Any handle.
    pub(crate) fn any_handle(&self) -> Option<Handle> {
        self.writer.or(self.reader)
    }

    /// Every fid that it has.
    pub(crate) fn fids(&self) -> impl Iterator<Item = Fid> + use<> {
        [self.reader.map(|handle| handle.fid), self.writer.map(|handle| handle.fid), Some(self.fid)]
            .into_iter()
            .flatten()
    }
}

/// The files that are known, by their numbers.
///
/// Who is held stays. Of the others the ones that were used last stay, up to a limit.
pub(crate) struct Nodes {
    by_number: BTreeMap<InodeNumber, Node>,
    /// Those that nobody holds, by when they were used.
    idle: BTreeMap<u64, InodeNumber>,
    clock: u64,
    most_idle: usize,
    /// Where numbers lead that only a listing has told.
    listed: Listed,
}

impl Nodes {
    pub(crate) fn new(most_idle: usize) -> Self {
        Self {
            by_number: BTreeMap::new(),
            idle: BTreeMap::new(),
            clock: 0,
            most_idle,
            listed: Listed::default(),
        }
    }

    pub(crate) fn get(&self, number: InodeNumber) -> Result<&Node, Error> {
        self.by_number.get(&number).ok_or(Error::NotFound)
    }

    pub(crate) fn get_mut(&mut self, number: InodeNumber) -> Result<&mut Node, Error> {
        self.by_number.get_mut(&number).ok_or(Error::NotFound)
    }

    pub(crate) fn contains(&self, number: InodeNumber) -> bool {
        self.by_number.contains_key(&number)
    }

    /// Adds one that is not known yet.
    pub(crate) fn insert(&mut self, number: InodeNumber, node: Node) {
        self.by_number.insert(number, node);
        self.touch(number);
    }

    pub(crate) fn remove(&mut self, number: InodeNumber) -> Option<Node> {
        let node = self.by_number.remove(&number)?;
        self.idle.remove(&node.used_at);
        Some(node)
    }

    /// Any one, to end them all.
    pub(crate) fn pop(&mut self) -> Option<Node> {
        let number = *self.by_number.keys().next()?;
        self.remove(number)
    }

    /// Notes that one is used, or is held or idle from now on.
    pub(crate) fn touch(&mut self, number: InodeNumber) {
        let Some(node) = self.by_number.get_mut(&number) else { return };
        self.idle.remove(&node.used_at);
        if node.opens == 0 {
            self.clock += 1;
            node.used_at = self.clock;
            self.idle.insert(self.clock, number);
        }
    }

    /// Which one to forget, if there are more than the limit: of those that were used least lately, the first that is not
    /// `costly`, or else the very first.
    pub(crate) fn surplus(&self, costly: impl Fn(InodeNumber) -> bool) -> Option<InodeNumber> {
        if self.idle.len() <= self.most_idle {
            return None;
        }
        // The latest stay: an operation is working with them.
        let older = self.idle.len() - self.most_idle / 2;
        let mut old = self.idle.values().take(older).copied();
        let first = old.clone().next();
        old.find(|number| !costly(*number)).or(first)
    }

    /// How many nobody holds.
    #[cfg(test)]
    pub(crate) fn idle_count(&self) -> usize {
        self.idle.len()
    }

    pub(crate) fn listed(&mut self) -> &mut Listed {
        &mut self.listed
    }
}

/// The names of the numbers that listings told last: a caller may use such a number without looking its name up.
#[derive(Default)]
pub(crate) struct Listed {
    places: BTreeMap<InodeNumber, Place>,
    order: VecDeque<InodeNumber>,
}

impl Listed {
    /// How many are kept: more than a full buffer of `getdents64` has.
    const MOST: usize = 2048;

    pub(crate) fn add(&mut self, number: InodeNumber, place: Place) {
        if self.places.insert(number, place).is_some() {
            return;
        }
        self.order.push_back(number);
        if self.order.len() > Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
    }

    pub(crate) fn find(&self, number: InodeNumber) -> Option<Place> {
        self.places.get(&number).cloned()
    }
}
