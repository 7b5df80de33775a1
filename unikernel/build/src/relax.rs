//! Takes the kernel's code off the global offset table.
//!
//! The prebuilt `core` for `x86_64-unknown-none` is position-independent and reaches functions
//! through the table. The linker makes one table for the whole image, which lies in the app's half,
//! where the kernel must not look. It would replace each load from the table by the address itself
//! if the relocations said that it may ("GOTPCRELX", x86-64 psABI, B.2); rustc emits the older type
//! for this target. Both types mean the same, so they are exchanged here, and the calls become
//! direct ones.

use object::LittleEndian;
use object::elf::{
    FileHeader64, R_X86_64_GOTPCREL, R_X86_64_GOTPCRELX, R_X86_64_REX_GOTPCRELX, Rela64, SHT_RELA,
};
use object::read::elf::{FileHeader, Rela, SectionHeader};

type Header = FileHeader64<LittleEndian>;

/// Exchanges the relocations in a relocatable object.
///
/// # Panics
///
/// If an instruction uses the table in a way that the linker could not replace.
pub(crate) fn allow_relaxation(object: &mut [u8]) {
    for (entry_offset, new_type) in exchanges(object) {
        // `r_info` is the second word of an entry: symbol above, type in the low half.
        let field = &mut object[entry_offset + 8..entry_offset + 12];
        field.copy_from_slice(&new_type.to_le_bytes());
    }
}

/// Where the entries to change lie in the file, and their new types.
fn exchanges(object: &[u8]) -> Vec<(usize, u32)> {
    let endian = LittleEndian;
    let header = Header::parse(object).expect("the linker wrote an ELF file");
    let sections = header.sections(endian, object).expect("an object has sections");
    let mut found = Vec::new();
    for section in sections.iter().filter(|section| section.sh_type(endian) == SHT_RELA) {
        let target = sections.section(section.info_link(endian)).expect("relocations belong to a section");
        let code = target.data(endian, object).expect("the section lies in the file");
        let first = section.sh_offset(endian) as usize;
        let entries = section.data_as_array(endian, object).expect("the relocations lie in the file");
        for (index, entry) in entries.iter().enumerate() {
            let entry: &Rela64<LittleEndian> = entry;
            if entry.r_type(endian, false) == R_X86_64_GOTPCREL {
                let offset = entry.r_offset(endian) as usize;
                found.push((first + index * size_of::<Rela64<LittleEndian>>(), relaxable_type(code, offset)));
            }
        }
    }
    found
}

/// The relaxable type for the instruction whose displacement lies at `offset`.
fn relaxable_type(code: &[u8], offset: usize) -> u32 {
    match code[..offset] {
        [.., 0xff, 0x15 | 0x25] => R_X86_64_GOTPCRELX,
        [.., 0x48..=0x4f, 0x8b, _] => R_X86_64_REX_GOTPCRELX,
        [.., a, b, c] => {
            panic!("the kernel uses the offset table with an unknown instruction {a:02x} {b:02x} {c:02x}")
        }
        _ => panic!("a relocation at the start of its section"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_loads_get_the_type_that_the_linker_may_relax() {
        // call and jmp through [rip + ...], and mov r, [rip + ...] with and without the high registers.
        for code in [&[0x90, 0xff, 0x15][..], &[0x90, 0xff, 0x25]] {
            assert_eq!(relaxable_type(code, code.len()), R_X86_64_GOTPCRELX, "{code:x?}");
        }
        for code in [&[0x48, 0x8b, 0x05][..], &[0x4c, 0x8b, 0x3d]] {
            assert_eq!(relaxable_type(code, code.len()), R_X86_64_REX_GOTPCRELX, "{code:x?}");
        }
    }

    #[test]
    #[should_panic(expected = "unknown instruction 48 03 05")]
    fn instruction_that_cannot_be_relaxed_stops_the_build() {
        relaxable_type(&[0x48, 0x03, 0x05], 3);
    }
}
