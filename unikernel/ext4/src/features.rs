//! Which features of a filesystem are known, and what an unknown one means (`ext4/super.rst`, "compat rules").

use alloc::format;
use alloc::string::String;

use crate::error::MountError;
use crate::layout::Superblock;

bitflags::bitflags! {
    /// Features that change nothing for who does not know them.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Compat: u32 {
        const HAS_JOURNAL = 0x4;
        const EXT_ATTR = 0x8;
        const RESIZE_INODE = 0x10;
        const DIR_INDEX = 0x20;
        const SPARSE_SUPER2 = 0x200;
        const ORPHAN_FILE = 0x1000;
        const _ = !0;
    }

    /// Features that make the filesystem unreadable for who does not know them.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Incompat: u32 {
        const FILETYPE = 0x2;
        const RECOVER = 0x4;
        const META_BG = 0x10;
        const EXTENTS = 0x40;
        const BITS64 = 0x80;
        const FLEX_BG = 0x200;
        const CSUM_SEED = 0x2000;
        const LARGEDIR = 0x4000;
        const _ = !0;
    }

    /// Features that must be known by who writes.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct RoCompat: u32 {
        const SPARSE_SUPER = 0x1;
        const LARGE_FILE = 0x2;
        const HUGE_FILE = 0x8;
        const GDT_CSUM = 0x10;
        const DIR_NLINK = 0x20;
        const EXTRA_ISIZE = 0x40;
        const BIGALLOC = 0x200;
        const METADATA_CSUM = 0x400;
        const ORPHAN_PRESENT = 0x10000;
        const _ = !0;
    }
}

/// All known incompatible features.
const KNOWN_INCOMPAT: Incompat = Incompat::FILETYPE
    .union(Incompat::RECOVER)
    .union(Incompat::META_BG)
    .union(Incompat::EXTENTS)
    .union(Incompat::BITS64)
    .union(Incompat::FLEX_BG)
    .union(Incompat::CSUM_SEED)
    .union(Incompat::LARGEDIR);

/// All features that are known by who writes.
const KNOWN_RO_COMPAT: RoCompat = RoCompat::SPARSE_SUPER
    .union(RoCompat::LARGE_FILE)
    .union(RoCompat::HUGE_FILE)
    .union(RoCompat::GDT_CSUM)
    .union(RoCompat::DIR_NLINK)
    .union(RoCompat::EXTRA_ISIZE)
    .union(RoCompat::METADATA_CSUM)
    .union(RoCompat::ORPHAN_PRESENT);

/// Names as `dumpe2fs` prints them (`lib/e2p/feature.c`).
const INCOMPAT_NAMES: [(u32, &str); 10] = [
    (0x1, "compression"),
    (0x8, "journal_dev"),
    (0x100, "mmp"),
    (0x400, "ea_inode"),
    (0x1000, "dirdata"),
    (0x8000, "inline_data"),
    (0x10000, "encrypt"),
    (0x20000, "casefold"),
    (0x20, "FEATURE_I5"),
    (0x800, "FEATURE_I11"),
];

const RO_COMPAT_NAMES: [(u32, &str); 9] = [
    (0x4, "btree_dir"),
    (0x80, "snapshot_bitmap"),
    (0x100, "quota"),
    (0x200, "bigalloc"),
    (0x800, "replica"),
    (0x1000, "read-only"),
    (0x2000, "project"),
    (0x4000, "shared_blocks"),
    (0x8000, "verity"),
];

fn first_name(unknown: u32, class: char, names: &[(u32, &str)]) -> String {
    let bit = unknown & unknown.wrapping_neg();
    let known = names.iter().find(|entry| entry.0 == bit);
    known.map_or_else(|| format!("FEATURE_{class}{}", bit.trailing_zeros()), |entry| entry.1.into())
}

impl Superblock {
    pub(crate) fn compat(&self) -> Compat {
        Compat::from_bits_retain(self.feature_compat.get())
    }

    pub(crate) fn incompat(&self) -> Incompat {
        Incompat::from_bits_retain(self.feature_incompat.get())
    }

    pub(crate) fn ro_compat(&self) -> RoCompat {
        RoCompat::from_bits_retain(self.feature_ro_compat.get())
    }
}

/// Fails, with its name, on a feature that is not known and changes how all is read, or that is missed.
pub(crate) fn check_incompat(superblock: &Superblock) -> Result<(), MountError> {
    match superblock.incompat().difference(KNOWN_INCOMPAT).bits() {
        // Bitmaps count clusters: not even the groups' sizes make sense without it.
        0 if superblock.ro_compat().contains(RoCompat::BIGALLOC) => {
            Err(MountError::UnknownFeature("bigalloc".into()))
        }
        // ext2 and ext3: files have block maps.
        0 if !superblock.incompat().contains(Incompat::EXTENTS) => Err(MountError::MissingFeature("extent")),
        0 => Ok(()),
        unknown => Err(MountError::UnknownFeature(first_name(unknown, 'I', &INCOMPAT_NAMES))),
    }
}

/// The name of a feature that forbids writing, if there is one.
pub(crate) fn forbids_writing(superblock: &Superblock) -> Option<String> {
    match superblock.ro_compat().difference(KNOWN_RO_COMPAT).bits() {
        0 => None,
        unknown => Some(first_name(unknown, 'R', &RO_COMPAT_NAMES)),
    }
}
