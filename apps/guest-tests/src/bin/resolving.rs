//! Paths that may not lead everywhere (openat2(2)), and links of `/proc` that lead to what is open.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use guest_tests::{check, check_eq, raw_syscall};
use rustix::fs::{
    AtFlags, CWD, MemfdFlags, Mode, OFlags, ResolveFlags, fstat, lstat, memfd_create, open, openat, openat2,
    readlink, stat, statat,
};
use rustix::io::Errno;
use rustix::process::chdir;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH;
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT;
const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS;
const NO_MAGIC: ResolveFlags = ResolveFlags::NO_MAGICLINKS;
const NO_XDEV: ResolveFlags = ResolveFlags::NO_XDEV;

/// The content of a file that is found within limits.
fn read(directory: impl AsFd, path: &str, limits: ResolveFlags) -> Result<String, Errno> {
    let file = openat2(directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), limits)?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).unwrap();
    Ok(text)
}

fn plant(folder: &Path) -> File {
    let root = folder.join("root");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir(root.join("a/etc")).unwrap();
    fs::write(root.join("file"), "root").unwrap();
    fs::write(root.join("a/b/file"), "deep").unwrap();
    fs::write(folder.join("file"), "outside").unwrap();
    for (target, name) in [
        ("../file", "a/up"),
        ("/file", "a/absolute"),
        ("../../file", "a/out"),
        ("..", "out"),
        ("b", "a/inner"),
        ("loop", "loop"),
        ("nowhere", "a/dangling"),
        ("/a/b/../../../../../file", "far"),
    ] {
        symlink(target, root.join(name)).unwrap();
    }
    File::open(root).unwrap()
}

fn below(root: &File) {
    for limits in [BENEATH, IN_ROOT] {
        check_eq!(read(root, "file", limits).unwrap(), "root");
        check_eq!(read(root, "./a//b/./file", limits).unwrap(), "deep");
        check_eq!(read(root, "a/b/../../file", limits).unwrap(), "root");
        check_eq!(read(root, "a/up", limits).unwrap(), "root");
        check_eq!(read(root, "a/inner/file", limits).unwrap(), "deep");
        check_eq!(read(root, "missing", limits), Err(Errno::NOENT));
        check_eq!(read(root, "missing/file", limits), Err(Errno::NOENT));
        check_eq!(read(root, "file/file", limits), Err(Errno::NOTDIR));
        check_eq!(read(root, "file/", limits), Err(Errno::NOTDIR));
        check_eq!(read(root, "file/..", limits), Err(Errno::NOTDIR));
        check_eq!(read(root, "a/dangling", limits), Err(Errno::NOENT));
        check_eq!(read(root, "loop", limits), Err(Errno::LOOP));
        check_eq!(read(root, "", limits), Err(Errno::NOENT));
        check_eq!(read(root.as_fd(), &"n".repeat(300), limits), Err(Errno::NAMETOOLONG));
        let file = openat2(root, "file", OFlags::PATH, Mode::empty(), limits).unwrap();
        check_eq!(read(&file, "x", limits), Err(Errno::NOTDIR));
    }
    for path in
        ["..", "../file", "a/../../file", "a/out", "out", "out/file", "/file", "/", "a/absolute", "far"]
    {
        check_eq!(read(root, path, BENEATH), Err(Errno::XDEV));
    }
    for path in ["../file", "a/../../file", "a/out", "out/file", "/file", "a/absolute", "far", "/../file"] {
        check_eq!(read(root, path, IN_ROOT).unwrap(), "root");
    }
    let inside = |path: &str| openat2(root, path, OFlags::RDONLY, Mode::empty(), IN_ROOT).unwrap();
    for path in ["/", ".", "..", "out", "/../..", "a/.."] {
        check_eq!(fstat(inside(path)).unwrap().st_ino, fstat(root).unwrap().st_ino);
    }
    check_eq!(read(root, "file", BENEATH | IN_ROOT), Err(Errno::INVAL));
}

fn making(root: &File) {
    let make = |path: &str, flags: OFlags, limits| {
        openat2(root, path, OFlags::CREATE | OFlags::RDWR | flags, Mode::RUSR | Mode::WUSR, limits)
    };
    File::from(make("a/new", OFlags::EXCL, BENEATH).unwrap()).write_all(b"made").unwrap();
    check_eq!(read(root, "a/new", BENEATH).unwrap(), "made");
    check_eq!(make("a/new", OFlags::EXCL, BENEATH).unwrap_err(), Errno::EXIST);
    check_eq!(make("a/up", OFlags::EXCL, BENEATH).unwrap_err(), Errno::EXIST);
    check_eq!(make("../new", OFlags::empty(), BENEATH).unwrap_err(), Errno::XDEV);
    check_eq!(make("a/new2/", OFlags::empty(), BENEATH).unwrap_err(), Errno::ISDIR);
    check_eq!(make("a/b", OFlags::empty(), BENEATH).unwrap_err(), Errno::ISDIR);
    // Through a link that leads to nothing yet, and not further than allowed.
    File::from(make("a/dangling", OFlags::empty(), BENEATH).unwrap()).write_all(b"there").unwrap();
    check_eq!(read(root, "a/nowhere", BENEATH).unwrap(), "there");
    drop(make("/../../rooted", OFlags::empty(), IN_ROOT).unwrap());
    check_eq!(read(root, "rooted", BENEATH).unwrap(), "");
    let unnamed = openat2(root, "a", OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR, BENEATH).unwrap();
    check_eq!(fstat(unnamed).unwrap().st_nlink, 0);
    check_eq!(
        openat2(root, "out", OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR, BENEATH).unwrap_err(),
        Errno::XDEV
    );
}

fn links(root: &File, folder: &Path) {
    check_eq!(read(root, "a/b/file", NO_LINKS).unwrap(), "deep");
    for path in ["a/up", "a/inner/file", "loop", "out/root/file"] {
        check_eq!(read(root, path, NO_LINKS), Err(Errno::LOOP));
    }
    let kept = OFlags::PATH | OFlags::NOFOLLOW;
    let link = openat2(root, "a/up", kept, Mode::empty(), NO_LINKS | BENEATH).unwrap();
    check_eq!(fstat(link).unwrap().st_mode & libc::S_IFMT, libc::S_IFLNK);
    check_eq!(openat2(root, "a/up", OFlags::NOFOLLOW, Mode::empty(), BENEATH).unwrap_err(), Errno::LOOP);
    check_eq!(read(root, "a/out", NO_MAGIC).unwrap(), "outside");
    let through = |what: &str| format!("/proc/self/fd/{}{what}", root.as_raw_fd());
    check_eq!(read(root, &through("/file"), ResolveFlags::empty()).unwrap(), "root");
    check_eq!(read(root, &through("/file"), NO_MAGIC), Err(Errno::LOOP));
    check_eq!(read(root, &through("/file"), NO_LINKS), Err(Errno::LOOP));
    check_eq!(read(root, &through("/file"), BENEATH), Err(Errno::XDEV));
    check_eq!(read(root, "/proc/self/exe", NO_MAGIC), Err(Errno::LOOP));
    check!(read(root, "/proc/self/status", NO_MAGIC).unwrap().starts_with("Name:"));
    check_eq!(read(root, "/proc/self/status", NO_LINKS), Err(Errno::LOOP));
    let proc = File::open("/proc").unwrap();
    check!(read(&proc, "self/status", BENEATH | NO_XDEV).unwrap().starts_with("Name:"));
    check_eq!(read(&proc, &format!("self/fd/{}", root.as_raw_fd()), BENEATH), Err(Errno::XDEV));
    // From one mount to another.
    let top = File::open("/").unwrap();
    check_eq!(read(&top, "proc/version", NO_XDEV), Err(Errno::XDEV));
    check_eq!(read(&top, "proc/../proc/version", NO_XDEV), Err(Errno::XDEV));
    check!(read(&top, "proc/version", BENEATH).unwrap().starts_with("Linux"));
    check_eq!(read(&proc, "../proc/version", NO_XDEV), Err(Errno::XDEV));
    check_eq!(read(&proc, "/proc/version", NO_XDEV), Err(Errno::XDEV));
    check_eq!(read(root, "a/../file", NO_XDEV).unwrap(), "root");
    // The file is in memory, or it is asked for again.
    let cached = read(root, "a/b/file", ResolveFlags::CACHED | BENEATH);
    check!(cached == Ok("deep".into()) || cached == Err(Errno::AGAIN));
    let created = openat2(root, "x", OFlags::CREATE | OFlags::RDWR, Mode::RUSR, ResolveFlags::CACHED);
    check_eq!(created.unwrap_err(), Errno::AGAIN);
    check_eq!(fs::read_to_string(folder.join("file")).unwrap(), "outside");
}

/// While directories are renamed, no walk leads out of the root.
fn races(root: &File, folder: &Path) {
    let inside = folder.join("root/a/b");
    let outside = folder.join("moved");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..300 {
                fs::rename(&inside, &outside).unwrap();
                fs::rename(&outside, &inside).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            match read(root, "a/b/../../file", BENEATH) {
                Ok(text) => check_eq!(text, "root"),
                Err(error) => check!(matches!(error, Errno::NOENT | Errno::AGAIN | Errno::XDEV)),
            }
        }
    });
}

/// The structure grows by zeros (openat2(2), "Extensibility").
fn structure(root: &File) {
    let mut how = [0_u64; 513];
    let mut call = |words: [u64; 3], size: u64, last: u64| {
        how[..3].copy_from_slice(&words);
        how[3] = last;
        let path = c"file".as_ptr().addr() as u64;
        raw_syscall(
            libc::SYS_openat2,
            [root.as_raw_fd() as u64, path, how.as_ptr().addr() as u64, size, 0, 0],
        )
    };
    let refused = |errno: i32| -i64::from(errno);
    for size in [24, 32, 4096] {
        let descriptor = call([0, 0, 8], size, 0);
        check!(descriptor >= 0);
        check_eq!(raw_syscall(libc::SYS_close, [descriptor as u64, 0, 0, 0, 0, 0]), 0);
    }
    check_eq!(call([0, 0, 0], 23, 0), refused(libc::EINVAL));
    check_eq!(call([0, 0, 0], 0, 0), refused(libc::EINVAL));
    check_eq!(call([0, 0, 0], 32, 1), refused(libc::E2BIG));
    check_eq!(call([0, 0, 0], 4097, 0), refused(libc::E2BIG));
    check_eq!(call([0, 0, 0], u64::MAX, 0), refused(libc::E2BIG));
    check_eq!(call([0, 0, 0x40], 24, 0), refused(libc::EINVAL));
    check_eq!(call([0, 0, 1 << 40], 24, 0), refused(libc::EINVAL));
    check_eq!(call([1 << 40, 0, 0], 24, 0), refused(libc::EINVAL));
    check_eq!(call([0, 0o600, 0], 24, 0), refused(libc::EINVAL));
    check_eq!(call([libc::O_CREAT as u64, 0o10000, 0], 24, 0), refused(libc::EINVAL));
    check_eq!(call([(libc::O_PATH | libc::O_RDWR) as u64, 0, 0], 24, 0), refused(libc::EINVAL));
    check_eq!(call([(libc::O_CREAT | libc::O_DIRECTORY) as u64, 0o600, 0], 24, 0), refused(libc::EINVAL));
    check_eq!(call([libc::O_TMPFILE as u64, 0o600, 0], 24, 0), refused(libc::EINVAL));
}

fn descriptor_link(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// Links of `/proc/self/fd`, whichever way they are reached.
fn magic(folder: &Path) {
    let memory = memfd_create("magic", MemfdFlags::empty()).unwrap();
    rustix::io::write(&memory, b"in memory").unwrap();
    let path = descriptor_link(&memory);
    let number = memory.as_raw_fd();
    for wrong in
        [format!("/proc/self/fd/0{number}"), format!("/proc/self/fd/+{number}"), "/proc/self/fd/-0".into()]
    {
        check_eq!(open(&wrong, OFlags::RDONLY, Mode::empty()).unwrap_err(), Errno::NOENT);
        check_eq!(stat(&wrong).unwrap_err(), Errno::NOENT);
    }
    check_eq!(open(&path, OFlags::NOFOLLOW, Mode::empty()).unwrap_err(), Errno::LOOP);
    let link = open(&path, OFlags::NOFOLLOW | OFlags::PATH, Mode::empty()).unwrap();
    check_eq!(fstat(&link).unwrap().st_mode & libc::S_IFMT, libc::S_IFLNK);
    check_eq!(lstat(&path).unwrap().st_mode & libc::S_IFMT, libc::S_IFLNK);
    let exclusive = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    check_eq!(open(&path, exclusive, Mode::RUSR).unwrap_err(), Errno::EXIST);
    // By a directory, by a link, by a relative path.
    let text = |file: OwnedFd| {
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).unwrap();
        text
    };
    let descriptors = File::open("/proc/self/fd").unwrap();
    check_eq!(
        text(openat(&descriptors, number.to_string(), OFlags::RDONLY, Mode::empty()).unwrap()),
        "in memory"
    );
    let inode = fstat(&memory).unwrap().st_ino;
    check_eq!(statat(&descriptors, number.to_string(), AtFlags::empty()).unwrap().st_ino, inode);
    let link = folder.join("link");
    symlink(&path, &link).unwrap();
    check_eq!(fs::read_to_string(&link).unwrap(), "in memory");
    check_eq!(fs::read_to_string(format!("/dev/../proc/thread-self/fd/{number}")).unwrap(), "in memory");
    check_eq!(fs::read_to_string(format!("/dev/fd/{number}")).unwrap(), "in memory");
    check_eq!(stat("/dev/stdin").unwrap().st_ino, fstat(std::io::stdin()).unwrap().st_ino);
    check_eq!(fs::read_link("/dev/stdout").unwrap(), Path::new("/proc/self/fd/1"));
    fs::remove_file(&link).unwrap();
    // A number that is used anew leads to what is there now.
    let first = readlink(&path, Vec::new()).unwrap();
    check!(first.to_string_lossy().contains("memfd:magic") || first.to_string_lossy().contains("deleted"));
    let file = File::create(folder.join("other")).unwrap();
    let mut memory = memory;
    rustix::io::dup2(&file, &mut memory).unwrap();
    check_eq!(fs::read_link(&path).unwrap(), fs::canonicalize(folder.join("other")).unwrap());
    drop(memory);
    check_eq!(lstat(&path).unwrap_err(), Errno::NOENT);
    // A directory serves for what is made in it.
    let directory = File::open(folder).unwrap();
    let unnamed =
        open(descriptor_link(&directory), OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR | Mode::WUSR).unwrap();
    check_eq!(fstat(&unnamed).unwrap().st_nlink, 0);
    rustix::fs::linkat(CWD, descriptor_link(&unnamed), CWD, folder.join("named"), AtFlags::SYMLINK_FOLLOW)
        .unwrap();
    check_eq!(fstat(&unnamed).unwrap().st_nlink, 1);
    fs::write(format!("{}/below", descriptor_link(&directory)), "below").unwrap();
    check_eq!(fs::read_to_string(folder.join("below")).unwrap(), "below");
    let before = std::env::current_dir().unwrap();
    chdir(descriptor_link(&directory)).unwrap();
    check_eq!(fs::read_link("/proc/self/cwd").unwrap(), fs::canonicalize(folder).unwrap());
    check_eq!(fs::read_to_string("/proc/self/cwd/below").unwrap(), "below");
    chdir(before).unwrap();
    check_eq!(chdir(descriptor_link(&file)).unwrap_err(), Errno::NOTDIR);
}

fn main() {
    let data = std::env::var_os("DATA").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = data.join(format!("resolving-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let root = plant(&folder);
    below(&root);
    making(&root);
    links(&root, &folder);
    races(&root, &folder);
    structure(&root);
    magic(&folder);
    drop(root);
    fs::remove_dir_all(&folder).unwrap();
}
