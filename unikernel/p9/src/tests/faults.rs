//! Each operation with a fault at each of its requests: what is left is whole, and no fid is lost.

use core::ops::ControlFlow;
use std::vec;

use unikernel_vfs::{
    AttributeChange, ByteStorage, Error, FileSystem, InodeNumber, NewKind, NewNode, RenameMode, Sync,
};

use super::server::{Fault, Link, Server, Style};
use super::tree::{Inode, S_IFDIR, S_IFLNK, S_IFREG, Tree};
use super::{NOW, ROOT, STYLES, node};
use crate::{MountOptions, P9};

type Operation = fn(&mut P9) -> Result<(), Error>;

fn lookup(fs: &mut P9, name: &str) -> Result<InodeNumber, Error> {
    fs.lookup(ROOT, name.as_bytes())
}

/// Looks a file up and holds it while something is done.
fn held(
    fs: &mut P9,
    name: &str,
    then: impl FnOnce(&mut P9, InodeNumber) -> Result<(), Error>,
) -> Result<(), Error> {
    let number = lookup(fs, name)?;
    fs.open(number)?;
    let result = then(fs, number);
    fs.close(number, NOW).expect("close what is open");
    result
}

fn create(fs: &mut P9, kind: NewKind<'_>) -> Result<(), Error> {
    let new = NewNode { user: 5, group: 6, permissions: 0o6755, ..node(kind) };
    fs.create(ROOT, b"new", new, NOW).map(drop)
}

/// What changes nothing if it fails.
const OPERATIONS: &[(&str, Operation)] = &[
    ("attributes", |fs| lookup(fs, "file").and_then(|file| fs.attributes(file)).map(drop)),
    ("parent", |fs| {
        let below = lookup(fs, "full").and_then(|full| fs.lookup(full, b"below"))?;
        fs.lookup(below, b"..").map(drop)
    }),
    ("read", |fs| lookup(fs, "file").and_then(|file| fs.read(file, 0, &mut [0; 20_000])).map(drop)),
    ("write", |fs| lookup(fs, "file").and_then(|file| fs.write(file, 3, b"bytes"))),
    ("shorten", |fs| lookup(fs, "file").and_then(|file| fs.set_size(file, 1, NOW))),
    ("change", |fs| {
        let file = lookup(fs, "file")?;
        fs.set_attributes(file, AttributeChange { user: Some(3), ..AttributeChange::default() }, NOW)
    }),
    ("read link", |fs| lookup(fs, "link").and_then(|link| fs.read_link(link)).map(drop)),
    ("create file", |fs| create(fs, NewKind::File)),
    ("create directory", |fs| create(fs, NewKind::Directory)),
    ("create link", |fs| create(fs, NewKind::Symlink(b"to"))),
    ("create device", |fs| create(fs, NewKind::BlockDevice(0x801))),
    ("link", |fs| lookup(fs, "file").and_then(|file| fs.link(file, ROOT, b"new", NOW))),
    ("unlink", |fs| fs.unlink(ROOT, b"file", NOW)),
    ("unlink what is held", |fs| held(fs, "file", |fs, _| fs.unlink(ROOT, b"file", NOW))),
    ("remove directory", |fs| fs.remove_directory(ROOT, b"empty", NOW)),
    ("rename", |fs| fs.rename(ROOT, b"file", ROOT, b"new", RenameMode::NoReplace, NOW)),
    ("rename over what is held", |fs| {
        held(fs, "file", |fs, _| fs.rename(ROOT, b"link", ROOT, b"file", RenameMode::Replace, NOW))
    }),
    ("move directory", |fs| {
        let full = lookup(fs, "full")?;
        let below = fs.lookup(full, b"below")?;
        fs.rename(ROOT, b"full", ROOT, b"new", RenameMode::Replace, NOW)?;
        // The move stays, whatever becomes of this.
        let _ = fs.attributes(below);
        Ok(())
    }),
    ("list", |fs| {
        let full = lookup(fs, "full")?;
        fs.entries(full, 0, &mut |_| ControlFlow::Continue(()))
    }),
    ("use what a listing told", |fs| {
        let full = lookup(fs, "full")?;
        let mut below = full;
        fs.entries(full, 0, &mut |entry| {
            below = entry.inode;
            ControlFlow::Continue(())
        })?;
        fs.attributes(below).map(drop)
    }),
    ("get attribute", |fs| {
        lookup(fs, "file").and_then(|file| fs.extended_attribute(file, b"user.old")).map(drop)
    }),
    ("list attributes", |fs| lookup(fs, "file").and_then(|file| fs.extended_attribute_names(file)).map(drop)),
    ("set attribute", |fs| {
        let file = lookup(fs, "file")?;
        fs.set_extended_attribute(file, b"user.new", &[1; 20_000], NOW)
    }),
    ("remove attribute", |fs| {
        lookup(fs, "file").and_then(|file| fs.remove_extended_attribute(file, b"user.old", NOW))
    }),
    ("statistics", |fs| fs.statistics().map(drop)),
    ("sync", |fs| lookup(fs, "file").and_then(|file| fs.sync_inode(file, Sync::All, NOW))),
    ("sync directory", |fs| lookup(fs, "full").and_then(|full| fs.sync_inode(full, Sync::All, NOW))),
];

fn server(style: Style, is_old: bool) -> Server {
    let mut server = Server { is_old, ..Server::new(style) };
    let tree = &mut server.tree;
    let mut file = Inode { mode: S_IFREG | 0o644, data: vec![7; 20_000], ..Inode::default() };
    file.attributes.insert(b"user.old".to_vec(), vec![9; 10_000]);
    let directory = Inode { mode: S_IFDIR | 0o755, ..Inode::default() };
    tree.create(ROOT.0, b"file", file).expect("file");
    tree.create(ROOT.0, b"empty", directory.clone()).expect("directory");
    let full = tree.create(ROOT.0, b"full", directory.clone()).expect("directory");
    tree.create(full, b"below", directory).expect("directory");
    let link = Inode { mode: S_IFLNK | 0o777, data: b"to".to_vec(), ..Inode::default() };
    tree.create(ROOT.0, b"link", link).expect("link");
    server
}

/// Each kind of server, with and without the newer requests.
fn servers() -> impl Iterator<Item = (Style, bool)> {
    STYLES.into_iter().flat_map(|style| [(style, false), (style, true)])
}

/// What can be seen of a tree: without the marks of who has files open, and the next number.
fn seen(tree: &Tree) -> std::collections::BTreeMap<u64, Inode> {
    let mut inodes = tree.inodes.clone();
    inodes.retain(|_, inode| inode.links > 0);
    inodes.values_mut().for_each(|inode| inode.holds = 0);
    inodes
}

struct Outcome {
    result: Result<(), Error>,
    requests: usize,
    fids_left: usize,
    is_as_before: bool,
}

/// Does an operation on a new mount, with a fault at one of its requests, counted from 1, and unmounts.
fn run((style, is_old): (Style, bool), operation: Operation, fault: Option<(usize, Fault)>) -> Outcome {
    let link = Link::new(server(style, is_old));
    let options = MountOptions { message_bytes: 8192, ..MountOptions::default() };
    let mut fs = P9::mount(link.clone(), &options).expect("mount");
    let start = link.server().requests();
    let before = seen(&link.server().tree);
    link.server().fault = fault.map(|(at, fault)| (start + at, fault));
    let result = operation(&mut fs);
    let requests = link.server().requests() - start;
    link.server().fault = None;
    let is_as_before = seen(&link.server().tree) == before;
    fs.unmount(NOW).expect("unmount");
    let fids_left = link.server().fid_count();
    Outcome { result, requests, fids_left, is_as_before }
}

#[test]
fn a_refused_request_leaves_no_fid_and_no_change() {
    for style in servers() {
        for (name, operation) in OPERATIONS {
            let whole = run(style, *operation, None);
            assert_eq!((whole.result, whole.fids_left), (Ok(()), 0), "{name}");
            let mut failures = 0;
            for at in 1..=whole.requests {
                let outcome = run(style, *operation, Some((at, Fault::Refuse)));
                assert_eq!(outcome.fids_left, 0, "{name}, {style:?}, request {at}");
                if outcome.result.is_err() {
                    failures += 1;
                    assert!(outcome.is_as_before, "{name}, {style:?}, request {at}: {:?}", outcome.result);
                }
            }
            assert!(failures > 0, "{name}: no fault was noticed");
        }
    }
}

#[test]
fn a_request_without_reply_leaves_one_fid_at_most() {
    for style in servers() {
        for (name, operation) in OPERATIONS {
            let requests = run(style, *operation, None).requests;
            for at in 1..=requests {
                for fault in [Fault::LoseRequest, Fault::LoseReply] {
                    let outcome = run(style, *operation, Some((at, fault)));
                    assert!(outcome.fids_left <= 1, "{name}, {style:?}, request {at}, {fault:?}");
                    assert!(
                        matches!(outcome.result, Ok(()) | Err(Error::Device)),
                        "{name}: {:?}",
                        outcome.result
                    );
                }
            }
        }
    }
}

#[test]
fn a_server_that_has_gone_is_an_error_of_the_device() {
    struct Gone;
    impl crate::Transport for Gone {
        fn exchange(&mut self, _: &[u8], _: &mut [u8]) -> Result<usize, crate::TransportError> {
            Err(crate::TransportError)
        }
    }
    assert!(P9::mount(Gone, &MountOptions::default()).is_err());
    for (name, operation) in OPERATIONS {
        let link = Link::new(server(Style::Qemu, false));
        let mut fs = P9::mount(link.clone(), &MountOptions::default()).expect("mount");
        let file = lookup(&mut fs, "file").expect("lookup");
        fs.open(file).expect("open");
        link.server().is_gone = true;
        assert_eq!(operation(&mut fs), Err(Error::Device), "{name}");
        assert_eq!(fs.read(file, 0, &mut [0; 9]), Err(Error::Device));
        fs.close(file, NOW).expect("close");
        let _ = fs.unmount(NOW);
    }
}
