//! The vocabulary: inodes, times, attributes, runs of blocks.

use alloc::string::String;

/// An inode's number: what a filesystem finds it by, and what `stat` tells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InodeNumber(pub u64);

/// A moment since 1970 began, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Timestamp {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// The rest, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device's name.
    CharacterDevice,
    /// A block device's name.
    BlockDevice,
}

/// What [`FileSystem::create`](crate::FileSystem::create) shall make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewKind<'a> {
    /// An empty regular file.
    File,
    /// An empty directory.
    Directory,
    /// A symbolic link to these bytes.
    Symlink(&'a [u8]),
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device's name, with the device's number as Linux encodes it (`dev_t`).
    CharacterDevice(u32),
    /// A block device's name, with the device's number as Linux encodes it (`dev_t`).
    BlockDevice(u32),
}

impl NewKind<'_> {
    /// What the node will be.
    pub fn kind(&self) -> FileKind {
        match self {
            Self::File => FileKind::File,
            Self::Directory => FileKind::Directory,
            Self::Symlink(_) => FileKind::Symlink,
            Self::Fifo => FileKind::Fifo,
            Self::Socket => FileKind::Socket,
            Self::CharacterDevice(_) => FileKind::CharacterDevice,
            Self::BlockDevice(_) => FileKind::BlockDevice,
        }
    }
}

/// A node to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewNode<'a> {
    /// What it is.
    pub kind: NewKind<'a>,
    /// The low twelve bits of the mode.
    pub permissions: u16,
    /// Owning user.
    pub user: u32,
    /// Owning group.
    pub group: u32,
}

/// What is known about an inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// What it is.
    pub kind: FileKind,
    /// The low twelve bits of the mode.
    pub permissions: u16,
    /// Owning user.
    pub user: u32,
    /// Owning group.
    pub group: u32,
    /// Size in bytes.
    pub size: u64,
    /// Names that lead here. A directory with more than the format can count has 1.
    pub links: u32,
    /// Space taken, in units of 512 bytes, metadata of its own included.
    pub blocks_512: u64,
    /// The number of a device node, as Linux encodes it (`dev_t`); else 0.
    pub device: u32,
    /// Last read.
    pub accessed: Timestamp,
    /// Last change of the content.
    pub modified: Timestamp,
    /// Last change of the inode.
    pub changed: Timestamp,
    /// Creation.
    pub born: Timestamp,
    /// Changes when the number is used again for another inode.
    pub generation: u32,
    /// Its content can be found: not by a block map, as in files of ext3, nor in the inode itself.
    pub is_mappable: bool,
}

/// Which attributes shall change. The size changes by [`FileSystem::set_size`](crate::FileSystem::set_size).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AttributeChange {
    /// The low twelve bits of the mode.
    pub permissions: Option<u16>,
    /// Owning user.
    pub user: Option<u32>,
    /// Owning group.
    pub group: Option<u32>,
    /// Last read.
    pub accessed: Option<Timestamp>,
    /// Last change of the content.
    pub modified: Option<Timestamp>,
}

/// A name in a directory, as a listing shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The name's bytes.
    pub name: &'a [u8],
    /// Where it leads.
    pub inode: InodeNumber,
    /// What is there, if the directory tells; else ask the inode.
    pub kind: Option<FileKind>,
    /// Continues the listing after this entry.
    pub next_cookie: u64,
}

/// How [`FileSystem::rename`](crate::FileSystem::rename) treats what has the new name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenameMode {
    /// It is replaced.
    Replace,
    /// The rename fails.
    NoReplace,
    /// The two trade places.
    Exchange,
}

/// What [`FileSystem::sync_inode`](crate::FileSystem::sync_inode) makes durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sync {
    /// The content and what is needed to read it (`fdatasync`).
    Data,
    /// All attributes too (`fsync`).
    All,
}

/// Part of a file as it lies on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The first block on the disk, or `None` for what reads as zeros: a hole, or allocated but never written.
    pub start: Option<u64>,
    /// How many blocks; at least 1.
    pub blocks: u32,
}

/// Blocks of the disk that wait for a file's data, from [`BlockMap::prepare_write`](crate::BlockMap::prepare_write).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteRun {
    /// The first block in the file.
    pub file_block: u64,
    /// The first block on the disk: write there.
    pub start: u64,
    /// How many blocks; at least 1.
    pub blocks: u32,
    /// What they were before.
    pub state: RunState,
}

impl WriteRun {
    /// True if the blocks held no data of the file before, so that a block that is not written in full must
    /// be filled up with zeros.
    pub fn is_fresh(&self) -> bool {
        self.state != RunState::Written
    }
}

/// What a [`WriteRun`] was before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunState {
    /// Written blocks of the file.
    Written,
    /// The file's, but never written.
    Unwritten,
    /// Nobody's; set aside in memory.
    Reserved,
}

/// Space and inodes, as `statfs` tells them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Statistics {
    /// Bytes in a block.
    pub block_bytes: u32,
    /// Blocks that could hold files.
    pub blocks: u64,
    /// Of those, free ones.
    pub free_blocks: u64,
    /// Free ones that are not kept back for the filesystem itself.
    pub available_blocks: u64,
    /// All inodes.
    pub inodes: u64,
    /// Free inodes.
    pub free_inodes: u64,
    /// The filesystem's identity.
    pub uuid: [u8; 16],
}

/// How a filesystem on a device is told from others, as blkid(8) prints it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// As ext4 has it: lower-case digits in groups of 8, 4, 4, 4 and 12; others have their own forms.
    pub uuid: String,
    /// May be empty.
    pub label: String,
}
