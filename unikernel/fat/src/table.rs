//! The allocation table: which cluster follows which, and how many are free.

use unikernel_vfs::Error;

use crate::Fat;
use crate::geometry::{FIRST_CLUSTER, Width, u32_at};

/// Signatures in the sector with the number of free clusters, and where it is.
const INFO_SIGNATURES: [(u64, u32); 2] = [(0, 0x4161_5252), (484, 0x6141_7272)];
const INFO_FREE: u64 = 488;

impl Fat<'_> {
    /// Bytes of the table or of a directory.
    pub(crate) fn bytes<const N: usize>(&mut self, offset: u64) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.cache.read(&*self.volume, offset, &mut bytes)?;
        Ok(bytes)
    }

    /// The cluster after one; none at the chain's end.
    pub(crate) fn next_cluster(&mut self, cluster: u32) -> Result<Option<u32>, Error> {
        let value = self.table_entry(cluster)?;
        let end = match self.geometry.width {
            Width::Fat12 => 0xff8,
            Width::Fat16 => 0xfff8,
            Width::Fat32 => 0x0fff_fff8,
        };
        if value >= end {
            return Ok(None);
        }
        match self.geometry.cluster_offset(value) {
            Some(_) => Ok(Some(value)),
            None => Err(Error::Corrupt("a cluster's successor")),
        }
    }

    /// What the table says of a cluster, which exists.
    fn table_entry(&mut self, cluster: u32) -> Result<u32, Error> {
        let number = u64::from(cluster);
        let table = self.geometry.table;
        Ok(match self.geometry.width {
            Width::Fat12 => {
                let pair = u16::from_le_bytes(self.bytes(table + number + number / 2)?);
                (if cluster & 1 == 0 { pair & 0xfff } else { pair >> 4 }).into()
            }
            Width::Fat16 => u16::from_le_bytes(self.bytes(table + number * 2)?).into(),
            Width::Fat32 => u32::from_le_bytes(self.bytes(table + number * 4)?) & 0x0fff_ffff,
        })
    }

    /// How many clusters are free: FAT32 tells, or they are counted, once.
    pub(crate) fn free_clusters(&mut self) -> Result<u32, Error> {
        let free = match (self.free_clusters, self.told_free_clusters()?) {
            (Some(free), _) | (None, Some(free)) => free,
            (None, None) => self.counted_free_clusters()?,
        };
        self.free_clusters = Some(free);
        Ok(free)
    }

    fn told_free_clusters(&mut self) -> Result<Option<u32>, Error> {
        let Some(info) = self.geometry.info else { return Ok(None) };
        for (at, signature) in INFO_SIGNATURES {
            if u32_at(&self.bytes::<4>(info + at)?, 0) != signature {
                return Ok(None);
            }
        }
        let free = u32_at(&self.bytes::<4>(info + INFO_FREE)?, 0);
        Ok((free <= self.geometry.clusters).then_some(free))
    }

    fn counted_free_clusters(&mut self) -> Result<u32, Error> {
        let mut free = 0;
        for cluster in FIRST_CLUSTER..FIRST_CLUSTER + self.geometry.clusters {
            free += u32::from(self.table_entry(cluster)? == 0);
        }
        Ok(free)
    }
}
