//! Small programs made byte by byte, whole, with each fault, and with any bytes changed.

use alloc::string::ToString;
use alloc::vec;

use proptest::prelude::*;

use super::*;

const ALLOWED: Range<u64> = 0x1_0000..0x7fff_ffff_f000;

#[derive(Clone, Copy, Debug)]
struct Part {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_bytes: u64,
    memory_bytes: u64,
    alignment: u64,
}

const fn load(flags: u32, offset: u64, address: u64, file_bytes: u64, memory_bytes: u64) -> Part {
    Part { kind: SEGMENT_LOAD, flags, offset, address, file_bytes, memory_bytes, alignment: 4096 }
}

const GOOD: [Part; 3] = [
    load(4, 0, 0x40_0000, 0x200, 0x200),
    load(5, 0x1000, 0x40_1000, 0x800, 0x800),
    load(6, 0x1f00, 0x40_2f00, 0x180, 0x3000),
];
const ENTRY: u64 = 0x40_1010;

fn assemble(kind: u16, parts: &[Part], entry: u64) -> Vec<u8> {
    let mut file = vec![0; 0x4000];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    for (at, value) in [(16, kind), (18, 62), (52, 64), (54, 56), (56, parts.len() as u16)] {
        file[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    for (at, value) in [(24, entry), (32, 64)] {
        file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    for (index, part) in parts.iter().enumerate() {
        let at = 64 + index * SEGMENT_HEADER_BYTES;
        file[at..at + 4].copy_from_slice(&part.kind.to_le_bytes());
        file[at + 4..at + 8].copy_from_slice(&part.flags.to_le_bytes());
        let words =
            [part.offset, part.address, part.address, part.file_bytes, part.memory_bytes, part.alignment];
        for (word, value) in words.iter().enumerate() {
            file[at + 8 + 8 * word..][..8].copy_from_slice(&value.to_le_bytes());
        }
    }
    file
}

fn parse(file: &[u8]) -> Result<Program, ElfError> {
    let header = Header::parse(file)?;
    let table = usize::try_from(header.table_offset()).ok().and_then(|at| file.get(at..)).unwrap_or(&[]);
    Program::parse(&header, table, file.len() as u64, &ALLOWED)
}

fn after(change: impl FnOnce(&mut Vec<Part>)) -> Result<Program, ElfError> {
    let mut parts = GOOD.to_vec();
    change(&mut parts);
    parse(&assemble(TYPE_EXECUTABLE, &parts, ENTRY))
}

#[test]
fn good_program_is_loaded_page_by_page() {
    let program = after(|_| {}).unwrap();
    assert_eq!((program.kind, program.entry, program.header_count), (Kind::Fixed, ENTRY, 3));
    assert_eq!(program.headers, Some(0x40_0040));
    assert_eq!(program.span(), 0x40_0000..0x40_6000);
    let [headers, code, data] = program.segments[..] else { panic!("{program:?}") };
    assert_eq!(headers.shown(), 0x40_0000..0x40_1000);
    assert!(headers.edge().is_empty() && headers.own().is_empty());
    assert_eq!((code.shown(), code.shown_offset()), (0x40_1000..0x40_2000, 0x1000));
    assert_eq!((data.shown(), data.shown_offset()), (0x40_2000..0x40_3000, 0x1000));
    assert_eq!((data.edge(), data.own()), (0x2000..0x2080, 0x40_3000..0x40_6000));
}

#[test]
fn segment_without_bytes_in_the_file_is_zeros() {
    let program = after(|parts| parts[2] = load(6, 0x1234, 0x40_2f00, 0, 0x200)).unwrap();
    let segment = program.segments[2];
    assert!(segment.shown().is_empty() && segment.edge().is_empty());
    assert_eq!(segment.own(), 0x40_2000..0x40_4000);
}

#[test]
fn file_that_ends_in_the_page_where_it_begins_is_all_edge() {
    let program = after(|parts| parts[2] = load(6, 0x1f00, 0x40_2f00, 0x10, 0x20)).unwrap();
    let segment = program.segments[2];
    assert!(segment.shown().is_empty());
    assert_eq!((segment.edge(), segment.own()), (0x1000..0x1f10, 0x40_2000..0x40_3000));
}

#[test]
fn relocatable_program_may_begin_at_zero() {
    let mut parts = GOOD;
    parts.iter_mut().for_each(|part| part.address -= 0x40_0000);
    parts[1].alignment = 1 << 21;
    let program = parse(&assemble(TYPE_SHARED, &parts, 0x1010)).unwrap();
    assert_eq!((program.kind, program.alignment), (Kind::Relocatable, 1 << 21));
    assert_eq!(program.headers, Some(0x40));
    assert_eq!(parse(&assemble(TYPE_EXECUTABLE, &parts, 0x1010)), Err(ElfError::OutOfRange(0)));
}

#[test]
fn interpreter_is_found() {
    let interpreter = |bytes| Part { kind: SEGMENT_INTERPRETER, ..load(4, 0x300, 0, bytes, bytes) };
    let found = |bytes| after(|parts| parts.push(interpreter(bytes))).map(|program| program.interpreter);
    assert_eq!(found(28), Ok(Some(0x300..0x31b)));
    for bytes in [0, 1, 4097] {
        assert_eq!(found(bytes), Err(ElfError::BadInterpreter));
    }
    assert_eq!(found(u64::MAX), Err(ElfError::Truncated));
}

#[test]
fn other_files_are_named() {
    let file = assemble(TYPE_EXECUTABLE, &GOOD, ENTRY);
    let with = |at: usize, value: u8| {
        let mut file = file.clone();
        file[at] = value;
        parse(&file)
    };
    assert_eq!(parse(b"#!/bin/sh\n"), Err(ElfError::NotElf));
    assert_eq!(parse(&[]), Err(ElfError::NotElf));
    assert_eq!(parse(&file[..63]), Err(ElfError::Truncated));
    assert_eq!(parse(&file[..64]), Err(ElfError::Truncated));
    assert_eq!(with(4, 1), Err(ElfError::Not64Bit));
    assert_eq!(with(5, 2), Err(ElfError::BigEndian));
    assert_eq!(with(6, 2), Err(ElfError::Version(2)));
    assert_eq!(with(18, 183), Err(ElfError::Machine(183)));
    assert_eq!(with(16, 1), Err(ElfError::NotExecutable(1)));
    assert_eq!(with(54, 57), Err(ElfError::BadTable));
    assert_eq!(with(56, 0), Err(ElfError::BadTable));
    assert_eq!(with(57, 255), Err(ElfError::BadTable));
    assert!(ElfError::Machine(183).to_string().contains("AArch64"));
}

#[test]
fn damaged_segments_are_named() {
    let damage = |change: fn(&mut Part)| after(|parts| change(&mut parts[2]));
    assert_eq!(damage(|part| part.flags = 7), Err(ElfError::WritableAndExecutable(0x40_2f00)));
    assert_eq!(damage(|part| part.memory_bytes = 1), Err(ElfError::BadSegment(0x40_2f00)));
    assert_eq!(damage(|part| part.memory_bytes = u64::MAX), Err(ElfError::BadSegment(0x40_2f00)));
    assert_eq!(damage(|part| part.offset += 1), Err(ElfError::BadSegment(0x40_2f00)));
    assert_eq!(damage(|part| part.offset += 0x4000), Err(ElfError::Truncated));
    assert_eq!(damage(|part| part.offset = u64::MAX - 0xff), Err(ElfError::Truncated));
    assert_eq!(damage(|part| part.address = 0x40_1f00), Err(ElfError::Overlap(0x40_1f00)));
    assert_eq!(
        damage(|part| part.address = 0xffff_8000_0000_0f00),
        Err(ElfError::OutOfRange(0xffff_8000_0000_0f00))
    );
    assert_eq!(after(Vec::clear), Err(ElfError::BadTable));
    assert_eq!(after(|parts| parts.iter_mut().for_each(|part| part.kind = 0)), Err(ElfError::NoSegments));
    assert_eq!(after(|parts| parts[1].flags = 4), Err(ElfError::BadEntry(ENTRY)));
}

/// What whoever loads a program relies on.
fn check_loadable(program: &Program, file_bytes: u64) {
    let span = program.span();
    assert!(span.start < span.end && span.end - span.start <= ALLOWED.end - ALLOWED.start);
    let mut end = 0;
    for segment in &program.segments {
        let pages = segment.pages();
        assert!(pages.start >= end && pages.start < pages.end, "{segment:?}");
        end = pages.end;
        let (shown, own, edge) = (segment.shown(), segment.own(), segment.edge());
        for address in [shown.start, shown.end, own.end, segment.shown_offset()] {
            assert_eq!(address % PAGE_BYTES, 0, "{segment:?}");
        }
        // The parts follow each other, and are all there is.
        assert_eq!((shown.start, shown.end, own.end), (pages.start, own.start, pages.end));
        assert!(shown.start <= shown.end && own.start <= own.end);
        assert!(edge.is_empty() || !own.is_empty() && edge.end <= file_bytes);
        assert!(edge.start <= edge.end && edge.end - edge.start < PAGE_BYTES);
    }
    assert!(program.alignment.is_power_of_two() && program.alignment >= PAGE_BYTES);
}

prop_compose! {
    fn part()(
        kind in prop_oneof![4 => Just(SEGMENT_LOAD), 1 => 0u32..8],
        flags in 0u32..8,
        page in 0u64..6,
        within in prop_oneof![Just(0), 0u64..4096],
        shift in prop_oneof![4 => Just(0), 1 => 0u64..4096],
        file_bytes in prop_oneof![Just(0), 0u64..0x3000],
        zeros in prop_oneof![Just(0), 0u64..0x5000, any::<u64>()],
        base in prop_oneof![4 => (0u64..32).prop_map(|page| 0x40_0000 + page * 4096), 1 => any::<u64>()],
        alignment in any::<u64>(),
    ) -> Part {
        let (offset, address) = (page * 4096 + within, base.wrapping_add(within + shift));
        Part { kind, flags, offset, address, file_bytes, memory_bytes: file_bytes.wrapping_add(zeros), alignment }
    }
}

proptest! {
    #[test]
    fn what_is_accepted_can_be_loaded(parts in prop::collection::vec(part(), 1..6), is_fixed: bool, entry in 0x40_0000u64..0x40_8000) {
        let kind = if is_fixed { TYPE_EXECUTABLE } else { TYPE_SHARED };
        let file = assemble(kind, &parts, entry);
        if let Ok(program) = parse(&file) {
            check_loadable(&program, file.len() as u64);
        }
    }

    #[test]
    fn changed_programs_are_refused_or_can_be_loaded(
        changes in prop::collection::vec((0usize..64 + 3 * SEGMENT_HEADER_BYTES, any::<u8>()), 1..6),
        len in prop_oneof![Just(0x4000usize), 0usize..0x4000],
    ) {
        let mut file = assemble(TYPE_SHARED, &GOOD, ENTRY);
        for (at, value) in changes {
            file[at] = value;
        }
        file.truncate(len);
        if let Ok(program) = parse(&file) {
            check_loadable(&program, file.len() as u64);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut file = bytes;
        let _ = parse(&file);
        if file.len() >= 20 {
            file[..6].copy_from_slice(b"\x7fELF\x02\x01");
            file[16..20].copy_from_slice(&[3, 0, 62, 0]);
            let _ = parse(&file);
        }
    }
}
