//! What in `/proc` changes by itself: `/proc/self/fd`, `/proc/self/fdinfo` and `/proc/self/task`, whose entries are brought up to date when
//! somebody looks, and links that lead elsewhere each time. A walk stops at these nodes ([`stops`]) and asks
//! [`go_on`].

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use spin::Once;
use unikernel_fs::{Attributes, LastLink, Node};

use super::proc::{THREAD_TEXTS, Text};
use super::{FileTree, Handle, Located, NodeId, Special, current_directory, permission, tree};
use crate::file::table;
use crate::kmem::room;
use crate::platform::time;
use crate::process::program;
use crate::task::current;
use crate::task::process::process;

/// Owner and group of what tells of the process.
const OF_PROCESS: (u32, u32) = (permission::PROCESS, permission::PROCESS);

/// The nodes at which a walk stops.
struct Stops {
    descriptors: NodeId,
    /// What `/proc/self/fdinfo` tells of them.
    descriptions: NodeId,
    threads: NodeId,
    /// The directory of the process.
    process: NodeId,
    links: [DynamicLink; 3],
}

/// A link whose target is made when it is wanted.
struct DynamicLink {
    id: NodeId,
    parent: NodeId,
    name: &'static [u8],
    target: fn() -> Vec<u8>,
}

static STOPS: Once<Stops> = Once::new();

/// How a walk goes on from such a node.
pub(crate) enum Onward {
    /// From this node, by a relative path.
    From(NodeId, Vec<u8>),
    /// It ends at the node itself, which has this name in this directory.
    Itself(NodeId, &'static [u8]),
    /// It ends at what a descriptor has open (proc_pid_fd(5)).
    Descriptor(i32),
}

/// Makes them.
pub(super) fn init(tree: &mut FileTree) {
    match make(tree) {
        Some(stops) => _ = STOPS.call_once(|| stops),
        None => log::warn!("/proc cannot be made, the initrd is in the way"),
    }
}

fn make(tree: &mut FileTree) -> Option<Stops> {
    let readable = Attributes::with_permissions(0o555);
    let mut directory = |path: &str| tree.add_directory(path.as_bytes(), readable).ok();
    let (proc, process) = (directory("/proc")?, directory("/proc/1")?);
    let descriptions = directory("/proc/1/fdinfo")?;
    let threads = directory("/proc/1/task")?;
    let own = Attributes::with_permissions(0o500);
    let descriptors = tree.add_directory(b"/proc/1/fd", own).ok()?;
    let mut link = |parent, name: &'static [u8], target| {
        let node = Node::Symlink(b"/".as_slice().into());
        let id = tree.create(parent, name, node, Attributes::with_permissions(0o777)).ok()?;
        Some(DynamicLink { id, parent, name, target })
    };
    let links = [
        link(proc, b"thread-self", || format!("/proc/1/task/{}", current().id).into_bytes())?,
        link(process, b"cwd", path_of_current_directory)?,
        link(process, b"exe", || program::path().into_bytes())?,
    ];
    permission::give_to_process(tree, process);
    Some(Stops { descriptors, descriptions, threads, process, links })
}

fn path_of_current_directory() -> Vec<u8> {
    match current_directory() {
        Located::Memory(handle) => handle.path(),
        Located::Inode(opened) => opened.name().into_bytes(),
    }
}

/// All of them.
pub(crate) fn stops() -> Vec<NodeId> {
    let Some(stops) = STOPS.get() else { return Vec::new() };
    let mut ids = vec![stops.descriptors, stops.descriptions, stops.threads];
    ids.extend(stops.links.iter().map(|link| link.id));
    ids
}

/// The way back to a directory that is brought up to date: a walk that begins there has to stop there, too.
pub(crate) fn way_back(directory: NodeId) -> Option<&'static [u8]> {
    let stops = STOPS.get()?;
    match directory {
        id if id == stops.descriptors => Some(b"../fd/"),
        id if id == stops.descriptions => Some(b"../fdinfo/"),
        id if id == stops.threads => Some(b"../task/"),
        _ => None,
    }
}

/// A number as Linux writes it: no sign, and no zeros in front.
fn number(name: &[u8]) -> Option<i32> {
    let number: i32 = core::str::from_utf8(name).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == name).then_some(number)
}

impl Stops {
    /// What brings an entry of a directory up to date.
    fn show(&self, directory: NodeId) -> Option<fn(NodeId, i32)> {
        match directory {
            id if id == self.descriptors => Some(show_descriptor),
            id if id == self.descriptions => Some(show_description),
            id if id == self.threads => Some(show_thread),
            _ => None,
        }
    }
}

/// Goes on from a node at which a walk has stopped, if it is one of these. `rest` is what is left of the path.
pub(crate) fn go_on(at: NodeId, rest: &[u8], last: LastLink) -> Option<Onward> {
    let stops = STOPS.get()?;
    let start = rest.iter().position(|&byte| byte != b'/').unwrap_or(rest.len());
    let below = &rest[start..];
    if let Some(link) = stops.links.iter().find(|link| link.id == at) {
        if rest.is_empty() && last == LastLink::Keep {
            return Some(Onward::Itself(link.parent, link.name));
        }
        return Some(Onward::From(NodeId::ROOT, joined((link.target)(), rest)));
    }
    let name = below.split(|&byte| byte == b'/').next().unwrap_or_default();
    let show = stops.show(at)?;
    match number(name) {
        Some(descriptor) if at == stops.descriptors && below == name && last == LastLink::Follow => {
            return Some(Onward::Descriptor(descriptor));
        }
        Some(number) => show(at, number),
        None => {}
    }
    Some(Onward::From(at, joined(b".".to_vec(), below)))
}

/// `rest` is what a walk has left behind a link to `path`. A slash there asks for a directory.
fn joined(mut path: Vec<u8>, rest: &[u8]) -> Vec<u8> {
    if !rest.is_empty() {
        path.push(b'/');
        path.extend_from_slice(rest);
    }
    path
}

/// The target of a link that leads elsewhere each time, as it is now.
pub(crate) fn link_target(id: NodeId) -> Option<Vec<u8>> {
    let link = STOPS.get()?.links.iter().find(|link| link.id == id)?;
    Some((link.target)())
}

/// The descriptor whose link a node is.
pub(crate) fn descriptor_of(link: &Handle) -> Option<i32> {
    let (parent, name) = link.place()?;
    if STOPS.get()?.descriptors == parent { number(name) } else { None }
}

/// True for the links that Linux makes lead to something open: they are in the directory of the process.
pub(crate) fn is_magic(link: &Handle) -> bool {
    let (Some(stops), Some((parent, name))) = (STOPS.get(), link.place()) else { return false };
    parent == stops.process && matches!(name, b"cwd" | b"exe" | b"root")
}

/// Brings a directory up to date, if it is one of these.
pub(crate) fn refresh(directory: NodeId) {
    let Some(stops) = STOPS.get() else { return };
    let Some(show) = stops.show(directory) else { return };
    // What is gone leaves, what is there stays. There may be a million, of which no list is made; those that come
    // meanwhile are not waited for.
    let mut position = 0;
    let count = tree().list(directory, position).map_or(0, Iterator::count);
    for _ in 0..count {
        let tree = tree();
        let next = tree.list(directory, position).and_then(|mut entries| entries.next());
        let Some((name, next)) = next.map(|entry| (number(entry.name), entry.next)) else { break };
        drop(tree);
        position = next;
        name.into_iter().for_each(|number| show(directory, number));
    }
    if directory == stops.threads {
        process().threads().take_while(|_| room::is_left()).for_each(|thread| show(directory, thread.id));
    } else {
        table::in_use(0, usize::MAX)
            .take_while(|_| room::is_left())
            .for_each(|descriptor| show(directory, descriptor));
    }
}

/// Makes the entry of a descriptor what it is now: a link to what is open, or nothing.
fn show_descriptor(directory: NodeId, descriptor: i32) {
    let target = table::get_any(descriptor).ok().map(|opened| opened.file.name().into_bytes());
    let name = descriptor.to_string();
    let mut tree = tree();
    let shown = match tree.node(directory) {
        Node::Directory(directory) => directory.get(name.as_bytes()),
        _ => None,
    };
    let shown = shown.map(|id| tree.node(id));
    if let (Some(Node::Symlink(shown)), Some(target)) = (shown, &target)
        && **shown == **target
    {
        return;
    }
    let now_ns = time::wall_ns();
    // There may be none.
    let old = tree.unlink(directory, name.as_bytes(), now_ns);
    if let Some(target) = target {
        let link = Node::Symlink(target.into());
        let _ = tree.create(
            directory,
            name.as_bytes(),
            link,
            Attributes::new(0o700, now_ns).owned_by(OF_PROCESS),
        );
    }
    drop(tree);
    drop(old);
}

/// Makes the entry of a descriptor a text about it, or nothing.
fn show_description(directory: NodeId, descriptor: i32) {
    let is_open = table::get_any(descriptor).is_ok();
    let (name, now_ns) = (descriptor.to_string(), time::wall_ns());
    let mut tree = tree();
    let _ = if is_open {
        // One that is there already stays.
        let text = Node::Special(Special::Text(Text::Descriptor(descriptor)));
        tree.create(directory, name.as_bytes(), text, Attributes::new(0o400, now_ns).owned_by(OF_PROCESS))
            .map(|_| ())
    } else {
        tree.unlink(directory, name.as_bytes(), now_ns).map(|_| ())
    };
}

/// Makes the entry of a thread a directory with its texts, or nothing once it has ended.
fn show_thread(directory: NodeId, thread: i32) {
    let is_there = process().thread(thread).is_some();
    let name = thread.to_string();
    let now_ns = time::wall_ns();
    let mut tree = tree();
    if !is_there {
        let shown = match tree.node(directory) {
            Node::Directory(directory) => directory.get(name.as_bytes()),
            _ => None,
        };
        let Some(shown) = shown else { return };
        let files: Vec<Vec<u8>> =
            tree.list(shown, 2).into_iter().flatten().map(|entry| entry.name.to_vec()).collect();
        let mut gone: Vec<_> = files.iter().map(|file| tree.unlink(shown, file, now_ns)).collect();
        gone.push(tree.remove_directory(directory, name.as_bytes(), now_ns));
        drop(tree);
        drop(gone);
        return;
    }
    // One that is there already stays.
    let of_process = |permissions| Attributes::new(permissions, now_ns).owned_by(OF_PROCESS);
    let Ok(made) = tree.create_directory(directory, name.as_bytes(), of_process(0o555)) else {
        return;
    };
    // Threads share their descriptors.
    for (name, target) in [("fd", b"../../fd".as_slice()), ("fdinfo", b"../../fdinfo")] {
        let link = Node::Symlink(target.into());
        let _ = tree.create(made, name.as_bytes(), link, of_process(0o777));
    }
    for (file, text, permissions) in THREAD_TEXTS {
        let node = Node::Special(Special::Text(text(thread)));
        let _ = tree.create(made, file.as_bytes(), node, of_process(*permissions));
    }
}
