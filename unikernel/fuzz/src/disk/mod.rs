//! What is on disks that others made.

pub(crate) mod access;
pub(crate) mod ext4;
pub(crate) mod fat;
pub(crate) mod partition;
mod patched;
mod seal;
pub(crate) mod seed;
pub(crate) mod verity;
