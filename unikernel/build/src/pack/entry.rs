//! A segment's header.

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
