//! Objects for tests: sections of each kind, symbols and relocations as a test wants them. (The kernel's tests use this file, too.)

use alloc::vec::Vec;

/// Section numbers.
pub(crate) const TEXT: u16 = 1;
pub(crate) const RODATA: u16 = 2;
pub(crate) const DATA: u16 = 3;
pub(crate) const BSS: u16 = 4;
const SYMBOLS: u32 = 8;
const STRINGS: u32 = 9;
const SECTIONS: u16 = 10;

pub(crate) const ABS_64: u32 = 1;
pub(crate) const PC_32: u32 = 2;
pub(crate) const PLT_32: u32 = 4;
pub(crate) const GOT_PC_32: u32 = 9;
pub(crate) const ABS_32: u32 = 10;
pub(crate) const ABS_32_SIGNED: u32 = 11;

/// A function that others see.
pub(crate) const GLOBAL_FUNCTION: u8 = 0x12;
/// Something that others see.
pub(crate) const GLOBAL: u8 = 0x10;
/// The same, if anybody defines it.
pub(crate) const WEAK: u8 = 0x20;

/// A relocation: where, of which type, by which symbol, and what is added.
#[derive(Clone, Copy)]
pub(crate) struct Reloc {
    pub(crate) at: u64,
    pub(crate) kind: u32,
    pub(crate) symbol: u32,
    pub(crate) addend: i64,
}

/// Name, type, flags, bytes, size beyond them, link, info.
type SectionParts<'a> = (u32, u32, u64, &'a [u8], u64, u32, u32);

/// An object.
#[derive(Clone, Default)]
pub(crate) struct Writer {
    pub(crate) text: Vec<u8>,
    pub(crate) rodata: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) bss_bytes: u64,
    pub(crate) modinfo: Vec<u8>,
    pub(crate) text_relocs: Vec<Reloc>,
    pub(crate) data_relocs: Vec<Reloc>,
    /// Name, kind, section, value.
    pub(crate) symbols: Vec<(&'static str, u8, u16, u64)>,
    /// Flags of the code's section, if others than its own.
    pub(crate) text_flags: Option<u64>,
}

impl Writer {
    /// Adds a symbol; answers its number.
    pub(crate) fn symbol(&mut self, name: &'static str, info: u8, section: u16, value: u64) -> u32 {
        self.symbols.push((name, info, section, value));
        self.symbols.len() as u32
    }

    /// Adds what the module says about itself.
    pub(crate) fn says(&mut self, line: &str) {
        self.modinfo.extend(line.as_bytes());
        self.modinfo.push(0);
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let names = b"\0.text\0.rodata\0.data\0.bss\0.modinfo\0.rela\0.symtab\0.strtab\0";
        let mut strings = alloc::vec![0];
        let mut symbols = alloc::vec![0; 24];
        for (name, info, section, value) in &self.symbols {
            symbols.extend((strings.len() as u32).to_le_bytes());
            symbols.extend([*info, 0]);
            symbols.extend(section.to_le_bytes());
            symbols.extend(value.to_le_bytes());
            symbols.extend([0; 8]);
            strings.extend(name.as_bytes());
            strings.push(0);
        }
        let relocs = |list: &[Reloc]| -> Vec<u8> {
            let entry = |reloc: &Reloc| {
                let info = u64::from(reloc.symbol) << 32 | u64::from(reloc.kind);
                [reloc.at, info, reloc.addend as u64].map(u64::to_le_bytes).concat()
            };
            list.iter().flat_map(entry).collect()
        };
        let (text_relocs, data_relocs) = (relocs(&self.text_relocs), relocs(&self.data_relocs));
        let text_flags = self.text_flags.unwrap_or(6);
        let sections: [SectionParts<'_>; SECTIONS as usize] = [
            (0, 0, 0, &[], 0, 0, 0),
            (1, 1, text_flags, &self.text, 0, 0, 0),
            (7, 1, 2, &self.rodata, 0, 0, 0),
            (15, 1, 3, &self.data, 0, 0, 0),
            (21, 8, 3, &[], self.bss_bytes, 0, 0),
            (26, 1, 2, &self.modinfo, 0, 0, 0),
            (35, 4, 0, &text_relocs, 0, SYMBOLS, TEXT.into()),
            (35, 4, 0, &data_relocs, 0, SYMBOLS, DATA.into()),
            (41, 2, 0, &symbols, 0, STRINGS, 1),
            (49, 3, 0, &strings, 0, 0, 0),
        ];
        let mut file = alloc::vec![0; 64];
        let mut headers = Vec::new();
        for (name, kind, flags, bytes, more, link, info) in sections {
            let offset = file.len().next_multiple_of(8);
            file.resize(offset, 0);
            file.extend(bytes);
            headers.extend([name, kind].map(u32::to_le_bytes).concat());
            let words = [flags, 0, offset as u64, bytes.len() as u64 + more];
            headers.extend(words.map(u64::to_le_bytes).concat());
            headers.extend([link, info].map(u32::to_le_bytes).concat());
            headers.extend([16u64, 0].map(u64::to_le_bytes).concat());
        }
        // The names of the sections are a section of their own.
        let offset = file.len() as u64;
        file.extend(names);
        headers.extend([0u32, 3].map(u32::to_le_bytes).concat());
        headers.extend([0, 0, offset, names.len() as u64].map(u64::to_le_bytes).concat());
        headers.extend([0u64, 1, 0].map(u64::to_le_bytes).concat());
        let table = file.len() as u64;
        file.extend(headers);
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &1u16.to_le_bytes());
        put(18, &62u16.to_le_bytes());
        put(20, &1u32.to_le_bytes());
        put(40, &table.to_le_bytes());
        put(52, &64u16.to_le_bytes());
        put(58, &64u16.to_le_bytes());
        put(60, &(SECTIONS + 1).to_le_bytes());
        put(62, &SECTIONS.to_le_bytes());
        file
    }
}
