//! What GRUB leaves: tags, and the memory map of which RAM is made.

use unikernel_machine::multiboot2::{MemoryKind, Tag, tags};
use unikernel_machine::ram::Ram;

pub(crate) fn run(data: &[u8]) {
    let mut count = 0;
    for tag in tags(data) {
        count += 1;
        match tag {
            Ok(Tag::MemoryMap(map)) => memory(map.entries()),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    assert!(count <= data.len() / 8 + 1);
}

fn memory(entries: impl Iterator<Item = unikernel_machine::multiboot2::MemoryEntry> + Clone) {
    let mut ram = Ram::<16>::new();
    for entry in entries.clone().filter(|entry| entry.kind == MemoryKind::Ram) {
        assert!(entry.start <= entry.end);
        ram.add(entry.start..entry.end);
    }
    for entry in entries.filter(|entry| entry.kind != MemoryKind::Ram) {
        ram.remove(&(entry.start..entry.end));
        let is_left = |run: &core::ops::Range<u64>| run.start < entry.end && entry.start < run.end;
        assert!(entry.start >= entry.end || !ram.runs().iter().any(is_left));
    }
    assert!(ram.runs().windows(2).all(|pair| pair[0].end < pair[1].start));
}
