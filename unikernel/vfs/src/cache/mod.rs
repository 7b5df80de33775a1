//! The page cache of mounted filesystems: what is in memory of a file, what is dirty, and when it moves.
//!
//! The state of a file's content is a [`FileCache`]: its length, its pages (being read, ready, dirty), the blocks that are
//! known, the errors. The functions here read ([`read`], [`load`]), write ([`write()`], [`reserve`]), write back ([`write_back()`], [`sync`]), and
//! change length and blocks ([`resize`], [`allocate`], [`punch`]). They take their steps over a [`Backend`], which has what is the
//! kernel's: locks, sleep, memory, disks. So the order of the steps can be tested on a host, with an error or a power cut at each.
//!
//! Who calls them holds no spin lock. Writes and changes of length take turns: the caller has a sleeping lock for that, taken
//! before [`Backend::lock_io`], which the functions take themselves.
//!
//! Beside that: which page goes when memory is wanted ([`Clock`]), how much is read before it is asked for ([`ReadAhead`]), who is
//! told of writes that failed ([`ErrorSequence`]), and space that is set aside before it is needed ([`Reservations`]).

mod backend;
mod clock;
mod counts;
mod error_sequence;
mod extents;
mod failures;
mod file_cache;
mod load;
mod page;
mod read_ahead;
mod reservations;
mod resize;
mod store;
#[cfg(test)]
mod tests;
mod transfer;
mod write;
mod write_back;

pub use backend::{Backend, Copies, Direction, Piece, Requests, Shared};
pub use clock::{Clock, Reclaim};
pub use counts::Counts;
pub use error_sequence::{ErrorCursor, ErrorSequence};
pub use file_cache::FileCache;
pub use load::{AccessError, Fault, MOST_AHEAD, Window, has_in_memory, load, page, read};
pub use page::{Frame, PAGE_BYTES, Page};
pub use read_ahead::ReadAhead;
pub use reservations::Reservations;
pub use resize::{allocate, drop_pages, forget_content, forget_pages, punch, resize};
pub use write::{mark_dirty, reserve, write};
pub use write_back::{ALL, sync, sync_inode, write_back};

/// Which page an offset lies in, and where in it.
pub fn split(offset: u64) -> (u64, usize) {
    (offset / PAGE_BYTES as u64, (offset % PAGE_BYTES as u64) as usize)
}
