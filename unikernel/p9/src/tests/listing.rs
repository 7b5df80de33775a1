//! Listings of directories.

use core::ops::ControlFlow;
use std::collections::BTreeSet;
use std::string::ToString;
use std::vec::Vec;

use unikernel_vfs::{Error, FileKind, FileSystem, NewKind};

use super::server::{Server, Style};
use super::{NOW, ROOT, STYLES, assert_unmounts, mounted, mounted_from, names, node};

#[test]
fn every_name_is_told_once_dots_first() {
    for style in STYLES {
        for (ends_at_max, hides_types) in [(false, true), (true, false)] {
            let (mut fs, link) = mounted_from(Server { ends_at_max, hides_types, ..Server::new(style) });
            let directory = fs.create(ROOT, b"d", node(NewKind::Directory), NOW).expect("mkdir");
            let mut made = BTreeSet::from([".".to_string(), "..".to_string()]);
            for number in 0..700 {
                let name = std::format!("a name that is longer than most of them are, number {number}");
                fs.create(directory, name.as_bytes(), node(NewKind::Fifo), NOW).expect("create");
                made.insert(name);
            }
            for at_once in [1, 2, 3, 100, 100_000] {
                let listed = names(&mut fs, directory, at_once).expect("list");
                assert_eq!(listed[..2], [".", ".."]);
                assert_eq!(listed.len(), made.len());
                assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), made);
            }
            assert_eq!(names(&mut fs, ROOT, 2).expect("list"), [".", "..", "d"]);
            assert_unmounts(fs, &link);
        }
    }
}

#[test]
fn names_that_stay_are_told_once_while_others_go() {
    let (mut fs, link) = mounted(Style::Qemu);
    for number in 0..200 {
        let name = std::format!("file{number}");
        fs.create(ROOT, name.as_bytes(), node(NewKind::Fifo), NOW).expect("create");
    }
    let mut seen = Vec::new();
    let mut cookie = 0;
    for round in 0..200 {
        let before = seen.len();
        fs.entries(ROOT, cookie, &mut |entry| {
            seen.push(std::string::String::from_utf8_lossy(entry.name).into_owned());
            cookie = entry.next_cookie;
            ControlFlow::Break(())
        })
        .expect("list");
        if seen.len() == before {
            break;
        }
        if round % 2 == 1 && seen[round].starts_with("file") {
            fs.unlink(ROOT, seen[round].as_bytes(), NOW).expect("unlink");
        }
    }
    let unique: BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), unique.len()), (200, 200));
    assert_eq!(names(&mut fs, ROOT, 1000).expect("list").len(), 2 + 200 - 99);
    assert_unmounts(fs, &link);
}

#[test]
fn numbers_of_a_listing_can_be_used() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        let directory = fs.create(ROOT, b"d", node(NewKind::Directory), NOW).expect("mkdir");
        for number in 0..1000 {
            let name = std::format!("file{number}");
            fs.create(directory, name.as_bytes(), node(NewKind::Fifo), NOW).expect("create");
        }
        let mut listed = Vec::new();
        fs.entries(directory, 0, &mut |entry| {
            listed.push((entry.inode, entry.kind));
            ControlFlow::Continue(())
        })
        .expect("list");
        assert_eq!(listed[0].0, directory);
        assert_eq!(listed[1].0, ROOT);
        for (number, kind) in &listed[2..] {
            assert_eq!(*kind, Some(FileKind::Fifo));
            assert_eq!(fs.attributes(*number).expect("attributes").kind, FileKind::Fifo);
        }
        // What is gone meanwhile is not taken for what has its name now.
        let gone = listed[2].0;
        fs.forget(gone);
        let name = link
            .server()
            .tree
            .get(directory.0)
            .expect("d")
            .names
            .values()
            .find(|name| name.1 == gone.0)
            .expect("name")
            .0
            .clone();
        link.server().tree.remove(directory.0, &name, false).expect("remove");
        assert_eq!(fs.attributes(gone), Err(Error::NotFound));
        fs.create(directory, &name, node(NewKind::Fifo), NOW).expect("create");
        assert_eq!(fs.attributes(gone), Err(Error::NotFound));
        assert_unmounts(fs, &link);
    }
}

#[test]
fn only_directories_are_listed() {
    let (mut fs, _link) = mounted(Style::Qemu);
    let file = fs.create(ROOT, b"file", node(NewKind::File), NOW).expect("create");
    assert_eq!(names(&mut fs, file, 9), Err(Error::NotADirectory));
}
