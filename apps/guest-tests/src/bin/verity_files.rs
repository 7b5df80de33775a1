//! Files on a disk whose blocks are checked (`verity_tests`). Arguments: the folder; `checked` if it is on such a disk; the numbers of pages of the file
//! `large` that somebody has changed there.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use guest_tests::mapping::{Mapping, PAGE, READ};
use guest_tests::random::Random;
use guest_tests::{check, check_eq, data_folder};

/// As the test makes it.
const LARGE_BYTES: usize = (6 << 20) + 77;
const MANY: usize = 100;

fn main() {
    let root = data_folder();
    let mut words = std::env::args().skip(2);
    let is_checked = words.next().is_some_and(|word| word == "checked");
    let broken: Vec<usize> = words.map(|word| word.parse().expect("a page")).collect();
    check_eq!(fs::read_to_string(root.join("a/b/deep.txt")).unwrap(), "deep");
    for number in 0..MANY {
        check_eq!(fs::read(root.join(format!("many/{number}"))).unwrap(), pattern(number * 10));
    }
    pages(&root, &broken);
    if broken.is_empty() {
        parts(&root);
    }
    if is_checked {
        nothing_is_written(&root);
    }
    println!("verity_files: all well");
}

/// Bytes that tell where they lie, and no page like another.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251 + at / PAGE * 7) as u8).collect()
}

/// Each page is right or cannot be read, twice and in two orders.
fn pages(root: &Path, broken: &[usize]) {
    let file = File::open(root.join("large")).unwrap();
    let expected = pattern(LARGE_BYTES);
    let pages = LARGE_BYTES.div_ceil(PAGE);
    for page in (0..pages).rev().chain(0..pages) {
        let expected = &expected[page * PAGE..LARGE_BYTES.min((page + 1) * PAGE)];
        let mut bytes = vec![0x5a; expected.len()];
        let outcome = file.read_exact_at(&mut bytes, (page * PAGE) as u64);
        if broken.contains(&page) {
            check_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EIO));
            check!(bytes.iter().all(|byte| *byte == 0x5a));
        } else {
            outcome.unwrap();
            check!(bytes == expected);
        }
    }
}

/// Parts of any length, read and mapped.
fn parts(root: &Path) {
    let file = File::open(root.join("large")).unwrap();
    let expected = pattern(LARGE_BYTES);
    let mut random = Random::new(1);
    for _ in 0..100 {
        let at = random.below(LARGE_BYTES);
        let mut bytes = vec![0; random.below(500_000).min(LARGE_BYTES - at)];
        file.read_exact_at(&mut bytes, at as u64).unwrap();
        check!(bytes == expected[at..at + bytes.len()]);
    }
    let mapping = Mapping::new(&file, LARGE_BYTES.div_ceil(PAGE), READ, libc::MAP_SHARED);
    check!((0..LARGE_BYTES).step_by(9973).all(|at| mapping.load(at) == Some(expected[at])));
}

fn nothing_is_written(root: &Path) {
    check_eq!(File::create(root.join("new")).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    let large = fs::OpenOptions::new().write(true).open(root.join("large"));
    check_eq!(large.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    check_eq!(fs::remove_file(root.join("many/1")).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
}
