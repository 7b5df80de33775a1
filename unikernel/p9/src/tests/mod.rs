//! The client against a server in memory: [`server`] over a [`tree`].

mod bytes;
mod faults;
mod lies;
mod listing;
mod model;
mod mount;
mod names;
mod operations;
mod requests;
mod server;
mod tree;

use std::string::String;
use std::vec::Vec;

use unikernel_vfs::{Error, FileSystem, InodeNumber, NewKind, NewNode, Timestamp};

use crate::{MountOptions, P9, Transport, TransportError};
use server::{Link, Server, Style};

const STYLES: [Style; 3] = [Style::Ideal, Style::Qemu, Style::Diod];
const ROOT: InodeNumber = InodeNumber(tree::ROOT);
const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };

fn node(kind: NewKind<'_>) -> NewNode<'_> {
    NewNode { kind, permissions: 0o644, user: 0, group: 0 }
}

/// Mounts a server that a test has set up.
fn mounted_from(server: Server) -> (P9, Link) {
    let link = Link::new(server);
    let options = MountOptions { message_bytes: 8192, ..MountOptions::default() };
    let fs = P9::mount(link.clone(), &options).expect("mount");
    (fs, link)
}

fn mounted(style: Style) -> (P9, Link) {
    mounted_from(Server::new(style))
}

/// The names in a directory, each listing asked for `at_once` entries.
fn names(fs: &mut P9, directory: InodeNumber, at_once: usize) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        let mut room = at_once;
        fs.entries(directory, cookie, &mut |entry| {
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            cookie = entry.next_cookie;
            room -= 1;
            if room == 0 { core::ops::ControlFlow::Break(()) } else { core::ops::ControlFlow::Continue(()) }
        })?;
        if room > 0 {
            return Ok(names);
        }
    }
}

/// Unmounts; nothing may be left at the server.
fn assert_unmounts(mut fs: P9, link: &Link) {
    fs.unmount(NOW).expect("unmount");
    assert_eq!(link.server().fid_count(), 0);
}
