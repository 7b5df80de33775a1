//! Inodes: reading and writing them in their table, attributes, time stamps.

use crate::cache::Seal;
use crate::checksum::crc32c;
use crate::layout::inode::{
    BASE_BYTES, CHECKSUM_HI_AT, CHECKSUM_LO_AT, EXTRA_BYTES, InodeFlags, RawInode, kind_bits,
};
use crate::layout::{le16, put16};
use crate::{AttributeChange, Attributes, BlockDevice, Error, Ext4, FileKind, InodeNumber, Timestamp};
use zerocopy::IntoBytes;

/// An inode with its number. What lies behind the fixed fields stays in the table's block.
#[derive(Clone)]
pub(crate) struct Inode {
    pub number: u32,
    pub raw: RawInode,
}

/// Where an inode lies.
#[derive(Clone, Copy)]
pub(crate) struct InodePlace {
    pub block: u64,
    pub at: usize,
}

impl Inode {
    /// The inode's kind; a free or damaged inode has none.
    pub(crate) fn kind(&self) -> Result<FileKind, Error> {
        self.raw.kind().ok_or(Error::Corrupt("inode mode"))
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.raw.kind() == Some(FileKind::Directory)
    }

    pub(crate) fn has(&self, flags: InodeFlags) -> bool {
        self.raw.flags().contains(flags)
    }
}

/// Bytes of the fixed fields that this inode really has, from its own statement.
fn fixed_bytes(inode_bytes: usize, extra: u16) -> usize {
    if inode_bytes == BASE_BYTES {
        return BASE_BYTES;
    }
    BASE_BYTES + usize::from(extra).min(EXTRA_BYTES).min(inode_bytes - BASE_BYTES)
}

/// The checksum over an inode's bytes, with its own fields as zeros.
fn inode_checksum(bytes: &[u8], seed: u32) -> u32 {
    let lo = CHECKSUM_LO_AT;
    let mut sum = crc32c(crc32c(seed, &bytes[..lo]), &[0; 2]);
    if bytes.len() == BASE_BYTES {
        return crc32c(sum, &bytes[lo + 2..]);
    }
    sum = crc32c(sum, &bytes[lo + 2..BASE_BYTES]);
    if !has_checksum_hi(bytes) {
        return crc32c(sum, &bytes[BASE_BYTES..]);
    }
    let hi = CHECKSUM_HI_AT;
    crc32c(crc32c(crc32c(sum, &bytes[BASE_BYTES..hi]), &[0; 2]), &bytes[hi + 2..])
}

fn has_checksum_hi(bytes: &[u8]) -> bool {
    bytes.len() > BASE_BYTES && le16(bytes, BASE_BYTES) >= 4
}

/// True if the stored checksum is right.
fn is_whole(bytes: &[u8], seed: u32) -> bool {
    let sum = inode_checksum(bytes, seed);
    let is_low_right = u32::from(le16(bytes, CHECKSUM_LO_AT)) == sum & 0xffff;
    is_low_right && (!has_checksum_hi(bytes) || u32::from(le16(bytes, CHECKSUM_HI_AT)) == sum >> 16)
}

impl<D: BlockDevice> Ext4<D> {
    /// Where an inode lies in its group's table.
    pub(crate) fn inode_place(&self, number: u32) -> Result<InodePlace, Error> {
        if number == 0 || number > self.geometry.inodes {
            return Err(Error::Corrupt("inode number"));
        }
        let (group, index) = self.geometry.place_of_inode(number);
        let offset = index as usize * self.geometry.inode_bytes;
        let table = self.groups[group as usize].inode_table();
        let block = table + (offset / self.geometry.block_bytes) as u64;
        Ok(InodePlace { block, at: offset % self.geometry.block_bytes })
    }

    /// Reads an inode, in use or not.
    pub(crate) fn inode(&mut self, number: u32) -> Result<Inode, Error> {
        let place = self.inode_place(number)?;
        let block = self.block(place.block, Seal::Plain)?;
        let bytes = &block[place.at..place.at + self.geometry.inode_bytes];
        let mut raw = RawInode::zeroed();
        let fixed = fixed_bytes(bytes.len(), le16(bytes, BASE_BYTES));
        raw.as_mut_bytes()[..fixed].copy_from_slice(&bytes[..fixed]);
        if self.geometry.checksum_seed.is_some() {
            self.verify_inode(number, place, bytes, raw.generation.get())?;
        }
        Ok(Inode { number, raw })
    }

    /// Checks an inode's checksum, once for each time that its block comes from the disk.
    fn verify_inode(
        &mut self,
        number: u32,
        place: InodePlace,
        bytes: &[u8],
        generation: u32,
    ) -> Result<(), Error> {
        let bit = 1u64.checked_shl((place.at / bytes.len()) as u32).unwrap_or(0);
        if self.cache.get(place.block).is_some_and(|block| block.verified & bit != 0) {
            return Ok(());
        }
        if !is_whole(bytes, self.geometry.inode_seed(number, generation)) {
            return Err(Error::Corrupt("checksum of an inode"));
        }
        if let Some(block) = self.cache.get(place.block) {
            block.verified |= bit;
        }
        Ok(())
    }

    /// Reads an inode that a name or a caller leads to, which must be in use.
    pub(crate) fn used_inode(&mut self, number: InodeNumber) -> Result<Inode, Error> {
        if number.0 == 0 || number.0 > self.geometry.inodes {
            return Err(Error::NotFound);
        }
        let inode = self.inode(number.0)?;
        if inode.raw.links.get() == 0 && !self.open.contains_key(&number.0) {
            return Err(Error::NotFound);
        }
        inode.kind()?;
        Ok(inode)
    }

    /// Reads a directory's inode.
    pub(crate) fn directory(&mut self, number: InodeNumber) -> Result<Inode, Error> {
        let inode = self.used_inode(number)?;
        if inode.is_directory() { Ok(inode) } else { Err(Error::NotADirectory) }
    }

    /// Writes an inode back into its table.
    pub(crate) fn write_inode(&mut self, inode: &Inode) -> Result<(), Error> {
        let place = self.inode_place(inode.number)?;
        let inode_bytes = self.geometry.inode_bytes;
        let seed = self.geometry.inode_seed(inode.number, inode.raw.generation.get());
        let has_checksums = self.geometry.checksum_seed.is_some();
        self.note_inode(inode.number, false);
        self.modify(place.block, Seal::Plain, |block| {
            let bytes = &mut block[place.at..place.at + inode_bytes];
            let fixed = fixed_bytes(inode_bytes, inode.raw.extra_size.get());
            bytes[..fixed].copy_from_slice(&inode.raw.as_bytes()[..fixed]);
            if has_checksums {
                seal_bytes(bytes, seed);
            }
        })
    }

    /// Zeroes all bytes of an inode, those behind the fixed fields too.
    pub(crate) fn clear_inode(&mut self, number: u32) -> Result<(), Error> {
        let place = self.inode_place(number)?;
        let inode_bytes = self.geometry.inode_bytes;
        self.modify(place.block, Seal::Plain, |block| block[place.at..place.at + inode_bytes].fill(0))
    }

    /// Adds to or takes from the blocks that an inode is charged for.
    pub(crate) fn charge(&self, inode: &mut Inode, blocks: i64) -> Result<(), Error> {
        let stored = inode.raw.stored_blocks();
        let sectors = (self.geometry.block_bytes / 512) as i64;
        let unit = if inode.has(InodeFlags::HUGE_FILE) { 1 } else { sectors };
        let new = stored.checked_add_signed(blocks * unit).ok_or(Error::Corrupt("inode's block count"))?;
        if new >> 32 != 0 && unit != 1 && self.geometry.has_huge_files {
            // Past 2 TiB the count needs its upper half, which is valid with or without the larger unit.
            if new >> 48 != 0 {
                return Err(Error::TooLarge);
            }
        }
        inode.raw.set_stored_blocks(new);
        Ok(())
    }

    /// Returns what is known about an inode.
    pub fn attributes(&mut self, inode: InodeNumber) -> Result<Attributes, Error> {
        let inode = self.used_inode(inode)?;
        let (raw, kind) = (&inode.raw, inode.kind()?);
        let is_device = matches!(kind, FileKind::CharacterDevice | FileKind::BlockDevice);
        let unit =
            if inode.has(InodeFlags::HUGE_FILE) { (self.geometry.block_bytes / 512) as u64 } else { 1 };
        Ok(Attributes {
            kind,
            permissions: raw.mode.get() & 0o7777,
            user: raw.user(),
            group: raw.group(),
            size: raw.size(),
            links: u32::from(raw.links.get()),
            blocks_512: raw.stored_blocks() * unit,
            device: if is_device { raw.device() } else { 0 },
            accessed: raw.accessed(),
            modified: raw.modified(),
            changed: raw.changed(),
            born: raw.born(),
            generation: raw.generation.get(),
            is_mappable: inode.has(InodeFlags::EXTENTS) && !inode.has(InodeFlags::INLINE_DATA),
        })
    }

    /// Changes attributes, and the time of change.
    pub fn set_attributes(
        &mut self,
        inode: InodeNumber,
        change: AttributeChange,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.operation(now, |fs| {
            let mut inode = fs.used_inode(inode)?;
            let raw = &mut inode.raw;
            if let Some(permissions) = change.permissions {
                raw.mode = (raw.mode.get() & 0xf000 | permissions & 0o7777).into();
            }
            if let Some(user) = change.user {
                raw.set_user(user);
            }
            if let Some(group) = change.group {
                raw.set_group(group);
            }
            if let Some(accessed) = change.accessed {
                raw.set_accessed(accessed);
            }
            if let Some(modified) = change.modified {
                raw.set_modified(modified);
            }
            raw.set_changed(now);
            fs.write_inode(&inode)
        })
    }

    /// A new inode of a kind, with nothing in it.
    pub(crate) fn blank_inode(&self, number: u32, kind: FileKind, permissions: u16, now: Timestamp) -> Inode {
        let mut raw = RawInode::zeroed();
        raw.mode = (kind_bits(kind) | permissions & 0o7777).into();
        raw.extra_size = self.geometry.extra_inode_bytes.into();
        raw.set_accessed(now);
        raw.set_modified(now);
        raw.set_changed(now);
        raw.set_born(now);
        Inode { number, raw }
    }
}

/// Writes a new inode's bytes, for who makes a whole table.
pub(crate) fn seal_inode(geometry: &crate::geometry::Geometry, inode: &Inode, bytes: &mut [u8]) {
    let fixed = fixed_bytes(bytes.len(), inode.raw.extra_size.get());
    bytes[..fixed].copy_from_slice(&inode.raw.as_bytes()[..fixed]);
    if geometry.checksum_seed.is_some() {
        seal_bytes(bytes, geometry.inode_seed(inode.number, inode.raw.generation.get()));
    }
}

/// Makes the checksum of an inode's bytes right.
pub(crate) fn seal_bytes(bytes: &mut [u8], seed: u32) {
    let sum = inode_checksum(bytes, seed);
    put16(bytes, CHECKSUM_LO_AT, (sum & 0xffff) as u16);
    if has_checksum_hi(bytes) {
        put16(bytes, CHECKSUM_HI_AT, (sum >> 16) as u16);
    }
}
