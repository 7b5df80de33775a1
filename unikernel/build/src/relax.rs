//! Takes the kernel's code off the global offset table.
//!
//! The prebuilt `core` for `x86_64-unknown-none` is position-independent and reaches functions
//! through the table. The linker makes one table for the whole image, which lies in the app's half,
//! where the kernel must not look, and which does not move with the kernel. All that the kernel names is near: so each load from
//! the table is made the address itself, relative to the instruction, and each call through it a direct one (x86-64 psABI,
//! B.2). The linker could do so, too; but some make the address an absolute one (GNU ld), which no list of
//! [`crate::relocations`] would name.

use object::LittleEndian;
use object::elf::{
    FileHeader64, R_X86_64_GOTPCREL, R_X86_64_GOTPCRELX, R_X86_64_PC32, R_X86_64_REX_GOTPCRELX, Rela64,
    SHT_RELA,
};
use object::read::elf::{FileHeader, Rela, SectionHeader};

type Header = FileHeader64<LittleEndian>;
const ENDIAN: LittleEndian = LittleEndian;

/// Changes the instructions and the relocations in a relocatable object. An error names an instruction that uses the table in a way
/// that has no direct form.
pub(crate) fn leave_offset_table(object: &mut [u8]) -> Result<(), String> {
    for Exchange { code_at, code, entry_at } in exchanges(object)? {
        object[code_at..code_at + code.len()].copy_from_slice(&code);
        // `r_info` is the second word of an entry: symbol above, type in the low half.
        object[entry_at + 8..entry_at + 12].copy_from_slice(&R_X86_64_PC32.to_le_bytes());
    }
    Ok(())
}

/// Both are places in the file.
struct Exchange {
    /// The two bytes before the displacement.
    code_at: usize,
    code: [u8; 2],
    /// The relocation.
    entry_at: usize,
}

fn exchanges(object: &[u8]) -> Result<Vec<Exchange>, String> {
    let text = |error: object::Error| error.to_string();
    let header = Header::parse(object).map_err(text)?;
    let sections = header.sections(ENDIAN, object).map_err(text)?;
    let mut found = Vec::new();
    for section in sections.iter().filter(|section| section.sh_type(ENDIAN) == SHT_RELA) {
        let target = sections.section(section.info_link(ENDIAN)).map_err(text)?;
        let code = target.data(ENDIAN, object).map_err(text)?;
        let first = section.sh_offset(ENDIAN) as usize;
        let entries: &[Rela64<LittleEndian>] = section.data_as_array(ENDIAN, object).map_err(text)?;
        let places = (first..).step_by(size_of::<Rela64<LittleEndian>>());
        for (entry, entry_at) in entries.iter().zip(places) {
            if matches!(
                entry.r_type(ENDIAN, false),
                R_X86_64_GOTPCREL | R_X86_64_GOTPCRELX | R_X86_64_REX_GOTPCRELX
            ) {
                let at = entry.r_offset(ENDIAN) as usize;
                let before = code.get(..at).ok_or("a relocation outside of its section")?;
                let code = relative_form(before)?;
                let code_at = target.sh_offset(ENDIAN) as usize + at - code.len();
                found.push(Exchange { code_at, code, entry_at });
            }
        }
    }
    Ok(found)
}

/// What the two bytes before a displacement become, so that it leads to the place itself and not to its address.
fn relative_form(before: &[u8]) -> Result<[u8; 2], String> {
    match before {
        // `call` in as many bytes: the first, of the size of addresses, has no meaning here.
        [.., 0xff, 0x15] => Ok([0x67, 0xe8]),
        // `nop`, `jmp`.
        [.., 0xff, 0x25] => Ok([0x90, 0xe9]),
        // `lea` in place of `mov`.
        [.., 0x48..=0x4f, 0x8b, operands] => Ok([0x8d, *operands]),
        _ => {
            let last = &before[before.len().saturating_sub(3)..];
            Err(format!("the kernel uses the offset table with an unknown instruction {last:02x?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_loads_become_direct() {
        // call and jmp through [rip + ...], and mov r, [rip + ...] with and without the high registers.
        let forms: [(&[u8], _); 4] = [
            (&[0x90, 0xff, 0x15], [0x67, 0xe8]),
            (&[0xff, 0x25], [0x90, 0xe9]),
            (&[0x48, 0x8b, 0x05], [0x8d, 0x05]),
            (&[0x4c, 0x8b, 0x3d], [0x8d, 0x3d]),
        ];
        for (code, expected) in forms {
            assert_eq!(relative_form(code), Ok(expected), "{code:x?}");
        }
    }

    #[test]
    fn other_instructions_stop_the_build() {
        // add, push.
        for code in [&[0x48, 0x03, 0x05][..], &[0xff, 0x35], &[]] {
            assert!(relative_form(code).is_err(), "{code:x?}");
        }
    }
}
