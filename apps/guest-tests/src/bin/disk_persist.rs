//! A tree that is there after the next boot: the first boot (`BOOT` counts them) writes it, each further one
//! checks it and changes it. Without `BOOT`, the second argument says `write` or `check`. Argument: the folder.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use guest_tests::random::Random;
use guest_tests::{check, check_eq, data_folder};

const FOLDERS: usize = 12;
const FILES: usize = 120;
const BIG_BYTES: u64 = 20 << 20;

fn main() {
    let root = data_folder().join("persist");
    let boot = std::env::var("BOOT").ok().or_else(|| std::env::args().nth(2));
    match boot.as_deref() {
        None | Some("1" | "write") => write(&root),
        Some(_) => {
            check_tree(&root);
            fs::remove_dir_all(&root).unwrap();
            // In the blocks that have just become free.
            write(&root);
        }
    }
    println!("disk_persist: all well");
}

fn file(root: &Path, folder: usize, number: usize) -> PathBuf {
    root.join(format!("folder{folder}")).join(format!("file{number}-{}", "n".repeat(number)))
}

/// From nothing to several blocks, the same in every run.
fn content(folder: usize, number: usize) -> Vec<u8> {
    let mut random = Random::new((folder * 1000 + number) as u64);
    let len = random.below(20_000) * (number % 3);
    random.bytes(len)
}

fn write(root: &Path) {
    fs::create_dir(root).unwrap();
    for folder in 0..FOLDERS {
        fs::create_dir(root.join(format!("folder{folder}"))).unwrap();
        for number in 0..FILES {
            let path = file(root, folder, number);
            fs::write(&path, content(folder, number)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600 | (number as u32 & 0o77))).unwrap();
        }
        // Gaps, which later names may fill.
        (0..FILES).step_by(7).for_each(|number| fs::remove_file(file(root, folder, number)).unwrap());
    }
    symlink("folder0", root.join("short")).unwrap();
    symlink("long/".repeat(60), root.join("long")).unwrap();
    fs::hard_link(file(root, 1, 1), root.join("hard")).unwrap();
    let deep = (0..40).fold(root.join("deep"), |path, level| path.join(format!("level{level}")));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "bottom").unwrap();
    write_big(root);
    // Written, renamed over, and nothing synced but by the end of the machine.
    fs::write(root.join("config.new"), "new").unwrap();
    fs::write(root.join("config"), "old").unwrap();
    fs::rename(root.join("config.new"), root.join("config")).unwrap();
}

/// A megabyte in twenty, with holes between.
fn write_big(root: &Path) {
    let big = File::create(root.join("big")).unwrap();
    for at in (0..BIG_BYTES).step_by(1 << 20) {
        big.write_all_at(&Random::new(at).bytes(50_000), at + 1234).unwrap();
    }
    big.set_len(BIG_BYTES).unwrap();
}

fn check_tree(root: &Path) {
    for folder in 0..FOLDERS {
        let listed = fs::read_dir(root.join(format!("folder{folder}"))).unwrap().count();
        check_eq!(listed, FILES - FILES.div_ceil(7));
        for number in (0..FILES).filter(|number| number % 7 != 0) {
            let path = file(root, folder, number);
            check!(fs::read(&path).unwrap() == content(folder, number));
            let mode = fs::metadata(&path).unwrap().mode() & 0o7777;
            check_eq!(mode, 0o600 | (number as u32 & 0o77));
        }
    }
    check_eq!(fs::read_link(root.join("short")).unwrap(), Path::new("folder0"));
    check_eq!(fs::read_link(root.join("long")).unwrap(), Path::new(&"long/".repeat(60)));
    check_eq!(fs::metadata(root.join("hard")).unwrap().nlink(), 2);
    check!(fs::read(root.join("hard")).unwrap() == content(1, 1));
    let deep = (0..40).fold(root.join("deep"), |path, level| path.join(format!("level{level}")));
    check_eq!(fs::read(deep.join("bottom")).unwrap(), b"bottom");
    check_eq!(fs::read(root.join("config")).unwrap(), b"new");
    check!(!root.join("config.new").exists());
    check_big(root);
}

fn check_big(root: &Path) {
    let big = OpenOptions::new().read(true).open(root.join("big")).unwrap();
    check_eq!(big.metadata().unwrap().len(), BIG_BYTES);
    for at in (0..BIG_BYTES).step_by(1 << 20) {
        let mut part = vec![1; 60_000];
        big.read_exact_at(&mut part, at).unwrap();
        check!(part[..1234].iter().chain(&part[51_234..]).all(|&byte| byte == 0));
        check!(part[1234..51_234] == Random::new(at).bytes(50_000));
    }
}
