//! Slots of directories: entries, and parts of long names before them.

use unikernel_vfs::Timestamp;

use crate::geometry::{Width, u16_at, u32_at};
use crate::time::timestamp;

/// Bytes of a slot.
pub(crate) const SLOT_BYTES: u32 = 32;

/// A slot's bytes.
pub(crate) type Slot = [u8; SLOT_BYTES as usize];

/// Attributes.
const READ_ONLY: u8 = 0x01;
const VOLUME_LABEL: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
/// Those of a part of a long name, and which of the bits count there.
const LONG_NAME: u8 = 0x0f;
const LONG_NAME_MASK: u8 = 0x3f;
/// The first byte of a free slot, and of the first one that never was used.
const FREE: u8 = 0xe5;
const END: u8 = 0;

/// What is in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// No slot from here on was ever used.
    End,
    Free,
    LongName,
    Label,
    Entry(Entry),
}

/// A file or directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// The short name: stem and extension, filled with spaces.
    pub(crate) name: [u8; 11],
    /// Which parts of the short name are meant in small letters.
    pub(crate) case: u8,
    pub(crate) is_directory: bool,
    pub(crate) is_read_only: bool,
    /// 0 for an empty file.
    pub(crate) first_cluster: u32,
    /// 0 for a directory.
    pub(crate) bytes: u32,
    pub(crate) modified: Option<Timestamp>,
    pub(crate) accessed: Option<Timestamp>,
    pub(crate) born: Option<Timestamp>,
}

impl Entry {
    /// The entry of a directory for its parent.
    pub(crate) fn is_parent(&self) -> bool {
        self.name == *b"..         "
    }

    /// The entry of a directory for itself or its parent.
    pub(crate) fn is_dot(&self) -> bool {
        self.name == *b".          " || self.is_parent()
    }
}

/// Reads a slot.
pub(crate) fn content(slot: &Slot, width: Width) -> Content {
    let attributes = slot[11];
    match slot[0] {
        END => return Content::End,
        FREE => return Content::Free,
        _ if attributes & LONG_NAME_MASK == LONG_NAME => return Content::LongName,
        _ if attributes & VOLUME_LABEL != 0 => return Content::Label,
        _ => {}
    }
    // Elsewhere other systems keep something else there.
    let high = if width == Width::Fat32 { u32::from(u16_at(slot, 20)) << 16 } else { 0 };
    let is_directory = attributes & DIRECTORY != 0;
    Content::Entry(Entry {
        name: label(slot),
        case: slot[12],
        is_directory,
        is_read_only: attributes & READ_ONLY != 0,
        first_cluster: high | u32::from(u16_at(slot, 26)),
        bytes: if is_directory { 0 } else { u32_at(slot, 28) },
        modified: timestamp(u16_at(slot, 24), u16_at(slot, 22), 0),
        accessed: timestamp(u16_at(slot, 18), 0, 0),
        born: timestamp(u16_at(slot, 16), u16_at(slot, 14), slot[13]),
    })
}

/// The bytes of a short name, or of a label.
pub(crate) fn label(slot: &Slot) -> [u8; 11] {
    let mut name = [0; 11];
    name.copy_from_slice(&slot[..11]);
    name
}
