//! Mounting, and which filesystem it is.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use unikernel_vfs::{Error, Identity, Volume};

use crate::cache::Cache;
use crate::chain::Chains;
use crate::geometry::{BOOT_BYTES, Geometry, Place};
use crate::name::label_text;
use crate::{Fat, MountError};

/// What the boot sector has that has no label.
const NO_LABEL: &str = "NO NAME";

/// Who a filesystem says it is, if there is one. The UUID is the serial number, as in `1A2B-3C4D`.
pub fn identify(volume: impl Volume + Send) -> Option<Identity> {
    Fat::mount(volume).ok()?.identity()
}

impl<'volume> Fat<'volume> {
    /// Mounts what is on a volume. Nothing is written, now or later.
    pub fn mount(volume: impl Volume + Send + 'volume) -> Result<Self, MountError> {
        Self::mount_over(Box::new(volume))
    }

    fn mount_over(volume: Box<dyn Volume + Send + 'volume>) -> Result<Self, MountError> {
        let volume_bytes = volume.size_bytes();
        if volume_bytes < BOOT_BYTES as u64 {
            return Err(MountError::NotFat);
        }
        let mut cache = Cache::default();
        let mut sector = [0; BOOT_BYTES];
        cache.read(&*volume, 0, &mut sector)?;
        let geometry = Geometry::new(&sector, volume_bytes)?;
        match geometry.root {
            Place::Chain(first) if geometry.cluster_offset(first).is_none() => {
                Err(MountError::Corrupt("the root's first cluster"))
            }
            _ => Ok(Self { volume, geometry, cache, chains: Chains::default(), free_clusters: None }),
        }
    }

    fn identity(&mut self) -> Option<Identity> {
        let serial = self.geometry.serial;
        let uuid = format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff);
        Some(Identity { uuid, label: self.label().ok()? })
    }

    /// The label: an entry of the root or, without one, what the boot sector says.
    pub fn label(&mut self) -> Result<String, Error> {
        let label = self.root_label()?.unwrap_or(self.geometry.label);
        let mut text = String::new();
        label_text(&label, &mut text)?;
        if text == NO_LABEL {
            text.clear();
        }
        Ok(text)
    }
}
