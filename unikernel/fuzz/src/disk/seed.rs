//! A NoCloud volume, ISO 9660 or FAT, with bytes changed: what is read is bounded.

use std::sync::OnceLock;

use unikernel_config::{MAX_FILE_BYTES, read_seed};

use super::fat;
use super::patched::Patched;
use crate::input::Input;

const SECTOR: usize = 2048;
const MOST_READS: u32 = 200_000;

/// A record of a directory.
fn record(sector: usize, bytes: usize, flags: u8, name: &[u8], system_use: &[u8]) -> Vec<u8> {
    let mut record = vec![0; 33];
    for (at, number) in [(2, sector as u32), (10, bytes as u32)] {
        record[at..at + 4].copy_from_slice(&number.to_le_bytes());
        record[at + 4..at + 8].copy_from_slice(&number.to_be_bytes());
    }
    (record[25], record[32]) = (flags, name.len() as u8);
    record.extend_from_slice(name);
    record.resize(record.len().next_multiple_of(2), 0);
    record.extend_from_slice(system_use);
    record[0] = record.len() as u8;
    record
}

fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// An image with the names of Joliet, or those of Rock Ridge.
fn iso(is_joliet: bool) -> Vec<u8> {
    let mut image = vec![0; 24 * SECTOR];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    for (index, kind) in [1, 2, 255].into_iter().enumerate() {
        let at = (16 + index) * SECTOR;
        put(at, &[&[kind][..], b"CD001\x01"].concat());
        put(
            at + 40,
            &if kind == 2 {
                ucs2("cidata          ")
            } else {
                b"CIDATA".iter().copied().chain([b' '; 26]).collect()
            },
        );
        if kind == 2 && is_joliet {
            put(at + 88, b"%/E");
        }
        put(at + 156, &record(20, SECTOR, 2, &[0], &[]));
    }
    let names = ["meta-data", "user-data", "network-config"];
    let mut root = [record(20, SECTOR, 2, &[0], &[]), record(20, SECTOR, 2, &[1], &[])].concat();
    for (index, name) in names.into_iter().enumerate() {
        let rock_ridge = [&[b'N', b'M', 5 + name.len() as u8, 1, 0], name.as_bytes()].concat();
        let (name, system_use) =
            if is_joliet { (ucs2(name), vec![]) } else { (b"NAME.;1".to_vec(), rock_ridge) };
        root.extend(record(21 + index, 100 + index, 0, &name, &system_use));
    }
    put(20 * SECTOR, &root);
    image
}

fn base(kind: usize) -> &'static [u8] {
    static BASES: [OnceLock<Vec<u8>>; 2] = [const { OnceLock::new() }; 2];
    match kind {
        0 | 1 => BASES[kind].get_or_init(|| iso(kind == 0)),
        _ => fat::base(kind - 2),
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.below(5);
    let disk = Patched::new(base(kind), MOST_READS);
    if kind >= 2 {
        fat::change(&disk, &mut input);
    } else {
        for _ in 0..input.below(16) {
            let (sector, at) = (16 + input.byte() % 8, usize::from(input.half()) % SECTOR);
            disk.put(
                usize::from(sector) * SECTOR + at,
                &input.array::<4>()[..1 + usize::from(at % 4 == 2) * 3],
            );
        }
    }
    if let Ok(Some(seed)) = read_seed(&disk) {
        let files = [Some(seed.meta_data), seed.user_data, seed.network_config];
        assert!(files.into_iter().flatten().all(|file| file.len() <= MAX_FILE_BYTES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_whole() {
        for kind in 0..2 {
            let seed =
                read_seed(&Patched::new(base(kind), MOST_READS)).expect("it is whole").expect("it is one");
            let files =
                (seed.meta_data.len(), seed.user_data.unwrap().len(), seed.network_config.unwrap().len());
            assert_eq!(files, (100, 101, 102));
        }
    }
}
