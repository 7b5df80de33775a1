//! A segment's header, and the kernel's segments with theirs.

use object::elf::{PF_R, PT_LOAD, PT_NOTE};

use super::{PAGE_BYTES, page_up};

/// One entry of the table.
pub(super) struct Entry {
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) physical: u64,
    pub(super) file_bytes: u64,
    pub(super) memory_bytes: u64,
    pub(super) alignment: u64,
}

impl Entry {
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.kind.to_le_bytes());
        to.extend(self.flags.to_le_bytes());
        let words =
            [self.offset, self.address, self.physical, self.file_bytes, self.memory_bytes, self.alignment];
        to.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
}

/// A segment of the kernel's.
pub(super) struct Part<'a> {
    pub(super) physical: u64,
    pub(super) address: u64,
    pub(super) flags: u32,
    pub(super) memory_bytes: u64,
    pub(super) bytes: &'a [u8],
}

/// The kernel's note, which is in one of its segments.
#[derive(Clone, Copy)]
pub(super) struct Note {
    pub(super) physical: u64,
    pub(super) address: u64,
    pub(super) bytes: u64,
}

/// Adds the kernel's segments to a file, each where its place in a page is that in memory, and their entries to its table; the
/// note's is the last.
pub(super) fn add_kernel(parts: &[Part<'_>], note: Note, (out, table): (&mut Vec<u8>, &mut Vec<u8>)) {
    let mut note_offset = 0;
    for part in parts {
        let within = part.physical % PAGE_BYTES;
        out.resize((page_up(out.len() as u64) + within) as usize, 0);
        let (offset, file_bytes) = (out.len() as u64, part.bytes.len() as u64);
        if (part.physical..part.physical + file_bytes).contains(&note.physical) {
            note_offset = offset + (note.physical - part.physical);
        }
        let entry = Entry {
            kind: PT_LOAD,
            flags: part.flags,
            offset,
            address: part.address,
            physical: part.physical,
            file_bytes,
            memory_bytes: part.memory_bytes,
            alignment: PAGE_BYTES,
        };
        entry.write(table);
        out.extend(part.bytes);
    }
    let entry = Entry {
        kind: PT_NOTE,
        flags: PF_R,
        offset: note_offset,
        address: note.address,
        physical: note.physical,
        file_bytes: note.bytes,
        memory_bytes: note.bytes,
        alignment: 4,
    };
    entry.write(table);
}
