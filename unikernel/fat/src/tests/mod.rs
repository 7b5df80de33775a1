//! Images that `fatfs` makes, images laid out by hand, and both with anything changed.

mod content;
mod damage;
mod image;
mod layout;
mod lies;
mod speed;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use unikernel_vfs::{ByteStorage, Error, FileKind, FileSystem, InodeNumber};

use crate::Fat;

/// A name, where it leads, and what is there.
type Listed = (String, InodeNumber, FileKind);

/// All of a directory, in pieces of `piece` names, each of which goes on where the one before ended.
fn list(fat: &mut Fat<'_>, directory: InodeNumber, piece: usize) -> Result<Vec<Listed>, Error> {
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        let mut left = piece;
        fat.entries(directory, cookie, &mut |entry| {
            let name = String::from_utf8(entry.name.to_vec()).unwrap();
            names.push((name, entry.inode, entry.kind.unwrap()));
            cookie = entry.next_cookie;
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if left > 0 {
            return Ok(names);
        }
    }
}

/// Names without `.` and `..`.
fn names(fat: &mut Fat<'_>, directory: InodeNumber) -> Vec<String> {
    let listed = list(fat, directory, usize::MAX).unwrap();
    assert!(listed[0].0 == "." && listed[1].0 == "..");
    listed.into_iter().skip(2).map(|(name, ..)| name).collect()
}

/// What a path of names from the root leads to.
fn find(fat: &mut Fat<'_>, path: &str) -> Result<InodeNumber, Error> {
    let root = fat.root();
    path.split('/').filter(|name| !name.is_empty()).try_fold(root, |at, name| fat.lookup(at, name.as_bytes()))
}

/// A file's whole content, in reads of `step` bytes.
fn content(fat: &mut Fat<'_>, inode: InodeNumber, step: usize) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    let mut buffer = vec![0; step];
    loop {
        let len = fat.read(inode, all.len() as u64, &mut buffer)?;
        all.extend_from_slice(&buffer[..len]);
        if len < step {
            return Ok(all);
        }
    }
}
