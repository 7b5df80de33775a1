//! Uses a tree of a 9P2000.L server over a Unix socket, and checks what it does: `diod`, for example.
//!
//! ```text
//! mkdir /tmp/tree && diod --foreground --no-auth --export /tmp/tree --listen /tmp/9p.socket &
//! cargo run --package unikernel-p9 --example serve -- /tmp/9p.socket /tmp/tree
//! ```

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use unikernel_p9::{MountOptions, P9, Transport, TransportError};
use unikernel_vfs::{
    AttributeChange, ByteStorage, Error, FileKind, FileSystem, InodeNumber, NewKind, NewNode, RenameMode,
    Sync, Timestamp,
};

struct Socket(UnixStream);

impl Socket {
    fn message(&mut self, reply: &mut [u8]) -> std::io::Result<usize> {
        let too_long = || std::io::Error::other("a message that is too long");
        self.0.read_exact(reply.get_mut(..4).ok_or_else(too_long)?)?;
        let len = u32::from_le_bytes([reply[0], reply[1], reply[2], reply[3]]) as usize;
        self.0.read_exact(reply.get_mut(4..len).ok_or_else(too_long)?)?;
        Ok(len)
    }
}

impl Transport for Socket {
    fn exchange(&mut self, request: &[u8], reply: &mut [u8]) -> Result<usize, TransportError> {
        self.0.write_all(request).and_then(|()| self.message(reply)).map_err(|_| TransportError)
    }
}

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 };

fn node(kind: NewKind<'_>) -> NewNode<'_> {
    NewNode { kind, permissions: 0o640, user: 0, group: 0 }
}

fn names(fs: &mut P9, directory: InodeNumber, at_once: usize) -> Vec<String> {
    let (mut names, mut cookie) = (Vec::new(), 0);
    loop {
        let mut room = at_once;
        fs.entries(directory, cookie, &mut |entry| {
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            cookie = entry.next_cookie;
            room -= 1;
            if room == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .expect("list");
        if room > 0 {
            return names;
        }
    }
}

fn content(fs: &mut P9, top: InodeNumber) {
    let file = fs.create(top, b"file", node(NewKind::File), NOW).expect("create");
    let bytes: Vec<u8> = (0..1_000_003u32).map(|at| (at * 7 / 3) as u8).collect();
    fs.write(file, 5, &bytes).expect("write");
    let mut back = vec![1; bytes.len() + 10];
    assert_eq!(fs.read(file, 0, &mut back), Ok(bytes.len() + 5));
    assert!(back[..5] == [0; 5] && back[5..][..bytes.len()] == bytes);
    fs.set_size(file, 9, NOW).expect("shorter");
    assert_eq!(fs.read(file, 0, &mut back), Ok(9));
    fs.sync_inode(file, Sync::Data, NOW).expect("fdatasync");
    fs.sync_inode(top, Sync::All, NOW).expect("fsync of a directory");

    let change = AttributeChange {
        permissions: Some(0o4755),
        modified: Some(NOW),
        accessed: Some(Timestamp { seconds: -1, nanoseconds: 1 }),
        ..AttributeChange::default()
    };
    fs.set_attributes(file, change, NOW).expect("change");
    let now = fs.attributes(file).expect("attributes");
    assert_eq!((now.permissions, now.size, now.links, now.modified), (0o4755, 9, 1, NOW));
    println!("content and attributes: {now:?}");
}

fn unlinked(fs: &mut P9, top: InodeNumber) {
    let file = fs.create(top, b"gone", node(NewKind::File), NOW).expect("create");
    fs.open(file).expect("open");
    fs.unlink(top, b"gone", NOW).expect("unlink");
    assert_eq!(fs.lookup(top, b"gone"), Err(Error::NotFound));
    fs.write(file, 0, b"still here").expect("write");
    let mut back = [0; 32];
    assert_eq!(fs.read(file, 0, &mut back), Ok(10));
    let attributes = fs.attributes(file).expect("attributes");
    assert_eq!((attributes.links, attributes.size), (0, 10));
    println!("unlinked while open: set_size answers {:?}", fs.set_size(file, 3, NOW));
    fs.close(file, NOW).expect("close");
}

fn moved(fs: &mut P9, top: InodeNumber) {
    let a = fs.create(top, b"a", node(NewKind::Directory), NOW).expect("mkdir");
    let b = fs.create(a, b"b", node(NewKind::Directory), NOW).expect("mkdir");
    let file = fs.create(b, b"file", node(NewKind::File), NOW).expect("create");
    let link = fs.create(b, b"link", node(NewKind::Symlink(b"to/there")), NOW).expect("symlink");
    for number in [b, file, link] {
        fs.open(number).expect("open");
    }
    fs.rename(top, b"a", top, b"c", RenameMode::NoReplace, NOW).expect("rename");
    assert_eq!(fs.rename(top, b"c", top, b"file", RenameMode::NoReplace, NOW), Err(Error::Exists));
    assert_eq!(fs.rename(top, b"c", b, b"x", RenameMode::Replace, NOW), Err(Error::Invalid));
    assert_eq!(fs.read_link(link), Ok(b"to/there".to_vec()));
    fs.link(file, top, b"hard", NOW).expect("link");
    assert_eq!(fs.attributes(file).expect("attributes").links, 2);
    assert_eq!((fs.lookup(b, b".."), fs.lookup(top, b"c")), (Ok(a), Ok(a)));
    assert_eq!(fs.remove_directory(top, b"c", NOW), Err(Error::NotEmpty));
    assert_eq!(fs.unlink(top, b"c", NOW), Err(Error::IsADirectory));
    fs.unlink(b, b"file", NOW).expect("unlink");
    fs.unlink(b, b"link", NOW).expect("unlink");
    fs.remove_directory(a, b"b", NOW).expect("rmdir");
    fs.remove_directory(top, b"c", NOW).expect("rmdir");
    for number in [b, file, link] {
        fs.close(number, NOW).expect("close");
    }
    assert_eq!(fs.lookup(top, b"hard"), Ok(file));
    assert_eq!(fs.attributes(file).expect("attributes").links, 1);
    println!("directories moved, names removed");
}

fn special(fs: &mut P9, top: InodeNumber) {
    for (kind, name) in [
        (NewKind::Fifo, "fifo"),
        (NewKind::Socket, "socket"),
        (NewKind::CharacterDevice(0x1_0203), "character"),
        (NewKind::BlockDevice(0x0801), "block"),
    ] {
        match fs.create(top, name.as_bytes(), node(kind), NOW) {
            Ok(made) => {
                let attributes = fs.attributes(made).expect("attributes");
                println!("{name}: {:?}, device {:#x}", attributes.kind, attributes.device);
                assert_eq!(attributes.kind, kind.kind());
                if let NewKind::CharacterDevice(device) | NewKind::BlockDevice(device) = kind {
                    assert_eq!(attributes.device, device);
                }
                assert_eq!(fs.read(made, 0, &mut [0]), Err(Error::Invalid));
            }
            Err(error) => println!("{name}: the server refuses: {error:?}"),
        }
    }
}

fn listing(fs: &mut P9, top: InodeNumber) {
    let many = fs.create(top, b"many", node(NewKind::Directory), NOW).expect("mkdir");
    let mut made = BTreeSet::from([".".to_owned(), "..".to_owned()]);
    for number in 0..1500 {
        let name = format!("a name of some length, number {number}");
        fs.create(many, name.as_bytes(), node(NewKind::Symlink(b"x")), NOW).expect("create");
        made.insert(name);
    }
    for at_once in [1, 7, 100_000] {
        let listed = names(fs, many, at_once);
        assert_eq!(listed[..2], [".", ".."]);
        assert_eq!((listed.len(), listed.into_iter().collect()), (made.len(), made.clone()));
    }
    let mut numbers = Vec::new();
    fs.entries(many, 0, &mut |entry| {
        numbers.push((entry.inode, entry.kind));
        ControlFlow::Continue(())
    })
    .expect("list");
    for (number, kind) in &numbers[2..] {
        assert!(matches!(kind, None | Some(FileKind::Symlink)));
        assert_eq!(fs.attributes(*number).expect("attributes").kind, FileKind::Symlink);
    }
    println!("1500 names listed, each once; kinds are told: {}", numbers[2].1.is_some());
}

fn attributes(fs: &mut P9, top: InodeNumber) {
    let file = fs.lookup(top, b"file").expect("lookup");
    let long = vec![7; 3000];
    if let Err(error) = fs.set_extended_attribute(file, b"user.short", b"value", NOW) {
        return println!("extended attributes: the server refuses: {error:?}");
    }
    fs.set_extended_attribute(file, b"user.long", &long, NOW).expect("set");
    assert_eq!(fs.extended_attribute(file, b"user.short"), Ok(b"value".to_vec()));
    assert_eq!(fs.extended_attribute(file, b"user.long"), Ok(long));
    let names = fs.extended_attribute_names(file).expect("names");
    assert!(names.contains(&b"user.short".to_vec()) && names.contains(&b"user.long".to_vec()));
    fs.remove_extended_attribute(file, b"user.long", NOW).expect("remove");
    assert_eq!(fs.remove_extended_attribute(file, b"user.long", NOW), Err(Error::NoAttribute));
    assert_eq!(fs.extended_attribute(file, b"user.long"), Err(Error::NoAttribute));
    println!("extended attributes: {}", names.len());
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(socket), Some(tree)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: serve SOCKET TREE");
        std::process::exit(2);
    };
    let stream = UnixStream::connect(socket).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
    let options = MountOptions { tree: &tree, ..MountOptions::default() };
    let mut fs = P9::mount(Socket(stream), &options).unwrap_or_else(|error| panic!("{error}"));
    println!("messages of {} bytes; {:?}", fs.message_bytes(), fs.statistics().expect("statistics"));

    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    let name = format!("test-{}", since_1970.as_nanos());
    let directory = NewNode { permissions: 0o755, ..node(NewKind::Directory) };
    let top = fs.create(fs.root(), name.as_bytes(), directory, NOW).expect("mkdir");
    content(&mut fs, top);
    unlinked(&mut fs, top);
    moved(&mut fs, top);
    special(&mut fs, top);
    listing(&mut fs, top);
    attributes(&mut fs, top);
    fs.commit(NOW).expect("commit");
    fs.unmount(NOW).expect("unmount");
    println!("all as it shall be; see {tree}/{name}");
}
