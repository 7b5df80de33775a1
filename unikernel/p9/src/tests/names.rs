//! Names: what is found, made, removed and renamed, and what of it stays within reach.

use std::vec;

use unikernel_vfs::{AttributeChange, ByteStorage, Error, FileSystem, InodeNumber, NewKind, RenameMode};

use super::server::{Server, Style};
use super::tree::{Inode, S_IFREG};
use super::{NOW, ROOT, STYLES, assert_unmounts, mounted, mounted_from, names, node};

#[test]
fn names_that_no_server_may_see_are_refused() {
    let (mut fs, link) = mounted(Style::Qemu);
    let before = link.server().requests();
    let bad: [(&[u8], Error); 4] = [
        (b"", Error::NotFound),
        (b"a/b", Error::Invalid),
        (b"a\0b", Error::Invalid),
        (&[b'n'; 256], Error::NameTooLong),
    ];
    for (name, error) in bad {
        assert_eq!(fs.lookup(ROOT, name), Err(error));
        assert_eq!(fs.create(ROOT, name, node(NewKind::File), NOW), Err(error));
        assert_eq!(fs.link(ROOT, ROOT, name, NOW), Err(error));
        assert_eq!(fs.unlink(ROOT, name, NOW), Err(error));
        assert_eq!(fs.remove_directory(ROOT, name, NOW), Err(error));
        assert_eq!(fs.rename(ROOT, name, ROOT, b"x", RenameMode::Replace, NOW), Err(error));
        assert_eq!(fs.rename(ROOT, b"x", ROOT, name, RenameMode::Replace, NOW), Err(error));
    }
    for name in [&b"."[..], b".."] {
        assert_eq!(fs.lookup(ROOT, name), Ok(ROOT));
        assert_eq!(fs.create(ROOT, name, node(NewKind::Directory), NOW), Err(Error::Exists));
        assert_eq!(fs.unlink(ROOT, name, NOW), Err(Error::IsADirectory));
        assert_eq!(fs.rename(ROOT, name, ROOT, b"x", RenameMode::Replace, NOW), Err(Error::Invalid));
    }
    assert_eq!(fs.remove_directory(ROOT, b".", NOW), Err(Error::Invalid));
    assert_eq!(fs.remove_directory(ROOT, b"..", NOW), Err(Error::NotEmpty));
    let targets: [(&[u8], Error); 3] =
        [(b"", Error::NotFound), (b"a\0b", Error::Invalid), (&[b't'; 4096], Error::NameTooLong)];
    for (target, error) in targets {
        assert_eq!(fs.create(ROOT, b"link", node(NewKind::Symlink(target)), NOW), Err(error));
    }
    assert_eq!(link.server().requests(), before);
}

#[test]
fn longest_target_needs_longer_messages_than_the_shortest() {
    let long = [b't'; 4095];
    for message_bytes in [4096, 8192] {
        let (mut fs, link) = mounted_from(Server { message_bytes, ..Server::new(Style::Diod) });
        let made = fs.create(ROOT, b"link", node(NewKind::Symlink(&long)), NOW);
        match message_bytes {
            4096 => assert_eq!(made, Err(Error::TooLarge)),
            _ => assert_eq!(fs.read_link(made.expect("symlink")), Ok(long.to_vec())),
        }
        assert_unmounts(fs, &link);
    }
}

#[test]
fn dots_lead_up_and_nowhere() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        let a = fs.create(ROOT, b"a", node(NewKind::Directory), NOW).expect("mkdir");
        let b = fs.create(a, b"b", node(NewKind::Directory), NOW).expect("mkdir");
        fs.open(b).expect("open");
        fs.forget(a);
        assert_eq!(fs.lookup(b, b"."), Ok(b));
        assert_eq!(fs.lookup(b, b".."), Ok(a));
        assert_eq!(fs.lookup(a, b".."), Ok(ROOT));
        assert_eq!(fs.lookup(a, b"b"), Ok(b));
        let file = fs.create(a, b"file", node(NewKind::File), NOW).expect("create");
        assert_eq!(fs.lookup(file, b"."), Err(Error::NotADirectory));
        assert_eq!(fs.lookup(file, b"x"), Err(Error::NotADirectory));
        fs.close(b, NOW).expect("close");
        assert_unmounts(fs, &link);
    }
}

#[test]
fn removed_file_lives_while_it_is_open() {
    for style in STYLES {
        for by_rename in [false, true] {
            let (mut fs, link) = mounted(style);
            let file = fs.create(ROOT, b"data", node(NewKind::File), NOW).expect("create");
            fs.write(file, 0, b"before").expect("write");
            // As if it had been made by somebody else: no handle is open yet.
            fs.forget(file);
            let file = fs.lookup(ROOT, b"data").expect("lookup");
            fs.open(file).expect("open");
            if by_rename {
                fs.create(ROOT, b"other", node(NewKind::File), NOW).expect("create");
                fs.rename(ROOT, b"other", ROOT, b"data", RenameMode::Replace, NOW).expect("rename");
                assert_ne!(fs.lookup(ROOT, b"data"), Ok(file));
            } else {
                fs.unlink(ROOT, b"data", NOW).expect("unlink");
                assert_eq!(fs.lookup(ROOT, b"data"), Err(Error::NotFound));
                // Another file with the same name is another file.
                fs.create(ROOT, b"data", node(NewKind::File), NOW).expect("create");
            }
            let attributes = fs.attributes(file).expect("attributes");
            assert_eq!((attributes.links, attributes.size), (0, 6));
            fs.write(file, 6, b" and after").expect("write");
            let mut back = [0; 32];
            assert_eq!(fs.read(file, 0, &mut back), Ok(16));
            assert_eq!(&back[..16], b"before and after");
            assert_eq!(fs.attributes(file).expect("attributes").size, 16);
            if style != Style::Ideal {
                // It could be the other file that is changed.
                assert_eq!(fs.set_size(file, 0, NOW), Err(Error::NotFound));
            } else {
                fs.set_size(file, 3, NOW).expect("shorter");
                assert_eq!(fs.attributes(file).expect("attributes").size, 3);
            }
            fs.sync_inode(file, unikernel_vfs::Sync::All, NOW).expect("fsync");
            fs.close(file, NOW).expect("close");
            assert_eq!(fs.attributes(file), Err(Error::NotFound));
            assert!(link.server().tree.get(file.0).is_err());
            assert_unmounts(fs, &link);
        }
    }
}

#[test]
fn file_with_two_names_lives_by_the_other() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        let file = fs.create(ROOT, b"a", node(NewKind::File), NOW).expect("create");
        fs.open(file).expect("open");
        fs.link(file, ROOT, b"b", NOW).expect("link");
        assert_eq!(fs.lookup(ROOT, b"b"), Ok(file));
        assert_eq!(fs.attributes(file).expect("attributes").links, 2);
        fs.unlink(ROOT, b"b", NOW).expect("unlink");
        assert_eq!(fs.attributes(file).expect("attributes").links, 1);
        fs.write(file, 0, b"still").expect("write");
        assert_eq!(fs.lookup(ROOT, b"a"), Ok(file));
        assert_eq!(fs.attributes(file).expect("attributes").size, 5);
        fs.close(file, NOW).expect("close");
        assert_eq!(fs.attributes(file).expect("attributes").size, 5);
        assert_eq!(fs.link(ROOT, ROOT, b"c", NOW), Err(Error::IsADirectory));
        assert_unmounts(fs, &link);
    }
}

#[test]
fn size_changes_after_the_name_it_was_opened_by_is_gone() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        let file = fs.create(ROOT, b"a", node(NewKind::File), NOW).expect("create");
        fs.open(file).expect("open");
        fs.write(file, 0, b"content").expect("write");
        fs.link(file, ROOT, b"b", NOW).expect("link");
        fs.unlink(ROOT, b"a", NOW).expect("unlink");
        assert_eq!(fs.lookup(ROOT, b"b"), Ok(file));
        fs.set_size(file, 3, NOW).expect("the fid of the second name");
        let permissions = AttributeChange { permissions: Some(0o600), ..AttributeChange::default() };
        fs.set_attributes(file, permissions, NOW).expect("as well");
        let attributes = fs.attributes(file).expect("attributes");
        assert_eq!((attributes.size, attributes.permissions, attributes.links), (3, 0o600, 1));
        fs.close(file, NOW).expect("close");
        assert_unmounts(fs, &link);
    }
}

#[test]
fn file_that_was_replaced_at_the_server_is_another() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        let old = fs.create(ROOT, b"data", node(NewKind::File), NOW).expect("create");
        fs.open(old).expect("open");
        fs.forget_handles(old);
        {
            let tree = &mut link.server().tree;
            tree.remove(ROOT.0, b"data", false).expect("remove");
            let inode = Inode { mode: S_IFREG | 0o600, data: b"new".to_vec(), ..Inode::default() };
            tree.create(ROOT.0, b"data", inode).expect("create");
        }
        let new = fs.lookup(ROOT, b"data").expect("lookup");
        assert_ne!(new, old);
        assert_eq!(fs.attributes(new).expect("attributes").size, 3);
        if style != Style::Ideal {
            // The old fid leads to the new file now. It must not be taken for the old one.
            assert_eq!(fs.attributes(old), Err(Error::NotFound));
            assert_eq!(fs.write(old, 0, b"x"), Err(Error::NotFound));
            assert_eq!(fs.set_size(old, 0, NOW), Err(Error::NotFound));
        }
        assert_eq!(fs.read(new, 0, &mut [0; 9]), Ok(3));
        fs.close(old, NOW).expect("close");
        assert_unmounts(fs, &link);
    }
}

#[test]
fn number_that_is_used_again_is_the_new_file() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        link.server().tree.reuses_numbers = true;
        let first = fs.create(ROOT, b"a", node(NewKind::Fifo), NOW).expect("create");
        assert_eq!(fs.read(first, 0, &mut [0]), Err(Error::Invalid));
        link.server().tree.remove(ROOT.0, b"a", false).expect("remove");
        let second = fs.create(ROOT, b"b", node(NewKind::File), NOW);
        match style {
            // The client's fid keeps it there.
            Style::Ideal => assert_ne!(second, Ok(first)),
            _ => assert_eq!(second, Ok(first)),
        }
        let second = second.expect("create");
        fs.write(second, 0, b"content").expect("write");
        assert_eq!(fs.read(second, 0, &mut [0; 9]), Ok(7));
        // And a directory after it.
        fs.unlink(ROOT, b"b", NOW).expect("unlink");
        let third = fs.create(ROOT, b"c", node(NewKind::Directory), NOW).expect("mkdir");
        assert_eq!(names(&mut fs, third, 9).expect("list"), [".", ".."]);
        assert_unmounts(fs, &link);
    }
}

#[test]
fn files_are_found_after_directories_above_moved() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        let a = fs.create(ROOT, b"a", node(NewKind::Directory), NOW).expect("mkdir");
        let b = fs.create(a, b"b", node(NewKind::Directory), NOW).expect("mkdir");
        let file = fs.create(b, b"file", node(NewKind::File), NOW).expect("create");
        let other = fs.create(b, b"other", node(NewKind::Symlink(b"x")), NOW).expect("create");
        for number in [b, file, other] {
            fs.open(number).expect("open");
        }
        for (from, to) in [("a", "c"), ("c", "d")] {
            fs.rename(ROOT, from.as_bytes(), ROOT, to.as_bytes(), RenameMode::Replace, NOW).expect("rename");
            fs.write(file, 0, to.as_bytes()).expect("write");
            assert_eq!(fs.attributes(file).expect("attributes").size, 1);
            assert_eq!(fs.read_link(other), Ok(b"x".to_vec()));
            assert_eq!(fs.attributes(a).expect("attributes").links, 3);
            assert_eq!(fs.lookup(b, b"file"), Ok(file));
            assert_eq!(fs.lookup(b, b".."), Ok(a));
            assert_eq!(names(&mut fs, b, 9).expect("list").len(), 4);
        }
        for number in [b, file, other] {
            fs.close(number, NOW).expect("close");
        }
        assert_unmounts(fs, &link);
    }
}

#[test]
fn renames_do_what_they_say() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        let a = fs.create(ROOT, b"a", node(NewKind::File), NOW).expect("create");
        let b = fs.create(ROOT, b"b", node(NewKind::File), NOW).expect("create");
        let directory = fs.create(ROOT, b"d", node(NewKind::Directory), NOW).expect("mkdir");
        let rename = |fs: &mut crate::P9, from: (InodeNumber, &str), to: (InodeNumber, &str), mode| {
            fs.rename(from.0, from.1.as_bytes(), to.0, to.1.as_bytes(), mode, NOW)
        };
        assert_eq!(rename(&mut fs, (ROOT, "a"), (ROOT, "b"), RenameMode::Exchange), Err(Error::Unsupported));
        assert_eq!(rename(&mut fs, (ROOT, "a"), (ROOT, "b"), RenameMode::NoReplace), Err(Error::Exists));
        assert_eq!(rename(&mut fs, (ROOT, "a"), (directory, "a"), RenameMode::NoReplace), Ok(()));
        assert_eq!(rename(&mut fs, (ROOT, "a"), (directory, "x"), RenameMode::Replace), Err(Error::NotFound));
        assert_eq!(rename(&mut fs, (ROOT, "b"), (directory, "a"), RenameMode::Replace), Ok(()));
        assert_eq!(fs.attributes(a), Err(Error::NotFound));
        assert_eq!(fs.lookup(directory, b"a"), Ok(b));
        assert_eq!(rename(&mut fs, (ROOT, "d"), (directory, "d"), RenameMode::Replace), Err(Error::Invalid));
        assert_eq!(
            rename(&mut fs, (directory, "a"), (ROOT, "d"), RenameMode::Replace),
            Err(Error::IsADirectory)
        );
        // Two names of one file stay as they are.
        fs.link(b, ROOT, b"too", NOW).expect("link");
        assert_eq!(rename(&mut fs, (ROOT, "too"), (directory, "a"), RenameMode::Replace), Ok(()));
        assert_eq!(fs.lookup(ROOT, b"too"), Ok(b));
        assert_eq!(fs.lookup(directory, b"a"), Ok(b));
        assert_unmounts(fs, &link);
    }
}

#[test]
fn removals_check_what_is_there() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        let directory = fs.create(ROOT, b"d", node(NewKind::Directory), NOW).expect("mkdir");
        fs.create(directory, b"a", node(NewKind::File), NOW).expect("create");
        assert_eq!(fs.create(directory, b"a", node(NewKind::Fifo), NOW), Err(Error::Exists));
        assert_eq!(fs.unlink(ROOT, b"d", NOW), Err(Error::IsADirectory));
        assert_eq!(fs.remove_directory(ROOT, b"d", NOW), Err(Error::NotEmpty));
        assert_eq!(fs.remove_directory(directory, b"a", NOW), Err(Error::NotADirectory));
        fs.unlink(directory, b"a", NOW).expect("unlink");
        assert_eq!(fs.unlink(directory, b"a", NOW), Err(Error::NotFound));
        fs.open(directory).expect("open");
        fs.remove_directory(ROOT, b"d", NOW).expect("rmdir");
        // It is still somebody's current directory.
        assert_eq!(fs.attributes(directory).expect("attributes").links, 0);
        assert_eq!(fs.create(directory, b"x", node(NewKind::File), NOW), Err(Error::NotFound));
        fs.sync_inode(directory, unikernel_vfs::Sync::All, NOW).expect("fsync");
        fs.close(directory, NOW).expect("close");
        assert_eq!(fs.attributes(directory), Err(Error::NotFound));
        assert_unmounts(fs, &link);
    }
}

#[test]
fn only_so_many_files_are_remembered_that_nobody_holds() {
    let link = super::Link::new(Server::new(Style::Qemu));
    let options = crate::MountOptions { idle_inodes: 16, ..crate::MountOptions::default() };
    let mut fs = crate::P9::mount(link.clone(), &options).expect("mount");
    let mut held = vec![];
    for number in 0..200u32 {
        let inode = Inode { mode: S_IFREG | 0o644, data: vec![1], ..Inode::default() };
        let name = std::format!("file{number}");
        link.server().tree.create(ROOT.0, name.as_bytes(), inode).expect("create");
        let file = fs.lookup(ROOT, name.as_bytes()).expect("lookup");
        assert_eq!(fs.read(file, 0, &mut [0; 2]), Ok(1));
        if number % 10 == 0 {
            fs.open(file).expect("open");
            held.push(file);
        }
        assert!(fs.nodes.idle_count() <= 16);
    }
    assert_eq!(link.server().fid_count(), 1 + 2 * (16 + held.len()));
    // Those that are held are there, others have to be looked up again.
    for file in held {
        assert_eq!(fs.attributes(file).expect("attributes").size, 1);
        fs.close(file, NOW).expect("close");
    }
    assert_eq!(link.server().fid_count(), 1 + 2 * 16);
    let file = fs.lookup(ROOT, b"file3").expect("lookup");
    assert_eq!(fs.attributes(file).expect("attributes").size, 1);
    assert_unmounts(fs, &link);
}
