//! One operation after the other, and what `e2fsck` says about the result.

use std::string::ToString;
use std::vec::Vec;

use super::*;
use crate::{Error, FileKind, RenameMode};

#[test]
fn fresh_filesystem_is_clean() {
    for (kib, block_bytes) in
        [(2100, 1024), (9 << 10, 1024), (20 << 10, 2048), (64 << 10, 4096), (300 << 10, 1024)]
    {
        assert_clean(&formatted(kib, block_bytes).image());
    }
}

#[test]
fn mounted_and_unmounted_is_clean() {
    let device = formatted(8 << 10, 1024);
    let mut fs = mounted(&device);
    fs.unmount(at(2)).expect("unmount");
    assert_clean(&device.image());
}

#[test]
fn big_directory_is_indexed_found_and_emptied() {
    for (block_bytes, count) in [(1024, 6000), (4096, 30000)] {
        let device = formatted(160 << 10, block_bytes);
        let mut fs = mounted(&device);
        let parent = fs.create(ROOT, b"many", directory(), at(2)).expect("mkdir");
        for number in 0..count {
            let name = std::format!("file-{number:08}");
            fs.create(parent, name.as_bytes(), file(), at(2)).expect("create");
        }
        for number in 0..count {
            let name = std::format!("file-{number:08}");
            fs.lookup(parent, name.as_bytes()).expect("lookup");
        }
        let mut seen = 0;
        fs.entries(parent, 0, &mut |_| {
            seen += 1;
            core::ops::ControlFlow::Continue(())
        })
        .expect("list");
        assert_eq!(seen, count + 2);
        fs.unmount(at(3)).expect("unmount");
        assert_clean(&device.image());
        let mut fs = mounted(&device);
        let parent = fs.lookup(ROOT, b"many").expect("lookup");
        for number in 0..count {
            let name = std::format!("file-{number:08}");
            fs.unlink(parent, name.as_bytes(), at(4)).expect("unlink");
        }
        assert_eq!(fs.remove_directory(ROOT, b"many", at(5)), Ok(()));
        fs.unmount(at(6)).expect("unmount");
        assert_clean(&device.image());
    }
}

#[test]
fn content_is_read_back() {
    for block_bytes in [1024, 4096] {
        let device = formatted(64 << 10, block_bytes);
        let mut fs = mounted(&device);
        let inode = fs.create(ROOT, b"data", file(), at(2)).expect("create");
        let bytes = pattern(1, 3_000_001);
        assert_eq!(fs.write_at(inode, 12345, &bytes, at(3)), Ok(bytes.len()));
        let mut back = std::vec![1; bytes.len() + 12345];
        assert_eq!(fs.read_at(inode, 0, &mut back), Ok(back.len()));
        assert!(back[..12345].iter().all(|byte| *byte == 0));
        assert!(back[12345..] == bytes[..]);
        fs.unmount(at(4)).expect("unmount");
        assert_clean(&device.image());
        assert!(debugfs(&device.image(), "stat data").contains("Size: 3012346"));
    }
}

#[test]
fn fragmented_file_has_a_deep_tree_and_shrinks_again() {
    let device = formatted(64 << 10, 1024);
    let mut fs = mounted(&device);
    let inode = fs.create(ROOT, b"sparse", file(), at(2)).expect("create");
    for number in 0..4000u64 {
        fs.write_at(inode, number * 7 * 1024, &pattern(number, 1024), at(3)).expect("write");
    }
    for number in (0..4000u64).rev().step_by(3) {
        let mut back = std::vec![0; 1024];
        fs.read_at(inode, number * 7 * 1024, &mut back).expect("read");
        assert_eq!(back, pattern(number, 1024));
    }
    fs.commit(at(4)).expect("commit");
    fs.set_size(inode, 7 * 1024 * 1000 + 100, at(5)).expect("truncate");
    fs.punch(inode, 50_000, 3_000_000, at(6)).expect("punch");
    fs.allocate_range(inode, 0, 1 << 20, true, at(7)).expect("fallocate");
    fs.unmount(at(8)).expect("unmount");
    assert_clean(&device.image());
    let mut fs = mounted(&device);
    let inode = fs.lookup(ROOT, b"sparse").expect("lookup");
    fs.set_size(inode, 0, at(9)).expect("truncate");
    assert_eq!(fs.attributes(inode).expect("stat").blocks_512, 0);
    fs.unmount(at(10)).expect("unmount");
    assert_clean(&device.image());
}

#[test]
fn links_are_counted_and_kept() {
    let device = formatted(8 << 10, 1024);
    let mut fs = mounted(&device);
    let inode = fs.create(ROOT, b"a", file(), at(2)).expect("create");
    fs.link(inode, ROOT, b"b", at(2)).expect("link");
    assert_eq!(fs.attributes(inode).expect("stat").links, 2);
    let long = std::vec![b'x'; 200];
    for (name, target) in [(b"fast".as_slice(), b"target".as_slice()), (b"slow", &long)] {
        let node = NewNode { kind: NewKind::Symlink(target), ..file() };
        let link = fs.create(ROOT, name, node, at(2)).expect("symlink");
        assert_eq!(fs.read_link(link).expect("readlink"), target);
    }
    let device_node = NewNode { kind: NewKind::BlockDevice(0x0fe3_0012), ..file() };
    let node = fs.create(ROOT, b"node", device_node, at(2)).expect("mknod");
    assert_eq!(fs.attributes(node).expect("stat").device, 0x0fe3_0012);
    assert_eq!(fs.attributes(node).expect("stat").kind, FileKind::BlockDevice);
    fs.unlink(ROOT, b"slow", at(3)).expect("unlink");
    fs.unmount(at(3)).expect("unmount");
    assert_clean(&device.image());
}

#[test]
fn renames_keep_the_tree_whole() {
    let device = formatted(8 << 10, 1024);
    let mut fs = mounted(&device);
    let one = fs.create(ROOT, b"one", directory(), at(2)).expect("mkdir");
    let two = fs.create(ROOT, b"two", directory(), at(2)).expect("mkdir");
    let inner = fs.create(one, b"inner", directory(), at(2)).expect("mkdir");
    let data = fs.create(inner, b"data", file(), at(2)).expect("create");
    assert_eq!(fs.rename(ROOT, b"one", inner, b"x", RenameMode::Replace, at(3)), Err(Error::Invalid));
    fs.rename(one, b"inner", two, b"moved", RenameMode::Replace, at(3)).expect("rename");
    assert_eq!(fs.parent(inner), Ok(two));
    let other = fs.create(two, b"other", file(), at(3)).expect("create");
    fs.open(other).expect("open");
    fs.rename(inner, b"data", two, b"other", RenameMode::Replace, at(3)).expect("rename over an open file");
    fs.write_at(other, 0, b"still here", at(3)).expect("write");
    fs.commit(at(3)).expect("commit");
    assert_eq!(fs.lookup(two, b"other"), Ok(data));
    fs.close(other, at(3)).expect("close");
    assert_eq!(fs.attributes(other), Err(Error::NotFound));
    fs.rename(ROOT, b"one", two, b"other", RenameMode::Exchange, at(4)).expect("exchange");
    assert_eq!(fs.lookup(ROOT, b"one"), Ok(data));
    assert_eq!(fs.rename(two, b"other", ROOT, b"one", RenameMode::NoReplace, at(5)), Err(Error::Exists));
    assert_eq!(fs.remove_directory(ROOT, b"two", at(5)), Err(Error::NotEmpty));
    fs.unmount(at(6)).expect("unmount");
    assert_clean(&device.image());
}

#[test]
fn attributes_fill_the_inode_and_a_block() {
    let device = formatted(8 << 10, 1024);
    let mut fs = mounted(&device);
    let inode = fs.create(ROOT, b"a", file(), at(2)).expect("create");
    for (number, len) in [(1, 10), (2, 60), (3, 300), (4, 0), (5, 200)] {
        let name = std::format!("user.name{number}");
        fs.set_attribute(inode, name.as_bytes(), &pattern(number, len), at(2)).expect("set");
    }
    fs.set_attribute(inode, b"security.selinux", b"label", at(2)).expect("set");
    assert_eq!(fs.set_attribute(inode, b"user.big", &[0; 2000], at(2)), Err(Error::NoSpace));
    assert_eq!(fs.attribute(inode, b"user.name3"), Ok(pattern(3, 300)));
    fs.remove_attribute(inode, b"user.name1", at(3)).expect("remove");
    assert_eq!(fs.attribute(inode, b"user.name1"), Err(Error::NoAttribute));
    assert_eq!(fs.attribute_names(inode).expect("list").len(), 5);
    fs.unmount(at(3)).expect("unmount");
    assert_clean(&device.image());
    let text = debugfs(&device.image(), "ea_list a");
    assert!(text.contains("security.selinux") && text.contains("user.name5 (200)"), "{text}");
    let mut fs = mounted(&device);
    fs.unlink(ROOT, b"a", at(4)).expect("unlink");
    fs.unmount(at(5)).expect("unmount");
    assert_clean(&device.image());
}

#[test]
fn full_disk_says_so_and_stays_whole() {
    let device = formatted(4 << 10, 1024);
    let mut fs = mounted(&device);
    let inode = fs.create(ROOT, b"a", file(), at(2)).expect("create");
    let bytes = pattern(1, 100_000);
    let mut offset = 0;
    while let Ok(len) = fs.write_at(inode, offset, &bytes, at(2)) {
        offset += len as u64;
    }
    assert_eq!(fs.write_at(inode, offset, &bytes, at(2)), Err(Error::NoSpace));
    fs.unlink(ROOT, b"a", at(3)).expect("unlink");
    let inode = fs.create(ROOT, b"b", file(), at(3)).expect("create");
    // The blocks are free only after a commit, which the filesystem must make by itself.
    fs.write_at(inode, 0, &bytes, at(3)).expect("write");
    let mut count = 0;
    while fs.create(ROOT, count.to_string().as_bytes(), file(), at(3)).is_ok() {
        count += 1;
    }
    assert!(count > 100);
    fs.unmount(at(4)).expect("unmount");
    assert_clean(&device.image());
}

#[test]
fn listing_in_pieces_tells_each_name_once() {
    let device = formatted(16 << 10, 1024);
    let mut fs = mounted(&device);
    let keep: Vec<_> = (0..400).map(|number| std::format!("keep-{number}")).collect();
    for name in &keep {
        fs.create(ROOT, name.as_bytes(), file(), at(2)).expect("create");
    }
    let (mut cookie, mut seen, mut round) = (0, Vec::new(), 0);
    loop {
        let mut got = 0;
        fs.entries(ROOT, cookie, &mut |entry| {
            seen.push(String::from_utf8_lossy(entry.name).to_string());
            cookie = entry.next_cookie;
            got += 1;
            if got == 7 { core::ops::ControlFlow::Break(()) } else { core::ops::ControlFlow::Continue(()) }
        })
        .expect("list");
        if got == 0 {
            break;
        }
        // Splits leaves under the reader's feet.
        for extra in 0..5 {
            fs.create(ROOT, std::format!("extra-{round}-{extra}").as_bytes(), file(), at(2)).expect("create");
        }
        round += 1;
    }
    for name in &keep {
        assert_eq!(seen.iter().filter(|other| *other == name).count(), 1, "{name}");
    }
}

#[test]
fn unnamed_file_gets_a_name_or_ends() {
    let device = formatted(8 << 10, 1024);
    let mut fs = mounted(&device);
    let free = fs.statistics().free_inodes;
    let kept = fs.create_unnamed(ROOT, file(), at(2)).expect("create");
    let lost = fs.create_unnamed(ROOT, file(), at(2)).expect("create");
    let bytes = pattern(7, 3000);
    for inode in [kept, lost] {
        fs.write_at(inode, 0, &bytes, at(3)).expect("write");
        assert_eq!(fs.attributes(inode).expect("attributes").links, 0);
    }
    fs.link(kept, ROOT, b"kept", at(4)).expect("link");
    fs.close(kept, at(5)).expect("close");
    fs.close(lost, at(5)).expect("close");
    assert_eq!(fs.statistics().free_inodes, free - 1);
    // One more that is still open when the power goes.
    fs.create_unnamed(ROOT, file(), at(6)).expect("create");
    fs.commit(at(6)).expect("commit");
    drop(fs);
    let mut fs = mounted(&device);
    assert_eq!(fs.statistics().free_inodes, free - 1);
    let found = fs.lookup(ROOT, b"kept").expect("lookup");
    let mut read = std::vec![0; 3000];
    assert_eq!(fs.read_at(found, 0, &mut read), Ok(3000));
    assert_eq!(read, bytes);
    fs.unmount(at(7)).expect("unmount");
    assert_clean(&device.image());
}

#[test]
fn trim_discards_what_is_free_and_nothing_else() {
    let device = formatted(20 << 10, 1024);
    let mut fs = mounted(&device);
    let inode = fs.create(ROOT, b"kept", file(), at(2)).expect("create");
    let bytes = pattern(5, 300_000);
    fs.write_at(inode, 0, &bytes, at(2)).expect("write");
    let gone = fs.create(ROOT, b"gone", file(), at(2)).expect("create");
    fs.write_at(gone, 0, &pattern(6, 200_000), at(2)).expect("write");
    fs.unlink(ROOT, b"gone", at(3)).expect("unlink");
    let trimmed = fs.trim(0..u64::MAX, 1, at(3)).expect("trim");
    assert_eq!(trimmed, fs.statistics().free_blocks);
    assert_eq!(fs.trim(0..u64::MAX, u32::MAX, at(3)), Ok(0));
    fs.unmount(at(4)).expect("unmount");
    assert_clean(&device.image());
    let mut fs = mounted(&device);
    let inode = fs.lookup(ROOT, b"kept").expect("lookup");
    let mut read = std::vec![0; bytes.len()];
    assert_eq!(fs.read_at(inode, 0, &mut read), Ok(bytes.len()));
    assert_eq!(read, bytes);
}
