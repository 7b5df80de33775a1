//! open(2), openat(2), openat2(2), the current directory.

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::run_on_each_filesystem;
use super::{Stat, open, read_file, write_file};

#[test]
fn open_of_what_is_not_there_fails() {
    run_on_each_filesystem(|| {
        assert_eq!(sys!(open, "/nowhere/x", O_RDONLY, 0), Err(ENOENT));
        assert_eq!(sys!(open, "/tmp/x", O_RDONLY, 0), Err(ENOENT));
        assert_eq!(sys!(open, "", O_RDONLY, 0), Err(ENOENT));
        assert_eq!(sys!(open, "/dev/null/x", O_RDONLY, 0), Err(ENOTDIR));
        assert_eq!(sys!(open, 0, O_RDONLY, 0), Err(EFAULT));
    });
}

#[test]
fn names_are_not_longer_than_255_bytes() {
    run_on_each_filesystem(|| {
        let name = |len| std::format!("/tmp/{}", "n".repeat(len));
        assert!(sys!(creat, &*name(255), 0o600).is_ok());
        assert_eq!(sys!(creat, &*name(256), 0o600), Err(ENAMETOOLONG));
        assert_eq!(sys!(open, &*"/tmp/../".repeat(600), O_RDONLY, 0), Err(ENAMETOOLONG));
    });
}

#[test]
fn exclusive_creation_fails_for_what_is_there() {
    run_on_each_filesystem(|| {
        let flags = O_CREAT | O_EXCL | O_WRONLY;
        assert!(sys!(open, "/tmp/one", flags, 0o600).is_ok());
        assert_eq!(sys!(open, "/tmp/one", flags, 0o600), Err(EEXIST));
        sys!(symlink, "/tmp/nothing", "/tmp/link").unwrap();
        assert_eq!(sys!(open, "/tmp/link", flags, 0o600), Err(EEXIST));
    });
}

#[test]
fn truncation_at_open_empties_the_file() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"long content");
        open("/tmp/file", O_WRONLY | O_TRUNC);
        assert_eq!(Stat::of("/tmp/file").len(), 0);
    });
}

#[test]
fn creat_makes_a_file_for_writing_only() {
    run_on_each_filesystem(|| {
        let file = sys!(creat, "/tmp/file", 0o600).unwrap();
        let room = Room::of(b"x");
        assert_eq!(sys!(write, file, &room, 1), Ok(1));
        assert_eq!(sys!(read, file, &room, 1), Err(EBADF));
    });
}

#[test]
fn access_mode_is_kept() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"x");
        let room = Room::new(1);
        let reader = open("/tmp/file", O_RDONLY);
        assert_eq!(sys!(write, reader, &room, 1), Err(EBADF));
        assert_eq!(sys!(ftruncate, reader, 0), Err(EINVAL));
        let path_only = open("/tmp/file", O_PATH);
        assert_eq!(sys!(read, path_only, &room, 1), Err(EBADF));
        assert_eq!(sys!(fstat, path_only, &Room::new(144)), Ok(0));
    });
}

#[test]
fn directories_are_opened_for_reading_only() {
    run_on_each_filesystem(|| {
        assert_eq!(sys!(open, "/tmp", O_WRONLY, 0), Err(EISDIR));
        assert_eq!(sys!(open, "/tmp", O_RDONLY | O_CREAT, 0o600), Err(EISDIR));
        let folder = open("/tmp", O_RDONLY | O_DIRECTORY);
        assert_eq!(sys!(read, folder, &Room::new(1), 1), Err(EISDIR));
        assert_eq!(sys!(open, "/dev/null", O_RDONLY | O_DIRECTORY, 0), Err(ENOTDIR));
    });
}

#[test]
fn last_link_is_not_followed_if_asked() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"x");
        sys!(symlink, "file", "/tmp/link").unwrap();
        assert_eq!(read_file("/tmp/link"), b"x");
        assert_eq!(sys!(open, "/tmp/link", O_RDONLY | O_NOFOLLOW, 0), Err(ELOOP));
        assert!(sys!(open, "/tmp/link", O_PATH | O_NOFOLLOW, 0).is_ok());
    });
}

#[test]
fn links_in_a_circle_are_an_error() {
    run_on_each_filesystem(|| {
        sys!(symlink, "/tmp/b", "/tmp/a").unwrap();
        sys!(symlink, "/tmp/a", "/tmp/b").unwrap();
        assert_eq!(sys!(open, "/tmp/a", O_RDONLY, 0), Err(ELOOP));
        assert_eq!(sys!(stat, "/tmp/b", &Room::new(144)), Err(ELOOP));
    });
}

#[test]
fn open_through_a_dangling_link_makes_its_target() {
    run_on_each_filesystem(|| {
        sys!(symlink, "new", "/tmp/dangling").unwrap();
        write_file("/tmp/dangling", b"2");
        assert_eq!(read_file("/tmp/new"), b"2");
    });
}

#[test]
fn openat_begins_at_its_descriptor() {
    run_on_each_filesystem(|| {
        sys!(mkdir, "/tmp/d", 0o700).unwrap();
        write_file("/tmp/d/file", b"in d");
        let folder = open("/tmp/d", O_RDONLY | O_DIRECTORY);
        assert!(sys!(openat, folder, "file", O_RDONLY, 0).is_ok());
        assert!(sys!(openat, -1, "/tmp/d/file", O_RDONLY, 0).is_ok());
        assert_eq!(sys!(openat, -1, "file", O_RDONLY, 0), Err(EBADF));
        let file = open("/tmp/d/file", O_RDONLY);
        assert_eq!(sys!(openat, file, "file", O_RDONLY, 0), Err(ENOTDIR));
        assert_eq!(sys!(openat, AT_FDCWD, "file", O_RDONLY, 0), Err(ENOENT));
    });
}

/// `struct open_how`.
fn how(flags: u32, mode: u64, resolve: u32) -> Room {
    Room::of_longs(&[flags.into(), mode, resolve.into(), 0])
}

#[test]
fn openat2_checks_what_openat_lets_pass() {
    run_on_each_filesystem(|| {
        let open = |how: &Room, len: usize| sys!(openat2, AT_FDCWD, "/tmp/file", how, len);
        assert!(open(&how(O_CREAT | O_RDWR, 0o600, 0), 24).is_ok());
        assert_eq!(open(&how(O_RDONLY, 0o600, 0), 24), Err(EINVAL));
        assert_eq!(open(&how(O_RDONLY, 0, 1 << 20), 24), Err(EINVAL));
        assert_eq!(open(&how(1 << 30, 0, 0), 24), Err(EINVAL));
        assert_eq!(open(&how(O_RDONLY, 0, 0), 16), Err(EINVAL));
        let long = how(O_RDONLY, 0, 0);
        assert!(open(&long, 32).is_ok());
        long.put_long(24, 1);
        assert_eq!(open(&long, 32), Err(E2BIG));
        assert_eq!(open(&long, 5000), Err(E2BIG));
    });
}

#[test]
fn openat2_stays_where_it_is_told_to() {
    run_on_each_filesystem(|| {
        sys!(mkdir, "/tmp/d", 0o700).unwrap();
        write_file("/tmp/d/file", b"inner");
        write_file("/tmp/file", b"outer");
        sys!(symlink, "/file", "/tmp/d/absolute").unwrap();
        sys!(symlink, "file", "/tmp/d/link").unwrap();
        let folder = open("/tmp/d", O_RDONLY | O_DIRECTORY);
        let open = |path: &str, resolve: u32| sys!(openat2, folder, path, &how(O_RDONLY, 0, resolve), 24);
        assert!(open("file", RESOLVE_BENEATH).is_ok());
        assert_eq!(open("../file", RESOLVE_BENEATH), Err(EXDEV));
        assert_eq!(open("absolute", RESOLVE_BENEATH), Err(EXDEV));
        let file = open("absolute", RESOLVE_IN_ROOT).unwrap();
        assert_eq!(super::read_rest(file), b"inner");
        let file = open("../../file", RESOLVE_IN_ROOT).unwrap();
        assert_eq!(super::read_rest(file), b"inner");
        assert_eq!(open("link", RESOLVE_NO_SYMLINKS), Err(ELOOP));
        assert_eq!(open("/proc/self/stat", RESOLVE_NO_XDEV), Err(EXDEV));
        assert_eq!(open("/proc/self/exe", RESOLVE_NO_MAGICLINKS), Err(ELOOP));
    });
}

#[test]
fn umask_takes_permissions_of_new_files() {
    run_on_each_filesystem(|| {
        assert_eq!(sys!(umask, 0o077), Ok(0o022));
        let file = sys!(creat, "/tmp/file", 0o777).unwrap();
        assert_eq!(Stat::of_file(file).mode(), S_IFREG | 0o700);
        sys!(mkdir, "/tmp/d", 0o777).unwrap();
        assert_eq!(Stat::of("/tmp/d").mode(), S_IFDIR | 0o700);
        assert_eq!(sys!(umask, 0o1_000_022), Ok(0o077));
        assert_eq!(sys!(umask, 0), Ok(0o022));
    });
}

#[test]
fn file_without_a_name_gets_one_by_linkat() {
    run_on_each_filesystem(|| {
        let file = sys!(open, "/tmp", O_TMPFILE | O_RDWR, 0o600).unwrap();
        assert_eq!(sys!(pwrite64, file, &Room::of(b"appears"), 7, 0), Ok(7));
        assert_eq!(Stat::of_file(file).links(), 0);
        let shown = std::format!("/proc/self/fd/{file}");
        let linked = sys!(linkat, AT_FDCWD, &*shown, AT_FDCWD, "/tmp/named", AT_SYMLINK_FOLLOW);
        assert_eq!(linked, Ok(0));
        assert_eq!(read_file("/tmp/named"), b"appears");
        let secret = sys!(open, "/tmp", O_TMPFILE | O_RDWR | O_EXCL, 0o600).unwrap();
        assert_eq!(sys!(linkat, secret, "", AT_FDCWD, "/tmp/again", AT_EMPTY_PATH), Err(ENOENT));
    });
}

#[test]
fn current_directory_follows_chdir_and_fchdir() {
    run_on_each_filesystem(|| {
        let room = Room::new(64);
        let cwd = || sys!(getcwd, &room, 64).map(|len| room.bytes(0, len as usize));
        sys!(mkdir, "/tmp/d", 0o700).unwrap();
        assert_eq!(sys!(chdir, "/tmp/d"), Ok(0));
        assert_eq!(cwd(), Ok(b"/tmp/d\0".to_vec()));
        assert_eq!(sys!(chdir, ".."), Ok(0));
        assert_eq!(cwd(), Ok(b"/tmp\0".to_vec()));
        let folder = open("d", O_RDONLY | O_DIRECTORY);
        assert_eq!(sys!(fchdir, folder), Ok(0));
        assert_eq!(cwd(), Ok(b"/tmp/d\0".to_vec()));
        assert_eq!(sys!(getcwd, &room, 6), Err(ERANGE));
        assert_eq!(sys!(getcwd, 1, 64), Err(EFAULT));
    });
}

#[test]
fn current_directory_may_be_removed() {
    run_on_each_filesystem(|| {
        sys!(mkdir, "/tmp/d", 0o700).unwrap();
        sys!(chdir, "/tmp/d").unwrap();
        sys!(rmdir, "/tmp/d").unwrap();
        assert_eq!(sys!(getcwd, &Room::new(64), 64), Err(ENOENT));
        assert_eq!(sys!(creat, "relative", 0o600), Err(ENOENT));
    });
}

#[test]
fn chdir_to_no_directory_fails() {
    run_on_each_filesystem(|| {
        assert_eq!(sys!(chdir, "/dev/null"), Err(ENOTDIR));
        assert_eq!(sys!(chdir, "/none"), Err(ENOENT));
        assert_eq!(sys!(fchdir, open("/dev/null", O_RDONLY)), Err(ENOTDIR));
        assert_eq!(sys!(fchdir, 99), Err(EBADF));
    });
}

#[test]
fn access_looks_at_what_is_there() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"");
        sys!(chmod, "/tmp/file", 0o600).unwrap();
        assert_eq!(sys!(access, "/tmp/file", F_OK), Ok(0));
        assert_eq!(sys!(access, "/tmp/file", R_OK | W_OK), Ok(0));
        assert_eq!(sys!(access, "/tmp/none", F_OK), Err(ENOENT));
        assert_eq!(sys!(access, "/tmp/file", 8), Err(EINVAL));
        assert_eq!(sys!(faccessat, AT_FDCWD, "/tmp/file", R_OK), Ok(0));
        assert_eq!(sys!(faccessat2, AT_FDCWD, "/tmp/file", R_OK, AT_EACCESS), Ok(0));
        assert_eq!(sys!(faccessat2, AT_FDCWD, "/tmp/file", R_OK, 0x8000), Err(EINVAL));
        sys!(symlink, "none", "/tmp/link").unwrap();
        assert_eq!(sys!(faccessat, AT_FDCWD, "/tmp/link", F_OK), Err(ENOENT));
        assert_eq!(sys!(faccessat2, AT_FDCWD, "/tmp/link", F_OK, AT_SYMLINK_NOFOLLOW), Ok(0));
    });
}
