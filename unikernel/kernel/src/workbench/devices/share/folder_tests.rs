//! A folder of the host as files of the app: what both sides change, what fails, a server that is gone.

use alloc::vec::Vec;

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::server::{Fault, Link, Server, Style};
use super::tree::{Inode, ROOT, S_IFREG};
use super::{run, run_with};
use crate::workbench::app::calls::{Room, sys};
use crate::workbench::files::{Stat, open, read_file, write_file};

/// What the host has in a file.
fn on_host(link: &Link, name: &[u8]) -> Vec<u8> {
    let server = link.server();
    let number = server.tree.lookup(ROOT, name).expect("a file of the host");
    server.tree.get(number).unwrap().data.clone()
}

/// The host makes a file.
fn make_on_host(link: &Link, name: &[u8], data: &[u8]) {
    let inode = Inode { mode: S_IFREG | 0o644, data: data.to_vec(), ..Inode::default() };
    link.server().tree.create(ROOT, name, inode).unwrap();
}

/// The host changes a file, at a later time.
fn change_on_host(link: &Link, name: &[u8], data: &[u8]) {
    let mut server = link.server();
    let number = server.tree.lookup(ROOT, name).unwrap();
    let inode = server.tree.get_mut(number).unwrap();
    inode.data = data.to_vec();
    inode.modified = (inode.modified.0 + 10, 0);
}

#[test]
fn what_the_app_writes_is_the_hosts() {
    run(|link| {
        let bytes: Vec<u8> = (0..200_000u32).map(|at| (at / 3) as u8).collect();
        write_file("/tmp/file", &bytes);
        assert!(on_host(&link, b"file") == bytes, "written back when it was closed");
        let file = open("/tmp/file", O_RDWR);
        assert_eq!(sys!(pwrite64, file, &Room::of(b"changed"), 7, 100), Ok(7));
        assert_eq!(sys!(fsync, file), Ok(0));
        assert_eq!(on_host(&link, b"file")[100..107], *b"changed");
        assert_eq!(sys!(ftruncate, file, 10), Ok(0));
        assert_eq!(on_host(&link, b"file").len(), 10);
        assert_eq!(sys!(chmod, "/tmp/file", 0o600), Ok(0));
        assert_eq!(Stat::of("/tmp/file").mode(), S_IFREG | 0o600);
        sys!(close, file).unwrap();
        assert_eq!(sys!(rename, "/tmp/file", "/tmp/other"), Ok(0));
        assert_eq!((on_host(&link, b"other").len(), sys!(unlink, "/tmp/other")), (10, Ok(0)));
        assert!(link.server().tree.lookup(ROOT, b"other").is_err());
    });
}

#[test]
fn what_the_host_changes_is_seen_when_the_file_is_opened() {
    run(|link| {
        make_on_host(&link, b"file", b"first");
        assert_eq!(read_file("/tmp/file"), b"first");
        change_on_host(&link, b"file", b"second, and longer");
        assert_eq!(read_file("/tmp/file"), b"second, and longer");
        change_on_host(&link, b"file", b"3");
        assert_eq!((read_file("/tmp/file"), Stat::of("/tmp/file").len()), (b"3".to_vec(), 1));
        link.server().tree.remove(ROOT, b"file", false).unwrap();
        assert_eq!(sys!(open, "/tmp/file", O_RDONLY, 0), Err(ENOENT));
    });
}

#[test]
fn number_that_the_host_uses_again_is_another_file() {
    run(|link| {
        link.server().tree.reuses_numbers = true;
        make_on_host(&link, b"one", b"of the first");
        let old = open("/tmp/one", O_RDONLY);
        assert_eq!(sys!(unlink, "/tmp/one"), Ok(0));
        make_on_host(&link, b"two", b"of the second");
        assert_eq!(read_file("/tmp/two"), b"of the second");
        assert_eq!(Stat::of_file(old).links(), 0);
    });
}

#[test]
fn directories_are_listed_and_changed() {
    run(|link| {
        assert_eq!(sys!(mkdir, "/tmp/d", 0o755), Ok(0));
        for number in 0..60 {
            write_file(&std::format!("/tmp/d/a file with a long name {number}"), b"x");
        }
        let folder = open("/tmp/d", O_RDONLY | O_DIRECTORY);
        let (room, mut total) = (Room::new(300), 0);
        loop {
            match sys!(getdents64, folder, &room, 300).unwrap() {
                0 => break,
                count => {
                    let mut at = 0;
                    while at < count as usize {
                        at += usize::from(room.byte(at + 16));
                        total += 1;
                    }
                }
            }
        }
        assert_eq!(total, 62);
        assert_eq!(sys!(rmdir, "/tmp/d"), Err(ENOTEMPTY));
        assert_eq!(sys!(symlink, "d", "/tmp/link"), Ok(0));
        assert_eq!(read_file("/tmp/link/a file with a long name 7"), b"x");
        assert_eq!(sys!(link, "/tmp/d/a file with a long name 7", "/tmp/second"), Ok(0));
        assert_eq!(on_host(&link, b"second"), b"x");
    });
}

#[test]
fn what_the_host_refuses_is_told() {
    run(|link| {
        write_file("/tmp/file", b"1234");
        let file = open("/tmp/file", O_RDWR);
        sys!(write, file, &Room::of(b"changed"), 7).unwrap();
        let next = link.server().requests() + 1;
        link.server().fault = Some((next, Fault::Refuse));
        assert_eq!(sys!(fsync, file), Err(EIO));
        // Told once; and the file can be written again.
        assert_eq!(sys!(pwrite64, file, &Room::of(b"again"), 5, 0), Ok(5));
        assert_eq!(sys!(fsync, file), Ok(0));
        assert_eq!(on_host(&link, b"file")[..5], *b"again");
        link.server().refuses_chown = true;
        assert_eq!(sys!(chown, "/tmp/file", 5, 5), Err(EPERM));
    });
}

#[test]
fn host_that_is_gone_makes_errors_and_holds_nobody_up_twice() {
    let outcome = run_with(Server::new(Style::Ideal), |link| {
        write_file("/tmp/file", b"kept");
        link.server().is_gone = true;
        let begin_ms = crate::workbench::app::files::now_ms();
        assert_eq!(sys!(open, "/tmp/other", O_RDONLY, 0), Err(EIO));
        let waited_ms = crate::workbench::app::files::now_ms() - begin_ms;
        assert!((59_000..62_000).contains(&waited_ms), "{waited_ms} ms");
        assert_eq!(sys!(mkdir, "/tmp/d", 0o700), Err(EIO));
        assert!(crate::workbench::app::files::now_ms() - begin_ms < waited_ms + 1000);
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    assert!(outcome.console.contains("the host does not answer; given up"), "{}", outcome.console);
}

#[test]
fn mapping_shows_the_file() {
    run(|link| {
        make_on_host(&link, b"file", &[7; 5000]);
        let file = open("/tmp/file", O_RDWR);
        let view = Room(sys!(mmap, 0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0).unwrap());
        assert_eq!((view.byte(4999), view.byte(5000)), (7, 0));
        view.put(10, b"through memory");
        assert_eq!(sys!(msync, &view, 8192, MS_SYNC), Ok(0));
        assert_eq!(on_host(&link, b"file")[10..24], *b"through memory");
        assert_eq!(on_host(&link, b"file").len(), 5000);
    });
}

#[test]
fn attributes_go_to_the_host() {
    run(|link| {
        write_file("/tmp/file", b"");
        let value = Room::of(b"value");
        assert_eq!(sys!(setxattr, "/tmp/file", "user.a", &value, 5, XATTR_CREATE), Ok(0));
        let room = Room::new(64);
        assert_eq!(
            (sys!(getxattr, "/tmp/file", "user.a", &room, 64), room.bytes(0, 5)),
            (Ok(5), b"value".to_vec())
        );
        assert_eq!(
            (sys!(listxattr, "/tmp/file", &room, 64), room.bytes(0, 7)),
            (Ok(7), b"user.a\0".to_vec())
        );
        assert_eq!(sys!(getxattr, "/tmp/file", "user.b", &room, 64), Err(ENODATA));
        assert_eq!(sys!(removexattr, "/tmp/file", "user.a"), Ok(0));
        let number = link.server().tree.lookup(ROOT, b"file").unwrap();
        assert!(link.server().tree.get(number).unwrap().attributes.is_empty());
        let statistics = Room::new(120);
        assert_eq!(sys!(statfs, "/tmp", &statistics), Ok(0));
        assert_eq!(statistics.long(0), V9FS_MAGIC.into());
    });
}
