//! The messages of 9P2000.L that this client sends, and what their replies hold. One line is one pair of messages; the number is the
//! type of the request, and its reply's is one more.
//!
//! Source: `protocol.md` of diod, `include/net/9p/9p.h` of Linux.

use alloc::vec::Vec;

use crate::wire::{Data, Malformed, Put, Qid, Qids, Reader, Take, Text};

/// A handle on a file of the server's, which the client numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fid(pub(crate) u32);

impl Put for Fid {
    fn put(&self, message: &mut Vec<u8>) {
        self.0.put(message);
    }
}

/// A request.
pub(crate) trait Request {
    /// The type in the header.
    const TYPE: u8;
    /// What the reply holds.
    type Reply<'r>: Take<'r>;
    /// Appends what follows the header.
    fn put(&self, message: &mut Vec<u8>);
}

macro_rules! messages {
    ($($number:literal $name:ident $(<$life:lifetime>)? { $($field:ident: $type:ty),* $(,)? } => $reply:ty;)*) => { $(
        pub(crate) struct $name $(<$life>)? { $(pub(crate) $field: $type),* }

        impl $(<$life>)? Request for $name $(<$life>)? {
            const TYPE: u8 = $number;
            type Reply<'r> = $reply;

            fn put(&self, message: &mut Vec<u8>) {
                $(self.$field.put(message);)*
            }
        }
    )* };
}

messages! {
    // The connection.
    100 Version<'a> { message_bytes: u32, version: Text<'a> } => (u32, Text<'r>);
    104 Attach<'a> { fid: Fid, auth_fid: Fid, user_name: Text<'a>, tree: Text<'a>, user: u32 } => Qid;

    // Fids.
    110 Walk<'a> { fid: Fid, new_fid: Fid, name: Option<Text<'a>> } => Qids;
    120 Clunk { fid: Fid } => ();

    // Attributes.
    8 Statfs { fid: Fid } => FilesystemRecord;
    24 Getattr { fid: Fid, request_mask: u64 } => AttributeRecord;
    26 Setattr {
        fid: Fid, valid: u32, mode: u32, user: u32, group: u32, size: u64,
        accessed_seconds: u64, accessed_nanoseconds: u64, modified_seconds: u64, modified_nanoseconds: u64,
    } => ();
    30 Xattrwalk<'a> { fid: Fid, new_fid: Fid, name: Text<'a> } => u64;
    32 Xattrcreate<'a> { fid: Fid, name: Text<'a>, size: u64, flags: u32 } => ();

    // Content. An `iounit` of 0 sets no limit.
    12 Lopen { fid: Fid, flags: u32 } => (Qid, u32);
    116 Read { fid: Fid, offset: u64, count: u32 } => Data<'r>;
    118 Write<'a> { fid: Fid, offset: u64, data: Data<'a> } => u32;
    40 Readdir { fid: Fid, offset: u64, count: u32 } => Data<'r>;
    22 Readlink { fid: Fid } => Text<'r>;
    50 Fsync { fid: Fid, data_only: u32 } => ();

    // Names.
    14 Lcreate<'a> { fid: Fid, name: Text<'a>, flags: u32, mode: u32, group: u32 } => (Qid, u32);
    72 Mkdir<'a> { directory: Fid, name: Text<'a>, mode: u32, group: u32 } => Qid;
    16 Symlink<'a> { directory: Fid, name: Text<'a>, target: Text<'a>, group: u32 } => Qid;
    18 Mknod<'a> { directory: Fid, name: Text<'a>, mode: u32, major: u32, minor: u32, group: u32 } => Qid;
    70 Link<'a> { directory: Fid, fid: Fid, name: Text<'a> } => ();
    74 Renameat<'a> { from_directory: Fid, from: Text<'a>, to_directory: Fid, to: Text<'a> } => ();
    76 Unlinkat<'a> { directory: Fid, name: Text<'a>, flags: u32 } => ();
    // The same by a fid of what has the name, for servers that lack the two above. `Remove` ends the fid, whatever comes of it.
    20 Rename<'a> { fid: Fid, directory: Fid, name: Text<'a> } => ();
    122 Remove { fid: Fid } => ();
}

/// The type of the reply that holds an error number instead (`Rlerror`).
pub(crate) const ERROR_TYPE: u8 = 7;

macro_rules! records {
    ($($(#[$doc:meta])* $name:ident $(<$life:lifetime>)? { $($field:ident: $type:ty),* $(,)? })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name $(<$life>)? { $(pub(crate) $field: $type),* }

        impl<'r> Take<'r> for $name $(<$life>)? {
            fn take(reader: &mut Reader<'r>) -> Result<Self, Malformed> {
                Ok(Self { $($field: reader.take()?),* })
            }
        }
    )* };
}

records! {
    /// What `Rgetattr` holds. Only what `valid` names has a meaning.
    AttributeRecord {
        valid: u64, qid: Qid, mode: u32, user: u32, group: u32, links: u64, device: u64, size: u64,
        _block_bytes: u64, blocks_512: u64, accessed: (u64, u64), modified: (u64, u64), changed: (u64, u64),
        born: (u64, u64), generation: u64, _data_version: u64,
    }

    /// What `Rstatfs` holds.
    FilesystemRecord {
        _kind: u32, block_bytes: u32, blocks: u64, free_blocks: u64, available_blocks: u64, inodes: u64,
        free_inodes: u64, identity: u64, _max_name_bytes: u32,
    }

    /// A name in the data of `Rreaddir`.
    EntryRecord<'r> { qid: Qid, offset: u64, kind: u8, name: Text<'r> }
}

/// Bits of `Tgetattr` and `Rgetattr` (`P9_GETATTR_*`).
pub(crate) mod getattr {
    pub(crate) const MODE: u64 = 0x001;
    pub(crate) const SIZE: u64 = 0x200;
    pub(crate) const BORN: u64 = 0x800;
    pub(crate) const GENERATION: u64 = 0x1000;
    /// The fields of `stat`.
    pub(crate) const BASIC: u64 = 0x7ff;
}

/// Bits of `Tsetattr` (`P9_SETATTR_*`). A time without its `_TO` would be the server's now.
pub(crate) mod setattr {
    pub(crate) const MODE: u32 = 0x1;
    pub(crate) const USER: u32 = 0x2;
    pub(crate) const GROUP: u32 = 0x4;
    pub(crate) const SIZE: u32 = 0x8;
    pub(crate) const ACCESSED: u32 = 0x10;
    pub(crate) const MODIFIED: u32 = 0x20;
    pub(crate) const ACCESSED_TO: u32 = 0x80;
    pub(crate) const MODIFIED_TO: u32 = 0x100;
}

/// Flags of `Tlopen` and `Tlcreate` (`P9_DOTL_*`).
pub(crate) mod open {
    pub(crate) const READ_ONLY: u32 = 0;
    pub(crate) const WRITE_ONLY: u32 = 1;
    pub(crate) const READ_WRITE: u32 = 2;
    pub(crate) const CREATE: u32 = 0o100;
    pub(crate) const EXCLUSIVE: u32 = 0o200;
    pub(crate) const LARGE_FILE: u32 = 0o100_000;
    pub(crate) const DIRECTORY: u32 = 0o200_000;
}

/// `P9_DOTL_AT_REMOVEDIR`, for `Tunlinkat`.
pub(crate) const REMOVE_DIRECTORY: u32 = 0x200;

/// `XATTR_REPLACE`, for `Txattrcreate`.
pub(crate) const XATTR_REPLACE: u32 = 2;

/// The type bits of a mode (`S_IF*`).
pub(crate) mod mode {
    pub(crate) const TYPE: u32 = 0o170_000;
    pub(crate) const FIFO: u32 = 0o010_000;
    pub(crate) const CHARACTER_DEVICE: u32 = 0o020_000;
    pub(crate) const DIRECTORY: u32 = 0o040_000;
    pub(crate) const BLOCK_DEVICE: u32 = 0o060_000;
    pub(crate) const FILE: u32 = 0o100_000;
    pub(crate) const SYMLINK: u32 = 0o120_000;
    pub(crate) const SOCKET: u32 = 0o140_000;
}
