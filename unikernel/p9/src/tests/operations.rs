//! One operation after the other, over each kind of server.

use std::vec;
use std::vec::Vec;

use unikernel_vfs::{
    AttributeChange, ByteStorage, Error, FileKind, FileSystem, InodeNumber, NewKind, Sync, Timestamp,
};

use super::server::{Server, Style};
use super::tree::{EIO, Inode, S_IFREG};
use super::{NOW, ROOT, STYLES, assert_unmounts, mounted, mounted_from, node};

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251 + seed) as u8).collect()
}

#[test]
fn content_is_read_back_in_pieces() {
    for style in STYLES {
        for (unit_bytes, most_content) in [(0, usize::MAX), (1000, usize::MAX), (0, 777)] {
            let (mut fs, link) = mounted_from(Server { unit_bytes, most_content, ..Server::new(style) });
            let file = fs.create(ROOT, b"data", node(NewKind::File), NOW).expect("create");
            let bytes = pattern(1, 100_001);
            fs.write(file, 4321, &bytes).expect("write");
            let mut back = vec![1; bytes.len() + 5000];
            assert_eq!(fs.read(file, 0, &mut back), Ok(bytes.len() + 4321));
            assert!(back[..4321].iter().all(|byte| *byte == 0));
            assert_eq!(back[4321..][..bytes.len()], bytes);
            assert_eq!(fs.read(file, 104_322, &mut back), Ok(0));
            assert_eq!(fs.read(file, u64::MAX, &mut back), Ok(0));
            assert_eq!(fs.attributes(file).expect("attributes").size, 104_322);
            assert_unmounts(fs, &link);
        }
    }
}

#[test]
fn offsets_past_the_end_of_numbers_are_refused() {
    let (mut fs, _link) = mounted(Style::Ideal);
    let file = fs.create(ROOT, b"data", node(NewKind::File), NOW).expect("create");
    assert_eq!(fs.write(file, u64::MAX, b"x"), Err(Error::TooLarge));
    assert_eq!(fs.write(file, i64::MAX as u64, b"x"), Err(Error::TooLarge));
    assert_eq!(fs.set_size(file, 1 << 63, NOW), Err(Error::TooLarge));
    assert_eq!(fs.attributes(file).expect("attributes").size, 0);
}

#[test]
fn size_changes_and_what_is_added_is_zero() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        let file = fs.create(ROOT, b"data", node(NewKind::File), NOW).expect("create");
        fs.write(file, 0, b"0123456789").expect("write");
        fs.set_size(file, 4, NOW).expect("shorter");
        fs.set_size(file, 8, NOW).expect("longer");
        let mut back = [1; 16];
        assert_eq!(fs.read(file, 0, &mut back), Ok(8));
        assert_eq!(&back[..8], b"0123\0\0\0\0");
        assert_eq!(fs.set_size(ROOT, 0, NOW), Err(Error::IsADirectory));
        assert_unmounts(fs, &link);
    }
}

#[test]
fn size_changes_of_a_file_that_is_open_for_reading() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        let file = fs.create(ROOT, b"data", node(NewKind::File), NOW).expect("create");
        fs.write(file, 0, b"0123456789").expect("write");
        fs.forget(file);
        let file = fs.lookup(ROOT, b"data").expect("lookup");
        assert_eq!(fs.read(file, 0, &mut [0; 4]), Ok(4));
        fs.set_size(file, 3, NOW).expect("shorter");
        assert_eq!(fs.read(file, 0, &mut [0; 4]), Ok(3));
        assert_unmounts(fs, &link);
    }
}

#[test]
fn attributes_are_set_and_told() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        let file = fs.create(ROOT, b"data", node(NewKind::File), NOW).expect("create");
        let before_1970 = Timestamp { seconds: -5, nanoseconds: 999_999_999 };
        let change = AttributeChange {
            permissions: Some(0o6751),
            user: Some(10),
            group: Some(20),
            accessed: Some(NOW),
            modified: Some(before_1970),
        };
        fs.set_attributes(file, change, NOW).expect("change");
        let now = fs.attributes(file).expect("attributes");
        assert_eq!((now.permissions, now.user, now.group), (0o6751, 10, 20));
        assert_eq!((now.accessed, now.modified), (NOW, before_1970));
        assert_eq!((now.kind, now.links, now.device), (FileKind::File, 1, 0));
        let only_group = AttributeChange { group: Some(21), ..AttributeChange::default() };
        fs.set_attributes(file, only_group, NOW).expect("change");
        let then = fs.attributes(file).expect("attributes");
        assert_eq!(then, unikernel_vfs::Attributes { group: 21, ..now });
        let nonsense = Timestamp { seconds: 0, nanoseconds: 0x3fff_ffff };
        let change = AttributeChange { accessed: Some(nonsense), ..AttributeChange::default() };
        assert_eq!(fs.set_attributes(file, change, NOW), Err(Error::Invalid));
        assert_unmounts(fs, &link);
    }
}

#[test]
fn special_files_keep_their_numbers_and_are_never_opened() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        let device = 0xabc1_23de;
        let kinds = [
            (NewKind::Fifo, FileKind::Fifo, 0),
            (NewKind::Socket, FileKind::Socket, 0),
            (NewKind::CharacterDevice(device), FileKind::CharacterDevice, device),
            (NewKind::BlockDevice(device), FileKind::BlockDevice, device),
        ];
        for (number, (new, kind, device)) in kinds.into_iter().enumerate() {
            let name = [b'a' + number as u8];
            let made = fs.create(ROOT, &name, node(new), NOW).expect("create");
            let attributes = fs.attributes(made).expect("attributes");
            assert_eq!((attributes.kind, attributes.device), (kind, device));
            assert_eq!(fs.read(made, 0, &mut [0; 9]), Err(Error::Invalid));
            assert_eq!(fs.write(made, 0, &[0; 9]), Err(Error::Invalid));
            assert_eq!(fs.set_size(made, 0, NOW), Err(Error::Invalid));
            assert_eq!(fs.sync_inode(made, Sync::All, NOW), Ok(()));
        }
        assert_eq!(fs.read(ROOT, 0, &mut [0; 9]), Err(Error::IsADirectory));
        assert_unmounts(fs, &link);
    }
}

#[test]
fn owner_and_permissions_are_given_to_what_is_made() {
    for refuses_chown in [false, true] {
        let (mut fs, link) = mounted_from(Server { refuses_chown, ..Server::new(Style::Qemu) });
        let wanted = unikernel_vfs::NewNode { permissions: 0o4711, user: 77, ..node(NewKind::File) };
        let made = fs.create(ROOT, b"data", wanted, NOW).expect("create");
        let attributes = fs.attributes(made).expect("attributes");
        assert_eq!(attributes.user, if refuses_chown { 0 } else { 77 });
        assert_eq!(attributes.permissions, 0o4711);
        assert_unmounts(fs, &link);
    }
}

#[test]
fn extended_attributes() {
    for style in STYLES {
        let (mut fs, link) = mounted_from(Server { most_content: 5000, ..Server::new(style) });
        let file = fs.create(ROOT, b"data", node(NewKind::File), NOW).expect("create");
        assert_eq!(fs.extended_attribute_names(file), Ok(Vec::new()));
        assert_eq!(fs.extended_attribute(file, b"user.a"), Err(Error::NoAttribute));
        let long = pattern(3, 65536);
        fs.set_extended_attribute(file, b"user.a", b"short", NOW).expect("set");
        fs.set_extended_attribute(file, b"user.b", &long, NOW).expect("set");
        fs.set_extended_attribute(file, b"user.a", b"other", NOW).expect("set again");
        assert_eq!(fs.extended_attribute(file, b"user.a"), Ok(b"other".to_vec()));
        assert_eq!(fs.extended_attribute_names(file), Ok(vec![b"user.a".to_vec(), b"user.b".to_vec()]));
        assert_eq!(fs.set_extended_attribute(file, b"user.c", b"", NOW), Err(Error::Unsupported));
        assert_eq!(fs.set_extended_attribute(file, b"", b"x", NOW), Err(Error::Invalid));
        assert_eq!(fs.set_extended_attribute(file, b"user.c", &[0; 65537], NOW), Err(Error::TooLarge));
        assert_eq!(fs.set_extended_attribute(file, &[b'u'; 256], b"x", NOW), Err(Error::NameTooLong));
        assert_eq!(fs.remove_extended_attribute(file, b"user.c", NOW), Err(Error::NoAttribute));
        fs.remove_extended_attribute(file, b"user.a", NOW).expect("remove");
        assert_eq!(fs.extended_attribute_names(file), Ok(vec![b"user.b".to_vec()]));
        let link_to = fs.create(ROOT, b"link", node(NewKind::Symlink(b"data")), NOW).expect("symlink");
        assert_eq!(fs.read_link(link_to), Ok(b"data".to_vec()));
        assert_unmounts(fs, &link);
    }
}

#[test]
fn long_extended_attribute_comes_back_whole() {
    let (mut fs, link) = mounted(Style::Diod);
    let file = fs.create(ROOT, b"data", node(NewKind::File), NOW).expect("create");
    let long = pattern(3, 65536);
    fs.set_extended_attribute(file, b"user.b", &long, NOW).expect("set");
    assert_eq!(fs.extended_attribute(file, b"user.b"), Ok(long));
    assert_unmounts(fs, &link);
}

#[test]
fn statistics_are_in_blocks_of_a_page() {
    let (mut fs, _link) = mounted(Style::Qemu);
    let all = fs.statistics().expect("statistics");
    // The server counts in blocks of 12288 bytes.
    assert_eq!(
        (all.block_bytes, all.blocks, all.free_blocks, all.available_blocks),
        (4096, 3000, 1800, 1500)
    );
    assert_eq!((all.inodes, all.free_inodes), (77, 66));
    assert_eq!(all.block_bytes, fs.block_bytes());
}

#[test]
fn what_changed_is_made_durable() {
    for style in STYLES {
        let (mut fs, link) = mounted(style);
        assert!(!fs.has_uncommitted());
        let directory = fs.create(ROOT, b"d", node(NewKind::Directory), NOW).expect("mkdir");
        let file = fs.create(directory, b"data", node(NewKind::File), NOW).expect("create");
        fs.write(file, 0, b"x").expect("write");
        assert!(fs.has_uncommitted());
        fs.sync_inode(file, Sync::Data, NOW).expect("fdatasync");
        assert_eq!(link.server().synced, [file.0].into());
        fs.commit(NOW).expect("commit");
        assert!(link.server().synced.is_superset(&[ROOT.0, directory.0, file.0].into()));
        assert!(!fs.has_uncommitted());
        assert_unmounts(fs, &link);
    }
}

#[test]
fn forgotten_changes_are_durable() {
    let (mut fs, link) = mounted(Style::Qemu);
    for number in 0..600 {
        let name = std::format!("file{number}");
        let file = fs.create(ROOT, name.as_bytes(), node(NewKind::File), NOW).expect("create");
        fs.write(file, 0, b"x").expect("write");
        assert!(fs.nodes.idle_count() <= 256);
        assert!(link.server().fid_count() <= 2 * 256 + 3);
    }
    fs.commit(NOW).expect("commit");
    assert_eq!(link.server().synced.len(), 601);
    assert_unmounts(fs, &link);
}

#[test]
fn an_error_of_making_forgotten_changes_durable_is_told() {
    let (mut fs, link) = mounted(Style::Qemu);
    for number in 0..256 {
        let name = std::format!("file{number}");
        let file = fs.create(ROOT, name.as_bytes(), node(NewKind::File), NOW).expect("create");
        fs.write(file, 0, b"x").expect("write");
    }
    // The first request after the walk that makes room is the Tfsync.
    link.server()
        .tree
        .create(ROOT.0, b"one more", Inode { mode: S_IFREG, ..Inode::default() })
        .expect("file");
    let next = link.server().requests() + 2;
    link.server().fault = Some((next, super::server::Fault::Refuse));
    fs.lookup(ROOT, b"one more").expect("lookup");
    assert_eq!(crate::errno::error(EIO), Error::Device);
    assert_eq!(fs.commit(NOW), Err(Error::Device));
    assert_eq!(fs.commit(NOW), Ok(()));
}

#[test]
fn files_are_opened_as_their_permissions_allow() {
    for style in STYLES {
        let (mut fs, link) = mounted_from(Server { checks_permissions: true, ..Server::new(style) });
        for (name, mode) in [("r", 0o400), ("w", 0o200), ("none", 0)] {
            let inode = Inode { mode: S_IFREG | mode, data: b"abc".to_vec(), ..Inode::default() };
            link.server().tree.create(ROOT.0, name.as_bytes(), inode).expect("file");
        }
        let mut back = [0; 9];
        let file = fs.lookup(ROOT, b"r").expect("lookup");
        assert_eq!(fs.read(file, 0, &mut back), Ok(3));
        assert_eq!(fs.write(file, 0, b"x"), Err(Error::Denied));
        let file = fs.lookup(ROOT, b"w").expect("lookup");
        assert_eq!(fs.read(file, 0, &mut back), Err(Error::Denied));
        assert_eq!(fs.write(file, 0, b"xyz"), Ok(()));
        assert_eq!(fs.read(file, 0, &mut back), Err(Error::Denied));
        let file = fs.lookup(ROOT, b"none").expect("lookup");
        assert_eq!(fs.read(file, 0, &mut back), Err(Error::Denied));
        assert_eq!(fs.write(file, 0, b"x"), Err(Error::Denied));
        fs.set_attributes(file, AttributeChange { group: Some(3), ..AttributeChange::default() }, NOW)
            .expect("change");
        assert_unmounts(fs, &link);
    }
}

#[test]
fn read_only_sends_nothing_that_changes() {
    let server = Server::new(Style::Qemu);
    let link = super::Link::new(server);
    let inode = Inode { mode: S_IFREG | 0o644, data: b"abc".to_vec(), ..Inode::default() };
    link.server().tree.create(ROOT.0, b"data", inode).expect("file");
    let options = crate::MountOptions { is_read_only: true, ..crate::MountOptions::default() };
    let mut fs = crate::P9::mount(link.clone(), &options).expect("mount");
    assert!(fs.is_read_only());
    let file = fs.lookup(ROOT, b"data").expect("lookup");
    let before = link.server().requests();
    let refused = [
        fs.write(file, 0, b"x"),
        fs.set_size(file, 0, NOW),
        fs.set_attributes(file, AttributeChange { user: Some(1), ..AttributeChange::default() }, NOW),
        fs.create(ROOT, b"new", node(NewKind::File), NOW).map(drop),
        fs.create(ROOT, b"new", node(NewKind::Directory), NOW).map(drop),
        fs.link(file, ROOT, b"new", NOW),
        fs.unlink(ROOT, b"data", NOW),
        fs.remove_directory(ROOT, b"data", NOW),
        fs.rename(ROOT, b"data", ROOT, b"new", unikernel_vfs::RenameMode::Replace, NOW),
        fs.set_extended_attribute(file, b"user.a", b"x", NOW),
        fs.set_extended_attribute(file, b"user.a", b"", NOW),
        fs.remove_extended_attribute(file, b"user.a", NOW),
    ];
    assert_eq!(refused, [Err(Error::ReadOnly); 12]);
    assert_eq!(fs.sync_inode(file, Sync::All, NOW), Ok(()));
    assert_eq!(link.server().requests(), before);
    assert_eq!(fs.read(file, 0, &mut [0; 9]), Ok(3));
    assert_unmounts(fs, &link);
}

#[test]
fn numbers_that_were_never_told_are_not_found() {
    let (mut fs, link) = mounted(Style::Qemu);
    let unknown = InodeNumber(4711);
    assert_eq!(fs.attributes(unknown), Err(Error::NotFound));
    assert_eq!(fs.open(unknown), Err(Error::NotFound));
    assert_eq!(fs.close(unknown, NOW), Err(Error::NotFound));
    assert_eq!(fs.read(unknown, 0, &mut [0]), Err(Error::NotFound));
    assert_eq!(fs.lookup(unknown, b"x"), Err(Error::NotFound));
    // The root stays, however often it is closed.
    assert_eq!(fs.close(ROOT, NOW), Err(Error::Invalid));
    assert!(fs.attributes(ROOT).is_ok());
    assert_unmounts(fs, &link);
}
