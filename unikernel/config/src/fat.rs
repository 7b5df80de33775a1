//! FAT12, FAT16 and FAT32 (Microsoft, "FAT: General Overview of On-Disk Format", 1.03): the label, and files in the root.

use alloc::string::String;
use alloc::vec::Vec;

use unikernel_vfs::Volume;

use crate::volume::{VolumeError, read_array, read_at, u16_at, u32_at, zeros};

const ENTRY_BYTES: usize = 32;
/// Entries of the root that are looked at.
const MAX_ENTRIES: u64 = 4096;
const VOLUME_LABEL: u8 = 8;
const DIRECTORY: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;
/// The first byte of an entry that is free, and of the first that never was used.
const FREE: u8 = 0xe5;
const END: u8 = 0;
/// Characters of a long name in one entry, at these offsets.
const LONG_CHARACTERS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
const MAX_NAME_UNITS: usize = 255;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Fat12,
    Fat16,
    Fat32,
}

/// A filesystem. All numbers are bytes but those of clusters.
pub struct Fat<'a> {
    volume: &'a dyn Volume,
    kind: Kind,
    /// The label in the boot sector.
    label: [u8; 11],
    table: u64,
    /// Where the root is: a region, or from a cluster on.
    root: u64,
    root_entries: u64,
    root_cluster: u32,
    data: u64,
    cluster_bytes: u64,
    clusters: u32,
}

/// A file of the root.
struct Entry {
    name: String,
    attributes: u8,
    short_name: [u8; 11],
    cluster: u32,
    bytes: u32,
}

impl<'a> Fat<'a> {
    /// Looks for one; none if the volume has another filesystem.
    pub fn open(volume: &'a dyn Volume) -> Result<Option<Self>, VolumeError> {
        if volume.size_bytes() < 512 {
            return Ok(None);
        }
        let sector: [u8; 512] = read_array(volume, 0)?;
        Ok(Self::of(volume, &sector))
    }

    fn of(volume: &'a dyn Volume, sector: &[u8; 512]) -> Option<Self> {
        let sector_bytes = u64::from(u16_at(sector, 11));
        let per_cluster = u64::from(sector[13]);
        let tables = u64::from(sector[16]);
        let is_one = sector[510..] == [0x55, 0xaa]
            && matches!(sector_bytes, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two()
            && (1..=4).contains(&tables);
        if !is_one {
            return None;
        }
        let or_long = |short: u16, long: u32| if short == 0 { u64::from(long) } else { u64::from(short) };
        let reserved = u64::from(u16_at(sector, 14));
        let sectors = or_long(u16_at(sector, 19), u32_at(sector, 32));
        let table_sectors = or_long(u16_at(sector, 22), u32_at(sector, 36));
        let root_entries = u64::from(u16_at(sector, 17));
        let root = reserved + tables * table_sectors;
        let data = root + (root_entries * ENTRY_BYTES as u64).div_ceil(sector_bytes);
        let is_whole = reserved > 0 && table_sectors > 0 && data < sectors;
        if !is_whole || sectors * sector_bytes > volume.size_bytes() {
            return None;
        }
        let clusters = u32::try_from((sectors - data) / per_cluster).ok()?;
        let kind = match clusters {
            0..4085 => Kind::Fat12,
            4085..65525 => Kind::Fat16,
            _ => Kind::Fat32,
        };
        let label_at = if kind == Kind::Fat32 { 71 } else { 43 };
        let mut label = [0; 11];
        label.copy_from_slice(&sector[label_at..label_at + 11]);
        Some(Self {
            volume,
            kind,
            label,
            table: reserved * sector_bytes,
            root: root * sector_bytes,
            root_entries,
            root_cluster: u32_at(sector, 44),
            data: data * sector_bytes,
            cluster_bytes: per_cluster * sector_bytes,
            clusters,
        })
    }

    /// True if the volume is called so, in any case of letters: by its boot sector or by an entry of its root.
    pub fn has_label(&self, wanted: &str) -> Result<bool, VolumeError> {
        let is_wanted = |label: &[u8; 11]| label.trim_ascii_end().eq_ignore_ascii_case(wanted.as_bytes());
        if is_wanted(&self.label) {
            return Ok(true);
        }
        let is_label = |entry: &Entry| {
            entry.attributes & (VOLUME_LABEL | DIRECTORY) == VOLUME_LABEL && is_wanted(&entry.short_name)
        };
        Ok(self.find(is_label)?.is_some())
    }

    /// The content of a file in the root; none if there is none.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, VolumeError> {
        let is_wanted = |entry: &Entry| {
            entry.attributes & (VOLUME_LABEL | DIRECTORY) == 0 && entry.name.eq_ignore_ascii_case(name)
        };
        let Some(entry) = self.find(is_wanted)? else { return Ok(None) };
        let mut content = zeros(entry.bytes as usize)?;
        let mut cluster = entry.cluster;
        for (index, piece) in content.chunks_mut(self.cluster_bytes as usize).enumerate() {
            if index > 0 {
                cluster = self.next(cluster)?.ok_or(VolumeError::Damaged)?;
            }
            read_at(self.volume, self.place(cluster)?, piece)?;
        }
        Ok(Some(content))
    }

    fn find(&self, is_wanted: impl Fn(&Entry) -> bool) -> Result<Option<Entry>, VolumeError> {
        let mut long = LongName::default();
        let mut cluster = self.root_cluster;
        for index in 0..MAX_ENTRIES {
            let offset = match self.kind {
                Kind::Fat32 => {
                    let within = index * ENTRY_BYTES as u64 % self.cluster_bytes;
                    if within == 0 && index > 0 {
                        match self.next(cluster)? {
                            Some(next) => cluster = next,
                            None => break,
                        }
                    }
                    self.place(cluster)? + within
                }
                _ if index >= self.root_entries => break,
                _ => self.root + index * ENTRY_BYTES as u64,
            };
            let bytes: [u8; ENTRY_BYTES] = read_array(self.volume, offset)?;
            match (bytes[0], bytes[11]) {
                (END, _) => break,
                (FREE, _) => long = LongName::default(),
                (_, LONG_NAME) => long.add(&bytes),
                _ => {
                    let entry = entry(&bytes, core::mem::take(&mut long));
                    if is_wanted(&entry) {
                        return Ok(Some(entry));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Where a cluster is.
    fn place(&self, cluster: u32) -> Result<u64, VolumeError> {
        let index = cluster.checked_sub(2).filter(|index| *index < self.clusters);
        Ok(self.data + u64::from(index.ok_or(VolumeError::Damaged)?) * self.cluster_bytes)
    }

    /// The cluster behind one; none at the end of the chain.
    fn next(&self, cluster: u32) -> Result<Option<u32>, VolumeError> {
        let number = u64::from(cluster);
        let (next, end) = match self.kind {
            Kind::Fat12 => {
                let pair = u16::from_le_bytes(read_array(self.volume, self.table + number + number / 2)?);
                (u32::from(if cluster & 1 == 0 { pair & 0xfff } else { pair >> 4 }), 0xff8)
            }
            Kind::Fat16 => {
                (u32::from(u16::from_le_bytes(read_array(self.volume, self.table + number * 2)?)), 0xfff8)
            }
            Kind::Fat32 => {
                let next = u32::from_le_bytes(read_array(self.volume, self.table + number * 4)?);
                (next & 0x0fff_ffff, 0x0fff_fff8)
            }
        };
        Ok((next < end).then_some(next))
    }
}

/// The parts of a long name, which come from the last to the first.
#[derive(Default)]
struct LongName {
    units: Vec<u16>,
}

impl LongName {
    fn add(&mut self, entry: &[u8; ENTRY_BYTES]) {
        let part: Vec<u16> = LONG_CHARACTERS.iter().map(|at| u16_at(entry, *at)).collect();
        if self.units.len() + part.len() > MAX_NAME_UNITS + LONG_CHARACTERS.len() {
            self.units.clear();
        }
        self.units.splice(..0, part);
    }

    fn text(&self) -> Option<String> {
        let len = self.units.iter().position(|unit| *unit == 0).unwrap_or(self.units.len());
        let text = String::from_utf16(&self.units[..len]).ok()?;
        Some(text).filter(|text| !text.is_empty())
    }
}

fn entry(bytes: &[u8; ENTRY_BYTES], long: LongName) -> Entry {
    let mut short_name = [0; 11];
    short_name.copy_from_slice(&bytes[..11]);
    Entry {
        name: long.text().unwrap_or_else(|| short(&short_name)),
        attributes: bytes[11],
        short_name,
        cluster: u32::from(u16_at(bytes, 26)) | u32::from(u16_at(bytes, 20)) << 16,
        bytes: u32_at(bytes, 28),
    }
}

/// `NAME.EXT` of a name in its two parts.
fn short(name: &[u8; 11]) -> String {
    let (stem, extension) = name.split_at(8);
    let text = |part: &[u8]| String::from_utf8_lossy(part.trim_ascii_end()).into_owned();
    match extension.trim_ascii_end() {
        [] => text(stem),
        extension => text(stem) + "." + &text(extension),
    }
}
