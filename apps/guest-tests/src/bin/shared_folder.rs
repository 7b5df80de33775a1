//! A folder that somebody else changes, too: what a program expects of files in it, and what it sees of the other's changes. Argument: the
//! folder; with `ro` behind it, it cannot be changed.
//!
//! The other side waits for the file `ready`, changes what it finds, and makes the file `go`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use guest_tests::mapping::{Mapping, PAGE, byte_at};
use guest_tests::random::Random;
use guest_tests::{check, check_eq, data_folder};

/// More than a message of 9P holds, many times, and no whole number of pages.
const LARGE_BYTES: usize = (3 << 20) + 1234;
const MANY: usize = 300;
const PATIENCE: Duration = Duration::from_secs(60);

type Test = fn(&Path);

fn main() {
    let root = data_folder();
    if std::env::args().nth(2).is_some_and(|word| word == "ro") {
        read_only(&root);
        println!("shared_folder: all well");
        return;
    }
    let tests: [(&str, Test); 9] = [
        ("content", content),
        ("large", large),
        ("names", names),
        ("listing", listing),
        ("links", links),
        ("unlinked", unlinked),
        ("attributes", attributes),
        ("mappings", mappings),
        ("errors", errors),
    ];
    for (name, test) in tests {
        println!("{name}");
        let folder = root.join(name);
        fs::create_dir(&folder).unwrap();
        test(&folder);
        fs::remove_dir_all(&folder).unwrap();
    }
    println!("the other side");
    other_side(&root);
    println!("shared_folder: all well");
}

/// Bytes that tell where they lie; the other side (`share_tests`) knows how they are made.
fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8 ^ seed).collect()
}

fn content(folder: &Path) {
    let path = folder.join("file");
    fs::write(&path, "one").unwrap();
    check_eq!(fs::read(&path).unwrap(), b"one");
    let mut file = OpenOptions::new().append(true).read(true).open(&path).unwrap();
    file.write_all(b" two").unwrap();
    check_eq!(file.metadata().unwrap().len(), 7);
    file.sync_all().unwrap();
    file.seek(SeekFrom::Start(4)).unwrap();
    let mut rest = String::new();
    file.read_to_string(&mut rest).unwrap();
    check_eq!(rest, "two");
    drop(file);
    // Over the end leaves zeros, whatever was there before.
    let file = OpenOptions::new().write(true).read(true).open(&path).unwrap();
    file.set_len(2).unwrap();
    file.write_all_at(b"x", 5000).unwrap();
    let mut all = vec![1; 6000];
    check_eq!(file.read_at(&mut all, 0).unwrap(), 5001);
    check_eq!(&all[..2], b"on");
    check!(all[2..5000].iter().all(|&byte| byte == 0));
    check_eq!(all[5000], b'x');
    file.set_len(10_000).unwrap();
    file.sync_data().unwrap();
    check_eq!(fs::metadata(&path).unwrap().len(), 10_000);
    check_eq!(fs::read(&path).unwrap().len(), 10_000);
    // Truncated by being opened.
    drop(File::create(&path).unwrap());
    check_eq!(fs::metadata(&path).unwrap().len(), 0);
    check_eq!(fs::read(&path).unwrap(), b"");
}

fn large(folder: &Path) {
    let path = folder.join("large");
    let mut expected = pattern(1, LARGE_BYTES);
    fs::write(&path, &expected).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut random = Random::new(2);
    for round in 0..200 {
        let at = random.below(LARGE_BYTES);
        let len = random.below(70_000).min(LARGE_BYTES - at);
        if round % 2 == 0 {
            let bytes = random.bytes(len);
            file.write_all_at(&bytes, at as u64).unwrap();
            expected[at..at + len].copy_from_slice(&bytes);
        } else {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, at as u64).unwrap();
            check!(bytes == expected[at..at + len]);
        }
    }
    file.sync_all().unwrap();
    drop(file);
    check!(fs::read(&path).unwrap() == expected);
}

fn names(folder: &Path) {
    let at = |name: &str| folder.join(name);
    fs::write(at("a"), "a").unwrap();
    fs::write(at("b"), "b").unwrap();
    fs::rename(at("a"), at("c")).unwrap();
    check_eq!(fs::read(at("a")).unwrap_err().kind(), ErrorKind::NotFound);
    fs::rename(at("b"), at("c")).unwrap();
    check_eq!(fs::read(at("c")).unwrap(), b"b");
    fs::create_dir_all(at("d/e/f")).unwrap();
    fs::write(at("d/e/f/g"), "deep").unwrap();
    fs::rename(at("d/e"), at("h")).unwrap();
    check_eq!(fs::read(at("h/f/g")).unwrap(), b"deep");
    check_eq!(fs::read(at("h/../h/./f//g")).unwrap(), b"deep");
    // What is open follows its file.
    let file = File::open(at("h/f/g")).unwrap();
    fs::rename(at("h"), at("i")).unwrap();
    check_eq!(io::read_to_string(file).unwrap(), "deep");
    fs::write(at("name with spaces, and \u{e4}"), "x").unwrap();
    check!(at("name with spaces, and \u{e4}").exists());
    let long = "n".repeat(255);
    fs::write(at(&long), "x").unwrap();
    fs::remove_file(at(&long)).unwrap();
    check!(!at(&long).exists());
}

fn listing(folder: &Path) {
    for number in 0..MANY {
        fs::write(folder.join(format!("file-with-a-longer-name-{number:04}")), "").unwrap();
    }
    let list = || {
        let entries = folder.read_dir().unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    };
    let all = list();
    check_eq!(all.len(), MANY);
    check!(all.windows(2).all(|pair| pair[0] < pair[1]));
    for name in all.iter().step_by(2) {
        fs::remove_file(folder.join(name)).unwrap();
    }
    check_eq!(list().len(), MANY / 2);
    check!(folder.read_dir().unwrap().all(|entry| entry.unwrap().file_type().unwrap().is_file()));
}

fn links(folder: &Path) {
    let at = |name: &str| folder.join(name);
    fs::write(at("file"), "content").unwrap();
    fs::hard_link(at("file"), at("hard")).unwrap();
    let (one, other) = (fs::metadata(at("file")).unwrap(), fs::metadata(at("hard")).unwrap());
    check_eq!((one.ino(), one.nlink()), (other.ino(), 2));
    fs::remove_file(at("file")).unwrap();
    check_eq!(fs::read(at("hard")).unwrap(), b"content");
    symlink("hard", at("soft")).unwrap();
    check_eq!(fs::read_link(at("soft")).unwrap(), Path::new("hard"));
    check!(fs::symlink_metadata(at("soft")).unwrap().file_type().is_symlink());
    check_eq!(fs::read(at("soft")).unwrap(), b"content");
    symlink("nowhere", at("dangling")).unwrap();
    check_eq!(File::open(at("dangling")).unwrap_err().kind(), ErrorKind::NotFound);
}

fn unlinked(folder: &Path) {
    let path = folder.join("file");
    let mut file = OpenOptions::new().create_new(true).read(true).write(true).open(&path).unwrap();
    file.write_all(b"still there").unwrap();
    fs::remove_file(&path).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    check_eq!(text, "still there");
    // Another file of this name has nothing to do with it.
    fs::write(&path, "new").unwrap();
    file.write_all(b", and more").unwrap();
    check_eq!(fs::read(&path).unwrap(), b"new");
    drop(file);
    check_eq!(fs::read(&path).unwrap(), b"new");
}

fn attributes(folder: &Path) {
    let path = folder.join("file");
    let file = OpenOptions::new().create_new(true).write(true).mode(0o640).open(&path).unwrap();
    check_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    check_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_890);
    file.set_modified(then).unwrap();
    check_eq!(fs::metadata(&path).unwrap().modified().unwrap(), then);
    file.write_at(b"x", 0).unwrap();
    check!(fs::metadata(&path).unwrap().modified().unwrap() > then);
    let statistics = rustix::fs::statfs(folder).unwrap();
    check!(statistics.f_blocks > 0 && statistics.f_bsize > 0);
    check_eq!(fs::metadata(&path).unwrap().dev(), fs::metadata(folder).unwrap().dev());
}

fn mappings(folder: &Path) {
    let path = folder.join("mapped");
    let expected = pattern(7, 100_000);
    fs::write(&path, &expected).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mapping = Mapping::shared(&file, expected.len().div_ceil(PAGE));
    check!((0..expected.len()).step_by(997).all(|at| mapping.load(at) == Some(expected[at])));
    check!(mapping.store(50_000, !expected[50_000]));
    check_eq!(byte_at(&file, 50_000), !expected[50_000]);
    file.sync_all().unwrap();
    drop((mapping, file));
    check_eq!(fs::read(&path).unwrap()[50_000], !expected[50_000]);
}

fn errors(folder: &Path) {
    let at = |name: &str| folder.join(name);
    let kind = |outcome: io::Result<()>| outcome.unwrap_err().kind();
    fs::write(at("file"), "x").unwrap();
    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/file"), "x").unwrap();
    check_eq!(kind(fs::create_dir(at("full"))), ErrorKind::AlreadyExists);
    check_eq!(
        kind(OpenOptions::new().write(true).create_new(true).open(at("file")).map(drop)),
        ErrorKind::AlreadyExists
    );
    check_eq!(kind(fs::remove_dir(at("full"))), ErrorKind::DirectoryNotEmpty);
    check_eq!(kind(fs::remove_dir(at("file"))), ErrorKind::NotADirectory);
    check_eq!(kind(fs::remove_file(at("missing"))), ErrorKind::NotFound);
    check_eq!(kind(fs::read(at("file/below")).map(drop)), ErrorKind::NotADirectory);
    check_eq!(kind(fs::rename(at("missing"), at("x"))), ErrorKind::NotFound);
    check_eq!(kind(fs::rename(at("full"), at("full/below"))), ErrorKind::InvalidInput);
    check!(fs::write(at(&"n".repeat(256)), "x").is_err());
    check_eq!(
        File::open(at("full")).and_then(|mut file| file.read(&mut [0])).unwrap_err().kind(),
        ErrorKind::IsADirectory
    );
}

/// The other side changes files that are open or were read here.
fn other_side(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::write(at("changed"), "before").unwrap();
    fs::write(at("replaced"), "before").unwrap();
    fs::write(at("removed"), "before").unwrap();
    let large = pattern(3, LARGE_BYTES);
    fs::write(at("from-here"), &large).unwrap();
    let open = File::open(at("replaced")).unwrap();
    fs::write(at("ready"), "").unwrap();
    let start = Instant::now();
    while !at("go").exists() {
        check!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    check_eq!(fs::read_to_string(at("changed")).unwrap(), "changed by the other side");
    check_eq!(fs::metadata(at("changed")).unwrap().len(), 25);
    check_eq!(fs::read_to_string(at("replaced")).unwrap(), "another file");
    check_eq!(io::read_to_string(open).unwrap(), "before");
    check!(!at("removed").exists());
    check_eq!(fs::read_to_string(at("made/file")).unwrap(), "made by the other side");
    check!(fs::read(at("from-there")).unwrap() == pattern(4, LARGE_BYTES));
}

fn read_only(root: &Path) {
    check_eq!(fs::read_to_string(root.join("there")).unwrap(), "to be read");
    let code = |outcome: io::Result<()>| outcome.unwrap_err().raw_os_error();
    let refused = Some(libc::EROFS);
    check_eq!(code(fs::write(root.join("new"), "x")), refused);
    check_eq!(code(fs::create_dir(root.join("new"))), refused);
    check_eq!(code(fs::remove_file(root.join("there"))), refused);
    check_eq!(code(fs::rename(root.join("there"), root.join("new"))), refused);
    check_eq!(code(OpenOptions::new().write(true).open(root.join("there")).map(drop)), refused);
    check_eq!(code(fs::set_permissions(root.join("there"), PermissionsExt::from_mode(0o600))), refused);
}
