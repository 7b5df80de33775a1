//! Extended attributes. They lie in the inode behind its fixed fields, and what does not fit in one block that
//! inodes may share. A change writes both places anew; nobody else touches them.

use alloc::vec::Vec;

use zerocopy::{FromBytes, IntoBytes};

use crate::cache::Seal;
use crate::checksum::crc32c;
use crate::inode::Inode;
use crate::layout::inode::BASE_BYTES;
use crate::layout::xattr::{BLOCK_HEADER_BYTES, BODY_HEADER_BYTES, BlockHeader, ENTRY_BYTES, Entry, MAGIC};
use crate::layout::{le32, put32};
use crate::{BlockDevice, Error, Ext4, InodeNumber, Timestamp};

/// Prefixes of names by their number. Longer ones first: the first that fits counts.
const PREFIXES: [(u8, &[u8]); 6] = [
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
    (7, b"system."),
];

/// An attribute; the name is without its prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Attribute {
    index: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Attribute {
    /// Bytes that its entry and its value need.
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.name.len().next_multiple_of(4) + self.value.len().next_multiple_of(4)
    }

    /// The hash over name and value (`ext4_xattr_hash_entry`).
    fn hash(&self) -> u32 {
        let name = self.name.iter().fold(0u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        self.value.chunks(4).fold(name, |hash, word| {
            let mut whole = [0; 4];
            whole[..word.len()].copy_from_slice(word);
            hash.rotate_left(16) ^ u32::from_le_bytes(whole)
        })
    }
}

fn split_name(name: &[u8]) -> Result<(u8, &[u8]), Error> {
    let found = PREFIXES.iter().find_map(|(index, prefix)| Some((*index, name.strip_prefix(*prefix)?)));
    let (index, rest) = found.ok_or(Error::Unsupported)?;
    let is_whole = matches!(index, 2 | 3);
    if rest.is_empty() != is_whole {
        return Err(Error::Invalid);
    }
    if rest.len() > 255 { Err(Error::NameTooLong) } else { Ok((index, rest)) }
}

/// Reads the entries of one place. Values lie relative to `base`.
fn read_entries(bytes: &[u8], from: usize, base: usize, into: &mut Vec<Attribute>) -> Result<(), Error> {
    const DAMAGED: Error = Error::Corrupt("extended attributes");
    let mut at = from;
    while le32(bytes, at) != 0 {
        let (entry, _) = Entry::read_from_prefix(bytes.get(at..).ok_or(DAMAGED)?).map_err(|_| DAMAGED)?;
        if entry.value_inode.get() != 0 {
            return Err(Error::Unsupported);
        }
        let name_at = at + ENTRY_BYTES;
        let name = bytes.get(name_at..name_at + usize::from(entry.name_len)).ok_or(DAMAGED)?;
        let value_at = base + usize::from(entry.value_at.get());
        let value_len = entry.value_len.get() as usize;
        let value = match value_len {
            0 => &[][..],
            len => bytes.get(value_at..).and_then(|rest| rest.get(..len)).ok_or(DAMAGED)?,
        };
        into.push(Attribute { index: entry.name_index, name: name.to_vec(), value: value.to_vec() });
        at = name_at + usize::from(entry.name_len).next_multiple_of(4);
    }
    Ok(())
}

/// Writes entries from `from` on and values from the end; there must be room.
fn write_entries(bytes: &mut [u8], from: usize, base: usize, attributes: &[&Attribute]) {
    let (mut at, mut value_end) = (from, bytes.len());
    for attribute in attributes {
        let len = attribute.value.len();
        value_end -= len.next_multiple_of(4);
        bytes[value_end..value_end + len].copy_from_slice(&attribute.value);
        let value_at = if len == 0 { 0 } else { value_end - base };
        let entry = Entry {
            name_len: attribute.name.len() as u8,
            name_index: attribute.index,
            value_at: (value_at as u16).into(),
            value_inode: 0.into(),
            value_len: (len as u32).into(),
            hash: attribute.hash().into(),
        };
        bytes[at..at + ENTRY_BYTES].copy_from_slice(entry.as_bytes());
        let name_at = at + ENTRY_BYTES;
        bytes[name_at..name_at + attribute.name.len()].copy_from_slice(&attribute.name);
        at = name_at + attribute.name.len().next_multiple_of(4);
    }
}

/// In the order of a block's entries, in which Linux can search them. There are few, and most of them are in order. (A sort from
/// `core` takes 3 KiB of the stack for elements of this size.)
fn in_order(attributes: Vec<Attribute>) -> Vec<Attribute> {
    let mut sorted = Vec::<Attribute>::with_capacity(attributes.len());
    for new in attributes {
        let order = (new.index, new.name.len(), &new.name);
        let at = sorted.partition_point(|old| (old.index, old.name.len(), &old.name) < order);
        sorted.insert(at, new);
    }
    sorted
}

impl<D: BlockDevice> Ext4<D> {
    fn attribute_seal(&self, block: u64) -> Seal {
        let seed = self.geometry.checksum_seed.unwrap_or(0);
        Seal::Attributes(crc32c(seed, &block.to_le_bytes()))
    }

    /// Where the inode's own place for attributes begins and ends in it, if it has one.
    fn body_range(&self, inode: &Inode) -> Option<core::ops::Range<usize>> {
        let from = BASE_BYTES + usize::from(inode.raw.extra_size.get());
        let end = self.geometry.inode_bytes;
        (from > BASE_BYTES && from + 8 <= end && from.is_multiple_of(4)).then_some(from..end)
    }

    fn body(&mut self, inode: &Inode) -> Result<Option<Vec<u8>>, Error> {
        let Some(range) = self.body_range(inode) else { return Ok(None) };
        let place = self.inode_place(inode.number)?;
        let block = self.block(place.block, Seal::Plain)?;
        Ok(Some(block[place.at + range.start..place.at + range.end].to_vec()))
    }

    fn read_attributes(&mut self, inode: &Inode) -> Result<Vec<Attribute>, Error> {
        let mut attributes = Vec::new();
        if let Some(body) = self.body(inode)?
            && le32(&body, 0) == MAGIC
        {
            read_entries(&body, BODY_HEADER_BYTES, BODY_HEADER_BYTES, &mut attributes)?;
        }
        let block = inode.raw.xattr_block();
        if block != 0 {
            let bytes = self.attribute_block(block)?;
            read_entries(&bytes, BLOCK_HEADER_BYTES, 0, &mut attributes)?;
        }
        Ok(attributes)
    }

    fn attribute_block(&mut self, block: u64) -> Result<alloc::sync::Arc<[u8]>, Error> {
        if !self.geometry.has_blocks(block, 1) {
            return Err(Error::Corrupt("extended attributes"));
        }
        let bytes = self.block(block, self.attribute_seal(block))?;
        let is_sound = le32(&bytes, 0) == MAGIC && le32(&bytes, 8) == 1;
        if is_sound { Ok(bytes) } else { Err(Error::Corrupt("extended attributes")) }
    }

    /// Takes one user off a block of attributes, and frees it after the last.
    pub(crate) fn release_attribute_block(&mut self, block: u64) -> Result<(), Error> {
        let users = le32(&self.attribute_block(block)?, 4);
        if users > 1 {
            return self.modify(block, self.attribute_seal(block), |bytes| put32(bytes, 4, users - 1));
        }
        self.free_run(block, 1, true)
    }

    /// Returns the value of an attribute, whose name has its prefix, as in `user.mime`.
    pub fn attribute(&mut self, inode: InodeNumber, name: &[u8]) -> Result<Vec<u8>, Error> {
        let (index, name) = split_name(name)?;
        let inode = self.used_inode(inode)?;
        let attributes = self.read_attributes(&inode)?;
        let found = attributes.into_iter().find(|other| other.index == index && other.name == name);
        found.map(|attribute| attribute.value).ok_or(Error::NoAttribute)
    }

    /// Returns the names of all attributes whose prefix is known.
    pub fn attribute_names(&mut self, inode: InodeNumber) -> Result<Vec<Vec<u8>>, Error> {
        let inode = self.used_inode(inode)?;
        let attributes = self.read_attributes(&inode)?;
        let whole = |attribute: &Attribute| {
            let prefix = PREFIXES.iter().find(|prefix| prefix.0 == attribute.index)?;
            Some([prefix.1, &attribute.name].concat())
        };
        Ok(attributes.iter().filter_map(whole).collect())
    }

    /// Sets an attribute, whether it was there or not.
    pub fn set_attribute(
        &mut self,
        inode: InodeNumber,
        name: &[u8],
        value: &[u8],
        now: Timestamp,
    ) -> Result<(), Error> {
        let (index, name) = split_name(name)?;
        if value.len() > 65535 {
            return Err(Error::NoSpace);
        }
        self.change_attributes(inode, now, |attributes| {
            attributes.retain(|other| other.index != index || other.name != name);
            attributes.push(Attribute { index, name: name.to_vec(), value: value.to_vec() });
            Ok(())
        })
    }

    /// Removes an attribute.
    pub fn remove_attribute(&mut self, inode: InodeNumber, name: &[u8], now: Timestamp) -> Result<(), Error> {
        let (index, name) = split_name(name)?;
        self.change_attributes(inode, now, |attributes| {
            let before = attributes.len();
            attributes.retain(|other| other.index != index || other.name != name);
            if attributes.len() < before { Ok(()) } else { Err(Error::NoAttribute) }
        })
    }

    fn change_attributes(
        &mut self,
        inode: InodeNumber,
        now: Timestamp,
        change: impl Fn(&mut Vec<Attribute>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.operation(now, |fs| {
            let mut inode = fs.used_inode(inode)?;
            let mut attributes = fs.read_attributes(&inode)?;
            change(&mut attributes)?;
            let attributes = in_order(attributes);
            fs.store_attributes(&mut inode, &attributes)?;
            inode.raw.set_changed(now);
            fs.write_inode(&inode)
        })
    }

    /// Divides the attributes between the inode and a block.
    fn store_attributes(&mut self, inode: &mut Inode, attributes: &[Attribute]) -> Result<(), Error> {
        let body = self.body_range(inode);
        // Four zero bytes end the entries of either place.
        let mut room = body.as_ref().map_or(0, |range| range.len() - BODY_HEADER_BYTES - 4);
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for attribute in attributes {
            if attribute.bytes() <= room {
                room -= attribute.bytes();
                inside.push(attribute);
            } else {
                outside.push(attribute);
            }
        }
        let needed: usize = outside.iter().map(|attribute| attribute.bytes()).sum();
        if needed + BLOCK_HEADER_BYTES + 4 > self.geometry.block_bytes {
            return Err(Error::NoSpace);
        }
        if let Some(range) = body {
            let mut bytes = alloc::vec![0; range.len()];
            if !inside.is_empty() {
                put32(&mut bytes, 0, MAGIC);
                write_entries(&mut bytes, BODY_HEADER_BYTES, BODY_HEADER_BYTES, &inside);
            }
            let place = self.inode_place(inode.number)?;
            self.modify(place.block, Seal::Plain, |block| {
                block[place.at + range.start..place.at + range.end].copy_from_slice(&bytes);
            })?;
        }
        self.store_outside(inode, &outside)
    }

    fn store_outside(&mut self, inode: &mut Inode, attributes: &[&Attribute]) -> Result<(), Error> {
        let old = inode.raw.xattr_block();
        let is_shared = old != 0 && le32(&self.attribute_block(old)?, 4) > 1;
        if old != 0 && (attributes.is_empty() || is_shared) {
            self.release_attribute_block(old)?;
            inode.raw.set_xattr_block(0);
            self.charge(inode, -1)?;
        }
        if attributes.is_empty() {
            return Ok(());
        }
        if inode.raw.xattr_block() == 0 {
            let (group, _) = self.geometry.place_of_inode(inode.number);
            let block = self.take_single(self.geometry.group_start(group))?;
            self.create_block(block, self.attribute_seal(block));
            inode.raw.set_xattr_block(block);
            self.charge(inode, 1)?;
        }
        let mut bytes = alloc::vec![0; self.geometry.block_bytes];
        write_entries(&mut bytes, BLOCK_HEADER_BYTES, 0, attributes);
        let hash = attributes.iter().fold(0u32, |hash, attribute| hash.rotate_left(16) ^ attribute.hash());
        let header = BlockHeader {
            magic: MAGIC.into(),
            users: 1.into(),
            blocks: 1.into(),
            hash: hash.into(),
            checksum: 0.into(),
            reserved: [0.into(); 3],
        };
        bytes[..BLOCK_HEADER_BYTES].copy_from_slice(header.as_bytes());
        let block = inode.raw.xattr_block();
        self.modify(block, self.attribute_seal(block), |old| old.copy_from_slice(&bytes))
    }
}
