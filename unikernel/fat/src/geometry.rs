//! The boot sector: which width of FAT it is, and where everything lies.

use crate::MountError;
use crate::entry::SLOT_BYTES;

/// The part of the boot sector that counts.
pub(crate) const BOOT_BYTES: usize = 512;
/// The first cluster of the data has this number.
pub(crate) const FIRST_CLUSTER: u32 = 2;

/// Bits of an entry in the allocation table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Width {
    Fat12,
    Fat16,
    Fat32,
}

/// Where a directory's slots are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// The root of FAT12 and FAT16: a region of its own.
    Region { offset: u64, slots: u32 },
    /// A chain of clusters, from this one on.
    Chain(u32),
}

/// Dimensions. Offsets are bytes from the volume's beginning; all of it lies on the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    pub(crate) width: Width,
    /// The allocation table that counts.
    pub(crate) table: u64,
    pub(crate) root: Place,
    /// Where the first directory can be.
    pub(crate) directories: u64,
    /// The first cluster.
    pub(crate) data: u64,
    /// A power of two.
    pub(crate) cluster_bytes: u32,
    /// Clusters of data.
    pub(crate) clusters: u32,
    /// Where FAT32 keeps the number of free clusters.
    pub(crate) info: Option<u64>,
    /// The serial number.
    pub(crate) serial: u32,
    /// The label that the boot sector has.
    pub(crate) label: [u8; 11],
}

/// Offsets of fields.
const SECTOR_BYTES: usize = 11;
const CLUSTER_SECTORS: usize = 13;
const RESERVED_SECTORS: usize = 14;
const TABLES: usize = 16;
const ROOT_SLOTS: usize = 17;
const SECTORS_16: usize = 19;
const MEDIA: usize = 21;
const TABLE_SECTORS_16: usize = 22;
const SECTORS_32: usize = 32;
const TABLE_SECTORS_32: usize = 36;
const ACTIVE_TABLE: usize = 40;
const VERSION: usize = 42;
const ROOT_CLUSTER: usize = 44;
const INFO_SECTOR: usize = 48;
/// Where serial number and label are, from the signature before them on.
const EXTENSION_16: usize = 38;
const EXTENSION_32: usize = 66;
const SIGNATURE: usize = 510;

/// Set in `ACTIVE_TABLE` if only one table counts, whose number is in the low bits.
const ONE_TABLE: u16 = 0x80;

impl Geometry {
    /// What a boot sector says of a volume with so many bytes.
    pub(crate) fn new(sector: &[u8; BOOT_BYTES], volume_bytes: u64) -> Result<Self, MountError> {
        let sector_bytes = u32::from(u16_at(sector, SECTOR_BYTES));
        let cluster_sectors = u32::from(sector[CLUSTER_SECTORS]);
        let reserved = u16_at(sector, RESERVED_SECTORS);
        let tables = sector[TABLES];
        let is_fat = sector[SIGNATURE..] == [0x55, 0xaa]
            && matches!(sector_bytes, 512 | 1024 | 2048 | 4096)
            && cluster_sectors.is_power_of_two()
            && reserved > 0
            && (1..=4).contains(&tables)
            && matches!(sector[MEDIA], 0xf0 | 0xf8..);
        if !is_fat {
            return Err(MountError::NotFat);
        }
        let bytes = |sectors: u64| sectors * u64::from(sector_bytes);
        // Linux's rule. Microsoft's, the number of clusters alone, does not know the small FAT32 that tools make.
        let is_fat32 = u16_at(sector, TABLE_SECTORS_16) == 0;
        let table_sectors = u64::from(either(sector, TABLE_SECTORS_16, TABLE_SECTORS_32));
        let sectors = u64::from(either(sector, SECTORS_16, SECTORS_32));
        let root_slots = if is_fat32 { 0 } else { u32::from(u16_at(sector, ROOT_SLOTS)) };
        let after_tables = u64::from(reserved) + u64::from(tables) * table_sectors;
        let data = after_tables + u64::from((root_slots * SLOT_BYTES).div_ceil(sector_bytes));
        if table_sectors == 0 || (root_slots == 0 && !is_fat32) {
            return Err(MountError::NotFat);
        }
        if bytes(sectors) > volume_bytes {
            return Err(MountError::Corrupt("the volume is smaller than the filesystem"));
        }
        let clusters = sectors.saturating_sub(data) / u64::from(cluster_sectors);
        let width = match clusters {
            _ if is_fat32 => Width::Fat32,
            0..4085 => Width::Fat12,
            _ => Width::Fat16,
        };
        let clusters =
            clusters.min(entries(width, bytes(table_sectors)).saturating_sub(FIRST_CLUSTER.into()));
        if clusters == 0 {
            return Err(MountError::Corrupt("no cluster"));
        }
        let mut table = u64::from(reserved);
        let active = u16_at(sector, ACTIVE_TABLE);
        if is_fat32 && active & ONE_TABLE != 0 {
            if active & 0xf >= u16::from(tables) {
                return Err(MountError::Corrupt("the number of the table that counts"));
            }
            table += u64::from(active & 0xf) * table_sectors;
        }
        if is_fat32 && u16_at(sector, VERSION) != 0 {
            return Err(MountError::Corrupt("a version of FAT32 that is not known"));
        }
        let info_sector = u16_at(sector, INFO_SECTOR);
        let has_info = is_fat32 && info_sector > 0 && info_sector < reserved;
        let extension = &sector[if is_fat32 { EXTENSION_32 } else { EXTENSION_16 }..];
        let (serial, label) = identity(extension);
        Ok(Self {
            width,
            table: bytes(table),
            root: match is_fat32 {
                true => Place::Chain(u32_at(sector, ROOT_CLUSTER)),
                false => Place::Region { offset: bytes(after_tables), slots: root_slots },
            },
            directories: bytes(after_tables),
            data: bytes(data),
            cluster_bytes: cluster_sectors * sector_bytes,
            // At most 2^32 sectors, fewer than half of which are for tables.
            clusters: u32::try_from(clusters).map_err(|_| MountError::Corrupt("the number of clusters"))?,
            info: has_info.then(|| bytes(info_sector.into())),
            serial,
            label,
        })
    }

    /// Where a cluster begins, if there is one with this number.
    pub(crate) fn cluster_offset(&self, cluster: u32) -> Option<u64> {
        let index = cluster.checked_sub(FIRST_CLUSTER).filter(|index| *index < self.clusters)?;
        Some(self.data + u64::from(index) * u64::from(self.cluster_bytes))
    }

    /// Where the data ends.
    pub(crate) fn end(&self) -> u64 {
        self.data + u64::from(self.clusters) * u64::from(self.cluster_bytes)
    }
}

/// How many entries a table of so many bytes has, at most as many as clusters can have numbers.
fn entries(width: Width, bytes: u64) -> u64 {
    match width {
        Width::Fat12 => (bytes * 2 / 3).min(0xff7),
        Width::Fat16 => (bytes / 2).min(0xfff7),
        Width::Fat32 => (bytes / 4).min(0x0fff_fff7),
    }
}

/// Serial number and label, if they are there.
fn identity(extension: &[u8]) -> (u32, [u8; 11]) {
    let mut label = [b' '; 11];
    match extension[0] {
        0x29 => label.copy_from_slice(&extension[5..16]),
        0x28 => {}
        _ => return (0, label),
    }
    (u32_at(extension, 1), label)
}

/// A number in its first field or, if that is 0, in the later one with more bits.
fn either(sector: &[u8], short: usize, long: usize) -> u32 {
    match u16_at(sector, short) {
        0 => u32_at(sector, long),
        number => number.into(),
    }
}

/// The number in two bytes, little-endian.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The number in four bytes, little-endian.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
