//! Images that `mke2fs` makes and `debugfs` changes: ours reads them, writes them, and replays their journals.

use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec::Vec;

use super::found::{Found, content_of};
use super::workload::resolve;
use super::*;
use crate::{Error, MountError};

/// An image that `mke2fs` has made.
fn made(arguments: &[&str], size: &str) -> Vec<u8> {
    let path = TempPath::new("made");
    let path_text = path.text();
    let mut all = std::vec!["-q", "-F"];
    all.extend(arguments);
    all.extend([path_text.as_str(), size]);
    let (code, text) = run("mke2fs", &all);
    assert_eq!(code, 0, "{text}");
    std::fs::read(&path.0).expect("the image can be read")
}

/// A folder with all that a folder can have; returns what is in it.
fn folder(path: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    use std::os::unix::fs::{FileExt, symlink};
    let mut files = BTreeMap::new();
    let mut add = |name: String, bytes: Vec<u8>| {
        std::fs::write(path.join(&name[1..]), &bytes).expect("the file can be written");
        files.insert(name, bytes);
    };
    std::fs::create_dir_all(path.join("many/deep/er")).expect("the folder can be made");
    for number in 0..2500 {
        let bytes = number.to_string().into_bytes();
        add(std::format!("/many/a-rather-long-file-name-{number}"), bytes);
    }
    add("/many/deep/er/big".into(), pattern(3, 2_345_678));
    add("/empty".into(), Vec::new());
    let sparse = std::fs::File::create(path.join("sparse")).expect("the file can be made");
    sparse.write_at(b"end", 3_000_000).expect("the file can be written");
    files.insert("/sparse".into(), std::fs::read(path.join("sparse")).expect("the file can be read"));
    std::fs::hard_link(path.join("many/deep/er/big"), path.join("linked")).expect("a link can be made");
    files.insert("/linked".into(), pattern(3, 2_345_678));
    symlink("many/deep", path.join("short")).expect("a link can be made");
    symlink("x/".repeat(100), path.join("long")).expect("a link can be made");
    files
}

#[test]
fn folder_written_by_mke2fs_is_read_and_changed() {
    for arguments in [["-b", "1024"], ["-b", "4096"], ["-O", "metadata_csum_seed,orphan_file"]] {
        let source = TempPath::new("folder");
        let files = folder(&source.0);
        let source_text = source.text();
        let mut all = std::vec!["-t", "ext4", "-d", source_text.as_str()];
        all.extend(arguments);
        let device = MemoryDevice::of(made(&all, "64M"));
        let mut fs = mounted(&device);
        let found = content_of(&mut fs);
        for (path, bytes) in &files {
            assert!(matches!(&found[path], Found::File(_, content) if content == bytes), "{path}");
        }
        assert_eq!(found["/short"], Found::Symlink(b"many/deep".to_vec()));
        assert_eq!(found["/long"], Found::Symlink("x/".repeat(100).into_bytes()));
        assert_eq!(found.len(), files.len() + 5);
        let many = resolve(&mut fs, "/many").expect("the folder is there");
        for number in 0..300 {
            fs.create(many, std::format!("new-{number}").as_bytes(), file(), at(2)).expect("create");
            let old = std::format!("a-rather-long-file-name-{}", number * 8);
            fs.unlink(many, old.as_bytes(), at(2)).expect("unlink");
        }
        fs.unlink(ROOT, b"linked", at(2)).expect("unlink");
        fs.unmount(at(3)).expect("unmount");
        assert_clean(&device.image());
    }
}

#[test]
fn directory_indexed_by_e2fsck_is_searched_and_grows() {
    let source = TempPath::new("folder");
    folder(&source.0);
    let path = TempPath::new("indexed");
    std::fs::write(&path.0, made(&["-t", "ext4", "-b", "1024", "-d", &source.text()], "32M")).expect("write");
    let (code, text) = run("e2fsck", &["-fyD", &path.text()]);
    assert!(code <= 1, "{text}");
    let device = MemoryDevice::of(std::fs::read(&path.0).expect("the image can be read"));
    let mut fs = mounted(&device);
    let many = resolve(&mut fs, "/many").expect("the folder is there");
    assert!(fs.directory(many).is_ok_and(|inode| fs.is_indexed(&inode)));
    for number in 0..2500 {
        let name = std::format!("a-rather-long-file-name-{number}");
        fs.lookup(many, name.as_bytes()).expect("lookup");
        fs.create(many, std::format!("{name}-2").as_bytes(), file(), at(2)).expect("create");
    }
    fs.unmount(at(3)).expect("unmount");
    assert_clean(&device.image());
}

#[test]
fn our_directory_index_satisfies_e2fsck_in_all_hashes() {
    for hash in ["legacy", "half_md4", "tea"] {
        let path = TempPath::new("hash");
        std::fs::write(&path.0, made(&["-t", "ext4", "-b", "1024"], "16M")).expect("write");
        run("tune2fs", &["-E", &std::format!("hash_alg={hash}"), &path.text()]);
        let device = MemoryDevice::of(std::fs::read(&path.0).expect("the image can be read"));
        let mut fs = mounted(&device);
        for number in 0..900 {
            let name = std::format!("\u{e4}-name-{number:0width$}", width = number % 40 + 1);
            fs.create(ROOT, name.as_bytes(), file(), at(2)).expect("create");
        }
        fs.unmount(at(3)).expect("unmount");
        assert_clean(&device.image());
    }
}

#[test]
fn older_and_plainer_filesystems_are_written() {
    let sets: [&[&str]; 7] = [
        &["-t", "ext4", "-O", "^metadata_csum,uninit_bg"],
        &["-t", "ext4", "-O", "^64bit,^metadata_csum,^flex_bg"],
        &["-t", "ext4", "-O", "^has_journal"],
        &["-t", "ext4", "-O", "^dir_index,^huge_file", "-I", "128"],
        &["-t", "ext4", "-O", "^resize_inode,meta_bg", "-b", "1024"],
        &["-t", "ext4", "-O", "sparse_super2", "-b", "1024"],
        &["-t", "ext4", "-O", "sparse_super2", "-b", "1024", "-E", "num_backup_sb=0"],
    ];
    for arguments in sets {
        let device = MemoryDevice::of(made(arguments, "40M"));
        let mut workload = super::workload::Workload::new(7);
        let mut fs = mounted(&device);
        for _ in 0..400 {
            workload.step(&mut fs);
        }
        for number in 0..200 {
            fs.create(ROOT, std::format!("file-{number}").as_bytes(), file(), at(2)).expect("create");
        }
        fs.unmount(at(3)).expect("unmount");
        assert_clean(&device.image());
    }
}

#[test]
fn journals_written_by_debugfs_are_replayed() {
    // A zeroed block for one file's block, which begins with the journal's magic number: stored escaped.
    let content = TempPath::new("content");
    let mut bytes = 0xc03b_3998_u32.to_be_bytes().to_vec();
    bytes.extend(pattern(5, 1020));
    std::fs::write(&content.0, &bytes).expect("write");
    for version in ["", "-v 2", "-v 3"] {
        let checksums = if version.is_empty() { "" } else { "-c " };
        let path = TempPath::new("journal");
        std::fs::write(&path.0, made(&["-t", "ext4", "-b", "1024"], "16M")).expect("write");
        let script = TempPath::new("script");
        let commands = std::format!(
            "jo {checksums}{version}\njw -b 9000 {file}\njw -b 9001 {file}\njw -r 9001 -b 9002 {file}\njc\n",
            file = content.text()
        );
        std::fs::write(&script.0, commands).expect("write");
        let (_, text) = run("debugfs", &["-w", "-f", &script.text(), &path.text()]);
        let device = MemoryDevice::of(std::fs::read(&path.0).expect("the image can be read"));
        let mut fs = mounted(&device);
        fs.unmount(at(2)).expect("unmount");
        let image = device.image();
        let block = |number: usize| &image[number * 1024..(number + 1) * 1024];
        assert_eq!(block(9000), bytes, "{version}\n{text}");
        assert_eq!(block(9001), [0; 1024], "{version}: a revoked block was replayed\n{text}");
        assert_eq!(block(9002), bytes, "{version}\n{text}");
        assert_clean(&image);
    }
}

#[test]
fn unknown_features_refuse_or_forbid_writing_by_name() {
    let refused = Ext4::mount(
        MemoryDevice::of(made(&["-t", "ext4", "-O", "inline_data"], "8M")),
        MountMode::ReadWrite,
        at(1),
    );
    assert_eq!(refused.err(), Some(MountError::UnknownFeature("inline_data".into())));
    let bigalloc = ["-t", "ext4", "-O", "bigalloc"];
    for (arguments, error) in [
        (&bigalloc[..], MountError::UnknownFeature("bigalloc".into())),
        (&["-t", "ext2"], MountError::MissingFeature("extent")),
        (&["-t", "ext3"], MountError::MissingFeature("extent")),
    ] {
        let refused = Ext4::mount(MemoryDevice::of(made(arguments, "64M")), MountMode::ReadWrite, at(1));
        assert_eq!(refused.err(), Some(error), "{arguments:?}");
    }
    let device = MemoryDevice::of(made(&["-t", "ext4", "-O", "quota"], "8M"));
    let mut fs = mounted(&device);
    assert_eq!(fs.read_only_feature(), Some("quota"));
    assert_eq!(fs.create(ROOT, b"a", file(), at(2)), Err(Error::ReadOnly));
    assert_eq!(
        Ext4::mount(MemoryDevice::new(1 << 20), MountMode::ReadOnly, at(1)).err(),
        Some(MountError::NotExt4)
    );
}

/// An ext3 that was given extents keeps files, and a journal, with block maps.
#[test]
fn block_maps_in_an_upgraded_filesystem_are_named() {
    for (kind, name) in
        [("ext2", "a root directory with a block map"), ("ext3", "a journal with a block map")]
    {
        let source = TempPath::new("folder");
        std::fs::create_dir(&source.0).expect("the folder can be made");
        std::fs::write(source.0.join("old"), pattern(1, 5000)).expect("write");
        let path = TempPath::new("upgraded");
        std::fs::write(&path.0, made(&["-t", kind, "-d", &source.text()], "16M")).expect("write");
        run("tune2fs", &["-O", "extent,huge_file", &path.text()]);
        let device = MemoryDevice::of(std::fs::read(&path.0).expect("the image can be read"));
        let refused = Ext4::mount(&device, MountMode::ReadWrite, at(1)).err();
        assert_eq!(refused, Some(MountError::UnknownFeature(name.into())));
    }
}

#[test]
fn times_outside_of_what_an_inode_holds_become_the_nearest() {
    let time = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
    for (inode_bytes, last, nanoseconds) in [("128", (1 << 31) - 1, 0), ("256", (1 << 34) - (1 << 31) - 1, 7)]
    {
        let device = MemoryDevice::of(made(&["-t", "ext4", "-I", inode_bytes], "8M"));
        let mut fs = mounted(&device);
        let inode = fs.create(ROOT, b"a", file(), at(2)).expect("create");
        let first = -(1 << 31);
        for (wanted, kept) in [
            (time(-1, 7), time(-1, nanoseconds)),
            (time(first - 1, 7), time(first, 0)),
            (time(last + 1, 7), time(last, 0)),
            (time(last - 1, 7), time(last - 1, nanoseconds)),
        ] {
            let change = crate::AttributeChange { modified: Some(wanted), ..Default::default() };
            fs.set_attributes(inode, change, at(2)).expect("set");
            assert_eq!(fs.attributes(inode).expect("attributes").modified, kept, "{inode_bytes}");
        }
        fs.unmount(at(3)).expect("unmount");
        let mut fs = mounted(&device);
        assert_eq!(fs.attributes(inode).expect("attributes").modified, time(last - 1, nanoseconds));
        fs.unmount(at(4)).expect("unmount");
        assert_clean(&device.image());
    }
}

#[test]
fn largest_file_is_linux_s() {
    let sets = [("huge_file", u64::from(u32::MAX) * 1024), ("^huge_file", (u64::from(u32::MAX) / 2) * 1024)];
    for (feature, most) in sets {
        let device = MemoryDevice::of(made(&["-t", "ext4", "-b", "1024", "-O", feature], "8M"));
        let mut fs = mounted(&device);
        assert_eq!(fs.max_file_bytes(), most);
        let inode = fs.create(ROOT, b"a", file(), at(2)).expect("create");
        assert_eq!(fs.write_at(inode, most - 10, &[1; 11], at(2)), Err(Error::TooLarge));
        assert_eq!(fs.set_size(inode, most + 1, at(2)), Err(Error::TooLarge));
        assert_eq!(fs.write_at(inode, most - 3000, &[1; 3000], at(2)), Ok(3000));
        assert_eq!(fs.allocate_range(inode, most - 5000, 5000, false, at(2)), Ok(()));
        let mut found = [0; 3001];
        assert_eq!(fs.read_at(inode, most - 3000, &mut found), Ok(3000));
        assert_eq!(fs.punch(inode, most - 1024, 1024, at(2)), Ok(()));
        fs.unmount(at(3)).expect("unmount");
        assert_clean(&device.image());
        let mut fs = mounted(&device);
        fs.set_size(inode, 1, at(4)).expect("truncate");
        fs.unmount(at(4)).expect("unmount");
        assert_clean(&device.image());
    }
}

#[test]
fn attributes_in_an_image_are_kept() {
    let path = TempPath::new("attributes");
    std::fs::write(&path.0, made(&["-t", "ext4"], "8M")).expect("write");
    let value = "v".repeat(300);
    let script = TempPath::new("script");
    let commands = std::format!("mkdir d\nea_set d user.small s\nea_set d user.large {value}\n");
    std::fs::write(&script.0, commands).expect("write");
    run("debugfs", &["-w", "-f", &script.text(), &path.text()]);
    let device = MemoryDevice::of(std::fs::read(&path.0).expect("the image can be read"));
    let mut fs = mounted(&device);
    let inode = fs.lookup(ROOT, b"d").expect("lookup");
    assert_eq!(fs.attribute(inode, b"user.small"), Ok(b"s".to_vec()));
    assert_eq!(fs.attribute(inode, b"user.large"), Ok(value.clone().into_bytes()));
    fs.create(inode, b"x", file(), at(2)).expect("create");
    fs.set_attribute(inode, b"user.third", b"3", at(2)).expect("set");
    fs.unmount(at(3)).expect("unmount");
    assert_clean(&device.image());
    assert!(debugfs(&device.image(), "ea_get d user.large").contains(&value));
}

#[test]
fn uninitialised_groups_are_filled_to_the_last_block() {
    let device = MemoryDevice::of(made(&["-t", "ext4", "-b", "1024"], "64M"));
    let mut fs = mounted(&device);
    let parent = fs.create(ROOT, b"many", directory(), at(2)).expect("mkdir");
    // More than four groups' inodes.
    for number in 0..9000 {
        fs.create(parent, number.to_string().as_bytes(), file(), at(2)).expect("create");
    }
    let inode = fs.create(ROOT, b"all", file(), at(2)).expect("create");
    let mut offset = 0;
    while fs.allocate_range(inode, offset, 1 << 20, false, at(2)).is_ok() {
        offset += 1 << 20;
    }
    assert!(offset > 50 << 20 && fs.statistics().available_blocks < 1024);
    fs.unmount(at(3)).expect("unmount");
    assert_clean(&device.image());
    let mut fs = mounted(&device);
    fs.unlink(ROOT, b"all", at(4)).expect("unlink");
    fs.commit(at(4)).expect("commit");
    assert!(fs.statistics().free_blocks > 50_000);
    fs.unmount(at(5)).expect("unmount");
    assert_clean(&device.image());
}
