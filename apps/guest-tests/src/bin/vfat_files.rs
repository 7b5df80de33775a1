//! Files that somebody else has put onto a FAT filesystem (`vfat_tests`). Argument: the folder; with `vfat` behind it, it is one, and not a
//! folder that only has the same files.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use guest_tests::mapping::{Mapping, PAGE, READ};
use guest_tests::random::Random;
use guest_tests::{check, check_eq, data_folder};

/// Some thousand clusters.
const LARGE_BYTES: usize = (5 << 20) + 77;
const MANY: usize = 200;

fn main() {
    let root = data_folder();
    content(&root);
    names(&root);
    if std::env::args().nth(2).is_some_and(|word| word == "vfat") {
        own_ways(&root);
        refused(&root);
    }
    println!("vfat_files: all well");
}

/// Bytes that tell where they lie, as the test makes them.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn content(root: &Path) {
    check_eq!(fs::read(root.join("small.txt")).unwrap(), b"small");
    check_eq!(fs::read(root.join("empty")).unwrap(), b"");
    let path = root.join("Large file with a long name.bin");
    let expected = pattern(LARGE_BYTES);
    check!(fs::read(&path).unwrap() == expected);
    let file = File::open(&path).unwrap();
    check_eq!(file.metadata().unwrap().len(), LARGE_BYTES as u64);
    let mut random = Random::new(1);
    for _ in 0..100 {
        let at = random.below(LARGE_BYTES);
        let mut bytes = vec![0; random.below(50_000).min(LARGE_BYTES - at)];
        file.read_exact_at(&mut bytes, at as u64).unwrap();
        check!(bytes == expected[at..at + bytes.len()]);
    }
    let mapping = Mapping::new(&file, LARGE_BYTES.div_ceil(PAGE), READ, libc::MAP_SHARED);
    check!((0..LARGE_BYTES).step_by(9973).all(|at| mapping.load(at) == Some(expected[at])));
    // What lies behind the end in the last cluster is nobody's.
    check_eq!(mapping.load(LARGE_BYTES), Some(0));
}

fn names(root: &Path) {
    check_eq!(fs::read_to_string(root.join("a/b/c/deep.txt")).unwrap(), "deep");
    check_eq!(fs::read_to_string(root.join("a/../a/./b/c/deep.txt")).unwrap(), "deep");
    let mut names: Vec<String> = root
        .join("many")
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let expected: Vec<String> = (0..MANY).map(|number| format!("number {number:03} of many.txt")).collect();
    check_eq!(names, expected);
    check_eq!(fs::read(root.join("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    check_eq!(fs::read(root.join("small.txt/below")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    let folder = fs::metadata(root.join("many")).unwrap();
    check!(folder.is_dir() && folder.dev() == fs::metadata(root.join("empty")).unwrap().dev());
}

/// Names without regard to case, as Linux' vfat has them; numbers and times.
fn own_ways(root: &Path) {
    check_eq!(fs::read(root.join("SMALL.TXT")).unwrap(), b"small");
    check_eq!(fs::read_to_string(root.join("A/b/C/Deep.Txt")).unwrap(), "deep");
    let (one, other) =
        (fs::metadata(root.join("small.txt")).unwrap(), fs::metadata(root.join("Small.txt")).unwrap());
    check_eq!(one.ino(), other.ino());
    check_eq!(one.permissions().mode() & 0o7777, 0o755);
    // 2020-02-03 04:05:06, with two seconds to a unit.
    check_eq!(one.mtime(), 1_580_702_706);
    let statistics = rustix::fs::statfs(root).unwrap();
    check_eq!(statistics.f_type as u32, 0x4d44);
    check!(statistics.f_blocks > 0);
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    check!(mounts.lines().any(|line| line.contains(" vfat ro")));
}

fn refused(root: &Path) {
    let code = |outcome: io::Result<()>| outcome.unwrap_err().raw_os_error();
    let refused = Some(libc::EROFS);
    check_eq!(code(fs::write(root.join("new"), "x")), refused);
    check_eq!(code(fs::create_dir(root.join("new"))), refused);
    check_eq!(code(fs::remove_file(root.join("empty"))), refused);
    check_eq!(code(fs::rename(root.join("empty"), root.join("new"))), refused);
    check_eq!(code(OpenOptions::new().write(true).open(root.join("empty")).map(drop)), refused);
}
