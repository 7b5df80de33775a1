//! Mappings of files that change under them: pages beyond the end, files that are cut and grow again, holes, rights that
//! cannot be had later. Argument: the folder.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use guest_tests::mapping::{
    Mapping, PAGE, READ, READ_WRITE, byte_at, catch_bus_errors, check_is_no_page, errors_of_calls,
    forget_pages, load, new_file, store,
};
use guest_tests::{check, check_eq, data_folder};

fn main() {
    let folder = data_folder().join("mapped-files");
    fs::create_dir_all(&folder).unwrap();
    catch_bus_errors();
    beyond_the_end(&folder);
    for cut in CUTS {
        cut_and_grown(&folder, cut);
    }
    copies_are_cut_too(&folder);
    bytes_behind_the_end_are_not_kept(&folder);
    holes_are_seen(&folder);
    cut_under_another_thread(&folder);
    rights_stay_those_of_the_file(&folder);
    parts_are_synced(&folder);
    fs::remove_dir_all(&folder).unwrap();
    println!("mapped_files: all well");
}

/// msync(2) of the first, a middle and the last page of one mapping, and of none.
fn parts_are_synced(folder: &Path) {
    let file = new_file(folder, "parts", &[b'a'; 3 * PAGE]);
    let mapping = Mapping::shared(&file, 3);
    for page in 0..3 {
        let at = mapping.at(page * PAGE);
        check!(store(at, b'b'));
        for len in [PAGE, 1, 0] {
            // SAFETY: the range is in the mapping.
            check_eq!(unsafe { libc::msync(at.cast(), len, libc::MS_SYNC) }, 0);
        }
        check_eq!(byte_at(&file, page * PAGE), b'b');
    }
}

fn beyond_the_end(folder: &Path) {
    let file = new_file(folder, "short", &[b'a'; 2048]);
    for mapping in [Mapping::shared(&file, 3), Mapping::private(&file, 3)] {
        check_is_no_page(&mapping, PAGE + 5);
        check_eq!((mapping.load(0), mapping.load(PAGE - 1)), (Some(b'a'), Some(0)));
        check_is_no_page(&mapping, 2 * PAGE);
    }
    file.set_len(PAGE as u64 + 1).unwrap();
    let mapping = Mapping::shared(&file, 3);
    check_eq!(mapping.load(2 * PAGE - 1), Some(0));
    check_is_no_page(&mapping, 2 * PAGE);
    check_is_no_page(&Mapping::shared(&new_file(folder, "empty", b""), 1), 0);
}

/// A way to make a file shorter: to a length, or to nothing.
type Cut = fn(&File, &Path, u64);

const CUTS: [Cut; 3] = [
    |file, _, len| file.set_len(len).unwrap(),
    |_, path, len| {
        let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: the path is a C string.
        check_eq!(unsafe { libc::truncate(path.as_ptr(), len as i64) }, 0);
    },
    |_, path, len| File::create(path).unwrap().set_len(len).unwrap(),
];

/// Whoever cuts a mapped file and lets it grow again, the mapping shows the file.
fn cut_and_grown(folder: &Path, cut: Cut) {
    let file = new_file(folder, "cut", &[b'a'; 40 * PAGE]);
    let path = folder.join("cut");
    let mapping = Mapping::shared(&file, 40);
    let again = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let other = Mapping::shared(&again, 40);
    for page in 0..40 {
        check!(mapping.store(page * PAGE, b'm') && other.load(page * PAGE) == Some(b'm'));
    }
    cut(&file, &path, 100);
    check_eq!((mapping.load(101), other.load(PAGE - 1)), (Some(0), Some(0)));
    for page in [1, 2, 39] {
        check_is_no_page(&mapping, page * PAGE);
        check_is_no_page(&other, page * PAGE + 7);
    }
    file.set_len(40 * PAGE as u64).unwrap();
    for page in [1, 2, 39] {
        let offset = page * PAGE;
        check_eq!((mapping.load(offset), byte_at(&file, offset)), (Some(0), 0));
        check!(mapping.store(offset, b's'));
        check_eq!((other.load(offset), byte_at(&file, offset)), (Some(b's'), b's'));
        file.write_all_at(b"w", offset as u64 + 1).unwrap();
        check_eq!((mapping.load(offset + 1), other.load(offset + 1)), (Some(b'w'), Some(b'w')));
    }
    // What was stored is the file's, whether it is in memory or not.
    file.sync_all().unwrap();
    drop((mapping, other));
    forget_pages(&file);
    for page in [1, 2, 39] {
        check_eq!((byte_at(&file, page * PAGE), byte_at(&file, page * PAGE + 1)), (b's', b'w'));
    }
}

fn copies_are_cut_too(folder: &Path) {
    let file = new_file(folder, "copies", &[b'a'; 3 * PAGE]);
    let mapping = Mapping::private(&file, 3);
    check!(mapping.store(0, b'p') && mapping.store(2 * PAGE, b'p'));
    file.set_len(PAGE as u64).unwrap();
    check_is_no_page(&mapping, 2 * PAGE);
    check_eq!((mapping.load(0), mapping.load(1)), (Some(b'p'), Some(b'a')));
    file.set_len(3 * PAGE as u64).unwrap();
    check_eq!((mapping.load(0), mapping.load(2 * PAGE)), (Some(b'p'), Some(0)));
}

/// The last page is shown as a whole, but only the file's part of it is kept.
fn bytes_behind_the_end_are_not_kept(folder: &Path) {
    let growths: [fn(&File); 4] = [
        |file| file.set_len(3 * PAGE as u64).unwrap(),
        |file| file.write_all_at(b"w", 4000).unwrap(),
        |file| file.write_all_at(b"w", 2 * PAGE as u64).unwrap(),
        |file| rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, 2 * PAGE as u64).unwrap(),
    ];
    for grow in growths {
        for is_written_back in [false, true] {
            let file = new_file(folder, "behind", &[b'a'; 100]);
            let mapping = Mapping::shared(&file, 1);
            check!(mapping.store(50, b'm') && mapping.store(100, b'x') && mapping.store(3000, b'x'));
            if is_written_back {
                drop(mapping);
                forget_pages(&file);
            }
            grow(&file);
            let mut start = [0; 3999];
            file.read_exact_at(&mut start, 0).unwrap();
            check!(start[50] == b'm' && start[99] == b'a' && start[100..].iter().all(|&byte| byte == 0));
            check_eq!(Mapping::shared(&file, 1).load(3000), Some(0));
        }
    }
}

fn holes_are_seen(folder: &Path) {
    let file = new_file(folder, "holes", &[b'a'; 4 * PAGE]);
    let (shared, private) = (Mapping::shared(&file, 4), Mapping::private(&file, 4));
    check!(shared.store(PAGE, b's') && private.store(PAGE, b'p'));
    let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, PAGE as u64 + 10, 2 * PAGE as u64).unwrap();
    check_eq!(
        (shared.load(PAGE), shared.load(PAGE + 10), shared.load(2 * PAGE)),
        (Some(b's'), Some(0), Some(0))
    );
    check_eq!((shared.load(3 * PAGE), shared.load(3 * PAGE + 10)), (Some(0), Some(b'a')));
    check_eq!(private.load(PAGE), Some(b'p'));
    check!(shared.store(2 * PAGE, b'n'));
    check_eq!(byte_at(&file, 2 * PAGE), b'n');
    drop(shared);
    forget_pages(&file);
    check_eq!((byte_at(&file, 2 * PAGE), byte_at(&file, 2 * PAGE + 1)), (b'n', 0));
}

/// One thread touches pages, directly and by calls, while another cuts the file and lets it grow.
fn cut_under_another_thread(folder: &Path) {
    const PAGES: usize = 70;
    const LEAST_ROUNDS: usize = 300;
    const LIMIT: Duration = Duration::from_secs(20);
    let file = new_file(folder, "raced", &[b'a'; PAGES * PAGE]);
    let mapping = Mapping::shared(&file, PAGES);
    let is_over = AtomicBool::new(false);
    let start = mapping.start.expose_provenance();
    // How often each thread has found a page there.
    let seen = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let touch = &|first: usize, seen: &AtomicUsize| {
        while !is_over.load(Ordering::Relaxed) {
            for page in (first..PAGES).step_by(3) {
                let at = ptr::with_exposed_provenance_mut(start + page * PAGE);
                seen.fetch_add(usize::from(load(at).is_some()), Ordering::Relaxed);
                store(at, b't');
            }
            let (reads, writes) = errors_of_calls(ptr::with_exposed_provenance_mut(start + first * PAGE));
            check!([0, libc::EFAULT].contains(&reads) && [0, libc::EFAULT].contains(&writes));
        }
    };
    std::thread::scope(|scope| {
        seen.iter().zip(1..).for_each(|(seen, first)| drop(scope.spawn(move || touch(first, seen))));
        let begun = Instant::now();
        // However late the threads start, they meet a file that is being cut.
        let have_met = || seen.iter().all(|seen| seen.load(Ordering::Relaxed) > 0);
        for round in 0.. {
            if round >= LEAST_ROUNDS && (have_met() || begun.elapsed() > LIMIT) {
                break;
            }
            file.set_len(((round % 5) * 700) as u64).unwrap();
            file.set_len((PAGES * PAGE) as u64).unwrap();
            std::thread::yield_now();
        }
        is_over.store(true, Ordering::Relaxed);
        check!(have_met());
    });
    // All of it is the file still.
    for page in 0..PAGES {
        check!(mapping.store(page * PAGE, page as u8));
        check_eq!(byte_at(&file, page * PAGE), page as u8);
        file.write_all_at(b"w", (page * PAGE + 1) as u64).unwrap();
        check_eq!(mapping.load(page * PAGE + 1), Some(b'w'));
    }
}

fn rights_stay_those_of_the_file(folder: &Path) {
    drop(new_file(folder, "rights", &[b'r'; 4 * PAGE]));
    let file = File::open(folder.join("rights")).unwrap();
    let shared = Mapping::new(&file, 3, READ, libc::MAP_SHARED);
    check_eq!(shared.protect(PAGE, READ_WRITE), libc::EACCES);
    check_eq!(shared.protect(PAGE, libc::PROT_WRITE), libc::EACCES);
    check_eq!(shared.protect(PAGE, libc::PROT_NONE), 0);
    check_eq!(shared.protect(PAGE, READ_WRITE), libc::EACCES);
    check_eq!(shared.protect(PAGE, READ), 0);
    // Neither growth nor a move gives more.
    // SAFETY: the mapping is this test's alone, and not used at its old place again.
    let start = unsafe { libc::mremap(shared.start.cast(), shared.len, 64 * PAGE, libc::MREMAP_MAYMOVE) };
    check!(start != libc::MAP_FAILED);
    std::mem::forget(shared);
    let moved = Mapping { start: start.cast(), len: 64 * PAGE };
    for page in [0, 1, 3] {
        check_eq!(moved.protect(page * PAGE, READ_WRITE), libc::EACCES);
    }
    check_eq!(moved.load(PAGE), Some(b'r'));
    // A private mapping's pages are the app's own.
    let private = Mapping::new(&file, 1, READ, libc::MAP_PRIVATE);
    check_eq!(private.protect(0, READ_WRITE), 0);
    check!(private.store(0, b'w'));
    check_eq!(byte_at(&file, 0), b'r');
    let file = OpenOptions::new().read(true).write(true).open(folder.join("rights")).unwrap();
    let shared = Mapping::new(&file, 1, READ, libc::MAP_SHARED);
    check_eq!(shared.protect(0, READ_WRITE), 0);
    check!(shared.store(0, b'w'));
    check_eq!(byte_at(&file, 0), b'w');
}
