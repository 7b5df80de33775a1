//! ELF files for tests: a segment of text, with the headers, and one of data, with zeros behind it.

use alloc::vec::Vec;

const PAGE: u64 = 4096;
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 56;
/// Where the text ends in the file, and the data begins, which is in the middle of a page.
const TEXT_BYTES: u64 = PAGE + 100;
const DATA_AT: u64 = TEXT_BYTES;
const DATA_BYTES: u64 = 5000;

/// A program.
#[derive(Clone, Copy)]
pub(super) struct Elf {
    pub(super) base: u64,
    pub(super) is_relocatable: bool,
    pub(super) interpreter: Option<&'static str>,
    /// Bytes of zeros behind the data.
    pub(super) zero_bytes: u64,
}

impl Elf {
    /// One that goes where it says.
    pub(super) fn fixed(base: u64) -> Self {
        Self { base, is_relocatable: false, interpreter: None, zero_bytes: 3 * PAGE }
    }

    /// One that goes anywhere.
    pub(super) fn relocatable() -> Self {
        Self { is_relocatable: true, ..Self::fixed(0) }
    }

    pub(super) fn entry(&self) -> u64 {
        self.text() + 32
    }

    /// Where its text is, behind the headers.
    pub(super) fn text(&self) -> u64 {
        self.base + 1024
    }

    pub(super) fn text_bytes(&self, len: usize) -> Vec<u8> {
        (0..len).map(|at| at as u8 ^ 0x5a).collect()
    }

    /// Where its data is: a page further than in the file.
    pub(super) fn data(&self) -> u64 {
        self.base + PAGE + DATA_AT
    }

    pub(super) fn data_len(&self) -> u64 {
        DATA_BYTES
    }

    pub(super) fn data_bytes(&self, len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 7) as u8).collect()
    }

    /// The file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut file = alloc::vec![0; (DATA_AT + DATA_BYTES) as usize];
        let interpreter = self.interpreter.map(|path| [path.as_bytes(), b"\0"].concat());
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01\0");
        put(16, &(if self.is_relocatable { 3u16 } else { 2 }).to_le_bytes());
        put(18, &62u16.to_le_bytes());
        put(20, &1u32.to_le_bytes());
        put(24, &self.entry().to_le_bytes());
        put(32, &(HEADER_BYTES as u64).to_le_bytes());
        put(52, &(HEADER_BYTES as u16).to_le_bytes());
        put(54, &(ENTRY_BYTES as u16).to_le_bytes());
        put(56, &(2 + u16::from(interpreter.is_some())).to_le_bytes());
        let mut segment = |index: usize, kind: u32, flags: u32, fields: [u64; 6]| {
            let at = HEADER_BYTES + index * ENTRY_BYTES;
            put(at, &kind.to_le_bytes());
            put(at + 4, &flags.to_le_bytes());
            fields
                .iter()
                .enumerate()
                .for_each(|(field, value)| put(at + 8 + field * 8, &value.to_le_bytes()));
        };
        let data = self.data();
        segment(0, 1, 5, [0, self.base, self.base, TEXT_BYTES, TEXT_BYTES, PAGE]);
        segment(1, 1, 6, [DATA_AT, data, data, DATA_BYTES, DATA_BYTES + self.zero_bytes, PAGE]);
        if let Some(path) = &interpreter {
            let len = path.len() as u64;
            segment(2, 3, 4, [512, self.base + 512, self.base + 512, len, len, 1]);
            put(512, path);
        }
        put(1024, &self.text_bytes(1000));
        put(DATA_AT as usize, &self.data_bytes(DATA_BYTES as usize));
        file
    }
}
