//! NoCloud volumes: FAT as `fatfs` makes it, ISO 9660 as `genisoimage` does, and both with any byte changed.

use alloc::vec;
use alloc::vec::Vec;
use std::io::{Cursor, Write};
use std::thread_local;

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use proptest::prelude::*;

use crate::{Seed, read_seed};

const META: &[u8] = b"local-hostname: web-1\n";

fn user_data() -> Vec<u8> {
    (0..20_000_u32).map(|number| number as u8).collect()
}

fn seed() -> Seed {
    Seed { meta_data: META.to_vec(), user_data: Some(user_data()), network_config: None }
}

fn fat(kind: FatType, bytes: usize, label: [u8; 11]) -> Vec<u8> {
    let mut disk = Cursor::new(vec![0; bytes]);
    let options = FormatVolumeOptions::new().fat_type(kind).volume_label(label).bytes_per_cluster(512);
    fatfs::format_volume(&mut disk, options).unwrap();
    let system = FileSystem::new(&mut disk, FsOptions::new()).unwrap();
    let root = system.root_dir();
    // Long names before and between, and a file that is not in one piece.
    root.create_file("a rather long name of nobody's interest.txt").unwrap().write_all(b"x").unwrap();
    let mut user = root.create_file("user-data").unwrap();
    for (index, piece) in user_data().chunks(3000).enumerate() {
        user.write_all(piece).unwrap();
        user.flush().unwrap();
        root.create_file(&alloc::format!("between {index}")).unwrap().write_all(&[1; 700]).unwrap();
    }
    root.create_file("Meta-Data").unwrap().write_all(META).unwrap();
    root.create_dir("network-config").unwrap();
    drop((user, root));
    system.unmount().unwrap();
    disk.into_inner()
}

const KINDS: [(FatType, usize); 3] =
    [(FatType::Fat12, 1 << 20), (FatType::Fat16, 8 << 20), (FatType::Fat32, 36 << 20)];

#[test]
fn fat_of_each_width_is_read() {
    for (kind, bytes) in KINDS {
        assert!(read_seed(&fat(kind, bytes, *b"CIDATA     ")) == Ok(Some(seed())), "{kind:?}");
        assert!(read_seed(&fat(kind, bytes, *b"cidata     ")) == Ok(Some(seed())), "{kind:?}");
        assert_eq!(read_seed(&fat(kind, bytes, *b"OTHER      ")), Ok(None), "{kind:?}");
    }
}

/// A record of a directory.
fn record(extent: u32, bytes: u32, flags: u8, name: &[u8], system_use: &[u8]) -> Vec<u8> {
    let mut record = vec![0; 33];
    record[2..6].copy_from_slice(&extent.to_le_bytes());
    record[6..10].copy_from_slice(&extent.to_be_bytes());
    record[10..14].copy_from_slice(&bytes.to_le_bytes());
    record[14..18].copy_from_slice(&bytes.to_be_bytes());
    record[25] = flags;
    record[32] = name.len() as u8;
    record.extend(name);
    record.resize(record.len().next_multiple_of(2), 0);
    record.extend(system_use);
    record.resize(record.len().next_multiple_of(2), 0);
    record[0] = record.len() as u8;
    record
}

fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// Root at sector 20, files from 24 on.
fn iso(is_joliet: bool, label: &str) -> Vec<u8> {
    let mut disk = vec![0; 64 * 2048];
    let mut descriptor = |sector: usize, kind: u8, label: &[u8], pad: u8| {
        let at = sector * 2048;
        disk[at] = kind;
        disk[at + 1..at + 6].copy_from_slice(b"CD001");
        disk[at + 40..at + 72].fill(pad);
        disk[at + 40..at + 40 + label.len()].copy_from_slice(label);
        let root = record(20, 2048, 2, &[0], &[]);
        disk[at + 156..at + 156 + root.len()].copy_from_slice(&root);
    };
    descriptor(16, 1, label.as_bytes(), b' ');
    if is_joliet {
        descriptor(17, 2, &ucs2(label), 0);
    }
    descriptor(18 - usize::from(!is_joliet), 255, b"", 0);
    if is_joliet {
        disk[17 * 2048 + 88..17 * 2048 + 91].copy_from_slice(b"%/E");
        // `genisoimage` fills with spaces of two bytes.
        let rest = 17 * 2048 + 40 + label.len() * 2..17 * 2048 + 72;
        disk[rest].chunks_exact_mut(2).for_each(|pair| pair.copy_from_slice(&[0, b' ']));
    }
    let (meta, user) = (META.to_vec(), user_data());
    let own = |plain: &[u8], name: &str, sector: u32, bytes: usize| match is_joliet {
        true => record(sector, bytes as u32, 0, &ucs2(name), &[]),
        false => {
            let header = [b'N', b'M', name.len() as u8 + 5, 1, 0];
            let fields = [b"PX\x08\x01abcd", &header[..], name.as_bytes(), &[0]].concat();
            record(sector, bytes as u32, 0, plain, &fields)
        }
    };
    let root = [
        record(20, 2048, 2, &[0], &[]),
        record(20, 2048, 2, &[1], &[]),
        own(b"META_DAT.;1", "meta-data", 24, meta.len()),
        own(b"USER_DA.;1", "user-data", 25, user.len()),
    ]
    .concat();
    disk[20 * 2048..20 * 2048 + root.len()].copy_from_slice(&root);
    disk[24 * 2048..24 * 2048 + meta.len()].copy_from_slice(&meta);
    disk[25 * 2048..25 * 2048 + user.len()].copy_from_slice(&user);
    disk
}

#[test]
fn iso_is_read_with_joliet_and_rock_ridge() {
    for is_joliet in [false, true] {
        assert!(read_seed(&iso(is_joliet, "cidata")) == Ok(Some(seed())), "{is_joliet}");
        assert!(read_seed(&iso(is_joliet, "CIDATA")) == Ok(Some(seed())), "{is_joliet}");
        assert_eq!(read_seed(&iso(is_joliet, "other")), Ok(None), "{is_joliet}");
    }
}

#[test]
fn other_volumes_are_none() {
    for bytes in [0, 100, 512, 5000, 100_000] {
        assert_eq!(read_seed(&vec![0_u8; bytes]), Ok(None));
        let _ = read_seed(&vec![0xff_u8; bytes]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn lies_end(
        which in 0_usize..4,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        len in any::<Option<prop::sample::Index>>(),
    ) {
        thread_local!(static DISKS: [Vec<u8>; 4] = [
            fat(FatType::Fat12, 1 << 20, *b"CIDATA     "),
            fat(FatType::Fat16, 4 << 20, *b"CIDATA     "),
            iso(true, "cidata"),
            iso(false, "cidata"),
        ]);
        let mut disk = DISKS.with(|disks| disks[which].clone());
        // Where structures are: the first sectors of each, and the root.
        let (from, bytes) = if which < 2 { (0, 40 << 10) } else { (16 * 2048, 10 * 2048) };
        for (at, byte) in changes {
            disk[from + at.index(bytes)] = byte;
        }
        if let Some(len) = len {
            disk.truncate(len.index(disk.len()));
        }
        let _ = read_seed(&disk);
    }
}
