//! The table of function names, and the program's own. The build writes it into the last segment of an image, the kernel
//! finds names in it.
//!
//! All numbers are little-endian: the count of entries and the table's bytes (64 bits each), the
//! addresses in ascending order (32 bits each, of which the sign is extended: an app lies in the first 2 GiB, the kernel
//! in the last), where each name ends in the text (32 bits each), the text, the program's name. An empty name marks the end of a run of code, so that an
//! address behind it belongs to nobody.

use alloc::string::String;
use alloc::vec::Vec;

/// Bytes of the count and the size.
pub const HEADER_BYTES: usize = 16;

/// A function's address and name, or the end of a run of code and an empty name.
pub type Function = (u64, String);

/// Makes the table of a program. Of several names for one address, the first in the alphabet stays. An address in neither
/// the first nor the last 2 GiB, where no code can be linked, gets no name.
pub fn encode(mut functions: Vec<Function>, program: &str) -> Vec<u8> {
    functions.retain(|(address, _)| long(*address as u32) == *address);
    // At one address, a name comes before the end of the run of code that it follows.
    functions.sort_by(|a, b| (a.0, a.1.is_empty(), &a.1).cmp(&(b.0, b.1.is_empty(), &b.1)));
    functions.dedup_by_key(|(address, _)| *address);
    let names: usize = functions.iter().map(|(_, name)| name.len()).sum();
    let bytes = HEADER_BYTES + functions.len() * 8 + names + program.len();
    let mut table = Vec::with_capacity(bytes);
    table.extend((functions.len() as u64).to_le_bytes());
    table.extend((bytes as u64).to_le_bytes());
    table.extend(functions.iter().flat_map(|(address, _)| (*address as u32).to_le_bytes()));
    let mut end = 0;
    for (_, name) in &functions {
        end += name.len() as u32;
        table.extend(end.to_le_bytes());
    }
    table.extend(functions.iter().flat_map(|(_, name)| name.bytes()));
    table.extend(program.bytes());
    table
}

/// A table, ready to be searched.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    addresses: &'a [[u8; 4]],
    ends: &'a [[u8; 4]],
    text: &'a [u8],
}

/// A function around an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symbol<'a> {
    /// Its demangled name.
    pub name: &'a str,
    /// Its first byte.
    pub start: u64,
}

impl<'a> Table<'a> {
    /// Reads a table's header. A count of zero, which an image has whose build added no table, is
    /// a table without names.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk()?;
        let (_, rest) = rest.split_first_chunk::<8>()?;
        let array_bytes = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(4)?;
        let (addresses, rest) = rest.split_at_checked(array_bytes)?;
        let (ends, text) = rest.split_at_checked(array_bytes)?;
        Some(Self { addresses: addresses.as_chunks().0, ends: ends.as_chunks().0, text })
    }

    /// The function around `address`, if it lies in code.
    pub fn find(&self, address: u64) -> Option<Symbol<'a>> {
        let index = self.addresses.partition_point(|&start| address_of(start) <= address).checked_sub(1)?;
        self.symbol(index)
    }

    fn symbol(&self, index: usize) -> Option<Symbol<'a>> {
        let begin = index.checked_sub(1).map_or(0, |before| word(self.ends[before]));
        let name = self.text.get(begin as usize..word(self.ends[index]) as usize)?;
        let name = core::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
        Some(Symbol { name, start: address_of(self.addresses[index]) })
    }

    /// All functions, in the order of their addresses, each with its bytes up to the next one.
    pub fn functions(self) -> impl Iterator<Item = (Symbol<'a>, u64)> {
        (0..self.addresses.len()).filter_map(move |index| {
            let symbol = self.symbol(index)?;
            let end = self.addresses.get(index + 1).map_or(symbol.start, |&end| address_of(end));
            Some((symbol, end.saturating_sub(symbol.start)))
        })
    }

    /// What the program is called.
    pub fn program(&self) -> Option<&'a str> {
        let begin = self.ends.last().map_or(0, |&end| word(end));
        let name = core::str::from_utf8(self.text.get(begin as usize..)?).ok()?;
        (!name.is_empty()).then_some(name)
    }
}

fn word(bytes: [u8; 4]) -> u64 {
    u64::from(u32::from_le_bytes(bytes))
}

fn address_of(bytes: [u8; 4]) -> u64 {
    long(u32::from_le_bytes(bytes))
}

/// An address of which 32 bits are kept.
fn long(address: u32) -> u64 {
    i64::from(address.cast_signed()).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn table(functions: &[(u64, &str)]) -> Vec<u8> {
        encode(functions.iter().map(|&(address, name)| (address, name.to_string())).collect(), "server")
    }

    fn name_at(table: &[u8], address: u64) -> Option<(&str, u64)> {
        Table::parse(table)?.find(address).map(|symbol| (symbol.name, symbol.start))
    }

    #[test]
    fn address_in_function_finds_its_name_and_start() {
        let table = table(&[(0x2000, "second"), (0x1000, "first"), (0x3000, "")]);
        assert_eq!(name_at(&table, 0x0fff), None);
        assert_eq!(name_at(&table, 0x1000), Some(("first", 0x1000)));
        assert_eq!(name_at(&table, 0x1fff), Some(("first", 0x1000)));
        assert_eq!(name_at(&table, 0x2fff), Some(("second", 0x2000)));
    }

    #[test]
    fn functions_and_the_programs_name_come_back() {
        let table = table(&[(0x1000, "a"), (0x1800, "b"), (0x2000, ""), (0x9000, "c")]);
        let table = Table::parse(&table).unwrap();
        let all: Vec<_> =
            table.functions().map(|(symbol, bytes)| (symbol.start, symbol.name, bytes)).collect();
        assert_eq!(all, [(0x1000, "a", 0x800), (0x1800, "b", 0x800), (0x9000, "c", 0)]);
        assert_eq!(table.program(), Some("server"));
        let empty = encode(vec![], "");
        assert_eq!(Table::parse(&empty).unwrap().program(), None);
    }

    #[test]
    fn address_behind_code_has_no_name() {
        let table = table(&[(0x1000, "app"), (0x2000, ""), (0x8000, "kernel"), (0x9000, "")]);
        for address in [0x2000, 0x7fff, 0x9000, u64::MAX] {
            assert_eq!(name_at(&table, address), None, "{address:#x}");
        }
    }

    #[test]
    fn both_ends_of_the_address_space_have_names_and_nothing_between() {
        let kernel = 0xffff_ffff_8040_0000;
        let table = table(&[(kernel, "kernel"), (0x20_0000, "app"), (0x30_0000, ""), (1 << 32, "far")]);
        assert_eq!(name_at(&table, 0x2f_ffff), Some(("app", 0x20_0000)));
        assert_eq!(name_at(&table, kernel + 5), Some(("kernel", kernel)));
        for address in [1 << 32, 0x8040_0000, kernel - 1] {
            assert_eq!(name_at(&table, address), None, "{address:#x}");
        }
    }

    #[test]
    fn adjoining_runs_of_code_keep_the_name_at_their_border() {
        let table = table(&[(0x1000, "a"), (0x2000, ""), (0x2000, "b")]);
        assert_eq!(name_at(&table, 0x2000), Some(("b", 0x2000)));
    }

    #[test]
    fn image_without_table_has_no_names() {
        assert_eq!(name_at(&[0; 4096], 0x1000), None);
        assert_eq!(name_at(&[], 0x1000), None);
    }

    #[test]
    fn size_in_the_header_is_the_table_s() {
        let table = table(&[(1, "one"), (2, "two")]);
        assert_eq!(u64::from_le_bytes(table[8..16].try_into().unwrap()), table.len() as u64);
    }

    proptest! {
        #[test]
        fn every_function_is_found(functions in prop::collection::btree_map(any::<u32>().prop_map(long), "[a-zé:]{1,9}", 1..40)) {
            let table = encode(functions.clone().into_iter().collect(), "x");
            for (address, name) in &functions {
                prop_assert_eq!(name_at(&table, *address), Some((name.as_str(), *address)));
            }
        }

        #[test]
        fn damaged_tables_do_not_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0u64..30, at: u32) {
            if let Some(header) = bytes.get_mut(..8) {
                header.copy_from_slice(&count.to_le_bytes());
            }
            let _ = name_at(&bytes, u64::from(at));
            let _ = vec![name_at(&bytes, 0), name_at(&bytes, u64::MAX)];
        }
    }
}
