//! A small image made byte by byte, whole and with each fault.

use unikernel_report::symbols::encode;

use super::*;

const KERNEL_START: u64 = 0x40_0000;

#[derive(Clone, Copy)]
struct Part {
    kind: u32,
    flags: u32,
    address: u64,
    memory_bytes: u64,
    /// Where it is loaded, from there.
    shift: u64,
    content: &'static [u8],
}

/// Note header, name, and the 32-bit entry `0x401000`.
const NOTE: &[u8] = b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\0\x10\x40\0";

/// A Multiboot2 header: magic, architecture, length, checksum.
const HEADER: &[u8] = b"\xd6\x50\x52\xe8\0\0\0\0\x10\0\0\0\x1a\xaf\xad\x17";

/// A table with two addresses: the second word of the first area, which is behind it, and in the second byte of the code.
fn addresses() -> Vec<u8> {
    let code = u64::from(KERNEL_OFFSET as u32 + 0x40_1000) << 8;
    let words = [u64::from_le_bytes([1, 1, 0, 1, 1, 0, 0, 0]), 7, KERNEL_OFFSET + 0x40_1000, 7, code];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// By the addresses at which the kernel is linked.
const SYMBOLS: [(&str, u64); 11] = [
    ("__kernel_load_start", KERNEL_START),
    ("__kernel_start", KERNEL_OFFSET + KERNEL_START),
    ("__kernel_bss_end", KERNEL_OFFSET + 0x40_2800),
    ("__kernel_relocations_start", KERNEL_OFFSET + 0x40_2000),
    ("__kernel_relocations_end", KERNEL_OFFSET + 0x40_2005),
    ("__kernel_rodata_start", KERNEL_OFFSET + 0x40_2008),
    ("__kernel_rodata_end", KERNEL_OFFSET + 0x40_2018),
    ("__kernel_data_start", KERNEL_OFFSET + 0x40_2018),
    ("__kernel_data_end", KERNEL_OFFSET + 0x40_2020),
    ("__kernel_text_start", KERNEL_OFFSET + 0x40_2020),
    ("__kernel_text_end", KERNEL_OFFSET + 0x40_2028),
];

fn names() -> &'static [u8] {
    encode(vec![(0x20_0000, "_start".into()), (KERNEL_OFFSET + 0x40_1000, "kernel_entry".into())], "app")
        .leak()
}

fn good_parts() -> Vec<Part> {
    let load =
        |flags, address| Part { kind: PT_LOAD, flags, address, memory_bytes: 0x800, shift: 0, content: b"" };
    vec![
        Part { content: HEADER, ..load(5, 0x20_0000) },
        load(6, 0x20_1000),
        load(5, 0x40_1000),
        Part { content: addresses().leak(), ..load(6, 0x40_2000) },
        Part { kind: PT_GNU_STACK, flags: 6, address: 0, memory_bytes: 0, shift: 0, content: b"" },
        Part { kind: PT_NOTE, flags: 4, address: KERNEL_START, memory_bytes: 20, shift: 0, content: NOTE },
        Part { kind: PT_LOAD, flags: 4, address: 0x40_3000, memory_bytes: 0x800, shift: 0, content: names() },
    ]
}

/// Assembles an ELF file: header, program headers, notes, symbols, section headers.
fn assemble(parts: &[Part], entry: u64) -> Vec<u8> {
    let mut file = vec![0; 64 + 56 * parts.len()];
    for (index, part) in parts.iter().enumerate() {
        let offset = file.len() as u64;
        file.extend_from_slice(part.content);
        let size = part.content.len() as u64;
        let words = [offset, part.address, part.address.wrapping_add(part.shift), size, part.memory_bytes, 4];
        let at = 64 + 56 * index;
        file[at..at + 4].copy_from_slice(&part.kind.to_le_bytes());
        file[at + 4..at + 8].copy_from_slice(&part.flags.to_le_bytes());
        for (word, value) in words.iter().enumerate() {
            file[at + 8 + 8 * word..][..8].copy_from_slice(&value.to_le_bytes());
        }
    }
    let mut names = vec![0];
    let mut entries = vec![0; 24];
    for (name, value) in SYMBOLS {
        entries.extend((names.len() as u32).to_le_bytes());
        entries.extend([0x10, 0, 0xf1, 0xff]);
        entries.extend(value.to_le_bytes());
        entries.extend([0; 8]);
        names.extend(name.bytes());
        names.push(0);
    }
    let strings = file.len();
    file.extend_from_slice(&names);
    file.resize(file.len().next_multiple_of(8), 0);
    let symbols = file.len();
    file.extend_from_slice(&entries);
    let sections = file.len();
    file.extend_from_slice(&[0; 64]);
    let mut section = |kind: u32, offset: usize, size: usize, link: u32, entry_size: u64| {
        let mut header = [0u8; 64];
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
        header[40..44].copy_from_slice(&link.to_le_bytes());
        header[56..64].copy_from_slice(&entry_size.to_le_bytes());
        file.extend_from_slice(&header);
    };
    section(object::elf::SHT_SYMTAB, symbols, entries.len(), 2, 24);
    section(object::elf::SHT_STRTAB, strings, names.len(), 0, 0);
    file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for (at, value) in
        [(16, 2u16), (18, 62), (52, 64), (54, 56), (56, parts.len() as u16), (58, 64), (60, 3), (62, 2)]
    {
        file[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    for (at, value) in [(24, entry), (32, 64), (40, sections as u64)] {
        file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    file
}

const APP_ENTRY: u64 = 0x20_0010;

fn faults_after(change: impl FnOnce(&mut Vec<Part>)) -> Vec<Fault> {
    let mut parts = good_parts();
    change(&mut parts);
    check(&assemble(&parts, APP_ENTRY))
}

#[test]
fn good_image_has_no_faults() {
    assert_eq!(faults_after(|_| {}), []);
}

#[test]
fn writable_code_is_found() {
    assert_eq!(faults_after(|parts| parts[2].flags = 7), [Fault::WritableAndExecutable(0x40_1000)]);
}

#[test]
fn segment_that_is_loaded_elsewhere_is_found() {
    assert_eq!(faults_after(|parts| parts[3].shift = 0x1000), [Fault::NotWhereLoaded(0x40_2000)]);
}

#[test]
fn kernel_at_its_own_addresses_is_lowered_to_where_it_is_loaded() {
    let mut parts = good_parts();
    for part in parts.iter_mut().filter(|part| part.address >= KERNEL_START) {
        part.address += KERNEL_OFFSET;
        part.shift = KERNEL_OFFSET.wrapping_neg();
    }
    let mut file = assemble(&parts, APP_ENTRY);
    assert!(!check(&file).is_empty());
    assert!(crate::segments::lower(&mut file));
    assert_eq!(file, assemble(&good_parts(), APP_ENTRY));
    assert!(!crate::segments::lower(&mut file));
}

#[test]
fn executable_stack_is_found() {
    assert_eq!(faults_after(|parts| parts[4].flags = 7), [Fault::ExecutableStack]);
    assert_eq!(faults_after(|parts| _ = parts.remove(4)), [Fault::ExecutableStack]);
}

#[test]
fn page_with_both_halves_is_found() {
    let shared = faults_after(|parts| parts[1].memory_bytes = 0x40_1001 - 0x20_1000);
    assert_eq!(shared, [Fault::SharedPage(0x40_1000)]);
}

#[test]
fn missing_names_are_found() {
    assert_eq!(faults_after(|parts| parts[6].content = &[0; 16]), [Fault::NoNames]);
    let only_app = encode(vec![(0x20_0000, "_start".into()), (0x20_0800, String::new())], "app").leak();
    assert_eq!(faults_after(|parts| parts[6].content = only_app), [Fault::NoNames]);
}

#[test]
fn addresses_that_cannot_move_are_found() {
    for (at, byte) in [(0, 3), (1, 0), (2, 1), (3, 2), (4, 0), (16, 0xff), (22, 0), (36, 0)] {
        let mut content = addresses();
        content[at] = byte;
        // The low bits of an address may be any.
        let expected = if at == 16 { vec![] } else { vec![Fault::NoAddresses] };
        assert_eq!(faults_after(|parts| parts[3].content = content.leak()), expected, "{at}");
    }
    assert_eq!(faults_after(|parts| parts[3].content = b""), [Fault::NoAddresses]);
}

#[test]
fn missing_entries_are_found() {
    assert_eq!(faults_after(|parts| _ = parts.remove(5)), [Fault::NoPvhEntry]);
    assert_eq!(faults_after(|parts| parts[0].content = &HEADER[..12]), [Fault::NoMultiboot2Header]);
    assert_eq!(check(&assemble(&good_parts(), 0x40_1000)), [Fault::EntryNotInApp(0x40_1000)]);
}

#[test]
fn other_files_are_no_images() {
    assert!(matches!(check(b"#!/bin/sh\n")[..], [Fault::NotAnImage(_)]));
    assert!(matches!(check(&[])[..], [Fault::NotAnImage(_)]));
}
