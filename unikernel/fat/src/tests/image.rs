//! Images laid out by hand.

use alloc::vec;
use alloc::vec::Vec;

use crate::name::checksum;

pub(super) const SECTOR: usize = 512;
pub(super) const DIRECTORY: u8 = 0x10;
pub(super) const END_32: u32 = 0x0fff_ffff;

/// FAT32 or FAT16 with sectors and clusters of 512 bytes, 32 reserved sectors and one table.
pub(super) struct Image {
    pub(super) bytes: Vec<u8>,
    is_fat32: bool,
    data: usize,
}

impl Image {
    /// FAT32, however few clusters; the root is in cluster 2.
    pub(super) fn fat32(clusters: u32) -> Self {
        let mut image = Self::new(clusters, true);
        image.bytes[44..48].copy_from_slice(&2_u32.to_le_bytes());
        image.bytes[66] = 0x29;
        image.bytes[67..71].copy_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        image.bytes[71..82].copy_from_slice(b"NO NAME    ");
        image.set(2, END_32);
        image
    }

    /// FAT16 with a root of 512 slots. The number of clusters must be one of FAT16.
    pub(super) fn fat16(clusters: u32) -> Self {
        assert!((4085..65_525).contains(&clusters));
        Self::new(clusters, false)
    }

    fn new(clusters: u32, is_fat32: bool) -> Self {
        let table_sectors = ((clusters + 2) * if is_fat32 { 4 } else { 2 }).div_ceil(SECTOR as u32);
        let root_sectors = if is_fat32 { 0 } else { 32 };
        let data = 32 + table_sectors + root_sectors;
        let sectors = data + clusters;
        let mut bytes = vec![0; sectors as usize * SECTOR];
        bytes[11..13].copy_from_slice(&(SECTOR as u16).to_le_bytes());
        bytes[13] = 1;
        bytes[14] = 32;
        bytes[16] = 1;
        bytes[21] = 0xf8;
        bytes[32..36].copy_from_slice(&sectors.to_le_bytes());
        if is_fat32 {
            bytes[36..40].copy_from_slice(&table_sectors.to_le_bytes());
        } else {
            bytes[17..19].copy_from_slice(&512_u16.to_le_bytes());
            bytes[22..24].copy_from_slice(&(table_sectors as u16).to_le_bytes());
        }
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        Self { bytes, is_fat32, data: data as usize * SECTOR }
    }

    /// Sets an entry of the allocation table.
    pub(super) fn set(&mut self, cluster: u32, value: u32) {
        let at = 32 * SECTOR + cluster as usize * if self.is_fat32 { 4 } else { 2 };
        match self.is_fat32 {
            true => self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes()),
            false => self.bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes()),
        }
    }

    /// Makes a chain of clusters.
    pub(super) fn chain(&mut self, clusters: &[u32]) {
        for pair in clusters.windows(2) {
            self.set(pair[0], pair[1]);
        }
        self.set(*clusters.last().unwrap(), END_32);
    }

    /// Where a cluster begins.
    pub(super) fn at(&self, cluster: u32) -> usize {
        self.data + (cluster as usize - 2) * SECTOR
    }

    /// Puts bytes where a cluster begins, and on into those behind it.
    pub(super) fn put(&mut self, cluster: u32, bytes: &[u8]) {
        let at = self.at(cluster);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes a cluster a directory's first: `.`, `..` and these slots.
    pub(super) fn directory(&mut self, cluster: u32, parent: u32, slots: &[u8]) {
        let dot = slot(b".          ", DIRECTORY, cluster, 0);
        let parent = slot(b"..         ", DIRECTORY, parent, 0);
        self.put(cluster, &[&dot, &parent, slots].concat());
    }
}

/// An entry.
pub(super) fn slot(name: &[u8; 11], attributes: u8, cluster: u32, bytes: u32) -> Vec<u8> {
    let mut slot = vec![0; 32];
    slot[..11].copy_from_slice(name);
    slot[11] = attributes;
    slot[20..22].copy_from_slice(&((cluster >> 16) as u16).to_le_bytes());
    slot[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
    slot[28..].copy_from_slice(&bytes.to_le_bytes());
    slot
}

/// The parts of a long name for the entry with a short one.
pub(super) fn long(name: &[u16], short: &[u8; 11]) -> Vec<u8> {
    let mut units = name.to_vec();
    if !units.len().is_multiple_of(13) {
        units.push(0);
    }
    units.resize(units.len().next_multiple_of(13), 0xffff);
    let parts: Vec<&[u16]> = units.chunks(13).collect();
    let mut slots = Vec::new();
    for (index, part) in parts.iter().enumerate().rev() {
        let mut slot = vec![0; 32];
        slot[0] = (index as u8 + 1) | if index + 1 == parts.len() { 0x40 } else { 0 };
        slot[11] = 0x0f;
        slot[13] = checksum(short);
        let bytes: Vec<u8> = part.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        slot[1..11].copy_from_slice(&bytes[..10]);
        slot[14..26].copy_from_slice(&bytes[10..22]);
        slot[28..32].copy_from_slice(&bytes[22..]);
        slots.extend(slot);
    }
    slots
}

pub(super) fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}
