//! What a Multiboot2 loader, such as GRUB, tells at entry: a block of tags (Multiboot2 specification 2.0, section 3.6).
//! The block is the loader's word, so every number in it is checked.

/// What the loader leaves in `eax`.
pub const MAGIC: u32 = 0x36d7_6289;
/// Total size and a reserved word, in front of the tags.
pub const HEADER_BYTES: usize = 8;

/// Type and size, in front of a tag's content.
const TAG_HEADER_BYTES: usize = 8;
/// Where tags begin.
const TAG_ALIGNMENT: usize = 8;
/// The size and the version of entries, in front of a memory map.
const MAP_HEADER_BYTES: usize = 8;
/// Base, length and kind: what every version of an entry has.
const MIN_ENTRY_BYTES: usize = 20;

/// The block is no list of tags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged;

/// What one tag says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag<'a> {
    /// The words behind the kernel's name.
    CommandLine(&'a [u8]),
    /// A file in physical memory, with the words behind its name.
    Module {
        /// Its first byte.
        start: u32,
        /// One past its last.
        end: u32,
        /// The words.
        words: &'a [u8],
    },
    /// The memory map.
    MemoryMap(MemoryMap<'a>),
    /// A copy of the ACPI root pointer: of version 1, or of a later one.
    Rsdp {
        /// The copy.
        bytes: &'a [u8],
        /// Whether it has the fields of version 2.
        is_extended: bool,
    },
    /// Another one.
    Other(u32),
}

/// What memory is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryKind {
    /// RAM.
    Ram,
    /// RAM with the firmware's tables.
    Tables,
    /// Anything else: devices, firmware, damaged RAM, kinds that are not known.
    Reserved,
}

/// A run of physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryEntry {
    /// Its first byte.
    pub start: u64,
    /// One past its last.
    pub end: u64,
    /// What it is.
    pub kind: MemoryKind,
}

/// The entries of a memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryMap<'a> {
    entries: &'a [u8],
    entry_bytes: usize,
}

impl MemoryMap<'_> {
    /// The entries, in the loader's order.
    pub fn entries(&self) -> impl Iterator<Item = MemoryEntry> + Clone {
        self.entries.chunks_exact(self.entry_bytes).filter_map(|entry| {
            let start = qword(entry, 0)?;
            let kind = match dword(entry, 16)? {
                1 => MemoryKind::Ram,
                // ACPI's tables, and what has to outlive a sleep.
                3 | 4 => MemoryKind::Tables,
                _ => MemoryKind::Reserved,
            };
            Some(MemoryEntry { start, end: start.saturating_add(qword(entry, 8)?), kind })
        })
    }
}

/// The size of the block whose first bytes these are.
pub fn block_bytes(header: &[u8; HEADER_BYTES]) -> usize {
    dword(header, 0).unwrap_or_default() as usize
}

/// The tags of a whole block, up to the one that ends the list. After an error there is nothing more.
pub fn tags(block: &[u8]) -> Tags<'_> {
    Tags { rest: block.get(HEADER_BYTES..) }
}

/// See [`tags`].
#[derive(Clone, Debug)]
pub struct Tags<'a> {
    /// None after the end.
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Tags<'a> {
    type Item = Result<Tag<'a>, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        const END: u32 = 0;
        let rest = self.rest.take()?;
        let (Some(kind), Some(bytes)) = (dword(rest, 0), dword(rest, 4)) else {
            return Some(Err(Damaged));
        };
        if kind == END {
            return None;
        }
        let bytes = bytes as usize;
        let Some(content) = rest.get(TAG_HEADER_BYTES..bytes) else { return Some(Err(Damaged)) };
        let tag = tag(kind, content);
        if tag.is_some() {
            self.rest = rest.get(bytes.next_multiple_of(TAG_ALIGNMENT)..);
        }
        Some(tag.ok_or(Damaged))
    }
}

fn tag(kind: u32, content: &[u8]) -> Option<Tag<'_>> {
    Some(match kind {
        1 => Tag::CommandLine(text(content)),
        3 => {
            Tag::Module { start: dword(content, 0)?, end: dword(content, 4)?, words: text(content.get(8..)?) }
        }
        6 => {
            let entry_bytes = dword(content, 0)? as usize;
            let entries = content.get(MAP_HEADER_BYTES..)?;
            return (entry_bytes >= MIN_ENTRY_BYTES)
                .then_some(Tag::MemoryMap(MemoryMap { entries, entry_bytes }));
        }
        14 | 15 => Tag::Rsdp { bytes: content, is_extended: kind == 15 },
        other => Tag::Other(other),
    })
}

/// A string of C's, without its end.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn dword(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn qword(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// A block of the given tags, with an end.
    fn block(tags: &[(u32, &[u8])]) -> Vec<u8> {
        let mut block = Vec::from([0; HEADER_BYTES]);
        for (kind, content) in tags.iter().chain([&(0, &[][..])]) {
            block.extend(kind.to_le_bytes());
            block.extend((content.len() as u32 + 8).to_le_bytes());
            block.extend(*content);
            block.resize(block.len().next_multiple_of(8), 0xee);
        }
        let bytes = block.len() as u32;
        block[..4].copy_from_slice(&bytes.to_le_bytes());
        block
    }

    fn words(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    #[test]
    fn tags_are_read_up_to_the_end() {
        let module = [words(&[0x1000, 0x2000]), b"cmdline\0".to_vec()].concat();
        let map = words(&[24, 0, 0, 0, 0x9_f000, 0, 1, 0, 0xfff0_0000, 0xffff_ffff, 0x20_0000, 0, 9, 0]);
        let mut block = block(&[(1, b"log=debug\0"), (3, &module), (99, b"?"), (6, &map), (15, b"RSD PTR ")]);
        block.extend(b"behind the end there is nothing to read");
        let found: Result<Vec<_>, _> = tags(&block).collect();
        let [line, file, other, memory, rsdp] = found.unwrap().try_into().unwrap();
        assert_eq!(line, Tag::CommandLine(b"log=debug"));
        assert_eq!(file, Tag::Module { start: 0x1000, end: 0x2000, words: b"cmdline" });
        assert_eq!(other, Tag::Other(99));
        assert_eq!(rsdp, Tag::Rsdp { bytes: b"RSD PTR ", is_extended: true });
        let Tag::MemoryMap(map) = memory else { panic!("{memory:?}") };
        let entries: Vec<_> = map.entries().collect();
        let ram = MemoryEntry { start: 0, end: 0x9_f000, kind: MemoryKind::Ram };
        // Its length leads beyond the last address.
        let reserved =
            MemoryEntry { start: 0xffff_ffff_fff0_0000, end: u64::MAX, kind: MemoryKind::Reserved };
        assert_eq!(entries, [ram, reserved]);
        assert_eq!(block_bytes(block.first_chunk().unwrap()), block.len() - 39);
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_the_last() {
        for bad in [
            block(&[(6, &words(&[0, 0, 1, 2, 3, 4, 5, 6]))]),
            block(&[(6, &words(&[19, 0, 1, 2, 3, 4, 5, 6]))]),
            block(&[(3, b"short")]),
            [words(&[24, 0, 1, 4, 0, 8]), Vec::new()].concat(),
            words(&[24, 0, 1, 0xffff_fff8, 0, 8]),
            words(&[16, 0, 1]),
            words(&[8, 0]),
        ] {
            let found: Vec<_> = tags(&bad).collect();
            assert_eq!(found, [Err(Damaged)], "{bad:?}");
        }
        assert_eq!(tags(&[]).count(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for tag in tags(&bytes) {
                if let Ok(Tag::MemoryMap(map)) = tag {
                    prop_assert!(map.entries().all(|entry| entry.start <= entry.end));
                }
            }
        }

        #[test]
        fn small_numbers_are_read_without_a_panic(
            numbers in proptest::collection::vec(0..40_u32, 0..60),
        ) {
            prop_assert!(tags(&words(&numbers)).count() <= 60);
        }
    }
}
