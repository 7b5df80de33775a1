//! ISO 9660 (ECMA-119) with Joliet or Rock Ridge: the label, and files in the root. Names in the plain form have no `-` and
//! are too short for what is looked for.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use unikernel_vfs::Volume;

use crate::volume::{VolumeError, read_at, u16_at, u32_at, zeros};

const SECTOR_BYTES: u64 = 2048;
/// Where descriptors begin, and how many are looked at.
const FIRST_DESCRIPTOR: u64 = 16;
const MAX_DESCRIPTORS: u64 = 32;
const PRIMARY: u8 = 1;
const SUPPLEMENTARY: u8 = 2;
const TERMINATOR: u8 = 255;
/// Escape sequences of UCS-2, levels 1 to 3 (Joliet).
const JOLIET: [&[u8]; 3] = [b"%/@", b"%/C", b"%/E"];
const MAX_ROOT_BYTES: usize = 64 << 10;
/// Flags of a record.
const DIRECTORY: u8 = 2;
const HAS_MORE: u8 = 0x80;
/// A record without its name.
const RECORD_BYTES: usize = 33;

/// Where names are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Names {
    /// In the records, as UCS-2.
    Joliet,
    /// Behind what the records call them (IEEE P1282, `NM`).
    RockRidge,
}

/// A filesystem.
pub struct Iso<'a> {
    volume: &'a dyn Volume,
    names: Names,
    label: String,
    /// Offset and length of the root.
    root: (u64, usize),
}

impl<'a> Iso<'a> {
    /// Looks for one; none if the volume has another filesystem.
    pub fn open(volume: &'a dyn Volume) -> Result<Option<Self>, VolumeError> {
        let mut found = None;
        // Not on the stack: the kernel's are small.
        let mut sector = zeros(SECTOR_BYTES as usize)?;
        for number in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + MAX_DESCRIPTORS {
            if volume.size_bytes() < (number + 1) * SECTOR_BYTES {
                break;
            }
            read_at(volume, number * SECTOR_BYTES, &mut sector)?;
            if sector[1..6] != *b"CD001" || sector[0] == TERMINATOR {
                break;
            }
            let is_joliet = JOLIET.iter().any(|escape| sector[88..].starts_with(escape));
            match sector[0] {
                PRIMARY if found.is_none() => found = Some(Self::of(volume, &sector, Names::RockRidge)),
                SUPPLEMENTARY if is_joliet => found = Some(Self::of(volume, &sector, Names::Joliet)),
                _ => {}
            }
        }
        Ok(found)
    }

    fn of(volume: &'a dyn Volume, sector: &[u8], names: Names) -> Self {
        let label = &sector[40..72];
        let label = if names == Names::Joliet { ucs2(label) } else { String::from_utf8_lossy(label).into() };
        let (offset, len) = extent(&sector[156..]);
        Self { volume, names, label: label.trim_end().to_string(), root: (offset, len as usize) }
    }

    /// True if the volume is called so, in any case of letters.
    pub fn has_label(&self, wanted: &str) -> bool {
        self.label.eq_ignore_ascii_case(wanted)
    }

    /// The content of a file in the root; none if there is none.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, VolumeError> {
        let mut root = zeros(self.root.1.min(MAX_ROOT_BYTES))?;
        read_at(self.volume, self.root.0, &mut root)?;
        let mut at = 0;
        while at + RECORD_BYTES <= root.len() {
            let len = usize::from(root[at]);
            if len == 0 {
                // No record goes beyond its sector.
                at = (at + 1).next_multiple_of(SECTOR_BYTES as usize);
                continue;
            }
            let record = root.get(at..at + len).filter(|record| record.len() > RECORD_BYTES);
            let record = record.ok_or(VolumeError::Damaged)?;
            at += len;
            let flags = record[25];
            let is_it = flags & DIRECTORY == 0 && self.name(record).is_some_and(|own| own == name);
            if is_it {
                let (offset, len) = extent(record);
                if flags & HAS_MORE != 0 {
                    return Err(VolumeError::TooLarge);
                }
                let mut content = zeros(len as usize)?;
                read_at(self.volume, offset, &mut content)?;
                return Ok(Some(content));
            }
        }
        Ok(None)
    }

    fn name(&self, record: &[u8]) -> Option<String> {
        let end = RECORD_BYTES + usize::from(record[32]);
        let name = record.get(RECORD_BYTES..end)?;
        match self.names {
            Names::Joliet => {
                let name = ucs2(name);
                Some(name.strip_suffix(";1").map_or(name.clone(), str::to_string))
            }
            // A name of even length is followed by a byte of padding.
            Names::RockRidge => alternate(record.get(end.next_multiple_of(2)..)?),
        }
    }
}

/// The name in the fields for systems (System Use Sharing Protocol): signature, length, version, and for `NM` flags, name.
fn alternate(mut fields: &[u8]) -> Option<String> {
    let mut name = String::new();
    while let [first, second, len, _, rest @ ..] = fields {
        let content = usize::from(*len).checked_sub(4).and_then(|len| rest.get(..len));
        let Some(content) = content else { break };
        if let ([b'N', b'M'], [_flags, part @ ..]) = ([*first, *second], content) {
            name.push_str(core::str::from_utf8(part).ok()?);
        }
        fields = &fields[usize::from(*len)..];
    }
    Some(name).filter(|name| !name.is_empty())
}

/// Where what a record is about begins, and how long it is.
fn extent(record: &[u8]) -> (u64, u32) {
    (u64::from(u32_at(record, 2)) * SECTOR_BYTES, u32_at(record, 10))
}

/// Big-endian UTF-16.
fn ucs2(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16_at(pair, 0).swap_bytes());
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
