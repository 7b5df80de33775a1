use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use proptest::prelude::*;

use super::*;

fn table(functions: &[(u64, &str)]) -> Vec<u8> {
    encode(functions.iter().map(|&(address, name)| (address, name.to_string())).collect(), "server")
}

fn name_at(table: &[u8], address: u64) -> Option<(String, u64)> {
    Table::parse(table)?.find(address).map(|symbol| (symbol.name.to_string(), symbol.start))
}

fn named(name: &str, start: u64) -> Option<(String, u64)> {
    Some((name.to_string(), start))
}

#[test]
fn address_in_function_finds_its_name_and_start() {
    let table = table(&[(0x2000, "second"), (0x1000, "first"), (0x3000, "")]);
    assert_eq!(name_at(&table, 0x0fff), None);
    assert_eq!(name_at(&table, 0x1000), named("first", 0x1000));
    assert_eq!(name_at(&table, 0x1fff), named("first", 0x1000));
    assert_eq!(name_at(&table, 0x2fff), named("second", 0x2000));
}

#[test]
fn functions_and_the_programs_name_come_back() {
    let table = table(&[(0x1000, "a"), (0x1800, "b"), (0x2000, ""), (0x9000, "c")]);
    let table = Table::parse(&table).unwrap();
    let all: Vec<_> =
        table.functions().map(|(symbol, bytes)| (symbol.start, symbol.name.to_string(), bytes)).collect();
    assert_eq!(
        all,
        [(0x1000, "a", 0x800), (0x1800, "b", 0x800), (0x9000, "c", 0)].map(|(start, name, bytes)| (
            start,
            name.to_string(),
            bytes
        ))
    );
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
    assert_eq!(name_at(&table, 0x2f_ffff), named("app", 0x20_0000));
    assert_eq!(name_at(&table, kernel + 5), named("kernel", kernel));
    for address in [1 << 32, 0x8040_0000, kernel - 1] {
        assert_eq!(name_at(&table, address), None, "{address:#x}");
    }
}

#[test]
fn adjoining_runs_of_code_keep_the_name_at_their_border() {
    let table = table(&[(0x1000, "a"), (0x2000, ""), (0x2000, "b")]);
    assert_eq!(name_at(&table, 0x2000), named("b", 0x2000));
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
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_function_is_found(functions in prop::collection::btree_map(any::<u32>().prop_map(long), "[a-zé:]{1,9}", 1..40)) {
        let table = encode(functions.clone().into_iter().collect(), "x");
        for (address, name) in &functions {
            prop_assert_eq!(name_at(&table, *address), named(name, *address));
        }
    }

    #[test]
    fn damaged_tables_do_not_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        len in any::<prop::sample::Index>(),
        address: u32,
    ) {
        let functions = (0..100).map(|index| (0x1000 + 8 * index, format!("function::number_{index}")));
        let mut bytes = encode(functions.collect(), "server");
        bytes.truncate(len.index(bytes.len()) + 1);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for address in [u64::from(address) % 0x2000, 0, 0x1080, u64::MAX] {
            let _ = name_at(&bytes, address);
        }
        if let Some(table) = Table::parse(&bytes) {
            let longest = table.functions().map(|(symbol, _)| symbol.name.text().as_str().len()).max();
            prop_assert!(longest <= Some(NAME_BYTES));
            let _ = table.program();
        }
    }
}

#[test]
fn parts_that_names_have_in_common_are_kept_once() {
    let names = |index: u64| {
        format!("<unikernel_kernel::net::socket::Socket as unikernel_kernel::file::File>::{index}")
    };
    let table = encode((0..1000).map(|index| (0x1000 + 16 * index, names(index))).collect(), "server");
    let plain: usize = (0..1000).map(|index| names(index).len()).sum();
    assert!(table.len() * 5 < plain, "{} of {plain} bytes", table.len());
    assert_eq!(name_at(&table, 0x1000 + 16 * 777 + 3), named(&names(777), 0x1000 + 16 * 777));
}

#[test]
fn long_names_are_cut_between_characters() {
    let table = table(&[(0x1000, &format!("x{}", "é".repeat(100)))]);
    assert_eq!(name_at(&table, 0x1000), named(&format!("x{}", "é".repeat(63)), 0x1000));
}
