//! What programs look for in the tree, unless the initrd or the configuration brought it: directories, and texts of `/etc`.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use unikernel_fs::{Attributes, LastLink, Node};

use super::init::{FILE, KernelNode, TEXT, add};
use super::proc::{self, MakeText, Text};
use super::{FileTree, Located, MemoryFile, NodeId, Special};
use crate::abi::Errno;
use crate::kmem::room;
use crate::net;
use crate::process::host_name;

/// Names come from `/etc/hosts`, then from the name servers.
const NSSWITCH: &[u8] = b"passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n";
/// Who this is, for those who print it (os-release(5)).
const OS_RELEASE: &[u8] = concat!(
    "NAME=\"unikernel\"\nID=unikernel\nVERSION_ID=\"",
    env!("CARGO_PKG_VERSION"),
    "\"\nPRETTY_NAME=\"unikernel\"\n"
)
.as_bytes();
/// Time zone information (tzfile(5), RFC 9636): no transitions, one type of local time (offset 0, called `UTC`), and for
/// readers of version 2 the same once more, with the rule for all times in the footer.
const UTC: &[u8] = b"TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\0\0\0\0\0\0UTC\0\
    TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\0\0\0\0\0\0UTC\0\
    \nUTC0\n";

/// Directories that programs expect, and their permissions.
const DIRECTORIES: &[(&str, u16)] = &[
    ("/tmp", 0o1777),
    ("/dev/shm", 0o1777),
    ("/root", 0o700),
    ("/home", 0o755),
    ("/var/tmp", 0o1777),
    ("/var/log", 0o755),
    ("/var/lib", 0o755),
    ("/var/cache", 0o755),
    ("/run", 0o755),
    ("/sys/fs/cgroup", 0o555),
];

/// Symbolic links. The second is how programs learn the zone's name.
const LINKS: &[(&str, &str)] = &[("/var/run", "/run"), ("/etc/localtime", "/usr/share/zoneinfo/UTC")];

const FILES: &[(&str, &[u8])] = &[
    ("/etc/passwd", include_bytes!("etc/passwd")),
    ("/etc/group", include_bytes!("etc/group")),
    ("/etc/services", include_bytes!("etc/services")),
    ("/etc/protocols", include_bytes!("etc/protocols")),
    ("/etc/mime.types", include_bytes!("etc/mime.types")),
    ("/etc/nsswitch.conf", NSSWITCH),
    ("/etc/os-release", OS_RELEASE),
    ("/usr/share/zoneinfo/UTC", UTC),
];

/// Adds the directories.
pub(super) fn add_directories(tree: &mut FileTree) {
    for (path, permissions) in DIRECTORIES {
        // One that is there stays as it is.
        if tree.lookup(NodeId::ROOT, path.as_bytes(), LastLink::Follow).is_err() {
            let attributes = Attributes::with_permissions(*permissions);
            let _ = tree.add_directory(path.as_bytes(), attributes);
        }
    }
}

/// Adds what does not depend on the machine's name.
pub(super) fn add_files(tree: &mut FileTree) {
    for (path, target) in LINKS {
        let link = Node::Symlink(target.as_bytes().into());
        add_default(tree, path, link, Attributes::with_permissions(0o777));
    }
    for (path, content) in FILES {
        add_default(tree, path, Node::File(MemoryFile::from_archive(content)), FILE);
    }
    let servers = Text::Fixed(MakeText::Short(net::resolv_conf));
    add_default(tree, "/etc/resolv.conf", Node::Special(Special::Text(servers)), TEXT);
}

/// Adds what tells the machine's name, which the configuration may have brought only now.
pub(crate) fn add_identity() {
    let name = host_name::get();
    let hosts = [include_bytes!("etc/hosts").as_slice(), format!("127.0.1.1\t{name}\n").as_bytes()].concat();
    for (path, content) in [
        ("/etc/hosts", hosts),
        ("/etc/hostname", format!("{name}\n").into_bytes()),
        ("/etc/machine-id", proc::machine_id().into_bytes()),
    ] {
        let file = Node::File(file_of(content));
        add_default(&mut super::tree(), path, file, FILE);
    }
}

/// Puts a file into the tree in memory, with the directories on the way, in place of one that is there. `EROFS` if its place is
/// on a disk or among the kernel's own texts, `ENOMEM` if there is no memory for it.
pub(crate) fn put(path: &[u8], permissions: u16, content: &[u8]) -> Result<(), Errno> {
    room::ask()?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(content.len()).map_err(|_| Errno::ENOMEM)?;
    bytes.extend_from_slice(content);
    let place = place_in_memory(path)?;
    if [&b"/proc/"[..], b"/sys/"].iter().any(|own| place.starts_with(own)) {
        return Err(Errno::EROFS);
    }
    let attributes = Attributes::with_permissions(permissions);
    let added = super::tree().add(&place, Node::File(file_of(bytes)), attributes);
    added.map(drop).map_err(|_| Errno::ENOTDIR)
}

/// The same path without links among the directories that are there.
fn place_in_memory(path: &[u8]) -> Result<Vec<u8>, Errno> {
    let ends = (0..path.len()).rev().filter(|end| path[*end] == b'/');
    for end in ends {
        match super::find(&super::root(), &path[..end.max(1)], LastLink::Follow) {
            Ok(Located::Memory(handle)) => return Ok([handle.path().as_slice(), &path[end..]].concat()),
            Ok(Located::Inode(_)) => return Err(Errno::EROFS),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::ENOENT)
}

/// A file with bytes that were made while the machine runs, which never go: the app may map them, or let go of them.
fn file_of(content: Vec<u8>) -> Arc<MemoryFile> {
    MemoryFile::from_archive(content.leak())
}

/// Adds what an initrd may bring itself.
pub(super) fn add_default(tree: &mut FileTree, path: &str, node: KernelNode, attributes: Attributes) {
    if tree.lookup(NodeId::ROOT, path.as_bytes(), LastLink::Keep).is_err() {
        add(tree, path, node, attributes);
    }
}
