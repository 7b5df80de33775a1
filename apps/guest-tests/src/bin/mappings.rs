//! Mappings that are seldom made: the same memory twice, pages that are brought in before they are touched, advice, and what
//! `/proc/self/maps` says of them. With the argument `tables`: mappings far apart, for ever.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr;

use guest_tests::mapping::{Mapping, PAGE, READ, READ_WRITE, catch_bus_errors, new_file};
use guest_tests::{check, check_eq, errno};

const SHARED: i32 = libc::MAP_SHARED;
const ANONYMOUS: i32 = libc::MAP_ANONYMOUS;
const POPULATE_READ: i32 = 22;
const POPULATE_WRITE: i32 = 23;

fn main() {
    if std::env::args().nth(1).is_some_and(|word| word == "tables") {
        return tables_go_with_their_pages();
    }
    let folder = std::env::temp_dir().join("mappings");
    fs::create_dir_all(&folder).unwrap();
    catch_bus_errors();
    shown_twice(&folder);
    only_shared_memory_is_shown_twice(&folder);
    pages_move_alone(&folder);
    one_over_the_other(&folder);
    unknown_flags_are_told_of(&folder);
    populated(&folder);
    advice_has_its_place(&folder);
    protected_up_to_an_obstacle(&folder);
    places_that_are_asked_for();
    maps_name_what_is_mapped(&folder);
    fs::remove_dir_all(&folder).unwrap();
    println!("mappings: all well");
}

fn map(at: *mut u8, len: usize, protection: i32, flags: i32, file: Option<&File>) -> Result<*mut u8, i32> {
    let descriptor = file.map_or(-1, File::as_raw_fd);
    // SAFETY: the kernel picks the place, or the test has made it free.
    let start = unsafe { libc::mmap(at.cast(), len, protection, flags, descriptor, 0) };
    if start == libc::MAP_FAILED { Err(errno()) } else { Ok(start.cast()) }
}

fn anonymous(pages: usize, protection: i32, flags: i32) -> Mapping {
    let start = map(ptr::null_mut(), pages * PAGE, protection, flags | ANONYMOUS, None).unwrap();
    Mapping { start, len: pages * PAGE }
}

fn private(pages: usize) -> Mapping {
    anonymous(pages, READ_WRITE, libc::MAP_PRIVATE)
}

/// Remaps no length of what is at an address, which makes another mapping of it.
fn again(at: *mut u8, len: usize, flags: i32) -> Result<Mapping, i32> {
    // SAFETY: the kernel picks the place.
    let start = unsafe { libc::mremap(at.cast(), 0, len, flags) };
    if start == libc::MAP_FAILED { Err(errno()) } else { Ok(Mapping { start: start.cast(), len }) }
}

fn shown_twice(folder: &Path) {
    let file = new_file(folder, "twice", &[b'f'; 4 * PAGE]);
    for first in [anonymous(4, READ_WRITE, SHARED), Mapping::shared(&file, 4)] {
        check!(first.store(PAGE, b'1'));
        let second = again(first.at(PAGE), 2 * PAGE, libc::MREMAP_MAYMOVE).unwrap();
        check_eq!(second.load(0), Some(b'1'));
        check!(second.store(PAGE + 1, b'2') && first.store(2 * PAGE + 2, b'3'));
        check_eq!((first.load(2 * PAGE + 1), second.load(PAGE + 2)), (Some(b'2'), Some(b'3')));
        let third = private(4);
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: the place is the test's own mapping, which this one replaces.
        let start = unsafe { libc::mremap(first.start.cast(), 0, 4 * PAGE, flags, third.start) };
        check_eq!(start.cast(), third.start);
        check_eq!(third.load(PAGE), Some(b'1'));
        // The memory stays for as long as somebody shows it, and however often some of it is discarded.
        check_eq!(advise(&first, 0, 4, libc::MADV_DONTNEED), 0);
        drop(first);
        check_eq!((second.load(0), third.load(2 * PAGE + 2)), (Some(b'1'), Some(b'3')));
        drop(third);
        check_eq!(second.load(PAGE + 1), Some(b'2'));
        let longer = again(second.start, 8 * PAGE, libc::MREMAP_MAYMOVE).unwrap();
        check_eq!((longer.load(0), longer.load(6 * PAGE)), (Some(b'1'), None));
    }
}

fn only_shared_memory_is_shown_twice(folder: &Path) {
    const MAYMOVE: i32 = libc::MREMAP_MAYMOVE;
    let file = new_file(folder, "once", &[b'f'; 4 * PAGE]);
    for mapping in [private(4), Mapping::private(&file, 4)] {
        check_eq!(again(mapping.start, PAGE, MAYMOVE).err(), Some(libc::EINVAL));
        check_eq!(again(mapping.start, PAGE, 0).err(), Some(libc::EINVAL));
    }
    let shared = anonymous(4, READ_WRITE, SHARED);
    check_eq!(again(shared.start, PAGE, 0).err(), Some(libc::ENOMEM));
    check_eq!(again(shared.start, 0, MAYMOVE).err(), Some(libc::EINVAL));
    check_eq!(again(shared.start.wrapping_add(1), PAGE, MAYMOVE).err(), Some(libc::EINVAL));
    check_eq!(again(ptr::without_provenance_mut(0x1_0000), PAGE, MAYMOVE).err(), Some(libc::EFAULT));
    // What a mapping may be used for goes with it.
    drop(file);
    let file = File::open(folder.join("once")).unwrap();
    let second = again(Mapping::new(&file, 2, READ, SHARED).at(0), PAGE, MAYMOVE).unwrap();
    check_eq!(second.protect(0, READ_WRITE), libc::EACCES);
}

/// Moves the pages of a mapping, which stays without them (`MREMAP_DONTUNMAP`).
fn move_pages(at: *mut u8, lens: (usize, usize), flags: i32, to: *mut u8) -> Result<Mapping, i32> {
    // SAFETY: what is replaced is the test's own, and the memory that is taken away is looked at by the test alone. Called by its
    // number, as musl keeps hints to itself.
    let start = unsafe { libc::syscall(libc::SYS_mremap, at, lens.0, lens.1, flags, to) };
    let start = ptr::with_exposed_provenance_mut(start as usize);
    if start == libc::MAP_FAILED.cast() { Err(errno()) } else { Ok(Mapping { start, len: lens.1 }) }
}

fn pages_move_alone(folder: &Path) {
    const ALONE: i32 = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
    const TO: i32 = ALONE | libc::MREMAP_FIXED;
    let file = new_file(folder, "alone", &[b'f'; 4 * PAGE]);
    let two = (2 * PAGE, 2 * PAGE);
    // What is found where the pages were, and what was there.
    for (first, left) in [
        (private(4), 0),
        (anonymous(1024, READ_WRITE, libc::MAP_PRIVATE), 0),
        (Mapping::private(&file, 4), b'f'),
        (anonymous(4, READ_WRITE, SHARED), b'1'),
        (Mapping::shared(&file, 4), b'1'),
    ] {
        check!(first.store(PAGE, b'1') && first.store(3 * PAGE, b'3'));
        let second = move_pages(first.at(PAGE), two, ALONE, ptr::null_mut()).unwrap();
        check_eq!(
            (second.load(0), first.load(PAGE), first.load(3 * PAGE)),
            (Some(b'1'), Some(left), Some(b'3'))
        );
        check!(first.store(PAGE, b'2'));
        check_eq!(second.load(0), Some(if left == b'1' { b'2' } else { b'1' }));
        // Where something is, a hint does not lead, and a demand does.
        let third = move_pages(first.at(PAGE), two, ALONE, second.start).unwrap();
        check!(third.start != second.start);
        let forth = move_pages(third.start, two, TO, second.start).unwrap();
        check_eq!((forth.start, forth.load(0)), (second.start, Some(b'2')));
        std::mem::forget(forth);
    }
    let first = private(4);
    for (flags, lens, to) in [
        (libc::MREMAP_DONTUNMAP, two, ptr::null_mut()),
        (ALONE, (PAGE, 2 * PAGE), ptr::null_mut()),
        (ALONE, (0, 0), ptr::null_mut()),
        (ALONE, (0, PAGE), ptr::null_mut()),
        (ALONE, two, first.at(PAGE)),
        (TO, two, first.at(PAGE)),
        (ALONE, two, first.start.wrapping_byte_sub(16 * PAGE - 1)),
        (ALONE, two, ptr::without_provenance_mut(0xffff_8000_0000_0000)),
    ] {
        check_eq!(move_pages(first.start, lens, flags, to).err(), Some(libc::EINVAL));
    }
    check_eq!(first.protect(PAGE, READ), 0);
    check_eq!(move_pages(first.start, two, ALONE, ptr::null_mut()).err(), Some(libc::EFAULT));
}

fn one_over_the_other(folder: &Path) {
    let files = [b'a', b'b'].map(|byte| new_file(folder, "over", &[byte; 2 * PAGE]));
    for flags in [SHARED, libc::MAP_PRIVATE] {
        let place = private(2);
        for _ in 0..3 {
            for file in &files {
                // The second has replaced the first's content.
                let start = map(place.start, 2 * PAGE, READ_WRITE, flags | libc::MAP_FIXED, Some(file));
                check_eq!((start, place.load(PAGE)), (Ok(place.start), Some(b'b')));
            }
            check_eq!(
                map(place.start, 2 * PAGE, READ, flags | libc::MAP_FIXED, Some(&files[1])),
                Ok(place.start)
            );
            check_eq!(place.load(0), Some(b'b'));
        }
    }
}

fn unknown_flags_are_told_of(folder: &Path) {
    const VALIDATE: i32 = libc::MAP_SHARED | libc::MAP_PRIVATE;
    const UNKNOWN: [i32; 3] = [1 << 21, 1 << 25, 0x200];
    let file = new_file(folder, "flags", &[b'f'; PAGE]);
    let shared = |flags| {
        let start = map(ptr::null_mut(), PAGE, READ_WRITE, flags, Some(&file))?;
        Ok::<_, i32>(Mapping { start, len: PAGE })
    };
    for unknown in UNKNOWN {
        check_eq!(shared(VALIDATE | unknown).err(), Some(libc::EOPNOTSUPP));
        check_eq!(shared(libc::MAP_PRIVATE | unknown).err(), None);
    }
    check_eq!(shared(VALIDATE | libc::MAP_SYNC).err(), Some(libc::EOPNOTSUPP));
    let known = shared(VALIDATE | libc::MAP_POPULATE | libc::MAP_NORESERVE | libc::MAP_32BIT).unwrap();
    check!(known.store(0, b'v') && shared(SHARED).unwrap().load(0) == Some(b'v'));
    let other = File::open(folder.join("flags")).unwrap();
    check_eq!(map(ptr::null_mut(), PAGE, READ_WRITE, VALIDATE, Some(&other)), Err(libc::EACCES));
    for kind in [VALIDATE, 0, 4] {
        check_eq!(map(ptr::null_mut(), PAGE, READ, kind | ANONYMOUS, None), Err(libc::EINVAL));
    }
}

fn advise(mapping: &Mapping, first: usize, pages: usize, advice: i32) -> i32 {
    let at = mapping.start.wrapping_add(first * PAGE);
    // SAFETY: the pages are this test's own.
    if unsafe { libc::madvise(at.cast(), pages * PAGE, advice) } == 0 { 0 } else { errno() }
}

fn present(mapping: &Mapping) -> usize {
    let mut vector = vec![0_u8; mapping.len / PAGE];
    // SAFETY: a byte for each page.
    check_eq!(unsafe { libc::mincore(mapping.start.cast(), mapping.len, vector.as_mut_ptr()) }, 0);
    vector.iter().filter(|byte| **byte & 1 != 0).count()
}

/// A mapping with a hole at page 2, and pages 4 to 6 without access, for reading, and for writing.
fn with_hole() -> Mapping {
    let mapping = private(16);
    // SAFETY: the page is not used again.
    check_eq!(unsafe { libc::munmap(mapping.at(2 * PAGE).cast(), PAGE) }, 0);
    for (page, protection) in [(4, libc::PROT_NONE), (5, READ), (6, libc::PROT_WRITE)] {
        check_eq!(mapping.protect(page * PAGE, protection), 0);
    }
    mapping
}

fn populated(folder: &Path) {
    for advice in [POPULATE_READ, POPULATE_WRITE] {
        let whole = private(1024);
        check_eq!((advise(&whole, 0, 1024, advice), present(&whole)), (0, 1024));
        check_eq!(whole.load(700 * PAGE), Some(0));
        check_eq!(advise(&whole, 0, 1024, advice), 0);
        let mapping = with_hole();
        check_eq!((advise(&mapping, 0, 2, advice), advise(&mapping, 0, 4, advice)), (0, libc::ENOMEM));
        check_eq!((advise(&mapping, 4, 1, advice), advise(&mapping, 0, 0, advice)), (libc::EINVAL, 0));
        let (wrong, right) = if advice == POPULATE_READ { (6, 5) } else { (5, 6) };
        check_eq!(
            (advise(&mapping, wrong, 1, advice), advise(&mapping, right, 1, advice)),
            (libc::EINVAL, 0)
        );
        let file = new_file(folder, "populated", &[b'f'; 3 * PAGE]);
        for mapping in [Mapping::shared(&file, 6), Mapping::private(&file, 6)] {
            check_eq!((advise(&mapping, 0, 3, advice), advise(&mapping, 0, 6, advice)), (0, libc::EFAULT));
            check_eq!(mapping.load(2 * PAGE), Some(b'f'));
        }
        let nowhere = Mapping { start: ptr::without_provenance_mut(1 << 47), len: PAGE };
        check_eq!(advise(&nowhere, 0, 1, advice), libc::ENOMEM);
        std::mem::forget(nowhere);
    }
    // Holes become the file's pages, and copies of pages are made.
    let holes = new_file(folder, "populated", b"");
    holes.set_len(4 * PAGE as u64).unwrap();
    let (shared, copies) = (Mapping::shared(&holes, 4), Mapping::private(&holes, 4));
    check_eq!((advise(&shared, 0, 4, POPULATE_WRITE), advise(&copies, 0, 4, POPULATE_WRITE)), (0, 0));
    check!(shared.store(0, b's') && copies.load(0) == Some(0));
    let read_only = File::open(folder.join("populated")).unwrap();
    let mapping = Mapping::new(&read_only, 1, READ, SHARED);
    check_eq!(
        (advise(&mapping, 0, 1, POPULATE_READ), advise(&mapping, 0, 1, POPULATE_WRITE)),
        (0, libc::EINVAL)
    );
    let mapping = anonymous(64, READ_WRITE, libc::MAP_PRIVATE | libc::MAP_POPULATE);
    check_eq!(present(&mapping), 64);
}

fn advice_has_its_place(folder: &Path) {
    const FREE: i32 = 8;
    const WIPE_ON_FORK: i32 = 18;
    const ANYWHERE: [i32; 9] = [4, 10, 11, 16, 17, 19, 20, 21, 3];
    let file = new_file(folder, "advised", &[b'f'; 4 * PAGE]);
    let mappings =
        [private(4), anonymous(4, READ_WRITE, SHARED), Mapping::shared(&file, 4), Mapping::private(&file, 4)];
    for (mapping, own) in mappings.iter().zip([0, libc::EINVAL, libc::EINVAL, libc::EINVAL]) {
        ANYWHERE.iter().for_each(|advice| check_eq!(advise(mapping, 0, 4, *advice), 0));
        check_eq!((advise(mapping, 0, 4, FREE), advise(mapping, 0, 4, WIPE_ON_FORK)), (own, own));
        for unknown in [5, 7, 26, 99, -1] {
            check_eq!(
                (advise(mapping, 0, 4, unknown), advise(mapping, 0, 0, unknown)),
                (libc::EINVAL, libc::EINVAL)
            );
        }
        check_eq!(advise(mapping, 0, 0, FREE), 0);
    }
    // A hole is told of, and no reason to leave the rest undone.
    let mapping = with_hole();
    check!(mapping.store(0, b'x') && mapping.store(3 * PAGE, b'x'));
    check_eq!(advise(&mapping, 0, 4, libc::MADV_DONTNEED), libc::ENOMEM);
    check_eq!((mapping.load(0), mapping.load(3 * PAGE)), (Some(0), Some(0)));
    check_eq!(
        (advise(&mapping, 0, 4, WIPE_ON_FORK), advise(&mapping, 0, 4, 21)),
        (libc::ENOMEM, libc::ENOMEM)
    );
}

/// The columns of the line of `/proc/self/maps` about an address: rights, offset, device, inode, name.
/// What comes before a hole, or a mapping that may not be written, is changed all the same; what comes behind it is not.
fn protected_up_to_an_obstacle(folder: &Path) {
    let protect = |mapping: &Mapping, protection| {
        // SAFETY: the pages are this test's own.
        if unsafe { libc::mprotect(mapping.start.cast(), mapping.len, protection) } == 0 {
            0
        } else {
            errno()
        }
    };
    let mapping = with_hole();
    check_eq!(protect(&mapping, READ), libc::ENOMEM);
    check!(!can_write(mapping.start) && can_write(mapping.at(mapping.len - PAGE)));
    drop(mapping);
    new_file(folder, "read only", &[b'f'; PAGE]);
    let file = File::open(folder.join("read only")).unwrap();
    let mapping = private(3);
    let middle = map(mapping.at(PAGE), PAGE, READ, SHARED | libc::MAP_FIXED, Some(&file));
    check_eq!(middle, Ok(mapping.at(PAGE)));
    check_eq!(protect(&mapping, READ), 0);
    check_eq!(protect(&mapping, READ_WRITE), libc::EACCES);
    check!(can_write(mapping.start) && !can_write(mapping.at(PAGE)) && !can_write(mapping.at(2 * PAGE)));
    // Of what does not grow, no end is meant.
    const BOTH: i32 = libc::PROT_GROWSDOWN | libc::PROT_GROWSUP;
    for ends in [libc::PROT_GROWSDOWN, libc::PROT_GROWSUP, BOTH] {
        check_eq!(mapping.protect(0, READ | ends), libc::EINVAL);
    }
}

/// Whether a call may write there.
fn can_write(at: *mut u8) -> bool {
    // SAFETY: the page is a test's own, which expects no content.
    unsafe { libc::getrandom(at.cast(), 1, 0) == 1 }
}

fn places_that_are_asked_for() {
    const USER_END: usize = 0x7fff_ffff_f000;
    const PRIVATE: i32 = libc::MAP_PRIVATE | ANONYMOUS;
    let low = anonymous(3, READ_WRITE, libc::MAP_PRIVATE | libc::MAP_32BIT);
    check!(low.start.addr() + low.len <= 1 << 31 && low.store(2 * PAGE, 1));
    for (at, pages) in [(USER_END - PAGE, 2), (USER_END, 1), (usize::MAX - PAGE + 1, 1)] {
        for fixed in [libc::MAP_FIXED, libc::MAP_FIXED_NOREPLACE] {
            let at = ptr::without_provenance_mut(at);
            check_eq!(map(at, pages * PAGE, READ, PRIVATE | fixed, None), Err(libc::ENOMEM));
        }
    }
    let growing = SHARED | ANONYMOUS | libc::MAP_GROWSDOWN;
    check_eq!(map(ptr::null_mut(), PAGE, READ, growing, None), Err(libc::EINVAL));
    // SAFETY: nothing is mapped there.
    check_eq!(unsafe { libc::msync(low.start.cast(), PAGE.wrapping_neg(), libc::MS_SYNC) }, -1);
    check_eq!(errno(), libc::ENOMEM);
}

fn line_of(at: *const u8) -> [String; 5] {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let is_it = |line: &&str| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        (number(start)..number(end)).contains(&at.addr())
    };
    let line = maps.lines().find(is_it).unwrap();
    let name = line.get(73..).unwrap_or_default().to_string();
    let mut columns = line.split_ascii_whitespace().skip(1).map(String::from);
    let mut next = || columns.next().unwrap();
    [next(), next(), next(), next(), name]
}

fn strings(line: [&str; 5]) -> [String; 5] {
    line.map(String::from)
}

fn maps_name_what_is_mapped(folder: &Path) {
    let file = new_file(folder, "named", &[b'f'; 4 * PAGE]);
    let path = folder.join("named");
    let about = file.metadata().unwrap();
    let device = format!("{:02x}:{:02x}", libc::major(about.dev()), libc::minor(about.dev()));
    let (inode, name) = (about.ino().to_string(), path.to_str().unwrap().to_string());
    let (shared, copies) = (Mapping::shared(&file, 4), Mapping::new(&file, 4, READ, libc::MAP_PRIVATE));
    check_eq!(line_of(shared.start), strings(["rw-s", "00000000", &device, &inode, &name]));
    check_eq!(shared.protect(2 * PAGE, READ), 0);
    check_eq!(line_of(shared.at(2 * PAGE)), strings(["r--s", "00002000", &device, &inode, &name]));
    check_eq!(line_of(copies.at(PAGE)), strings(["r--p", "00000000", &device, &inode, &name]));
    fs::remove_file(&path).unwrap();
    check_eq!(line_of(copies.start)[4], format!("{name} (deleted)"));
    // SAFETY: the name is a string.
    let descriptor = unsafe { libc::memfd_create(c"mine".as_ptr(), 0) };
    let link = fs::read_link(format!("/proc/self/fd/{descriptor}")).unwrap();
    check_eq!(link.to_str(), Some("/memfd:mine (deleted)"));
    // SAFETY: the descriptor is open, and nobody else's.
    let file: File = unsafe { std::os::fd::FromRawFd::from_raw_fd(descriptor) };
    file.set_len(PAGE as u64).unwrap();
    let inode = file.metadata().unwrap().ino().to_string();
    let mapping = Mapping::shared(&file, 1);
    drop(file);
    check_eq!(
        line_of(mapping.start),
        strings(["rw-s", "00000000", "00:01", &inode, "/memfd:mine (deleted)"])
    );
    check!(mapping.store(0, b'm'));
    let [rights, .., name] = line_of(anonymous(1, READ_WRITE, SHARED).start);
    check_eq!((rights.as_str(), name.as_str()), ("rw-s", "/dev/zero (deleted)"));
    let guard = anonymous(1, libc::PROT_NONE, libc::MAP_PRIVATE);
    check_eq!(line_of(guard.start), strings(["---p", "00000000", "00:00", "0", ""]));
    let local = 0_u8;
    check_eq!(line_of(&raw const local), strings(["rw-p", "00000000", "00:00", "0", "[stack]"]));
    // SAFETY: grows the heap by a page that nobody uses.
    let heap = unsafe {
        let start = libc::syscall(libc::SYS_brk, 0) as usize;
        check_eq!(libc::syscall(libc::SYS_brk, start + 4 * PAGE), (start + 4 * PAGE) as i64);
        ptr::without_provenance::<u8>(start + PAGE)
    };
    check_eq!(line_of(heap), strings(["rw-p", "00000000", "00:00", "0", "[heap]"]));
    let program = line_of((main as *const ()).cast());
    check_eq!(program[0], "r-xp");
    check_eq!(program[4], fs::read_link("/proc/self/exe").unwrap().to_str().unwrap());
    // SAFETY: asks for an entry.
    let vdso = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as usize;
    check_eq!(line_of(ptr::without_provenance(vdso))[4], "[vdso]");
}

fn free_kib() -> usize {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("MemFree:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Pages far apart need a table each, and tables of tables, which must not stay when the pages go.
fn tables_go_with_their_pages() {
    const BASE: usize = 1 << 44;
    const MOST_KIB: usize = 1536;
    const FLAGS: i32 = libc::MAP_PRIVATE | ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let place = |index: usize, distance| ptr::without_provenance_mut::<u8>(BASE + index * distance);
    let take = |index, distance| {
        let mapping =
            Mapping { start: map(place(index, distance), PAGE, READ_WRITE, FLAGS, None).unwrap(), len: PAGE };
        check!(mapping.store(0, b't'));
        mapping
    };
    for distance in [2 << 20, 1 << 30, 1 << 36] {
        let count = (1 << 45) / distance;
        let before = free_kib();
        for index in 0..count.min(5000) {
            drop(take(index, distance));
        }
        check!(before.saturating_sub(free_kib()) < MOST_KIB);
        let all: Vec<Mapping> = (0..count.min(2000)).map(|index| take(index, distance)).collect();
        check!(distance > 1 << 30 || before - free_kib() > 4 * MOST_KIB);
        check!(all.iter().all(|mapping| mapping.load(0) == Some(b't')));
        // Some stay, and keep what they need.
        let kept: Vec<Mapping> = all.into_iter().step_by(100).collect();
        check!(before.saturating_sub(free_kib()) < 2 * MOST_KIB);
        check!(kept.iter().all(|mapping| mapping.load(0) == Some(b't')));
    }
    println!("mappings: no table is left");
}
