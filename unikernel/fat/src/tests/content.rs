//! Images that `fatfs` writes: the same names and content are read.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use std::io::{Cursor, Write};

use fatfs::{FatType, FormatVolumeOptions, FsOptions};
use proptest::prelude::*;
use unikernel_vfs::{ByteStorage, Error, FileKind, FileSystem};

use super::{content, find, list, names};
use crate::{Fat, MountError, identify};

const CLUSTER: usize = 512;
/// Widths, and volumes large enough for them with clusters of 512 bytes.
const KINDS: [(FatType, usize); 3] =
    [(FatType::Fat12, 1 << 20), (FatType::Fat16, 8 << 20), (FatType::Fat32, 36 << 20)];

/// Bytes that tell where they are.
fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ at >> 8 ^ seed) as u8).collect()
}

/// A path's content; none for directories, which come before what is in them.
type Tree = Vec<(String, Option<Vec<u8>>)>;

fn image(kind: FatType, volume_bytes: usize, tree: &Tree) -> Vec<u8> {
    let mut disk = Cursor::new(vec![0; volume_bytes]);
    let options = FormatVolumeOptions::new()
        .fat_type(kind)
        .volume_label(*b"My Volume  ")
        .volume_id(0x1a2b_3c4d)
        .bytes_per_cluster(CLUSTER as u32);
    fatfs::format_volume(&mut disk, options).unwrap();
    let system = fatfs::FileSystem::new(&mut disk, FsOptions::new()).unwrap();
    let root = system.root_dir();
    // All files grow a piece at a time, so that their clusters lie between one another.
    let mut open: Vec<_> = Vec::new();
    for (path, content) in tree {
        match content {
            None => drop(root.create_dir(path).unwrap()),
            Some(content) => open.push((root.create_file(path).unwrap(), content.as_slice())),
        }
    }
    while !open.is_empty() {
        open.retain_mut(|(file, rest)| {
            let (now, later) = rest.split_at(rest.len().min(1700));
            file.write_all(now).unwrap();
            file.flush().unwrap();
            *rest = later;
            !later.is_empty()
        });
    }
    drop((open, root));
    system.unmount().unwrap();
    disk.into_inner()
}

fn tree() -> Tree {
    let mut tree: Tree = vec![
        ("EMPTY".to_string(), Some(vec![])),
        ("one byte".to_string(), Some(bytes(1, 1))),
        ("a cluster".to_string(), Some(bytes(2, CLUSTER))),
        ("three clusters.and so on".to_string(), Some(bytes(3, 3 * CLUSTER))),
        ("A byte more.than three clusters".to_string(), Some(bytes(4, 3 * CLUSTER + 1))),
        ("Größe und Ähnliches ☃.txt".to_string(), Some(bytes(5, 40_000))),
        (format!("{}.end", "long".repeat(60)), Some(bytes(6, 700))),
        ("many".to_string(), None),
    ];
    for number in 0..120 {
        tree.push((format!("many/file number {number}.text"), Some(bytes(number, number * 11))));
    }
    let mut path = String::from("deep");
    for depth in 0..20 {
        tree.push((path.clone(), None));
        tree.push((format!("{path}/beside"), Some(bytes(depth, depth))));
        path.push_str("/folder below");
    }
    tree
}

#[test]
fn what_was_written_is_read() {
    let tree = tree();
    for (kind, volume_bytes) in KINDS {
        let mut fat = Fat::mount(image(kind, volume_bytes, &tree)).unwrap();
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::from([(String::new(), vec![])]);
        for (path, wanted) in &tree {
            let inode = find(&mut fat, path).unwrap();
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            expected.entry(parent.to_string()).or_default().push(name.to_string());
            let attributes = fat.attributes(inode).unwrap();
            assert_eq!((attributes.permissions, attributes.links), (0o755, 1));
            let Some(wanted) = wanted else {
                assert_eq!(attributes.kind, FileKind::Directory);
                assert_eq!(fat.read(inode, 0, &mut [0; 9]), Err(Error::IsADirectory));
                expected.entry(path.to_string()).or_default();
                continue;
            };
            assert_eq!(attributes.kind, FileKind::File);
            assert_eq!(attributes.size, wanted.len() as u64);
            assert_eq!(attributes.blocks_512, wanted.len().div_ceil(CLUSTER) as u64);
            for step in [100, 512, 4096, 1 << 20] {
                assert!(content(&mut fat, inode, step).unwrap() == *wanted, "{kind:?} {path} {step}");
            }
            assert_eq!(fat.lookup(inode, b"x"), Err(Error::NotADirectory));
            assert_eq!(fat.read_link(inode), Err(Error::Invalid));
            assert_eq!(fat.next_hole(inode, 0).unwrap(), Some(wanted.len() as u64).filter(|len| *len > 0));
        }
        for (path, names_there) in expected {
            let inode = find(&mut fat, &path).unwrap();
            assert_eq!(names(&mut fat, inode), names_there, "{kind:?} {path}");
            let whole = list(&mut fat, inode, usize::MAX).unwrap();
            assert!(list(&mut fat, inode, 1).unwrap() == whole && list(&mut fat, inode, 7).unwrap() == whole);
            for (name, number, _) in whole {
                assert_eq!(fat.lookup(inode, name.as_bytes()), Ok(number), "{kind:?} {path} {name}");
            }
        }
    }
}

#[test]
fn parents_are_found_upward() {
    for (kind, volume_bytes) in KINDS {
        let mut fat = Fat::mount(image(kind, volume_bytes, &tree())).unwrap();
        let mut path = String::from("deep");
        let mut above = fat.root();
        for _ in 0..20 {
            let inode = find(&mut fat, &path).unwrap();
            assert_eq!(fat.lookup(inode, b".."), Ok(above), "{path}");
            assert_eq!(fat.lookup(inode, b"."), Ok(inode));
            above = inode;
            path.push_str("/folder below");
        }
        let root = fat.root();
        assert_eq!(fat.lookup(root, b".."), Ok(root));
    }
}

#[test]
fn names_are_found_in_any_case_and_by_their_short_form() {
    for (kind, volume_bytes) in KINDS {
        let mut fat = Fat::mount(image(kind, volume_bytes, &tree())).unwrap();
        let one = find(&mut fat, "one byte").unwrap();
        for name in ["ONE BYTE", "One Byte", "one byte...", "ONEBYT~1", "onebyt~1"] {
            assert_eq!(find(&mut fat, name), Ok(one), "{name}");
        }
        let size = find(&mut fat, "Größe und Ähnliches ☃.txt").unwrap();
        assert_eq!(find(&mut fat, "GRÖßE UND ähnliches ☃.TXT"), Ok(size));
        for name in ["one", "one byte.", "one byte2", "GROSSE UND ähnliches ☃.TXT", "...", "one\u{0}byte"]
        {
            assert_eq!(
                find(&mut fat, name),
                if name == "one byte." { Ok(one) } else { Err(Error::NotFound) }
            );
        }
        let root = fat.root();
        for name in [&b""[..], b"\xff\xfe", b"a/b", &[b'x'; 3000]] {
            assert_eq!(fat.lookup(root, name), Err(Error::NotFound));
        }
    }
}

#[test]
fn label_and_serial_number_identify_it() {
    for (kind, volume_bytes) in KINDS {
        let disk = image(kind, volume_bytes, &vec![]);
        let identity = identify(&disk).unwrap();
        assert_eq!((identity.label.as_str(), identity.uuid.as_str()), ("My Volume", "1A2B-3C4D"));
    }
    assert_eq!(identify(vec![0; 4096]), None);
    for bytes in [0, 1, 511, 512, 5000] {
        assert_eq!(Fat::mount(vec![0; bytes]).err(), Some(MountError::NotFat));
        assert_eq!(Fat::mount(vec![0xff; bytes]).err(), Some(MountError::NotFat));
    }
}

#[test]
fn free_space_is_what_fatfs_counts() {
    for (kind, volume_bytes) in KINDS {
        let disk = image(kind, volume_bytes, &tree());
        let system = fatfs::FileSystem::new(Cursor::new(disk.clone()), FsOptions::new()).unwrap();
        let expected = system.stats().unwrap();
        let mut fat = Fat::mount(disk).unwrap();
        let statistics = fat.statistics().unwrap();
        assert_eq!(fat.statistics(), Ok(statistics));
        assert_eq!(statistics.block_bytes, fat.block_bytes());
        assert_eq!(statistics.blocks, u64::from(expected.total_clusters()), "{kind:?}");
        assert_eq!(statistics.free_blocks, u64::from(expected.free_clusters()), "{kind:?}");
        assert!(statistics.free_blocks < statistics.blocks);
        assert_eq!(statistics.uuid[..4], [0x1a, 0x2b, 0x3c, 0x4d]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Reads here and there, of several files in turn, are what a slice says.
    #[test]
    fn random_reads_are_the_contents(
        kind in 0..3_usize,
        sizes in prop::collection::vec(0..30_000_usize, 1..6),
        reads in prop::collection::vec((0..6_usize, 0..31_000_u64, 0..9000_usize), 1..60),
    ) {
        let (kind, volume_bytes) = KINDS[kind];
        let tree: Tree = sizes
            .iter()
            .enumerate()
            .map(|(number, len)| (format!("file {number}"), Some(bytes(number, *len))))
            .collect();
        let mut fat = Fat::mount(image(kind, volume_bytes, &tree)).unwrap();
        for (file, offset, len) in reads {
            let (path, wanted) = &tree[file % tree.len()];
            let wanted = wanted.as_ref().unwrap();
            let inode = find(&mut fat, path).unwrap();
            let mut buffer = vec![0xaa; len];
            let read = fat.read(inode, offset, &mut buffer).unwrap();
            let start = (offset as usize).min(wanted.len());
            let end = (start + len).min(wanted.len());
            prop_assert_eq!(read, end - start);
            prop_assert!(buffer[..read] == wanted[start..end]);
            prop_assert!(buffer[read..].iter().all(|byte| *byte == 0xaa));
        }
    }
}
