//! The kernel, as a mounted filesystem sees it: operations that the input chooses, on inodes that were found before.

use std::ops::ControlFlow;

use unikernel_vfs::{
    AttributeChange, FileSystem, InodeNumber, NewKind, NewNode, RenameMode, Storage, Sync, Timestamp,
};

/// The bytes that choose an operation.
pub(crate) type Choice = [u8; 6];

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };
/// Bytes of a read or write at most.
const MOST_BYTES: usize = 9000;
/// Names that a listing takes.
const MOST_NAMES: usize = 100;
/// Inodes that are remembered.
const MOST_KNOWN: usize = 64;
/// Names that there may be, and others.
const NAMES: [&[u8]; 12] =
    [b"file", b"dir", b"link", b"many", b"torn", b"new", b".", b"..", b"", b"name-7", b"a/b", &[b'n'; 255]];

pub(crate) struct User {
    known: Vec<InodeNumber>,
    open: Vec<InodeNumber>,
}

impl User {
    pub(crate) fn new(fs: &dyn FileSystem) -> Self {
        Self { known: vec![fs.root()], open: Vec::new() }
    }

    /// One operation. What it answers does not matter, but for what no answer may be.
    pub(crate) fn act(&mut self, fs: &mut dyn FileSystem, [what, inode, other, name, at, len]: Choice) {
        let pick = |byte: u8| self.known[usize::from(byte) % self.known.len()];
        let (inode, other, name) = (pick(inode), pick(other), NAMES[usize::from(name) % NAMES.len()]);
        let (offset, len) = (place(at), usize::from(len) * 36);
        match what % 26 {
            0..3 => self.known.extend(fs.lookup(inode, name)),
            3 => self.known.extend(fs.create(inode, name, node(at), NOW)),
            4 | 5 => self.list(fs, inode, u64::from(at)),
            6 => _ = fs.attributes(inode),
            7 => self.open.extend(fs.open(inode).is_ok().then_some(inode)),
            8 => {
                if let Some(inode) = self.open.pop() {
                    let _ = fs.close(inode, NOW);
                }
            }
            9 | 10 => read(fs, inode, offset, len),
            11 | 12 => write(fs, inode, offset, len),
            13 => _ = fs.set_size(inode, offset, NOW),
            14 => {
                let target = fs.read_link(inode);
                assert!(target.is_err() || target.is_ok_and(|target| target.len() <= 4096));
            }
            15 => {
                let change =
                    AttributeChange { user: Some(1), modified: Some(NOW), ..AttributeChange::default() };
                let _ = fs.set_attributes(inode, change, NOW);
            }
            16 => _ = fs.set_extended_attribute(inode, b"user.a", &vec![5; len], NOW),
            17 => {
                for name in fs.extended_attribute_names(inode).unwrap_or_default() {
                    let _ = fs.extended_attribute(inode, &name);
                }
            }
            18 => _ = fs.remove_extended_attribute(inode, b"user.a", NOW),
            19 => _ = fs.link(inode, other, name, NOW),
            20 => {
                let mode =
                    [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange][usize::from(at) % 3];
                let _ = fs.rename(inode, NAMES[usize::from(at) % NAMES.len()], other, name, mode, NOW);
            }
            21 => _ = fs.unlink(inode, name, NOW),
            22 => _ = fs.remove_directory(inode, name, NOW),
            23 => {
                _ = (
                    fs.punch(inode, offset, len as u64, NOW),
                    fs.allocate_range(inode, offset, len as u64, true, NOW),
                );
            }
            24 => {
                _ = (
                    fs.next_data(inode, offset),
                    fs.next_hole(inode, offset),
                    fs.sync_inode(inode, Sync::All, NOW),
                );
            }
            _ => _ = (fs.statistics(), fs.commit(NOW)),
        }
        if self.known.len() > MOST_KNOWN {
            self.known.drain(1..MOST_KNOWN / 2);
        }
    }

    fn list(&mut self, fs: &mut dyn FileSystem, directory: InodeNumber, cookie: u64) {
        let mut left = MOST_NAMES;
        let _ = fs.entries(directory, cookie, &mut |entry| {
            assert!(!entry.name.is_empty() && !entry.name.contains(&b'/') && !entry.name.contains(&0));
            self.known.push(entry.inode);
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }

    /// Lets go of everything and unmounts.
    pub(crate) fn end(self, fs: &mut dyn FileSystem) {
        for inode in self.open {
            let _ = fs.close(inode, NOW);
        }
        let _ = fs.unmount(NOW);
    }
}

fn node(kind: u8) -> NewNode<'static> {
    let kinds = [NewKind::File, NewKind::Directory, NewKind::Symlink(b"to"), NewKind::BlockDevice(0x801)];
    let kind = kinds[usize::from(kind) % kinds.len()];
    NewNode { kind, permissions: 0o644, user: 0, group: 0 }
}

/// An offset: small ones, and those at which numbers end.
fn place(byte: u8) -> u64 {
    match byte {
        0..200 => u64::from(byte) * 500,
        200..255 => (1 << (byte - 195)) - 5,
        255 => u64::MAX,
    }
}

fn read(fs: &mut dyn FileSystem, inode: InodeNumber, offset: u64, len: usize) {
    let block_bytes = u64::from(fs.block_bytes());
    match fs.storage() {
        Storage::Bytes(storage) => {
            let mut buffer = vec![0; len.min(MOST_BYTES)];
            let count = storage.read(inode, offset, &mut buffer).unwrap_or_default();
            assert!(count <= buffer.len());
        }
        Storage::Blocks(map) => {
            if let Ok(run) = map.map(inode, offset / block_bytes, 8) {
                assert!((1..=8).contains(&run.blocks), "{run:?}");
            }
        }
    }
}

fn write(fs: &mut dyn FileSystem, inode: InodeNumber, offset: u64, len: usize) {
    let block_bytes = u64::from(fs.block_bytes());
    match fs.storage() {
        Storage::Bytes(storage) => _ = storage.write(inode, offset, &vec![1; len]),
        Storage::Blocks(map) => {
            let Ok(runs) = map.prepare_write(inode, offset / block_bytes, 1 + len as u32 / 1024) else {
                return;
            };
            let is_cancelled = len.is_multiple_of(5);
            if is_cancelled
                || map.finish_write(inode, &runs, None, offset.checked_add(len as u64), NOW).is_err()
            {
                map.cancel_write(&runs);
            }
        }
    }
}
