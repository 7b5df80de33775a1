//! A NoCloud volume: a small filesystem called `cidata` with a few files in its root
//! (cloud-init, "NoCloud", source 1: drive with labeled filesystem).

use alloc::vec::Vec;

use unikernel_fat::{Fat, MountError};
use unikernel_vfs::{ByteStorage, Error, FileKind, FileSystem, Volume};

use crate::iso::Iso;
use crate::volume::{VolumeError, zeros};

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
pub fn read_seed(volume: &(dyn Volume + Sync)) -> Result<Option<Seed>, VolumeError> {
    match Fat::mount(volume) {
        Ok(mut fat) => {
            let is_seed = fat.label()?.eq_ignore_ascii_case(LABEL);
            return is_seed.then(|| take(|name| read_from_fat(&mut fat, name))).transpose();
        }
        Err(MountError::Device) => return Err(VolumeError::Read),
        Err(MountError::NoMemory) => return Err(VolumeError::OutOfMemory),
        // A filesystem that is not whole is nobody's configuration.
        Err(MountError::NotFat | MountError::Corrupt(_)) => {}
    }
    match Iso::open(volume)? {
        Some(iso) if iso.has_label(LABEL) => take(|name| iso.read(name)).map(Some),
        _ => Ok(None),
    }
}

/// The content of a file in the root; none if there is none.
fn read_from_fat(fat: &mut Fat<'_>, name: &str) -> Result<Option<Vec<u8>>, VolumeError> {
    let inode = match fat.lookup(fat.root(), name.as_bytes()) {
        Err(Error::NotFound) => return Ok(None),
        inode => inode?,
    };
    let attributes = fat.attributes(inode)?;
    if attributes.kind != FileKind::File {
        return Ok(None);
    }
    let mut content = zeros(usize::try_from(attributes.size).unwrap_or(usize::MAX))?;
    fat.read(inode, 0, &mut content)?;
    Ok(Some(content))
}

fn take(mut read: impl FnMut(&str) -> Result<Option<Vec<u8>>, VolumeError>) -> Result<Seed, VolumeError> {
    Ok(Seed {
        meta_data: read("meta-data")?.unwrap_or_default(),
        user_data: read("user-data")?,
        network_config: read("network-config")?,
    })
}
