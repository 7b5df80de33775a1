//! A server that lies: whatever it answers, there is an error or a result, after a bounded time.

use core::ops::ControlFlow;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use unikernel_vfs::{
    AttributeChange, ByteStorage, Error, FileSystem, InodeNumber, NewKind, RenameMode, Sync,
};

use super::server::{Link, Server, Style};
use super::tree::{Inode, S_IFREG};
use super::{NOW, ROOT, node};
use crate::{MountOptions, P9, Transport, TransportError};

/// Uses everything, whatever comes of it, through numbers that the server gives.
fn use_everything(fs: &mut P9) {
    let root = fs.root();
    let mut known = vec![root, InodeNumber(3)];
    let kinds = [NewKind::File, NewKind::Directory, NewKind::Symlink(b"to"), NewKind::Fifo];
    for (kind, name) in kinds.into_iter().zip([b"f", b"d", b"l", b"p"]) {
        known.extend(fs.create(root, name, node(kind), NOW));
        known.extend(fs.lookup(root, name));
    }
    let mut listed = 0;
    let mut told = Vec::new();
    let _ = fs.entries(root, 0, &mut |entry| {
        told.push(entry.inode);
        listed += 1;
        if listed == 50 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    known.extend(told.into_iter().take(4));
    for number in known {
        let is_open = fs.open(number).is_ok();
        let _ = fs.attributes(number);
        let _ = fs.write(number, 5, &[1; 9000]);
        let _ = fs.read(number, 0, &mut [0; 9000]);
        let _ = fs.set_size(number, 7, NOW);
        let _ = fs.read_link(number);
        let _ =
            fs.set_attributes(number, AttributeChange { user: Some(1), ..AttributeChange::default() }, NOW);
        let _ = fs.set_extended_attribute(number, b"user.a", &[5; 9000], NOW);
        let _ = fs.extended_attribute(number, b"user.a");
        let _ = fs.extended_attribute_names(number);
        let _ = fs.remove_extended_attribute(number, b"user.a", NOW);
        let _ = fs.sync_inode(number, Sync::All, NOW);
        let _ = fs.lookup(number, b"..");
        let _ = fs.link(number, root, b"h", NOW);
        let _ = fs.rename(root, b"h", number, b"h", RenameMode::Replace, NOW);
        let _ = fs.unlink(number, b"h", NOW);
        let _ = fs.remove_directory(root, b"d", NOW);
        if is_open {
            fs.close(number, NOW).expect("close what is open");
        }
    }
    let _ = fs.statistics();
    let _ = fs.commit(NOW);
    let _ = fs.unmount(NOW);
}

/// One way to spoil a reply.
#[derive(Clone, Copy, Debug)]
enum Spoil {
    Byte { at: usize, value: u8 },
    Word { at: usize, value: u32 },
    Cut { to: usize },
    Add { bytes: usize },
}

impl Spoil {
    /// Spoils a reply, but not its size, which would be noticed first.
    fn apply(self, reply: &mut Vec<u8>) {
        match self {
            Self::Byte { at, value } => {
                let at = at % reply.len();
                reply[at] = value;
            }
            Self::Word { at, value } => {
                let at = at % reply.len();
                for (byte, value) in reply[at..].iter_mut().zip(value.to_le_bytes()) {
                    *byte = value;
                }
            }
            Self::Cut { to } => reply.truncate(to.max(4)),
            Self::Add { bytes } => reply.resize(reply.len() + bytes, 0x41),
        }
        let len = reply.len() as u32;
        reply[..4].copy_from_slice(&len.to_le_bytes());
    }
}

fn spoil() -> impl Strategy<Value = Spoil> {
    prop_oneof![
        4 => (0usize..120, any::<u8>()).prop_map(|(at, value)| Spoil::Byte { at, value }),
        2 => (7usize..60, prop_oneof![any::<u32>(), Just(u32::MAX), Just(0), 0u32..70_000])
            .prop_map(|(at, value)| Spoil::Word { at, value }),
        1 => (0usize..60).prop_map(|to| Spoil::Cut { to }),
        1 => (1usize..9000).prop_map(|bytes| Spoil::Add { bytes }),
    ]
}

/// Answers every request with the right header and the same bytes, over and over.
struct Babbler {
    bytes: Vec<u8>,
    next: usize,
    requests: usize,
}

impl Transport for Babbler {
    fn exchange(&mut self, request: &[u8], reply: &mut [u8]) -> Result<usize, TransportError> {
        self.requests += 1;
        assert!(self.requests < 2_000_000, "requests without end");
        let body: Vec<u8> = match request[4] {
            100 => [&8192u32.to_le_bytes()[..], &8u16.to_le_bytes(), b"9P2000.L"].concat(),
            104 => [&[0x80; 5][..], &2u64.to_le_bytes()].concat(),
            kind => {
                let len = match kind {
                    12 | 14 => 17,
                    16 | 18 | 72 => 13,
                    24 => 153,
                    8 => 60,
                    110 => 15,
                    118 => 4,
                    30 => 8,
                    20 | 26 | 32 | 50 | 70 | 74 | 76 | 120 | 122 => 0,
                    _ => self.bytes[self.next % self.bytes.len()] as usize * 8,
                };
                let bytes = self.bytes.iter().cycle().skip(self.next).take(len).copied().collect();
                self.next += len + 1;
                bytes
            }
        };
        let mut answer = (body.len() as u32 + 7).to_le_bytes().to_vec();
        answer.push(request[4] + 1);
        answer.extend(&request[5..7]);
        answer.extend(body);
        if request[4] == 110 {
            // As many qids as names were asked for, mostly.
            answer[7..9].copy_from_slice(&request[15..17]);
            let names = usize::from(request[15]);
            answer.truncate(9 + 13 * names);
            let len = answer.len() as u32;
            answer[..4].copy_from_slice(&len.to_le_bytes());
        }
        let count = answer.len().min(reply.len());
        reply[..count].copy_from_slice(&answer[..count]);
        Ok(answer.len())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn spoilt_replies_are_survived(
        spoils in proptest::collection::vec((0usize..150, spoil()), 1..12),
        style in prop_oneof![Just(Style::Ideal), Just(Style::Qemu), Just(Style::Diod)],
        is_old in any::<bool>(),
    ) {
        let mut count = 0;
        let tamper = move |reply: &mut Vec<u8>| {
            for (_, spoil) in spoils.iter().filter(|(at, _)| *at == count) {
                spoil.apply(reply);
            }
            count += 1;
        };
        let link = Link::new(Server { is_strict: false, is_old, tamper: Some(Box::new(tamper)), ..Server::new(style) });
        let options = MountOptions { message_bytes: 8192, ..MountOptions::default() };
        if let Ok(mut fs) = P9::mount(link.clone(), &options) {
            use_everything(&mut fs);
        }
        prop_assert!(link.server().requests() < 20_000);
    }

    #[test]
    fn babble_is_survived(bytes in proptest::collection::vec(any::<u8>(), 1..400)) {
        let options = MountOptions { message_bytes: 8192, ..MountOptions::default() };
        let mut fs = P9::mount(Babbler { bytes, next: 0, requests: 0 }, &options).expect("mount");
        use_everything(&mut fs);
    }
}

/// Mounts a server with a file, whose replies of one type are changed from now on.
fn lying(kind: u8, mut lie: impl FnMut(&mut Vec<u8>) + Send + 'static) -> (P9, InodeNumber) {
    let link = Link::new(Server { is_strict: false, ..Server::new(Style::Qemu) });
    let file = Inode { mode: S_IFREG | 0o644, data: vec![1; 100], ..Inode::default() };
    let number = link.server().tree.create(ROOT.0, b"file", file).expect("file");
    let fs = P9::mount(link.clone(), &MountOptions { message_bytes: 8192, ..MountOptions::default() })
        .expect("mount");
    link.server().tamper = Some(Box::new(move |reply| {
        if reply[4] == kind + 1 {
            lie(reply);
            let len = reply.len() as u32;
            reply[..4].copy_from_slice(&len.to_le_bytes());
        }
    }));
    (fs, InodeNumber(number))
}

fn corrupt(result: Result<impl Sized, Error>) -> &'static str {
    match result.err() {
        Some(Error::Corrupt(text)) => text,
        error => panic!("{error:?}"),
    }
}

#[test]
fn headers_are_checked() {
    let (mut fs, _) = lying(8, |reply| reply[5] ^= 1);
    assert_eq!(corrupt(fs.statistics()), "9p: the tag of a reply");
    let (mut fs, _) = lying(8, |reply| reply[4] = 11);
    assert_eq!(corrupt(fs.statistics()), "9p: the type of a reply");
    let (mut fs, _) = lying(8, |reply| reply.truncate(40));
    assert_eq!(corrupt(fs.statistics()), "9p: a message that is cut off");
    let (mut fs, _) = lying(8, |reply| reply.push(0));
    assert_eq!(corrupt(fs.statistics()), "9p: a reply with more than belongs there");
    let (mut fs, _) = lying(8, |reply| reply.resize(8193, 0));
    assert_eq!(corrupt(fs.statistics()), "9p: a reply longer than agreed");
    let (mut fs, _) = lying(8, |reply| reply.truncate(4));
    assert_eq!(corrupt(fs.statistics()), "9p: a message that is cut off");
    let link = Link::new(Server::new(Style::Qemu));
    let mut fs = P9::mount(link.clone(), &MountOptions::default()).expect("mount");
    link.server().tamper = Some(Box::new(|reply| reply[0] += 1));
    assert_eq!(corrupt(fs.statistics()), "9p: the size of a reply");
}

#[test]
fn counts_are_checked() {
    // Reading: one byte more than was asked for.
    let (mut fs, file) = lying(116, |reply| {
        let len = reply.len() as u32 - 11 + 1;
        reply.push(0);
        reply[7..11].copy_from_slice(&len.to_le_bytes());
    });
    fs.lookup(ROOT, b"file").expect("lookup");
    assert_eq!(corrupt(fs.read(file, 0, &mut [0; 100])), "9p: more read than asked for");
    // Writing: more than was sent, and nothing.
    for (count, error) in [(101u32, Error::Corrupt("9p: more written than sent")), (0, Error::Device)] {
        let (mut fs, file) = lying(118, move |reply| reply[7..].copy_from_slice(&count.to_le_bytes()));
        fs.lookup(ROOT, b"file").expect("lookup");
        assert_eq!(fs.write(file, 0, &[0; 100]), Err(error));
    }
    // An extended attribute that is longer than any, and one that ends early.
    for (size, error) in
        [(65537u64, Error::TooLarge), (9, Error::Corrupt("9p: the length of an extended attribute"))]
    {
        let (mut fs, file) = lying(30, move |reply| reply[7..].copy_from_slice(&size.to_le_bytes()));
        fs.lookup(ROOT, b"file").expect("lookup");
        let (mut early, early_file) = lying(116, |reply| {
            reply.truncate(7);
            reply.extend([0; 4]);
        });
        early.lookup(ROOT, b"file").expect("lookup");
        early.set_extended_attribute(early_file, b"user.a", &[1; 9], NOW).expect("set");
        match size {
            9 => assert_eq!(early.extended_attribute(early_file, b"user.a"), Err(error)),
            _ => assert_eq!(fs.extended_attribute_names(file), Err(error)),
        }
    }
    // More qids than names, and none.
    let (mut fs, _) = lying(110, |reply| {
        let qid = reply[9..].to_vec();
        reply[7] = 2;
        reply.extend(qid);
    });
    assert_eq!(corrupt(fs.lookup(ROOT, b"file")), "9p: a walk of more names than asked for");
    let (mut fs, _) = lying(110, |reply| {
        reply.truncate(7);
        reply.extend([0, 0]);
    });
    assert_eq!(fs.lookup(ROOT, b"file"), Err(Error::NotFound));
}

#[test]
fn attributes_are_checked() {
    let cases: [(usize, &[u8], &str); 5] = [
        (7, &[0xfe], "9p: attributes without mode or size"),
        (29, &[0], "9p: the mode of a file"),
        (56, &[0xff; 8], "9p: the size of a file"),
        (88, &[0xff; 8], "9p: a time of a file"),
        (20, &[0xff], ""),
    ];
    for (at, bytes, text) in cases {
        let (mut fs, file) = lying(24, move |reply| reply[at..at + bytes.len()].copy_from_slice(bytes));
        fs.lookup(ROOT, b"file").expect("lookup");
        match text {
            // Another number: it is another file.
            "" => assert_eq!(fs.attributes(file), Err(Error::NotFound)),
            text => assert_eq!(corrupt(fs.attributes(file)), text),
        }
    }
}

/// The entry of a listing.
fn entry(offset: u64, name: &[u8]) -> Vec<u8> {
    let mut entry = vec![0; 5];
    entry.extend(77u64.to_le_bytes());
    entry.extend(offset.to_le_bytes());
    entry.push(8);
    entry.extend((name.len() as u16).to_le_bytes());
    entry.extend(name);
    entry
}

/// Lists a directory whose server makes up the data; answers how many entries were told.
fn listing(mut data: impl FnMut() -> Vec<u8> + Send + 'static) -> (usize, Result<(), Error>) {
    let (mut fs, _) = lying(40, move |reply| {
        let data = data();
        reply.truncate(7);
        reply.extend((data.len() as u32).to_le_bytes());
        reply.extend(data);
    });
    let mut told = 0;
    let result = fs.entries(ROOT, 0, &mut |_| {
        told += 1;
        ControlFlow::Continue(())
    });
    (told, result)
}

#[test]
fn listings_that_lie_come_to_an_end() {
    let once = |data: Vec<u8>| move || data.clone();
    let (_, result) = listing(once(entry(0, b"a")));
    assert_eq!(corrupt(result), "9p: an offset in a directory");
    let (_, result) = listing(once(entry(1 << 63, b"a")));
    assert_eq!(corrupt(result), "9p: an offset in a directory");
    for name in [&b""[..], b"a/b", b"a\0", &[b'n'; 256]] {
        assert_eq!(corrupt(listing(once(entry(5, name))).1), "9p: a name in a directory");
    }
    let mut cut = entry(5, b"name");
    cut.pop();
    assert_eq!(corrupt(listing(once(cut)).1), "9p: an entry of a directory");
    assert_eq!(corrupt(listing(once(vec![0; 8170])).1), "9p: more names than asked for");

    // The same place again, and circles of several places.
    for circle in [1u64, 2, 3, 10, 1000] {
        let mut at = 0;
        let (told, result) = listing(move || {
            at = at % circle + 1;
            entry(at, b"name")
        });
        assert_eq!(corrupt(result), "9p: a listing that goes in circles");
        assert!(told <= 6 * circle as usize + 6, "{told} entries of {circle}");
    }
    // Ever new places, with names and without.
    for name in [&b"n"[..], b"."] {
        let mut at = 0;
        let (told, result) = listing(move || {
            let mut data = Vec::new();
            while data.len() < 8000 {
                at += 1;
                data.extend(entry(at, name));
            }
            data
        });
        assert_eq!(corrupt(result), "9p: a directory without end");
        assert!(told <= (1 << 20) + 2);
    }
}

#[test]
fn a_target_is_checked() {
    for target in [&b""[..], b"a\0b", &[b't'; 4096]] {
        let (mut fs, _) = lying(22, move |reply| {
            reply.truncate(7);
            reply.extend((target.len() as u16).to_le_bytes());
            reply.extend(target);
        });
        let link = fs.create(ROOT, b"link", node(NewKind::Symlink(b"to")), NOW).expect("symlink");
        assert_eq!(corrupt(fs.read_link(link)), "9p: the target of a symbolic link");
    }
}
