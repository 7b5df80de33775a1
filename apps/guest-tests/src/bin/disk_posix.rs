//! What POSIX asks of names and files, and the error for each thing that cannot be done (after `pjdfstest`).
//! Argument: the folder.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use guest_tests::{check, check_eq, data_folder};
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

type Test = fn(&Path);

fn main() {
    let root = data_folder();
    let tests: [(&str, Test); 13] = [
        ("open", open),
        ("link", link),
        ("unlink", unlink),
        ("mkdir", mkdir),
        ("rmdir", rmdir),
        ("rename", rename),
        ("rename flags", rename_flags),
        ("symlink", symlinks),
        ("truncate", truncate),
        ("times", times),
        ("modes", modes),
        ("special files", special),
        ("sticky folders", sticky),
    ];
    for (name, test) in tests {
        println!("{name}");
        let folder = root.join(format!("posix-{}", name.replace(' ', "-")));
        fs::create_dir(&folder).unwrap();
        test(&folder);
        fs::remove_dir_all(&folder).unwrap();
    }
    println!("disk_posix: all well");
}

/// The error number of what must fail, or 0.
fn errno<T>(outcome: io::Result<T>) -> i32 {
    outcome.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1))
}

/// The same of a call through `rustix`.
fn code<T>(outcome: Result<T, Errno>) -> i32 {
    outcome.err().map_or(0, Errno::raw_os_error)
}

/// A file, a folder with a file in it, an empty folder, a link to each, a dangling link and a loop.
fn furnish(folder: &Path) -> impl Fn(&str) -> PathBuf {
    let folder = folder.to_owned();
    let at = move |name: &str| folder.join(name);
    fs::write(at("file"), "content").unwrap();
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("folder/inner"), "inner").unwrap();
    fs::create_dir(at("empty")).unwrap();
    for (target, name) in [
        ("file", "to-file"),
        ("folder", "to-folder"),
        ("nothing", "dangling"),
        ("loop2", "loop1"),
        ("loop1", "loop2"),
    ] {
        symlink(target, at(name)).unwrap();
    }
    at
}

/// Names of 255 bytes are allowed, longer ones and paths of 4096 bytes are not.
fn long_name() -> String {
    "n".repeat(256)
}

fn open(folder: &Path) {
    let at = furnish(folder);
    let write = |path: &Path| OpenOptions::new().write(true).open(path);
    check_eq!(errno(File::open(at("nothing"))), libc::ENOENT);
    check_eq!(errno(File::open(at("nothing/below"))), libc::ENOENT);
    check_eq!(errno(File::open(at("file/below"))), libc::ENOTDIR);
    check_eq!(errno(File::open(at("file/"))), libc::ENOTDIR);
    check_eq!(errno(write(&at("folder"))), libc::EISDIR);
    check_eq!(errno(File::open(at("loop1"))), libc::ELOOP);
    check_eq!(errno(File::open(at("dangling"))), libc::ENOENT);
    check_eq!(errno(File::open(at(&long_name()))), libc::ENAMETOOLONG);
    check_eq!(errno(File::open(at(&"x/".repeat(2100)))), libc::ENAMETOOLONG);
    check_eq!(errno(File::create_new(at("file"))), libc::EEXIST);
    check_eq!(errno(File::create_new(at("dangling"))), libc::EEXIST);
    check_eq!(errno(File::create(at("new/"))), libc::EISDIR);
    let no_follow = OFlags::RDONLY | OFlags::NOFOLLOW;
    check_eq!(code(rustix::fs::open(at("to-file"), no_follow, Mode::empty())), libc::ELOOP);
    let directory = OFlags::RDONLY | OFlags::DIRECTORY;
    check_eq!(code(rustix::fs::open(at("file"), directory, Mode::empty())), libc::ENOTDIR);
    // Through a dangling link, a file is made where it points.
    drop(OpenOptions::new().write(true).create(true).truncate(false).open(at("dangling")).unwrap());
    check!(at("nothing").exists());
    drop(File::create(at(&"n".repeat(255))).unwrap());
    check_eq!(fs::read(at("to-folder/inner")).unwrap(), b"inner");
}

fn link(folder: &Path) {
    let at = furnish(folder);
    fs::hard_link(at("file"), at("second")).unwrap();
    check_eq!(fs::metadata(at("file")).unwrap().nlink(), 2);
    check_eq!(fs::metadata(at("file")).unwrap().ino(), fs::metadata(at("second")).unwrap().ino());
    check_eq!(errno(fs::hard_link(at("nothing"), at("third"))), libc::ENOENT);
    check_eq!(errno(fs::hard_link(at("file"), at("folder"))), libc::EEXIST);
    check_eq!(errno(fs::hard_link(at("file"), at("dangling"))), libc::EEXIST);
    check_eq!(errno(fs::hard_link(at("folder"), at("third"))), libc::EPERM);
    check_eq!(errno(fs::hard_link(at("file/x"), at("third"))), libc::ENOTDIR);
    check_eq!(errno(fs::hard_link(at("file"), at("second/x"))), libc::ENOTDIR);
    check_eq!(errno(fs::hard_link(at("file"), at(&long_name()))), libc::ENAMETOOLONG);
    // The link itself, not what it points to.
    fs::hard_link(at("to-file"), at("also-to-file")).unwrap();
    check!(fs::symlink_metadata(at("also-to-file")).unwrap().is_symlink());
    fs::remove_file(at("file")).unwrap();
    check_eq!(fs::read(at("second")).unwrap(), b"content");
    check_eq!(fs::metadata(at("second")).unwrap().nlink(), 1);
}

fn unlink(folder: &Path) {
    let at = furnish(folder);
    check_eq!(errno(fs::remove_file(at("nothing"))), libc::ENOENT);
    check_eq!(errno(fs::remove_file(at("folder"))), libc::EISDIR);
    check_eq!(errno(fs::remove_file(at("file/x"))), libc::ENOTDIR);
    check_eq!(errno(fs::remove_file(at("loop1/x"))), libc::ELOOP);
    check_eq!(errno(fs::remove_file(at(&long_name()))), libc::ENAMETOOLONG);
    fs::remove_file(at("to-folder")).unwrap();
    check!(at("folder").exists());
    let file = OpenOptions::new().read(true).write(true).open(at("file")).unwrap();
    fs::remove_file(at("file")).unwrap();
    check_eq!(file.metadata().unwrap().nlink(), 0);
    file.write_all_at(b"CON", 0).unwrap();
    let mut read = [0; 7];
    file.read_exact_at(&mut read, 0).unwrap();
    check_eq!(&read, b"CONtent");
}

fn mkdir(folder: &Path) {
    let at = furnish(folder);
    check_eq!(errno(fs::create_dir(at("folder"))), libc::EEXIST);
    check_eq!(errno(fs::create_dir(at("file"))), libc::EEXIST);
    check_eq!(errno(fs::create_dir(at("dangling"))), libc::EEXIST);
    check_eq!(errno(fs::create_dir(at("nothing/below"))), libc::ENOENT);
    check_eq!(errno(fs::create_dir(at("file/below"))), libc::ENOTDIR);
    check_eq!(errno(fs::create_dir(at("loop1/below"))), libc::ELOOP);
    check_eq!(errno(fs::create_dir(at(&long_name()))), libc::ENAMETOOLONG);
    check_eq!(errno(fs::create_dir(at("folder/."))), libc::EEXIST);
    check_eq!(errno(fs::create_dir(at("folder/.."))), libc::EEXIST);
    let links = fs::metadata(folder).unwrap().nlink();
    fs::create_dir(at("new/")).unwrap();
    check_eq!(fs::metadata(at("new")).unwrap().nlink(), 2);
    check_eq!(fs::metadata(folder).unwrap().nlink(), links + 1);
    fs::remove_dir(at("new")).unwrap();
    check_eq!(fs::metadata(folder).unwrap().nlink(), links);
}

fn rmdir(folder: &Path) {
    let at = furnish(folder);
    check_eq!(errno(fs::remove_dir(at("nothing"))), libc::ENOENT);
    check_eq!(errno(fs::remove_dir(at("folder"))), libc::ENOTEMPTY);
    check_eq!(errno(fs::remove_dir(at("file"))), libc::ENOTDIR);
    check_eq!(errno(fs::remove_dir(at("to-folder"))), libc::ENOTDIR);
    check_eq!(errno(fs::remove_dir(at("empty/."))), libc::EINVAL);
    check_eq!(errno(fs::remove_dir(at("empty/.."))), libc::ENOTEMPTY);
    check_eq!(errno(fs::remove_dir(at(&long_name()))), libc::ENAMETOOLONG);
    let held = File::open(at("empty")).unwrap();
    fs::remove_dir(at("empty")).unwrap();
    // In a folder that is gone, nothing can be made.
    let made = rustix::fs::openat(&held, "x", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600));
    check_eq!(code(made), libc::ENOENT);
    check_eq!(code(rustix::fs::mkdirat(&held, "x", Mode::from_raw_mode(0o700))), libc::ENOENT);
}

fn rename(folder: &Path) {
    let at = furnish(folder);
    let move_to = |from: &str, to: &str| errno(fs::rename(at(from), at(to)));
    check_eq!(move_to("nothing", "x"), libc::ENOENT);
    check_eq!(move_to("file", "nothing/x"), libc::ENOENT);
    check_eq!(move_to("file", "folder"), libc::EISDIR);
    check_eq!(move_to("folder", "file"), libc::ENOTDIR);
    check_eq!(move_to("empty", "folder"), libc::ENOTEMPTY);
    check_eq!(move_to("folder", "folder/x"), libc::EINVAL);
    check_eq!(move_to("folder", "folder/x/y"), libc::ENOENT);
    check_eq!(move_to("file/x", "y"), libc::ENOTDIR);
    check_eq!(move_to("folder/.", "y"), libc::EBUSY);
    check_eq!(move_to("folder", "empty/.."), libc::EBUSY);
    check_eq!(move_to("file", &long_name()), libc::ENAMETOOLONG);
    check_eq!(move_to("file", "file"), 0);
    fs::hard_link(at("file"), at("second")).unwrap();
    check_eq!(move_to("file", "second"), 0);
    check!(at("file").exists() && at("second").exists());
    check_eq!(move_to("folder", "empty"), 0);
    check_eq!(fs::read(at("empty/inner")).unwrap(), b"inner");
    check_eq!(move_to("empty", "renamed/"), 0);
    check_eq!(move_to("dangling", "still-dangling"), 0);
    check!(fs::symlink_metadata(at("still-dangling")).unwrap().is_symlink());
    fs::write(at("old"), "old").unwrap();
    let held = File::open(at("old")).unwrap();
    check_eq!(move_to("file", "old"), 0);
    check_eq!(held.metadata().unwrap().nlink(), 0);
    check_eq!(fs::read(at("old")).unwrap(), b"content");
    parents_follow(&at);
}

/// `..` of a folder that has moved is its new parent, and both parents' links are right.
fn parents_follow(at: &impl Fn(&str) -> PathBuf) {
    fs::create_dir_all(at("one/moved")).unwrap();
    fs::create_dir(at("two")).unwrap();
    fs::rename(at("one/moved"), at("two/moved")).unwrap();
    check_eq!(fs::metadata(at("one")).unwrap().nlink(), 2);
    check_eq!(fs::metadata(at("two")).unwrap().nlink(), 3);
    check_eq!(fs::metadata(at("two/moved/..")).unwrap().ino(), fs::metadata(at("two")).unwrap().ino());
}

fn rename_flags(folder: &Path) {
    let at = furnish(folder);
    let rename =
        |from: &str, to: &str, flags| code(rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags));
    check_eq!(rename("file", "empty", RenameFlags::NOREPLACE), libc::EEXIST);
    check_eq!(rename("file", "new", RenameFlags::NOREPLACE), 0);
    check_eq!(rename("new", "nothing", RenameFlags::EXCHANGE), libc::ENOENT);
    check_eq!(rename("new", "folder", RenameFlags::EXCHANGE), 0);
    check_eq!(fs::read(at("folder")).unwrap(), b"content");
    check_eq!(fs::read(at("new/inner")).unwrap(), b"inner");
    check_eq!(rename("new", "folder", RenameFlags::EXCHANGE | RenameFlags::NOREPLACE), libc::EINVAL);
}

fn symlinks(folder: &Path) {
    let at = furnish(folder);
    check_eq!(errno(symlink("x", at("file"))), libc::EEXIST);
    check_eq!(errno(symlink("x", at("nothing/x"))), libc::ENOENT);
    check_eq!(errno(symlink("", at("new"))), libc::ENOENT);
    check_eq!(errno(symlink("t".repeat(4096), at("new"))), libc::ENAMETOOLONG);
    for len in [1, 59, 60, 61, 1000] {
        let name = at(&format!("link{len}"));
        symlink("t".repeat(len), &name).unwrap();
        check_eq!(fs::read_link(&name).unwrap().as_os_str().len(), len);
        check_eq!(fs::symlink_metadata(&name).unwrap().len(), len as u64);
    }
    check_eq!(errno(fs::read_link(at("file"))), libc::EINVAL);
    // Forty links in a row are followed, not more (path_resolution(7)).
    symlink("file", at("chain0")).unwrap();
    (1..41).for_each(|link| symlink(format!("chain{}", link - 1), at(&format!("chain{link}"))).unwrap());
    check_eq!(fs::read(at("chain39")).unwrap(), b"content");
    check_eq!(errno(fs::read(at("chain40"))), libc::ELOOP);
}

fn truncate(folder: &Path) {
    let at = furnish(folder);
    let c_path = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
    let truncate = |path: &Path, len| {
        let path = c_path(path);
        // SAFETY: the path is a C string that lives as long as the call.
        if unsafe { libc::truncate(path.as_ptr(), len) } == 0 { 0 } else { guest_tests::errno() }
    };
    check_eq!(truncate(&at("nothing"), 0), libc::ENOENT);
    check_eq!(truncate(&at("folder"), 0), libc::EISDIR);
    check_eq!(truncate(&at("file/x"), 0), libc::ENOTDIR);
    check_eq!(truncate(&at("file"), -1), libc::EINVAL);
    check_eq!(truncate(&at("to-file"), 3), 0);
    check_eq!(fs::read(at("file")).unwrap(), b"con");
    check_eq!(truncate(&at("file"), 5), 0);
    check_eq!(fs::read(at("file")).unwrap(), b"con\0\0");
    let reader = File::open(at("file")).unwrap();
    check_eq!(errno(reader.set_len(0)), libc::EINVAL);
    check_eq!(code(rustix::fs::ftruncate(&reader, 1 << 62)), libc::EINVAL);
    let writer = OpenOptions::new().write(true).open(at("file")).unwrap();
    // How long a file may be is the file system's matter.
    check!([libc::EFBIG, 0].contains(&code(rustix::fs::ftruncate(&writer, 1 << 60))));
    // What is cut within a block does not come back when the file grows behind it, even if its page has left memory meanwhile.
    let file = File::options().read(true).write(true).open(at("file")).unwrap();
    file.write_all_at(&[7; 4096], 0).unwrap();
    file.sync_all().unwrap();
    file.set_len(100).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    file.write_all_at(&[8; 4096], 8192).unwrap();
    let mut bytes = [0; 4096];
    file.read_exact_at(&mut bytes, 0).unwrap();
    check!(bytes[..100] == [7; 100] && bytes[100..] == [0; 3996]);
}

fn times(folder: &Path) {
    let at = furnish(folder);
    let stamp = |path: &Path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        let pair = |seconds, nanoseconds| Duration::new(seconds as u64, nanoseconds as u32);
        (pair(metadata.mtime(), metadata.mtime_nsec()), pair(metadata.ctime(), metadata.ctime_nsec()))
    };
    // Longer than a tick: what follows has another time.
    let pause = || thread::sleep(Duration::from_millis(20));
    let changed = |path: &str, action: &dyn Fn()| {
        let before = stamp(&at(path));
        pause();
        action();
        let after = stamp(&at(path));
        (after.0 > before.0, after.1 > before.1)
    };
    check_eq!(changed("file", &|| fs::write(at("file"), "new").unwrap()), (true, true));
    check_eq!(changed("file", &|| drop(fs::read(at("file")).unwrap())), (false, false));
    check_eq!(changed("file", &|| fs::hard_link(at("file"), at("second")).unwrap()), (false, true));
    check_eq!(changed("file", &|| fs::remove_file(at("second")).unwrap()), (false, true));
    let mode = fs::Permissions::from_mode(0o640);
    check_eq!(changed("file", &|| fs::set_permissions(at("file"), mode.clone()).unwrap()), (false, true));
    check_eq!(changed("folder", &|| drop(File::create(at("folder/x")).unwrap())), (true, true));
    check_eq!(changed("folder", &|| fs::remove_file(at("folder/x")).unwrap()), (true, true));
    check_eq!(changed("folder", &|| fs::write(at("folder/inner"), "x").unwrap()), (false, false));
    check_eq!(changed("folder", &|| fs::rename(at("folder/inner"), at("folder/y")).unwrap()), (true, true));
    let file = OpenOptions::new().write(true).open(at("file")).unwrap();
    check_eq!(changed("file", &|| file.set_len(1).unwrap()), (true, true));
}

fn modes(folder: &Path) {
    let at = furnish(folder);
    rustix::process::umask(Mode::from_raw_mode(0o027));
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    drop(OpenOptions::new().write(true).create_new(true).mode(0o666).open(at("made")).unwrap());
    check_eq!(mode(&at("made")), 0o640);
    fs::DirBuilder::new().mode(0o777).create(at("made-folder")).unwrap();
    check_eq!(mode(&at("made-folder")), 0o750);
    rustix::process::umask(Mode::from_raw_mode(0o022));
    for bits in [0o000, 0o777, 0o4755, 0o2755, 0o1777] {
        fs::set_permissions(at("folder"), fs::Permissions::from_mode(bits)).unwrap();
        check_eq!(mode(&at("folder")), bits);
    }
    check_eq!(errno(fs::set_permissions(at("nothing"), fs::Permissions::from_mode(0o600))), libc::ENOENT);
    // Through the link, as `chmod` does.
    fs::set_permissions(at("to-file"), fs::Permissions::from_mode(0o604)).unwrap();
    check_eq!(mode(&at("file")), 0o604);
    // A folder with the group's bit hands its group and the bit down.
    fs::set_permissions(at("folder"), fs::Permissions::from_mode(0o2755)).unwrap();
    fs::create_dir(at("folder/child")).unwrap();
    check_eq!(mode(&at("folder/child")), 0o2755);
    check_eq!(fs::metadata(at("folder/child")).unwrap().gid(), fs::metadata(at("folder")).unwrap().gid());
}

fn special(folder: &Path) {
    let at = furnish(folder);
    let fifo =
        |path: &Path| code(rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0));
    check_eq!(fifo(&at("fifo")), 0);
    check_eq!(fifo(&at("fifo")), libc::EEXIST);
    check_eq!(fifo(&at("nothing/x")), libc::ENOENT);
    check_eq!(fs::metadata(at("fifo")).unwrap().mode() & libc::S_IFMT, libc::S_IFIFO);
    let nonblocking = OFlags::WRONLY | OFlags::NONBLOCK;
    check_eq!(code(rustix::fs::open(at("fifo"), nonblocking, Mode::empty())), libc::ENXIO);
    let listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    check_eq!(errno(std::os::unix::net::UnixListener::bind(at("socket"))), libc::EADDRINUSE);
    check_eq!(errno(File::open(at("socket"))), libc::ENXIO);
    check_eq!(fs::metadata(at("socket")).unwrap().mode() & libc::S_IFMT, libc::S_IFSOCK);
    drop(listener);
    let listed = fs::read_dir(folder).unwrap().filter(|entry| {
        use std::os::unix::fs::FileTypeExt;
        let kind = entry.as_ref().unwrap().file_type().unwrap();
        kind.is_fifo() || kind.is_socket()
    });
    check_eq!(listed.count(), 2);
}

/// In a folder with the sticky bit, names are removed by the owner of the file or of the folder alone.
fn sticky(folder: &Path) {
    if !rustix::process::geteuid().is_root() {
        println!("left out: only root can become somebody else");
        return;
    }
    let at = furnish(folder);
    fs::set_permissions(folder.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)).unwrap();
    let become_user = |user| {
        // SAFETY: changes the process's user, which no memory depends on.
        check_eq!(unsafe { libc::seteuid(user) }, 0);
    };
    become_user(1000);
    fs::write(at("mine"), "mine").unwrap();
    check_eq!(fs::metadata(at("mine")).unwrap().uid(), 1000);
    let others = [
        errno(fs::remove_file(at("file"))),
        errno(fs::rename(at("file"), at("x"))),
        errno(fs::rename(at("mine"), at("file"))),
        errno(fs::remove_dir(at("empty"))),
        errno(fs::set_permissions(at("file"), fs::Permissions::from_mode(0o777))),
    ];
    check_eq!(others, [libc::EPERM; 5]);
    check_eq!(errno(OpenOptions::new().write(true).open(at("file"))), libc::EACCES);
    check_eq!(errno(fs::write(at("folder/x"), "x")), libc::EACCES);
    fs::rename(at("mine"), at("still-mine")).unwrap();
    fs::remove_file(at("still-mine")).unwrap();
    become_user(0);
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    become_user(1000);
    fs::remove_file(at("file")).unwrap();
    become_user(0);
}
