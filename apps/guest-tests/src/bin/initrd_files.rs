//! Files of the initrd and of the kernel. The first argument is the root to look below, so that the
//! test runs on Linux in the source folder.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use guest_tests::{check, check_eq};

fn main() {
    let root = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "/".into())).join("data");
    let greeting = root.join("greeting.txt");
    check_eq!(fs::read_to_string(&greeting).unwrap(), "hello from the initrd\n");
    check_eq!(fs::read_to_string(root.join("link")).unwrap(), "hello from the initrd\n");
    check_eq!(fs::read_to_string(root.join("sub/../sub/deep.txt")).unwrap(), "deep\n");
    check_eq!(fs::read_link(root.join("link")).unwrap().to_str(), Some("greeting.txt"));

    let metadata = fs::metadata(&greeting).unwrap();
    check!(metadata.is_file() && metadata.len() == 22);
    check!(fs::symlink_metadata(root.join("link")).unwrap().is_symlink());
    check!(fs::metadata(root.join("sub")).unwrap().is_dir());

    let mut names: Vec<String> =
        fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    check_eq!(names, ["greeting.txt", "link", "sub"]);

    let mut file = File::open(&greeting).unwrap();
    file.seek(SeekFrom::Start(6)).unwrap();
    let mut word = [0; 4];
    file.read_exact(&mut word).unwrap();
    check_eq!(&word, b"from");
    check_eq!(file.stream_position().unwrap(), 10);
    check_eq!(file.seek(SeekFrom::End(0)).unwrap(), 22);
    check_eq!(file.read(&mut word).unwrap(), 0);

    check_eq!(File::open(root.join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    check_eq!(File::open(greeting.join("below")).unwrap_err().kind(), ErrorKind::NotADirectory);
    check!(fs::read(root.join("sub")).is_err());

    devices();
    check!(fs::read_to_string("/proc/self/maps").unwrap().contains("-"));
    check!(fs::read_to_string("/proc/meminfo").unwrap().contains("MemTotal:"));
}

fn devices() {
    check_eq!(fs::read("/dev/null").unwrap(), b"");
    File::options().write(true).open("/dev/null").unwrap().write_all(b"gone").unwrap();
    let mut zeros = [1; 100];
    File::open("/dev/zero").unwrap().read_exact(&mut zeros).unwrap();
    check_eq!(zeros, [0; 100]);
    let random = || {
        let mut bytes = [0; 32];
        File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
        bytes
    };
    check!(random() != random());
}
