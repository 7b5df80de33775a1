//! Files that are made, changed, renamed, mapped and removed. On Linux it runs in a folder of its own
//! under `/tmp`, which should be a tmpfs there, too, but need not be.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, SystemTime};

use guest_tests::{check, check_eq};
use rustix::fs::{AtFlags, CWD, FallocateFlags, MemfdFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MremapFlags, ProtFlags};

const PAGE: usize = 4096;

/// A test gets a folder of its own.
type Test = fn(&Path);

fn main() {
    let root = PathBuf::from(format!("/tmp/guest-test-{}", std::process::id()));
    fs::create_dir(&root).unwrap();
    let tests: [(&str, Test); 14] = [
        ("write and read back", write_and_read),
        ("append from two threads", append_together),
        ("make the same file from two threads", create_together),
        ("sparse files", sparse),
        ("names", names),
        ("rename", rename),
        ("listing while removing", listing),
        ("open files live on", open_files_live_on),
        ("files without a name", unnamed),
        ("attributes", attributes),
        ("private and shared mappings", mappings),
        ("mapping beyond the end", beyond_the_end),
        ("reading into a mapping of the same file", read_into_itself),
        ("big files", big),
    ];
    for (name, test) in tests {
        println!("{name}");
        let folder = root.join(name.replace(' ', "-"));
        fs::create_dir(&folder).unwrap();
        test(&folder);
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::remove_dir(&root).unwrap();
    check!(!root.exists());
}

fn write_and_read(folder: &Path) {
    let path = folder.join("file");
    fs::write(&path, b"hello").unwrap();
    check_eq!(fs::read(&path).unwrap(), b"hello");
    let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(3)).unwrap();
    file.write_all(b"p me").unwrap();
    check_eq!(fs::read(&path).unwrap(), b"help me");
    file.set_len(4).unwrap();
    check_eq!(file.metadata().unwrap().len(), 4);
    file.write_at(b"!", 5).unwrap();
    check_eq!(fs::read(&path).unwrap(), b"help\0!");
    file.sync_all().unwrap();
    drop(File::create(&path).unwrap());
    check_eq!(fs::metadata(&path).unwrap().len(), 0);
    let exclusive = OpenOptions::new().write(true).create_new(true).open(&path);
    check_eq!(exclusive.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let mut read_only = File::open(&path).unwrap();
    check_eq!(read_only.write(b"x").unwrap_err().raw_os_error(), Some(libc::EBADF));
    check_eq!(fs::write(folder, b"x").unwrap_err().kind(), ErrorKind::IsADirectory);
}

fn create_together(folder: &Path) {
    let both = Barrier::new(2);
    let make = || {
        for number in 0..200 {
            both.wait();
            let path = folder.join(number.to_string());
            OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(b"x").unwrap();
        }
    };
    thread::scope(|scope| {
        scope.spawn(make);
        scope.spawn(make);
    });
    for number in 0..200 {
        check_eq!(fs::read(folder.join(number.to_string())).unwrap(), b"xx");
    }
}

fn append_together(folder: &Path) {
    let path = folder.join("log");
    let writers: Vec<_> = (0..2u8)
        .map(|writer| {
            let path = path.clone();
            thread::spawn(move || {
                let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
                (0..500).for_each(|_| file.write_all(&[b'a' + writer; 7]).unwrap());
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let bytes = fs::read(&path).unwrap();
    check_eq!(bytes.len(), 7000);
    check!(bytes.chunks(7).all(|line| line.iter().all(|&byte| byte == line[0])));
}

fn sparse(folder: &Path) {
    let file = File::create_new(folder.join("sparse")).unwrap();
    file.write_at(b"end", 10 * PAGE as u64).unwrap();
    check_eq!(file.metadata().unwrap().len(), 10 * PAGE as u64 + 3);
    check!(file.metadata().unwrap().blocks() <= 16);
    check_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)), Ok(10 * PAGE as u64));
    check_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0)), Ok(0));
    check_eq!(
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(10 * PAGE as u64)),
        Ok(10 * PAGE as u64 + 3)
    );
    check_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(11 * PAGE as u64)), Err(Errno::NXIO));
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 20 * PAGE as u64).unwrap();
    check_eq!(file.metadata().unwrap().len(), 20 * PAGE as u64);
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 10 * PAGE as u64, 2).unwrap();
    let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, zero, 19 * PAGE as u64, 2 * PAGE as u64).unwrap();
    check_eq!(file.metadata().unwrap().len(), 20 * PAGE as u64);
    let mut bytes = [1; 3];
    let file = File::open(folder.join("sparse")).unwrap();
    file.read_exact_at(&mut bytes, 10 * PAGE as u64).unwrap();
    check_eq!(&bytes, b"\0\0d");
}

fn names(folder: &Path) {
    let (deep, file) = (folder.join("a/b/c"), folder.join("a/file"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(&file, b"1").unwrap();
    check_eq!(fs::create_dir(&deep).unwrap_err().kind(), ErrorKind::AlreadyExists);
    check_eq!(fs::remove_dir(folder.join("a")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    check_eq!(fs::remove_file(&deep).unwrap_err().raw_os_error(), Some(libc::EISDIR));
    check_eq!(fs::remove_dir(&file).unwrap_err().kind(), ErrorKind::NotADirectory);
    check_eq!(fs::write(folder.join("none/x"), b"").unwrap_err().kind(), ErrorKind::NotFound);
    check_eq!(fs::write(file.join("x"), b"").unwrap_err().kind(), ErrorKind::NotADirectory);
    check_eq!(fs::metadata(folder.join("a")).unwrap().nlink(), 3);

    fs::hard_link(&file, folder.join("second")).unwrap();
    check_eq!(fs::metadata(&file).unwrap().nlink(), 2);
    check_eq!(fs::metadata(&file).unwrap().ino(), fs::metadata(folder.join("second")).unwrap().ino());
    check_eq!(
        fs::hard_link(folder.join("a"), folder.join("x")).unwrap_err().raw_os_error(),
        Some(libc::EPERM)
    );

    symlink("a/file", folder.join("link")).unwrap();
    check_eq!(fs::read(folder.join("link")).unwrap(), b"1");
    symlink("a/new", folder.join("dangling")).unwrap();
    fs::write(folder.join("dangling"), b"2").unwrap();
    check_eq!(fs::read(folder.join("a/new")).unwrap(), b"2");
    fs::remove_file(folder.join("link")).unwrap();
    check!(file.exists());

    std::env::set_current_dir(&deep).unwrap();
    check_eq!(std::env::current_dir().unwrap(), deep);
    fs::write("relative", b"3").unwrap();
    check_eq!(fs::read("../c/relative").unwrap(), b"3");
    fs::remove_file("relative").unwrap();
    fs::remove_dir(&deep).unwrap();
    check_eq!(fs::write("relative", b"").unwrap_err().kind(), ErrorKind::NotFound);
    check_eq!(std::env::current_dir().unwrap_err().kind(), ErrorKind::NotFound);
    std::env::set_current_dir("/").unwrap();
}

fn rename(folder: &Path) {
    let path = |name: &str| folder.join(name);
    fs::write(path("one"), b"1").unwrap();
    fs::write(path("two"), b"2").unwrap();
    fs::rename(path("one"), path("two")).unwrap();
    check_eq!(fs::read(path("two")).unwrap(), b"1");
    check!(!path("one").exists());
    fs::create_dir_all(path("d/inner")).unwrap();
    check_eq!(fs::rename(path("d"), path("d/inner/x")).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    check_eq!(fs::rename(path("two"), path("d")).unwrap_err().raw_os_error(), Some(libc::EISDIR));
    check_eq!(fs::rename(path("d"), path("two")).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
    fs::create_dir(path("empty")).unwrap();
    fs::rename(path("d"), path("empty")).unwrap();
    check!(path("empty/inner").is_dir());
    let with = |flags| rustix::fs::renameat_with(CWD, path("two"), CWD, path("empty"), flags);
    check_eq!(with(RenameFlags::NOREPLACE), Err(Errno::EXIST));
    check_eq!(with(RenameFlags::EXCHANGE), Ok(()));
    check!(path("two/inner").is_dir() && path("empty").is_file());
    check_eq!(fs::rename(path("none"), path("x")).unwrap_err().kind(), ErrorKind::NotFound);
}

fn listing(folder: &Path) {
    for number in 0..600 {
        fs::write(folder.join(format!("file-with-a-long-name-{number}")), b"").unwrap();
    }
    let mut count = 0;
    // What `remove_dir_all` of many programs does: the listing must not skip anything.
    for entry in fs::read_dir(folder).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
        count += 1;
    }
    check_eq!(count, 600);
    check_eq!(fs::read_dir(folder).unwrap().count(), 0);
}

fn open_files_live_on(folder: &Path) {
    let path = folder.join("file");
    fs::write(&path, b"still there").unwrap();
    let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    check_eq!(file.metadata().unwrap().nlink(), 0);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    check_eq!(text, "still there");
    file.write_all(b", longer").unwrap();
    check_eq!(file.metadata().unwrap().len(), 19);
    let shown = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
    check_eq!(shown.to_str().unwrap(), format!("{} (deleted)", path.display()));
}

fn unnamed(folder: &Path) {
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let file = File::from(rustix::fs::open(folder, flags, Mode::from(0o600)).unwrap());
    file.write_at(b"appears", 0).unwrap();
    check_eq!(fs::read_dir(folder).unwrap().count(), 0);
    let shown = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    rustix::fs::linkat(CWD, &shown, CWD, folder.join("named"), AtFlags::SYMLINK_FOLLOW).unwrap();
    check_eq!(fs::read(folder.join("named")).unwrap(), b"appears");
    check_eq!(fs::read(&shown).unwrap(), b"appears");
    // It has a name as any other by now: without it, it gets none again.
    fs::remove_file(folder.join("named")).unwrap();
    let again = |path: &str, flags| rustix::fs::linkat(CWD, path, CWD, folder.join("again"), flags).err();
    check_eq!(again(&shown, AtFlags::SYMLINK_FOLLOW), Some(Errno::NOENT));
    let removed = File::create(folder.join("removed")).unwrap();
    fs::remove_file(folder.join("removed")).unwrap();
    let secret = File::from(rustix::fs::open(folder, flags | OFlags::EXCL, Mode::from(0o600)).unwrap());
    for file in [&removed, &secret] {
        let shown = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        check_eq!(again(&shown, AtFlags::SYMLINK_FOLLOW), Some(Errno::NOENT));
        let by_descriptor = rustix::fs::linkat(file, "", CWD, folder.join("again"), AtFlags::EMPTY_PATH);
        check_eq!(by_descriptor.err(), Some(Errno::NOENT));
    }
    check_eq!(fs::read_dir(folder).unwrap().count(), 0);
    let memory = File::from(rustix::fs::memfd_create("name", MemfdFlags::CLOEXEC).unwrap());
    memory.write_at(b"bytes", 3).unwrap();
    check_eq!(memory.metadata().unwrap().len(), 8);
}

fn attributes(folder: &Path) {
    let path = folder.join("file");
    let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path).unwrap();
    check_eq!(file.metadata().unwrap().permissions().mode(), 0o100_640);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4711)).unwrap();
    check_eq!(fs::metadata(&path).unwrap().permissions().mode(), 0o104_711);
    std::os::unix::fs::chown(&path, Some(12), None).unwrap();
    check_eq!((fs::metadata(&path).unwrap().uid(), fs::metadata(&path).unwrap().gid()), (12, 0));
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_000_000, 123_456_789);
    file.set_modified(then).unwrap();
    check_eq!(fs::metadata(&path).unwrap().modified().unwrap(), then);
    let folder_time = fs::metadata(folder).unwrap().modified().unwrap();
    thread::sleep(Duration::from_millis(20));
    fs::write(folder.join("other"), b"").unwrap();
    check!(fs::metadata(folder).unwrap().modified().unwrap() > folder_time);
    file.write_at(b"x", 0).unwrap();
    check!(fs::metadata(&path).unwrap().modified().unwrap() > then);
}

/// Maps a file; the mapping stays for ever.
fn map(file: &File, pages: usize, protection: ProtFlags, flags: MapFlags) -> &'static mut [u8] {
    // SAFETY: the kernel picks the place, so nothing is mapped over, and nobody unmaps it. Others may
    // change the bytes; the tests look at them again each time.
    unsafe {
        let start =
            rustix::mm::mmap(core::ptr::null_mut(), pages * PAGE, protection, flags, file, 0).unwrap();
        core::slice::from_raw_parts_mut(start.cast(), pages * PAGE)
    }
}

fn mappings(folder: &Path) {
    let path = folder.join("mapped");
    fs::write(&path, [b'.'; 3 * PAGE]).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let writable = ProtFlags::READ | ProtFlags::WRITE;
    let shared = map(&file, 3, writable, MapFlags::SHARED);
    let private = map(&file, 3, writable, MapFlags::PRIVATE);
    shared[PAGE] = b's';
    file.write_at(b"w", 2 * PAGE as u64).unwrap();
    check_eq!((shared[0], shared[PAGE], shared[2 * PAGE]), (b'.', b's', b'w'));
    check_eq!(&fs::read(&path).unwrap()[PAGE - 1..=PAGE], b".s");
    private[0] = b'p';
    check_eq!(fs::read(&path).unwrap()[0], b'.');
    let read_only = map(&File::open(&path).unwrap(), 3, ProtFlags::READ, MapFlags::SHARED);
    check_eq!(read_only[PAGE], b's');
    let refused = |protection| {
        let file = File::open(&path).unwrap();
        // SAFETY: the kernel picks the place; the call is expected to fail.
        unsafe { rustix::mm::mmap(core::ptr::null_mut(), PAGE, protection, MapFlags::SHARED, &file, 0) }
    };
    check_eq!(refused(writable), Err(Errno::ACCESS));
    // The file goes; what is mapped of it stays, wherever it is moved to.
    drop(file);
    fs::remove_file(&path).unwrap();
    // SAFETY: the mapping is this test's alone, and not used at its old place again.
    let moved = unsafe {
        let start = shared.as_mut_ptr().cast();
        let moved = rustix::mm::mremap(start, 3 * PAGE, 4 * PAGE, MremapFlags::MAYMOVE).unwrap();
        core::slice::from_raw_parts_mut(moved.cast::<u8>(), 3 * PAGE)
    };
    check_eq!((moved[PAGE], moved[2 * PAGE]), (b's', b'w'));
    moved[PAGE] = b'm';
    check_eq!(read_only[PAGE], b'm');
}

fn beyond_the_end(folder: &Path) {
    let file = File::create_new(folder.join("short")).unwrap();
    drop(file);
    let file = OpenOptions::new().read(true).write(true).open(folder.join("short")).unwrap();
    file.write_at(b"x", 0).unwrap();
    let shared = map(&file, 2, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    check_eq!((shared[0], shared[PAGE - 1]), (b'x', 0));
    // The second page begins to exist when the file grows over it.
    file.set_len(2 * PAGE as u64).unwrap();
    shared[PAGE] = b'y';
    let mut byte = [0];
    file.read_exact_at(&mut byte, PAGE as u64).unwrap();
    check_eq!(byte, *b"y");
}

fn read_into_itself(folder: &Path) {
    let path = folder.join("file");
    fs::write(&path, [b'a'; 2 * PAGE]).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let shared = map(&file, 2, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // Neither page is present yet: the copy faults on the file that it reads.
    check_eq!(file.read_at(&mut shared[PAGE..], 0).unwrap(), PAGE);
    check_eq!(file.write_at(&shared[..PAGE], PAGE as u64).unwrap(), PAGE);
    check_eq!(fs::read(&path).unwrap(), [b'a'; 2 * PAGE]);
}

fn big(folder: &Path) {
    let path = folder.join("big");
    let block: Vec<u8> = (0..1 << 20).map(|index: u32| (index % 251) as u8).collect();
    let mut file = File::create(&path).unwrap();
    (0..16).for_each(|_| file.write_all(&block).unwrap());
    let copied = fs::copy(&path, folder.join("copy")).unwrap();
    check_eq!(copied, 16 << 20);
    let mut bytes = Vec::new();
    File::open(folder.join("copy")).unwrap().read_to_end(&mut bytes).unwrap();
    check!(bytes.chunks(1 << 20).all(|chunk| chunk == block));
}
