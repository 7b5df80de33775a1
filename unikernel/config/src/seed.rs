//! A NoCloud volume: a small filesystem called `cidata` with a few files in its root
//! (cloud-init, "NoCloud", source 1: drive with labeled filesystem).

use alloc::vec::Vec;

use unikernel_vfs::Volume;

use crate::fat::Fat;
use crate::iso::Iso;
use crate::volume::VolumeError;

const LABEL: &str = "cidata";

/// What such a volume has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seed {
    /// `meta-data`, without which it is none.
    pub meta_data: Vec<u8>,
    /// `user-data`.
    pub user_data: Option<Vec<u8>>,
    /// `network-config`.
    pub network_config: Option<Vec<u8>>,
}

/// Reads what is on a volume; none if it is another kind of volume.
pub fn read_seed(volume: &dyn Volume) -> Result<Option<Seed>, VolumeError> {
    if let Some(fat) = Fat::open(volume)? {
        return match fat.has_label(LABEL)? {
            true => take(|name| fat.read(name)).map(Some),
            false => Ok(None),
        };
    }
    match Iso::open(volume)? {
        Some(iso) if iso.has_label(LABEL) => take(|name| iso.read(name)).map(Some),
        _ => Ok(None),
    }
}

fn take(read: impl Fn(&str) -> Result<Option<Vec<u8>>, VolumeError>) -> Result<Seed, VolumeError> {
    Ok(Seed {
        meta_data: read("meta-data")?.unwrap_or_default(),
        user_data: read("user-data")?,
        network_config: read("network-config")?,
    })
}
