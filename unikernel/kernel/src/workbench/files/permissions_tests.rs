//! Who may do what: users, threads and mounts that differ. What each call answers is compared with Linux by the guest test
//! `permissions`; here is what that cannot see, and what must hold in every build.

use alloc::string::String;

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run, run_on_each_filesystem, run_on_ext4};
use super::super::app::{Machine, join, spawn};
use super::{Stat, open, read_file, write_file};

const KEEP: i32 = -1;

#[test]
fn files_are_kept_from_others() {
    run_on_each_filesystem(|| {
        sys!(chmod, "/tmp", 0o755).unwrap();
        write_file("/tmp/secret", b"x");
        sys!(chmod, "/tmp/secret", 0o600).unwrap();
        sys!(mkdir, "/tmp/closed", 0o700).unwrap();
        write_file("/tmp/closed/inside", b"x");
        assert_eq!(sys!(setresuid, 1000, 1000, 0), Ok(0));
        assert_eq!(sys!(open, "/tmp/secret", O_RDONLY, 0), Err(EACCES));
        assert_eq!(sys!(open, "/tmp/closed/inside", O_PATH, 0), Err(EACCES));
        assert_eq!(sys!(chdir, "/tmp/closed"), Err(EACCES));
        assert_eq!(sys!(open, "/tmp/new", O_CREAT | O_WRONLY, 0o644), Err(EACCES));
        assert_eq!(sys!(mkdir, "/tmp/new", 0o755), Err(EACCES));
        assert_eq!(sys!(unlink, "/tmp/secret"), Err(EACCES));
        assert_eq!(sys!(chmod, "/tmp/secret", 0o777), Err(EPERM));
        assert_eq!(sys!(chown, "/tmp/secret", 1000, KEEP), Err(EPERM));
        assert_eq!(sys!(truncate, "/tmp/secret", 0), Err(EACCES));
        // The saved id is a way back.
        assert_eq!(sys!(setresuid, KEEP, 0, KEEP), Ok(0));
        assert_eq!(read_file("/tmp/secret"), b"x");
    });
}

#[test]
fn what_is_made_belongs_to_its_maker() {
    run_on_each_filesystem(|| {
        sys!(chmod, "/tmp", 0o777).unwrap();
        sys!(mkdir, "/tmp/shared", 0o777).unwrap();
        sys!(chown, "/tmp/shared", 0, 7).unwrap();
        sys!(chmod, "/tmp/shared", 0o2777).unwrap();
        sys!(setresgid, 2000, 2000, 0).unwrap();
        sys!(setresuid, 1000, 1000, 0).unwrap();
        write_file("/tmp/mine", b"");
        assert_eq!(Stat::of("/tmp/mine").owner(), (1000, 2000));
        write_file("/tmp/shared/mine", b"");
        assert_eq!(Stat::of("/tmp/shared/mine").owner(), (1000, 7));
        sys!(mkdir, "/tmp/shared/folder", 0o755).unwrap();
        assert_eq!(Stat::of("/tmp/shared/folder").mode(), S_IFDIR | 0o2755);
    });
}

#[test]
fn each_thread_has_its_own() {
    run(|| {
        write_file("/tmp/secret", b"x");
        sys!(chmod, "/tmp/secret", 0o600).unwrap();
        let thread = spawn(|| {
            assert_eq!(sys!(setresuid, 1000, 1000, 1000), Ok(0));
            assert_eq!(sys!(open, "/tmp/secret", O_RDONLY, 0), Err(EACCES));
            // Who is started has what its starter had.
            join(spawn(|| assert_eq!(sys!(open, "/tmp/secret", O_RDONLY, 0), Err(EACCES))).unwrap());
        });
        join(thread.unwrap());
        assert_eq!(sys!(getuid), Ok(0));
        assert_eq!(read_file("/tmp/secret"), b"x");
    });
}

#[test]
fn ids_for_files_are_apart() {
    run(|| {
        write_file("/tmp/secret", b"x");
        sys!(chmod, "/tmp/secret", 0o640).unwrap();
        assert_eq!((sys!(setfsgid, 5), sys!(setfsuid, 1000)), (Ok(0), Ok(0)));
        assert_eq!((sys!(setfsgid, KEEP), sys!(setfsuid, KEEP), sys!(geteuid)), (Ok(5), Ok(1000), Ok(0)));
        assert_eq!(sys!(open, "/tmp/secret", O_RDONLY, 0), Err(EACCES));
        sys!(setfsgid, 0).unwrap();
        assert!(sys!(open, "/tmp/secret", O_RDONLY, 0).is_ok());
        write_file("/tmp/mine", b"");
        assert_eq!(Stat::of("/tmp/mine").owner(), (1000, 0));
    });
}

#[test]
fn written_programs_lose_their_bits() {
    run_on_each_filesystem(|| {
        write_file("/tmp/program", b"x");
        sys!(chmod, "/tmp/program", 0o6777).unwrap();
        let file = open("/tmp/program", O_WRONLY);
        sys!(write, file, &Room::of(b"y"), 1).unwrap();
        assert_eq!(Stat::of("/tmp/program").mode(), S_IFREG | 0o6777);
        sys!(setresuid, 1000, 1000, 0).unwrap();
        sys!(write, file, &Room::of(b"y"), 1).unwrap();
        assert_eq!(Stat::of_file(file).mode(), S_IFREG | 0o777);
    });
}

#[test]
fn the_process_sees_itself() {
    run(|| {
        assert_eq!(Stat::of("/proc/self/environ").mode(), S_IFREG | 0o400);
        sys!(setresuid, 1000, 1000, 1000).unwrap();
        assert_eq!(Stat::of("/proc/self").owner(), (1000, 0));
        // It is not dumpable any more.
        assert_eq!(Stat::of("/proc/self/environ").owner(), (0, 0));
        assert_eq!(sys!(open, "/proc/self/environ", O_RDONLY, 0), Err(EACCES));
        assert!(sys!(open, "/proc/self/fd", O_RDONLY, 0).is_ok());
        let status = String::from_utf8(read_file("/proc/self/status")).unwrap();
        assert!(status.contains("\nUid:\t1000\t1000\t1000\t1000\n"), "{status}");
        assert!(status.contains("\nCapEff:\t0000000000000000\n"), "{status}");
    });
}

#[test]
fn lists_say_more_than_modes() {
    const ACCESS: &str = "system.posix_acl_access";
    run_on_ext4(|| {
        sys!(chmod, "/tmp", 0o755).unwrap();
        write_file("/tmp/file", b"x");
        let entry = |tag: u16, bits: u16, id: u32| {
            [tag.to_le_bytes().as_slice(), &bits.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let none = u32::MAX;
        let list = [
            2_u32.to_le_bytes().to_vec(),
            entry(1, 6, none),
            entry(2, 4, 1000),
            entry(4, 0, none),
            entry(16, 4, none),
            entry(32, 0, none),
        ]
        .concat();
        let set = |bytes: &[u8]| sys!(setxattr, "/tmp/file", ACCESS, &Room::of(bytes), bytes.len(), 0);
        assert_eq!(set(&list), Ok(0));
        assert_eq!(set(&list[..list.len() - 8]), Err(EINVAL));
        assert_eq!(Stat::of("/tmp/file").mode(), S_IFREG | 0o640);
        let room = Room::new(4096);
        assert_eq!(sys!(getxattr, "/tmp/file", ACCESS, &room, 4096), Ok(list.len() as u64));
        assert_eq!(room.bytes(0, list.len()), list);
        sys!(setresuid, 1000, 1000, 0).unwrap();
        assert!(sys!(open, "/tmp/file", O_RDONLY, 0).is_ok());
        assert_eq!(sys!(open, "/tmp/file", O_RDWR, 0), Err(EACCES));
        sys!(setresuid, KEEP, 0, KEEP).unwrap();
        sys!(setresuid, 1001, 1001, 0).unwrap();
        assert_eq!(sys!(open, "/tmp/file", O_RDONLY, 0), Err(EACCES));
        sys!(setresuid, KEEP, 0, KEEP).unwrap();
        // The mask is the group's bits.
        sys!(chmod, "/tmp/file", 0o600).unwrap();
        sys!(setresuid, 1000, 1000, 0).unwrap();
        assert_eq!(sys!(open, "/tmp/file", O_RDONLY, 0), Err(EACCES));
    });
}

/// Runs the app with these words.
#[track_caller]
fn run_with(command_line: &str, app: impl FnOnce() + 'static) -> String {
    let machine = Machine { command_line: command_line.into(), ..Machine::default() };
    let outcome = machine.run(|| {
        app();
        0
    });
    if outcome.code != Some(0) {
        assert!(
            outcome.console.contains("cannot boot") || !outcome.console.contains("panic"),
            "{}",
            outcome.console
        );
    }
    outcome.console
}

#[test]
fn the_app_starts_as_somebody() {
    run_with("user=nobody", || {
        assert_eq!(sys!(getuid), Ok(65_534));
        assert_eq!(sys!(getgid), Ok(65_534));
        assert_eq!(sys!(open, "/etc/new", O_CREAT | O_WRONLY, 0o644), Err(EACCES));
        assert_eq!(sys!(setuid, 0), Err(EPERM));
        write_file("/tmp/mine", b"");
    });
    let console = run_with("user=somebody", || unreachable!("there is nobody of this name"));
    assert!(console.contains("`somebody` is no user of `/etc/passwd`"), "{console}");
}

#[test]
fn directories_in_memory_have_limits_of_their_own() {
    run_with("mount=/tmp:tmpfs:noexec,nosuid mount=/srv:tmpfs:ro", || {
        let mounts = String::from_utf8(read_file("/proc/mounts")).unwrap();
        assert!(mounts.contains("tmpfs /tmp tmpfs rw,nosuid,noexec 0 0\n"), "{mounts}");
        assert!(mounts.contains("tmpfs /srv tmpfs ro 0 0\n"), "{mounts}");
        write_file("/tmp/program", b"#!/bin/true\n");
        sys!(chmod, "/tmp/program", 0o755).unwrap();
        assert_eq!(sys!(access, "/tmp/program", X_OK), Err(EACCES));
        assert_eq!(sys!(execve, "/tmp/program", 0_u64, 0_u64), Err(EACCES));
        let (file, executable) = (open("/tmp/program", O_RDONLY), PROT_READ | PROT_EXEC);
        assert_eq!(sys!(mmap, 0, 4096, executable, MAP_PRIVATE, file, 0), Err(EPERM));
        let readable = sys!(mmap, 0, 4096, PROT_READ, MAP_PRIVATE, file, 0).unwrap();
        assert_eq!(sys!(mprotect, readable, 4096, executable), Err(EACCES));
        assert_eq!(sys!(open, "/srv/new", O_CREAT | O_WRONLY, 0o644), Err(EROFS));
        let room = Room::new(120);
        sys!(statfs, "/tmp", &room).unwrap();
        assert_eq!(room.long(80) as u32 & (MS_NOSUID | MS_NOEXEC), MS_NOSUID | MS_NOEXEC);
    });
}
