//! The absolute addresses in the kernel, which it changes itself at boot when it moves to another place.
//!
//! The list is made once, of the kernel as an object: `merge.ld` has put its code and its data into three sections, so where
//! something is in its section holds in every image, whatever linker makes that.

use object::LittleEndian;
use object::elf::{
    FileHeader64, R_X86_64_32, R_X86_64_32S, R_X86_64_64, R_X86_64_NONE, R_X86_64_PC32, R_X86_64_PC64,
    R_X86_64_PLT32, Rela64, SHF_ALLOC, SHT_RELA,
};
use object::read::elf::{FileHeader, Rela, SectionHeader};
use unikernel_elf::relocations::{AREAS, encode};

const ENDIAN: LittleEndian = LittleEndian;
/// The sections whose words may be addresses, in the order of the table's lists; and the code. Those of `image.ld` begin with them.
const DATA: [&[u8]; AREAS] = [b".rodata", b".data"];
const CODE: &[u8] = b".text";
const WORD_BYTES: u64 = 8;
/// Where the linker knows how image and kernel are loaded, which does not change.
const PHYSICAL: [&[u8]; 2] = [b"__image_start", b"__kernel_load_start"];

/// The places that move, as the table has them.
#[derive(Default)]
struct Places {
    words: [Vec<u32>; AREAS],
    code: Vec<u32>,
}

/// The table (`unikernel_elf::relocations`) for a relocatable object, or what in it cannot be moved.
pub(crate) fn table(object: &[u8]) -> Result<Vec<u8>, String> {
    let text = |error: object::Error| error.to_string();
    let header = FileHeader64::<LittleEndian>::parse(object).map_err(text)?;
    let sections = header.sections(ENDIAN, object).map_err(text)?;
    let symbols = sections.symbols(ENDIAN, object, object::elf::SHT_SYMTAB).map_err(text)?;
    let mut places = Places::default();
    for section in sections.iter().filter(|section| section.sh_type(ENDIAN) == SHT_RELA) {
        let target = sections.section(section.info_link(ENDIAN)).map_err(text)?;
        if target.sh_flags(ENDIAN) & u64::from(SHF_ALLOC) == 0 {
            continue;
        }
        let name = sections.section_name(ENDIAN, target).map_err(text)?;
        let entries: &[Rela64<LittleEndian>] = section.data_as_array(ENDIAN, object).map_err(text)?;
        for entry in entries {
            let symbol = symbols.symbol(entry.symbol(ENDIAN, false).ok_or("no symbol")?).map_err(text)?;
            let (at, kind) = (entry.r_offset(ENDIAN), entry.r_type(ENDIAN, false));
            let is_physical = symbols.symbol_name(ENDIAN, symbol).is_ok_and(|name| PHYSICAL.contains(&name));
            places
                .add(kind, name, (at, target.sh_addralign(ENDIAN)), is_physical)
                .map_err(|why| format!("{} + {at:#x} in the kernel: {why}", String::from_utf8_lossy(name)))?;
        }
    }
    places.words.iter_mut().chain([&mut places.code]).for_each(|list| list.sort_unstable());
    let [first, second] = &places.words;
    Ok(encode([first, second], &places.code))
}

impl Places {
    /// Takes a relocation in, at a place in a section of that alignment, if it moves with the kernel.
    fn add(
        &mut self,
        kind: u32,
        section: &[u8],
        (at, alignment): (u64, u64),
        is_physical: bool,
    ) -> Result<(), String> {
        let list = match kind {
            // Relative ones move with what they lead to. Those of 32 bits without a sign are physical addresses, of the first
            // steps at boot: the linker refuses any other.
            R_X86_64_NONE | R_X86_64_PC32 | R_X86_64_PC64 | R_X86_64_PLT32 | R_X86_64_32 => return Ok(()),
            R_X86_64_64 | R_X86_64_32S if is_physical => return Ok(()),
            R_X86_64_64 => {
                let area = DATA.iter().position(|known| *known == section);
                if !at.is_multiple_of(WORD_BYTES) || !alignment.is_multiple_of(WORD_BYTES) {
                    return Err("an address that is not aligned".to_owned());
                }
                area.map(|area| (&mut self.words[area], at / WORD_BYTES))
            }
            R_X86_64_32S => (section == CODE).then_some((&mut self.code, at)),
            other => return Err(format!("a relocation of type {other}")),
        };
        let (list, place) = list.ok_or("an address where none can be changed at boot")?;
        list.push(u32::try_from(place).map_err(|_| "too far behind".to_owned())?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::elf::R_X86_64_GOTPCREL;

    #[test]
    fn addresses_are_listed_by_their_sections() {
        let mut places = Places::default();
        for (kind, section, at, is_physical) in [
            (R_X86_64_64, &b".rodata"[..], 0x18, false),
            (R_X86_64_64, b".data", 0, false),
            (R_X86_64_32S, b".text", 3, false),
            (R_X86_64_32S, b".text", 9, true),
            (R_X86_64_PLT32, b".text", 1, false),
            (R_X86_64_32, b".text.boot", 7, false),
        ] {
            places.add(kind, section, (at, 16), is_physical).unwrap();
        }
        assert_eq!((places.words, places.code), ([vec![3], vec![0]], vec![3]));
    }

    #[test]
    fn what_cannot_move_is_told() {
        let told = |kind, section: &[u8], place| Places::default().add(kind, section, place, false).is_err();
        assert!(
            told(R_X86_64_64, b".text", (0, 16)) && told(R_X86_64_32S, b".data", (0, 8)),
            "nobody looks there"
        );
        assert!(told(R_X86_64_64, b".data", (4, 8)) && told(R_X86_64_64, b".data", (8, 4)), "not aligned");
        assert!(told(R_X86_64_GOTPCREL, b".text", (3, 16)));
    }
}
