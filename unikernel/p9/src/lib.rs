//! A client of 9P2000.L, the protocol by which a host shares a folder: QEMU's `virtio-9p`, diod, and others.
//!
//! [`P9`] is a [`FileSystem`](unikernel_vfs::FileSystem) over a [`Transport`], which carries one message at a time:
//!
//! ```no_run
//! # use unikernel_p9::{MountOptions, P9, Transport};
//! # use unikernel_vfs::{ByteStorage, FileSystem};
//! # fn example(transport: impl Transport + 'static) -> Result<(), unikernel_vfs::Error> {
//! let mut tree = P9::mount(transport, &MountOptions { is_read_only: true, ..MountOptions::default() })?;
//! let readme = tree.lookup(tree.root(), b"README.md")?;
//! let mut start = [0; 100];
//! let count = tree.read(readme, 0, &mut start)?;
//! # let _ = count;
//! # Ok(())
//! # }
//! ```
//!
//! Layers, each of which uses only those below it:
//!
//! - the operations: names (`names`, `making`), listings (`listing`), attributes (`attributes`, `xattr`), content (`content`);
//! - from numbers to fids: the table of known files (`nodes`), and how they are found again (`client`);
//! - one request and its reply (`connection`);
//! - the messages (`messages`) and the values in them (`wire`).
//!
//! # What a file is
//!
//! The number of a file is the server's (`qid.path`), and the protocol knows files by *fids*, handles that the client numbers. The table
//! leads from one to the other. Files that the kernel holds stay in it. Of the others the ones that were used last stay
//! ([`MountOptions::idle_inodes`]); the fids of the rest are given back.
//!
//! A fid of QEMU's and of diod's is a *name* at the server, not a file. Hence:
//!
//! - Whatever a walk finds anew replaces the older fid, and what a fid answers is checked to be of the same number.
//! - Before the last name of a file goes through us that somebody holds, the file is opened at the server: that keeps its content within
//!   reach. Its attributes are asked for by that handle; a server that looks for the name does not find them, so what was known is answered then, and
//!   they cannot be changed.
//! - After a directory was moved, files are walked to again by their names when they are next used.
//!
//! If the server exports several filesystems of its host, their files may have the same number: QEMU has `multidevs=remap` against that.
//!
//! # What is promised
//!
//! - **The server is not trusted.** Whatever it answers, nothing panics or loops without end, and memory is bounded: two messages, an
//!   extended attribute of 64 KiB, the table, and the names of the last 2048 entries that were listed. An answer that makes no sense is [`Error::Corrupt`](unikernel_vfs::Error::Corrupt), a server that is silent
//!   [`Error::Device`](unikernel_vfs::Error::Device).
//! - **Nothing is cached** but which number is which file: attributes, names and content are asked for each time
//!   ([`is_shared`](unikernel_vfs::FileSystem::is_shared)).
//! - **Fids are given back**, whatever fails. Only those of which the server has not said whether they exist are left.
//! - [`commit`](unikernel_vfs::FileSystem::commit) makes durable what was changed through us: content, attributes and names.
//! - Mounted read-only, nothing is sent that could change the tree.
//!
//! # Limits
//!
//! One request at a time, so there is nothing to flush. Names have up to 255 bytes, extended attributes up to 64 KiB and at least one
//! byte. No holes, no reservations, no files without a name, no locks of the server's, no exchange of two names. Who owns what is made is
//! the server's to decide: it is asked for the wanted owner, and may refuse.
//!
//! Servers that know neither `Tunlinkat` nor `Trenameat` (diod 1.0) are asked by `Tremove` and `Trename`.
//!
//! Sources: `protocol.md` of diod, `include/net/9p/9p.h` of Linux, `hw/9pfs` of QEMU.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod attributes;
mod client;
mod connection;
mod content;
mod errno;
mod filesystem;
mod listing;
mod making;
mod messages;
mod mount;
mod names;
mod nodes;
#[cfg(test)]
mod tests;
mod transport;
mod wire;
mod xattr;

pub use client::P9;
pub use mount::{MAX_MESSAGE_BYTES, MIN_MESSAGE_BYTES, MountError, MountOptions, NO_USER};
pub use transport::{Transport, TransportError};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
