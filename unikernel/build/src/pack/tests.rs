use proptest::prelude::*;
use unikernel_elf::{HEADER_BYTES, SEGMENT_HEADER_BYTES};

use super::*;
use crate::segments::KERNEL_OFFSET;

const KERNEL_START: u64 = 0x20_0000;
const CONTENTS: u64 = 0x40;
const NAMES: u64 = KERNEL_START + PAGE_BYTES;
const LOAD: u32 = 1;
const NOTE: u32 = 4;
const STATIC: u16 = 2;
const RELOCATABLE: u16 = 3;

/// Kind, flags; offset, address, physical address, bytes in the file, bytes in memory, alignment.
type Part = (u32, u32, [u64; 6]);

fn load(flags: u32, offset: u64, address: u64, file_bytes: u64, memory_bytes: u64) -> Part {
    (LOAD, flags, [offset, address, address, file_bytes, memory_bytes, PAGE_BYTES])
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn assemble(kind: u16, entry: u64, parts: &[Part], bytes: usize) -> Vec<u8> {
    let mut file = vec![0; bytes];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    for (at, value) in [(16, kind), (18, 62), (20, 1), (52, 64), (54, 56), (56, parts.len() as u16), (58, 64)]
    {
        put(&mut file, at, &value.to_le_bytes());
    }
    put(&mut file, 24, &entry.to_le_bytes());
    put(&mut file, 32, &64u64.to_le_bytes());
    for (index, (kind, flags, words)) in parts.iter().enumerate() {
        let at = HEADER_BYTES + index * SEGMENT_HEADER_BYTES;
        put(&mut file, at, &kind.to_le_bytes());
        put(&mut file, at + 4, &flags.to_le_bytes());
        words
            .iter()
            .enumerate()
            .for_each(|(word, value)| put(&mut file, at + 8 + 8 * word, &value.to_le_bytes()));
    }
    file
}

/// A kernel of two pages: a note, the words about the image, and names.
fn kernel() -> Vec<u8> {
    let mut note = load(4, 0x1000, KERNEL_START, 20, 20);
    note.0 = NOTE;
    let parts = [load(4, 0x1000, KERNEL_START, 0x100, 0x100), load(4, 0x2000, NAMES, 16, 16), note];
    let mut file = assemble(STATIC, 0, &parts, 0x4000);
    put(&mut file, 0x200, &multiboot2());
    let note: Vec<u8> =
        [4u32, 4, 18].iter().flat_map(|word| word.to_le_bytes()).chain(*b"Xen\0\x80\0\x20\0").collect();
    put(&mut file, 0x1000, &note);
    // Three sections: none, symbols, their names.
    let strings = b"\0__kernel_load_start\0__kernel_contents\0__kernel_symbols_start\0";
    put(&mut file, 0x3000, strings);
    let symbols =
        [(1u32, KERNEL_START), (21, KERNEL_OFFSET + KERNEL_START + CONTENTS), (39, KERNEL_OFFSET + NAMES)];
    for (index, (name, value)) in symbols.iter().enumerate() {
        let at = 0x3100 + (index + 1) * 24;
        put(&mut file, at, &name.to_le_bytes());
        put(&mut file, at + 8, &value.to_le_bytes());
    }
    put(&mut file, 40, &0x3800u64.to_le_bytes());
    put(&mut file, 60, &3u16.to_le_bytes());
    put(&mut file, 62, &2u16.to_le_bytes());
    let sections = [(2u32, 0x3100u64, 96u64, 2u32, 24u64), (3, 0x3000, strings.len() as u64, 0, 0)];
    for (index, (kind, offset, bytes, link, entry)) in sections.iter().enumerate() {
        let at = 0x3800 + (index + 1) * 64;
        put(&mut file, at + 4, &kind.to_le_bytes());
        put(&mut file, at + 24, &offset.to_le_bytes());
        put(&mut file, at + 32, &bytes.to_le_bytes());
        put(&mut file, at + 40, &link.to_le_bytes());
        put(&mut file, at + 56, &entry.to_le_bytes());
    }
    file
}

/// A header of GRUB's that leads to the kernel's start.
fn multiboot2() -> Vec<u8> {
    let bytes = 40u32;
    let words = [0xe852_50d6, 0, bytes, 0u32.wrapping_sub(0xe852_50d6 + bytes), 3, 12];
    let words = words.into_iter().chain([KERNEL_START as u32, 0, 0, 8]);
    words.flat_map(u32::to_le_bytes).collect()
}

fn program(kind: u16, base: u64) -> Vec<u8> {
    let parts = [
        load(4, 0, base, 0x200, 0x200),
        load(5, 0x1000, base + 0x1000, 0x800, 0x800),
        load(6, 0x1f00, base + 0x2f00, 0x180, 0x3000),
    ];
    assemble(kind, base + 0x1010, &parts, 0x2200)
}

fn word(file: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(file[at..at + 8].try_into().unwrap())
}

/// What a loader, Linux and the kernel rely on.
fn check(image: &[u8], original: &[u8]) {
    let header = Header::parse(image).unwrap();
    let table = &image[header.table_offset() as usize..][..header.table_bytes()];
    Program::parse(&header, table, image.len() as u64, &ALLOWED).unwrap();
    assert!(image_check::has_way_in(image));
    // Nothing of the program has changed but what its header says.
    assert_eq!(image[HEADER_BYTES..original.len()], original[HEADER_BYTES..]);
    let loads = table.chunks_exact(SEGMENT_HEADER_BYTES).filter(|entry| entry[..4] == LOAD.to_le_bytes());
    let mut physical: Vec<_> = loads
        .map(|entry| {
            let [offset, address, start, file_bytes, bytes] = [8, 16, 24, 32, 40].map(|at| word(entry, at));
            assert!(offset % PAGE_BYTES == address % PAGE_BYTES || file_bytes == 0);
            assert_eq!(address % PAGE_BYTES, start % PAGE_BYTES);
            assert!(start >= KERNEL_START && start + bytes <= MOST_PHYSICAL);
            (start / PAGE_BYTES, (start + bytes).div_ceil(PAGE_BYTES))
        })
        .collect();
    physical.sort_unstable();
    assert!(physical.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{physical:x?}");
    assert!(word(image, 24) >= 1 << 20, "loaders refuse a lower entry");
}

#[test]
fn programs_of_both_kinds_are_packed_with_and_without_files() {
    for (kind, base) in
        [(STATIC, 0x40_0000), (STATIC, 0x1_0000), (STATIC, 0x7f00_0000_0000), (RELOCATABLE, 0)]
    {
        let program = program(kind, base);
        for files in [None, Some(b"070701".as_slice())] {
            check(&pack(&kernel(), &program, "server", files).unwrap(), &program);
        }
    }
}

/// What is loaded where: physical address, length in memory, bytes.
fn loaded(image: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    let header = Header::parse(image).unwrap();
    let table = &image[header.table_offset() as usize..][..header.table_bytes()];
    let loads = table.chunks_exact(SEGMENT_HEADER_BYTES).filter(|entry| entry[..4] == LOAD.to_le_bytes());
    let mut all: Vec<_> = loads
        .map(|entry| {
            let [offset, start, file_bytes, bytes] = [8, 24, 32, 40].map(|at| word(entry, at));
            // What has no bytes in the file may say that they are anywhere.
            let content = if file_bytes > 0 { &image[offset as usize..][..file_bytes as usize] } else { &[] };
            (start, bytes, content.to_vec())
        })
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn grub_finds_its_way_into_any_image() {
    let program = program(RELOCATABLE, 0);
    let packed = pack(&kernel(), &program, "server", Some(b"070701")).unwrap();
    assert!(!image_check::has_multiboot2_header(&packed));
    let file = for_grub(packed.clone()).unwrap().unwrap();
    assert!(image_check::has_multiboot2_header(&file) && image_check::has_way_in(&file));
    assert_eq!(loaded(&file), loaded(&packed), "the same goes to the same places");
    assert_eq!(word(&file, 24), KERNEL_START, "the entry is in a segment");
    assert_eq!(for_grub(file.clone()).unwrap().unwrap(), file);

    assert_eq!(for_grub(program), None);
    assert_eq!(for_grub(packed[..packed.len() / 2].to_vec()), None);
    assert_eq!(for_grub(Vec::new()), None);
}

/// A `.bss` alone: what its `p_offset` says has no meaning (elf(5)), so it may lie behind the end of the file.
#[test]
fn segment_without_bytes_in_the_file_lies_anywhere_in_it() {
    let mut program = program(STATIC, 0x40_0000);
    let third = HEADER_BYTES + 2 * SEGMENT_HEADER_BYTES;
    let offset = word(&program, third + 8) + 0x10_0000;
    put(&mut program, third + 8, &offset.to_le_bytes());
    put(&mut program, third + 32, &0_u64.to_le_bytes());
    let packed = pack(&kernel(), &program, "server", None).unwrap();
    check(&packed, &program);
    assert_eq!(loaded(&for_grub(packed.clone()).unwrap().unwrap()), loaded(&packed));
}

#[test]
fn kernel_is_told_where_files_and_words_are() {
    let image = pack_files(&kernel(), "server", b"an archive", b"init=/bin/server\0").unwrap();
    assert!(image_check::has_multiboot2_header(&image) && image_check::has_way_in(&image));
    let parts = loaded(&image);
    let [(_, _, kernel), .., (start, _, added)] = &parts[..] else { panic!("{parts:x?}") };
    let contents = [0, 8, 16, 24, 32, 40].map(|at| word(kernel, CONTENTS as usize + at));
    let (files, words) = (start + 10, start + 10 + 17);
    assert_eq!(contents, [0, page_up(words), *start, files, files, words]);
    assert_eq!(added, b"an archiveinit=/bin/server\0");
}

#[test]
fn what_leaves_no_room_is_refused() {
    let at_end = program(STATIC, 0x7fff_ffff_8000);
    assert_eq!(pack(&kernel(), &at_end, "x", None).err(), Some(PackError::NoRoom));
    let mut large = program(RELOCATABLE, 0);
    put(&mut large, HEADER_BYTES + 2 * SEGMENT_HEADER_BYTES + 40, &(4u64 << 30).to_le_bytes());
    assert!(matches!(pack(&kernel(), &large, "x", None), Err(PackError::TooLarge(_))));
    let packed = pack(&kernel(), &program(STATIC, 0x40_0000), "x", None).unwrap();
    assert_eq!(pack(&kernel(), &packed, "x", None).err(), Some(PackError::HasKernel));
    assert!(matches!(
        pack(b"no kernel", &program(STATIC, 0x40_0000), "x", None),
        Err(PackError::NotAKernel(_))
    ));
}

proptest! {
    #[test]
    fn changed_programs_are_refused_or_packed(
        is_static: bool,
        bytes in prop::collection::vec((0usize..HEADER_BYTES + 3 * SEGMENT_HEADER_BYTES, any::<u8>()), 0..4),
        words in prop::collection::vec(
            (0usize..(HEADER_BYTES + 3 * SEGMENT_HEADER_BYTES) / 8, prop_oneof![
                any::<u64>(), Just(u64::MAX), Just(1 << 63), Just(0x7fff_ffff_f000), Just(0), Just(u64::MAX << 12)]),
            0..3),
        len in prop_oneof![3 => Just(0x2200usize), 1 => 0usize..0x2200],
    ) {
        let mut file = program(if is_static { STATIC } else { RELOCATABLE }, if is_static { 0x40_0000 } else { 0 });
        words.iter().for_each(|(at, word)| put(&mut file, 8 * at, &word.to_le_bytes()));
        bytes.iter().for_each(|(at, byte)| file[*at] = *byte);
        file.truncate(len);
        if let Ok(image) = pack(&kernel(), &file, "x", None) {
            check(&image, &file);
            let for_grub = for_grub(image.clone()).unwrap().unwrap();
            assert_eq!(loaded(&for_grub), loaded(&image));
        }
    }
}
