//! What can be wrong.

use core::fmt;

/// Why a controller or a namespace is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// Its registers read as ones.
    Gone,
    /// It does not know the NVM command set.
    NoNvm,
    /// Its smallest page is larger than ours: 2 to this power.
    LargePages(u32),
    /// Its doorbells lie farther apart than its registers reach.
    FarDoorbells(u32),
    /// Its queues have so few entries.
    ShortQueues(u32),
    /// It has not become what it was told to (`CSTS.RDY`).
    NotReady,
    /// It says that it has failed (`CSTS.CFS`).
    Failed,
    /// It has not answered.
    NoAnswer,
    /// It has refused a command.
    Refused(Status),
    /// Its entries of queues have other sizes.
    BadEntries(u8, u8),
    /// There is no such namespace, or it has no blocks.
    NoNamespace,
    /// A block's size: 2 to this power.
    BadBlocks(u8),
    /// Blocks have so many bytes beside their data.
    HasMetadata(u16),
    /// There is no memory.
    OutOfMemory,
    /// It gives no queue for another namespace.
    NoQueue,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("it does not answer"),
            Self::NoNvm => f.write_str("it does not know the NVM command set"),
            Self::LargePages(power) => write!(f, "its pages have 2^{power} bytes at least"),
            Self::FarDoorbells(power) => write!(f, "its doorbells are 2^{power} bytes apart"),
            Self::ShortQueues(entries) => write!(f, "its queues have {entries} entries"),
            Self::NotReady => f.write_str("it does not become ready in the time that it asks for"),
            Self::Failed => f.write_str("it says that it has failed"),
            Self::NoAnswer => f.write_str("it does not answer commands"),
            Self::Refused(status) => write!(f, "it refuses a command: {status}"),
            Self::BadEntries(submission, completion) => {
                write!(f, "the sizes of its queue entries cannot be: {submission:#x}, {completion:#x}")
            }
            Self::NoNamespace => f.write_str("it has no such namespace"),
            Self::BadBlocks(power) => write!(f, "blocks of 2^{power} bytes cannot be used"),
            Self::HasMetadata(bytes) => write!(f, "its blocks have {bytes} bytes of metadata"),
            Self::OutOfMemory => f.write_str("there is no memory"),
            Self::NoQueue => f.write_str("it gives no queue for it"),
        }
    }
}

/// How a command ended (base specification, section 3.3.3.2.1): the status field without its phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(pub u16);

impl Status {
    /// All went well.
    pub const SUCCESS: Self = Self(0);

    /// The code, and of which type it is.
    fn code(self) -> (u16, u16) {
        (self.0 >> 8 & 0b111, self.0 & 0xff)
    }

    /// True if the command was done.
    pub fn is_success(self) -> bool {
        self.code() == (0, 0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, code) = self.code();
        write!(f, "status type {kind}, code {code:#04x}")
    }
}

/// Why a request was not begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No such number, or one that is in flight.
    BadTag,
    /// Its memory or its place on the disk cannot be.
    BadRequest,
}
