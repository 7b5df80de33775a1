//! The start of a connection.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use core::fmt;

use unikernel_vfs::{Error, InodeNumber};

use crate::connection::{CallError, Connection, NO_FID};
use crate::messages::{Attach, Version};
use crate::nodes::{Node, Nodes};
use crate::wire::Qid;
use crate::{P9, Transport};

/// The protocol.
const VERSION: &[u8] = b"9P2000.L";

/// The shortest limit of messages, in bytes, that is any use: QEMU refuses less, too.
pub const MIN_MESSAGE_BYTES: u32 = 4096;

/// The longest limit of messages, in bytes: two buffers of that size are kept.
pub const MAX_MESSAGE_BYTES: u32 = 1 << 20;

/// Stands for no user's number ([`MountOptions::user`]): the name decides.
pub const NO_USER: u32 = u32::MAX;

/// Names of users and trees may be as long as paths.
const MAX_NAME_BYTES: usize = 4095;

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions<'a> {
    /// The longest message, in bytes, from [`MIN_MESSAGE_BYTES`] to [`MAX_MESSAGE_BYTES`]. The server may make it less.
    pub message_bytes: u32,
    /// As whom to work (`uname`).
    pub user_name: &'a str,
    /// The same as a number (`n_uname`), or [`NO_USER`]. To QEMU it is the owner of what is made.
    pub user: u32,
    /// Which of the server's trees (`aname`): a path for diod, nothing for QEMU.
    pub tree: &'a str,
    /// Change nothing.
    pub is_read_only: bool,
    /// How many files are remembered that nobody holds, at least 8. Each has up to three fids, and up to two open files at the server.
    pub idle_inodes: usize,
}

impl Default for MountOptions<'_> {
    fn default() -> Self {
        Self {
            message_bytes: 128 << 10,
            user_name: "root",
            user: 0,
            tree: "",
            is_read_only: false,
            idle_inodes: 256,
        }
    }
}

/// Why a tree cannot be mounted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MountError {
    /// The server does not answer.
    Silent,
    /// The answer is not of the protocol; the text says what is wrong.
    Malformed(&'static str),
    /// The server speaks another protocol, which it named.
    Version(String),
    /// The limit of messages, in bytes, is out of bounds: the caller's or the server's.
    MessageBytes(u32),
    /// The server refuses the tree to this user, with an error number of Linux.
    Refused(u32),
    /// What the server gives is no directory.
    NotADirectory,
    /// The name of the user or the tree is too long, or has a zero byte.
    Name,
}

impl fmt::Display for MountError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => formatter.write_str("the server does not answer"),
            Self::Malformed(text) => write!(formatter, "the server's answer makes no sense ({text})"),
            Self::Version(version) => write!(formatter, "the server speaks {version:?}, not 9P2000.L"),
            Self::MessageBytes(bytes) => write!(
                formatter,
                "messages of {bytes} bytes: the limit must be {MIN_MESSAGE_BYTES} to {MAX_MESSAGE_BYTES}"
            ),
            Self::Refused(number) => {
                write!(formatter, "the server refuses the tree to this user (error {number})")
            }
            Self::NotADirectory => formatter.write_str("what the server shares is not a directory"),
            Self::Name => formatter.write_str("the name of the user or the tree cannot be sent"),
        }
    }
}

impl core::error::Error for MountError {}

impl From<CallError> for MountError {
    fn from(failure: CallError) -> Self {
        match failure {
            CallError::Silent => Self::Silent,
            CallError::Malformed(text) => Self::Malformed(text),
            CallError::Refused(number) => Self::Refused(number),
            CallError::TooLong => Self::Name,
        }
    }
}

impl P9 {
    /// Starts a connection and mounts a tree.
    pub fn mount(
        transport: impl Transport + 'static,
        options: &MountOptions<'_>,
    ) -> Result<Self, MountError> {
        Self::mount_over(Box::new(transport), options)
    }

    fn mount_over(transport: Box<dyn Transport>, options: &MountOptions<'_>) -> Result<Self, MountError> {
        let asked = options.message_bytes;
        if !(MIN_MESSAGE_BYTES..=MAX_MESSAGE_BYTES).contains(&asked) {
            return Err(MountError::MessageBytes(asked));
        }
        for name in [options.user_name, options.tree] {
            if name.len() > MAX_NAME_BYTES || name.contains('\0') {
                return Err(MountError::Name);
            }
        }
        let mut connection = Connection::new(transport, asked);
        let granted = agree(&mut connection)?;
        if granted > asked {
            return Err(MountError::Malformed("9p: messages longer than offered"));
        }
        if granted < MIN_MESSAGE_BYTES {
            return Err(MountError::MessageBytes(granted));
        }
        connection.limit_messages(granted);

        let fid = connection.new_fid().map_err(|_| MountError::Malformed("9p: no fid is free"))?;
        let qid = connection.call(&Attach {
            fid,
            auth_fid: NO_FID,
            user_name: options.user_name.as_bytes(),
            tree: options.tree.as_bytes(),
            user: options.user,
        })?;
        if qid.kind & Qid::DIRECTORY == 0 {
            connection.discard(fid);
            return Err(MountError::NotADirectory);
        }
        let root = InodeNumber(qid.path);
        let mut nodes = Nodes::new(options.idle_inodes.max(8));
        let mut node = Node::new(fid, qid, None, 0);
        node.opens = 1;
        nodes.insert(root, node);
        Ok(Self {
            connection,
            root,
            nodes,
            is_read_only: options.is_read_only,
            unsynced: BTreeSet::new(),
            moves: 0,
            lost_sync: None,
        })
    }

    /// The longest message that was agreed on, in bytes.
    pub fn message_bytes(&self) -> u32 {
        self.connection.message_bytes()
    }
}

/// Agrees on the protocol; answers how long the server lets messages be.
fn agree(connection: &mut Connection) -> Result<u32, MountError> {
    let message_bytes = connection.message_bytes();
    match connection.call(&Version { message_bytes, version: VERSION }) {
        Ok((granted, VERSION)) => Ok(granted),
        Ok((_, version)) => {
            let start = &version[..version.len().min(32)];
            Err(MountError::Version(String::from_utf8_lossy(start).into_owned()))
        }
        Err(failure) => Err(failure.into()),
    }
}

impl From<MountError> for Error {
    fn from(error: MountError) -> Self {
        match error {
            MountError::Silent => Self::Device,
            MountError::Malformed(text) => Self::Corrupt(text),
            MountError::Version(_) => Self::Unsupported,
            MountError::Refused(number) => crate::errno::error(number),
            MountError::NotADirectory => Self::NotADirectory,
            MountError::MessageBytes(_) | MountError::Name => Self::Invalid,
        }
    }
}
