//! Mapped files of a filesystem that has no room left: a store that could not be kept fails at once, and what can be kept
//! is. The test fills the filesystem, so it runs booted only. Argument: the folder.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use guest_tests::mapping::{
    Mapping, PAGE, READ, READ_WRITE, byte_at, catch_bus_errors, check_is_no_page, check_no_store,
    errors_of_calls, forget_pages, new_file,
};
use guest_tests::{check, check_eq, data_folder, errno};
use rustix::fs::FallocateFlags;

const EXT4: i64 = 0xef53;

fn main() {
    let folder = data_folder().join("mapped-full");
    fs::create_dir_all(&folder).unwrap();
    catch_bus_errors();
    let is_disk = rustix::fs::statfs(&folder).unwrap().f_type as i64 == EXT4;
    for round in 0..2 {
        full(&folder, is_disk, round);
    }
    fs::remove_dir_all(&folder).unwrap();
    println!("mapped_full: all well");
}

/// Takes all room there is.
fn fill(path: &Path) {
    let filler = File::create(path).unwrap();
    let mut end = 0;
    for len in [1 << 20, PAGE, 1024, 1] {
        let bytes = vec![b'f'; len];
        while let Ok(count @ 1..) = filler.write_at(&bytes, end) {
            end += count as u64;
        }
        check_eq!((len, errno()), (len, libc::ENOSPC));
    }
}

fn full(folder: &Path, is_disk: bool, round: usize) {
    let holes = new_file(folder, "hole", b"");
    holes.set_len(6 * PAGE as u64).unwrap();
    let promised = new_file(folder, "promised", b"");
    rustix::fs::fallocate(&promised, FallocateFlags::empty(), 0, 2 * PAGE as u64).unwrap();
    // In the second round, blocks are promised to this one only, when the disk fills up.
    let written = new_file(folder, "written", &[b'a'; 2 * PAGE]);
    if round == 0 {
        forget_pages(&written);
    }
    fill(&folder.join("filler"));
    let mapping = Mapping::shared(&holes, 6);
    if is_disk {
        check_eq!((mapping.load(0), mapping.load(PAGE)), (Some(0), Some(0)));
        check_eq!(errors_of_calls(mapping.at(2 * PAGE)), (0, libc::EFAULT));
        // Rights that go and come back bring no room with them.
        check_eq!((mapping.protect(PAGE, READ), mapping.protect(PAGE, READ_WRITE)), (0, 0));
        check_eq!((mapping.protect(PAGE, libc::PROT_NONE), mapping.protect(PAGE, READ_WRITE)), (0, 0));
        let copy = Mapping::private(&holes, 6);
        check!(copy.store(0, b'p') && copy.load(0) == Some(b'p'));
    } else {
        check_is_no_page(&mapping, 0);
    }
    for page in 0..4 {
        check_no_store(&mapping, page * PAGE);
    }
    for (file, old) in [(&promised, 0), (&written, b'a')] {
        let kept = Mapping::shared(file, 2);
        check!(kept.store(0, b'k') && kept.load(PAGE) == Some(old) && kept.store(PAGE, b'k'));
    }
    // What is punched has no room any more, if others have taken it.
    let part = Mapping::shared(&written, 2);
    fs::remove_file(folder.join("filler")).unwrap();
    check!(mapping.store(0, b'x') && mapping.store(4 * PAGE, b'x'));
    rustix::fs::fallocate(&written, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, PAGE as u64)
        .unwrap();
    check_eq!((part.load(0), part.load(PAGE)), (Some(0), Some(b'k')));
    if is_disk {
        fill(&folder.join("filler"));
        check_no_store(&part, 0);
        check!(part.store(PAGE, b'l'));
        check!(mapping.store(0, b'y'));
        fs::remove_file(folder.join("filler")).unwrap();
    }
    check!(mapping.store(0, b'x'));
    check!(part.store(0, b'm'));
    drop((mapping, part));
    for file in [&holes, &promised, &written] {
        forget_pages(file);
    }
    check_eq!((byte_at(&holes, 0), byte_at(&holes, PAGE), byte_at(&holes, 4 * PAGE)), (b'x', 0, b'x'));
    check_eq!((byte_at(&promised, 0), byte_at(&promised, PAGE)), (b'k', b'k'));
    check_eq!((byte_at(&written, 0), byte_at(&written, 1)), (b'm', 0));
}
