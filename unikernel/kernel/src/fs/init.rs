//! What the tree begins with: the archives of the initrd, and over them what every Linux machine has.

use unikernel_fs::{Attributes, LastLink, Node};

use super::proc::{self, MakeText, Text};
use super::{FileTree, Handle, MemoryFile, NodeId, SLAVES, Special, TREE, device, image, listing, mounts};
use crate::file;
use crate::net;
use crate::sync::SpinLock;

/// Who may do what with a text of the kernel's: everybody may read.
const TEXT: Attributes = Attributes::with_permissions(0o444);
const DEVICE: Attributes = Attributes::with_permissions(0o666);
const FILE: Attributes = Attributes::with_permissions(0o644);

/// For names to reach the loopback address without a name server.
const HOSTS: &[u8] = b"127.0.0.1\tlocalhost\n::1\tlocalhost\n";
const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &[u8] = b"root:x:0:\nnogroup:x:65534:\n";
/// Names come from `/etc/hosts`, then from the name servers.
const NSSWITCH: &[u8] = b"hosts: files dns\n";
/// Who this is, for those who print it (os-release(5)).
const OS_RELEASE: &[u8] = concat!(
    "NAME=\"unikernel\"\nID=unikernel\nVERSION_ID=\"",
    env!("CARGO_PKG_VERSION"),
    "\"\nPRETTY_NAME=\"unikernel\"\n"
)
.as_bytes();

/// Directories that programs expect, and their permissions.
const DIRECTORIES: &[(&str, u16)] = &[
    ("/tmp", 0o1777),
    ("/dev/shm", 0o1777),
    ("/root", 0o700),
    ("/var/tmp", 0o1777),
    ("/run", 0o755),
    ("/sys/fs/cgroup", 0o555),
];

/// Builds the tree and opens the standard streams.
pub fn init(initrd: Option<&'static [u8]>) {
    let mut tree = FileTree::new();
    if let Some(initrd) = initrd
        && let Err(error) = tree.add_archive(initrd, MemoryFile::from_archive)
    {
        log::error!("initrd: {error}; what comes before it can be used");
    }
    for (path, permissions) in DIRECTORIES {
        // One that the initrd brought stays as it is.
        if tree.lookup(NodeId::ROOT, path.as_bytes(), LastLink::Follow).is_err() {
            let attributes = Attributes::with_permissions(*permissions);
            let _ = tree.add_directory(path.as_bytes(), attributes);
        }
    }
    if let Ok(id) = tree.add_directory(b"/dev/pts", Attributes::with_permissions(0o755)) {
        SLAVES.call_once(|| Handle::of_directory(&mut tree, id));
    }
    for (path, device) in device::NODES {
        add(&mut tree, path, Node::Special(Special::Device(*device)), DEVICE);
    }
    let short = proc::tables().into_iter().flatten().chain(net::listing::TEXTS);
    let short = short.map(|(path, make)| (path, MakeText::Short(*make)));
    let long = proc::LISTS.iter().chain(net::listing::LISTS);
    for (path, make) in short.chain(long.map(|(path, write)| (path, MakeText::Long(*write)))) {
        add(&mut tree, path, Node::Special(Special::Text(Text::Fixed(make))), TEXT);
    }
    for (path, text) in proc::WRITABLE {
        add(&mut tree, path, Node::Special(Special::Text(*text)), FILE);
    }
    for (path, target) in proc::LINKS {
        let link = Node::Symlink(target.as_bytes().into());
        add(&mut tree, path, link, Attributes::with_permissions(0o777));
    }
    let (path, program) = (image::path(), Attributes::with_permissions(0o755));
    add(&mut tree, "/proc/1/exe", Node::Symlink(path.as_bytes().into()), Attributes::with_permissions(0o777));
    add_default(&mut tree, &path, Node::Special(Special::Image), program);
    listing::init(&mut tree);
    for (path, content) in [
        ("/etc/hosts", HOSTS),
        ("/etc/passwd", PASSWD),
        ("/etc/group", GROUP),
        ("/etc/nsswitch.conf", NSSWITCH),
        ("/etc/os-release", OS_RELEASE),
        ("/etc/hostname", b"unikernel\n"),
    ] {
        add_default(&mut tree, path, Node::File(MemoryFile::from_archive(content)), FILE);
    }
    add_default(
        &mut tree,
        "/etc/resolv.conf",
        Node::Special(Special::Text(Text::Fixed(MakeText::Short(net::resolv_conf)))),
        TEXT,
    );
    mounts::init(&mut tree);
    TREE.call_once(|| SpinLock::new(tree));
    file::console::open_standard_streams();
}

type KernelNode = Node<alloc::sync::Arc<MemoryFile>, Special>;

fn add(tree: &mut FileTree, path: &str, node: KernelNode, attributes: Attributes) {
    if let Err(error) = tree.add(path.as_bytes(), node, attributes) {
        log::warn!("{path} cannot be made, the initrd is in the way: {error:?}");
    }
}

/// Adds what an initrd may bring itself.
fn add_default(tree: &mut FileTree, path: &str, node: KernelNode, attributes: Attributes) {
    if tree.lookup(NodeId::ROOT, path.as_bytes(), LastLink::Keep).is_err() {
        add(tree, path, node, attributes);
    }
}
