//! A check of a whole filesystem, for where `e2fsck` would take too long: every block and every inode is used by
//! exactly one thing, all counts are right, names lead where they should.

use std::collections::{BTreeMap, HashMap};
use std::string::String;
use std::vec::Vec;

use super::ROOT;
use crate::bitmap;
use crate::inode::Inode;
use crate::layout::extent::Index;
use crate::layout::inode::InodeFlags;
use crate::{BlockDevice, Ext4, FileKind, InodeNumber};

/// What is claimed, and what names were seen.
struct Census {
    /// One byte for each block.
    blocks: Vec<u8>,
    /// Links that were seen.
    links: BTreeMap<u32, u32>,
    directories: HashMap<u32, u32>,
}

impl Census {
    fn claim(&mut self, start: u64, len: u32, what: &str) {
        for block in start..start + u64::from(len) {
            let slot = &mut self.blocks[usize::try_from(block).expect("a small disk")];
            assert!(*slot == 0, "block {block} is used twice, by {what}");
            *slot = 1;
        }
    }
}

/// Fails with a sentence if the filesystem contradicts itself. Nothing may be uncommitted.
pub(super) fn check<D: BlockDevice>(fs: &mut Ext4<D>) {
    assert!(!fs.has_uncommitted() && fs.orphans.is_empty() && fs.reservations.is_empty());
    let blocks = usize::try_from(fs.geometry.blocks).expect("a small disk");
    let mut census =
        Census { blocks: std::vec![0; blocks], links: BTreeMap::new(), directories: HashMap::new() };
    claim_metadata(fs, &mut census);
    let journal = fs.superblock.journal_inode.get();
    claim_inode(fs, &mut census, journal);
    walk(fs, &mut census);
    check_links(fs, &census);
    check_bitmaps(fs, &census);
}

fn claim_metadata<D: BlockDevice>(fs: &mut Ext4<D>, census: &mut Census) {
    for index in 0..fs.geometry.groups {
        let group = fs.groups[index as usize];
        census.claim(fs.geometry.group_start(index), fs.geometry.head_blocks(index), "a group's head");
        census.claim(group.block_bitmap(), 1, "a block bitmap");
        census.claim(group.inode_bitmap(), 1, "an inode bitmap");
        census.claim(group.inode_table(), fs.geometry.table_blocks(), "an inode table");
    }
}

/// Claims what an inode has; its own count must agree.
fn claim_inode<D: BlockDevice>(fs: &mut Ext4<D>, census: &mut Census, number: u32) -> Inode {
    let inode = fs.inode(number).expect("the inode can be read");
    let mut count = 0;
    if inode.has(InodeFlags::EXTENTS) {
        count += claim_nodes(fs, census, &inode);
        let end = inode.raw.size().div_ceil(fs.geometry.block_bytes as u64);
        let mut at = 0;
        while at < u32::MAX {
            let (extent, next) = match fs.find_extent(&inode, at).expect("the tree can be read") {
                Ok(extent) => (Some(extent), extent.end()),
                Err(Some(next)) => (None, next),
                Err(None) => break,
            };
            if let Some(extent) = extent {
                let is_inside = extent.is_unwritten || u64::from(extent.end()) <= end;
                assert!(is_inside, "inode {number} has blocks past its end");
                census.claim(extent.start, extent.len, "a file");
                count += extent.len;
            }
            at = next;
        }
    }
    if inode.raw.xattr_block() != 0 {
        census.claim(inode.raw.xattr_block(), 1, "attributes");
        count += 1;
    }
    let sectors = u64::from(count) * (fs.geometry.block_bytes / 512) as u64;
    assert_eq!(inode.raw.stored_blocks(), sectors, "block count of inode {number}");
    inode
}

/// Claims the nodes of an extent tree, found by its first leaf and each next.
fn claim_nodes<D: BlockDevice>(fs: &mut Ext4<D>, census: &mut Census, inode: &Inode) -> u32 {
    let (mut count, mut stack) = (0, std::vec![(None, None::<u32>)]);
    while let Some((block, first)) = stack.pop() {
        let node = fs.node(inode, block).expect("the node can be read");
        let header = crate::extents::read_header(&node).expect("the header can be read");
        if let Some(block) = block {
            census.claim(block, 1, "an extent node");
            count += 1;
        }
        for position in 0..usize::from(header.entries.get()) {
            let entry = Index::read(&node[crate::extents::entry_at(position)..]).expect("an entry");
            if position == 0 && first.is_some() {
                assert_eq!(first, Some(entry.file_block), "first key of a node");
            }
            if header.depth.get() > 0 {
                stack.push((Some(entry.child), Some(entry.file_block)));
            }
        }
    }
    count
}

fn names_of<D: BlockDevice>(fs: &mut Ext4<D>, directory: u32) -> Vec<(String, u32, Option<FileKind>)> {
    let mut names = Vec::new();
    fs.entries(InodeNumber(directory), 0, &mut |entry| {
        let name = String::from_utf8_lossy(entry.name).into_owned();
        names.push((name, entry.inode.0, entry.kind));
        core::ops::ControlFlow::Continue(())
    })
    .expect("the directory can be listed");
    names
}

fn walk<D: BlockDevice>(fs: &mut Ext4<D>, census: &mut Census) {
    let mut todo = std::vec![(ROOT.0, ROOT.0)];
    while let Some((directory, parent)) = todo.pop() {
        claim_inode(fs, census, directory);
        census.directories.insert(directory, parent);
        for (name, target, kind) in names_of(fs, directory) {
            *census.links.entry(target).or_insert(0) += 1;
            match name.as_str() {
                "." => assert_eq!(target, directory),
                ".." => assert_eq!(target, parent),
                _ => {
                    let found = fs.lookup(InodeNumber(directory), name.as_bytes());
                    assert_eq!(found, Ok(InodeNumber(target)), "{name} in {directory}");
                    let real = fs.inode(target).expect("the inode can be read").kind().expect("a kind");
                    assert_eq!(kind, Some(real), "kind of {name}");
                    if real == FileKind::Directory {
                        assert!(!census.directories.contains_key(&target), "a directory with two names");
                        todo.push((target, directory));
                    } else if census.links[&target] == 1 {
                        claim_inode(fs, census, target);
                    }
                }
            }
        }
    }
}

fn check_links<D: BlockDevice>(fs: &mut Ext4<D>, census: &Census) {
    for (number, seen) in &census.links {
        let inode = fs.inode(*number).expect("the inode can be read");
        assert_eq!(u32::from(inode.raw.links.get()), *seen, "links of inode {number}");
    }
}

fn check_bitmaps<D: BlockDevice>(fs: &mut Ext4<D>, census: &Census) {
    for index in 0..fs.geometry.groups {
        let group = fs.groups[index as usize];
        let bits = fs.block_bitmap(index).expect("the bitmap can be read");
        let (start, len) = (fs.geometry.group_start(index), fs.geometry.group_blocks(index));
        let mut free = 0;
        for bit in 0..len {
            let is_used = bitmap::all_set(&bits, bit, 1);
            let block = start + u64::from(bit);
            assert_eq!(is_used, census.blocks[block as usize] != 0, "bit of block {block}");
            free += u32::from(!is_used);
        }
        assert_eq!(free, group.free_blocks(), "free blocks of group {index}");
        let bits = fs.inode_bitmap(index).expect("the bitmap can be read");
        let (mut free, mut directories) = (0, 0);
        for bit in 0..fs.geometry.inodes_per_group {
            let number = index * fs.geometry.inodes_per_group + bit + 1;
            let is_used = census.links.contains_key(&number) || number < fs.geometry.first_inode;
            assert_eq!(bitmap::all_set(&bits, bit, 1), is_used, "bit of inode {number}");
            free += u32::from(!is_used);
            directories += u32::from(census.directories.contains_key(&number));
        }
        assert_eq!(free, group.free_inodes(), "free inodes of group {index}");
        assert_eq!(directories, group.used_directories(), "directories of group {index}");
    }
}
