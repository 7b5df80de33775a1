//! The thread that writes back what has been dirty for long enough, and lets the filesystems commit.

use core::sync::atomic::Ordering;

use unikernel_vfs::cache::{ALL, Backend};

use super::{Mount, cache, errno, now, table};
use crate::abi::Errno;
use crate::kmem::frames;
use crate::mem::reclaim::{self, PageCache};
use crate::mem::space;
use crate::net;
use crate::platform::time;
use crate::task::{WaitQueue, scheduler};

/// How long a page may stay dirty, and how often the thread looks. (Linux writes back after 30 s, and ext4
/// commits every 5 s.)
const AGE_NS: u64 = 5_000_000_000;
const INTERVAL_NS: u64 = 1_000_000_000;

/// How often [`make_room`] tries.
const ROOM_ROUNDS: u32 = 8;

static IDLE: WaitQueue = WaitQueue::new();

/// Starts it, at boot: a machine without memory for it has none for the app either.
pub(super) fn start() {
    scheduler::start_kernel_thread("flusher", main).expect("memory for the flusher's stack");
}

extern "C" fn main() -> ! {
    scheduler::finish_task_switch();
    let mut committed_ns = time::now_ns();
    loop {
        let deadline_ns = time::now_ns() + INTERVAL_NS;
        let _: Option<()> = IDLE.wait_uninterrupted(Some(deadline_ns), || None);
        let is_due = time::now_ns() - committed_ns >= AGE_NS;
        table::all().iter().for_each(|mount| look_after(mount, is_due));
        if is_due {
            committed_ns = time::now_ns();
        }
    }
}

/// Writes back what is old, or half of all that may be dirty. What fails is told to whoever syncs the file.
fn look_after(mount: &'static Mount, is_due: bool) {
    if mount.is_read_only() {
        return;
    }
    let is_much = cache::COUNTS.dirty() > cache::most_dirty() / 2;
    let now_ns = time::now_ns();
    for inode in mount.dirty_inodes() {
        let since_ns = inode.dirty_since_ns.load(Ordering::Relaxed);
        // It may have become dirty after the clock was read.
        let is_old = since_ns != 0 && now_ns.saturating_sub(since_ns) >= AGE_NS;
        if is_much || is_old || is_due {
            let _ = inode.write_back(ALL);
            let _ = inode.store_times();
        }
    }
    if is_due {
        let _ = mount
            .with(|filesystem| if filesystem.has_uncommitted() { filesystem.commit(now()) } else { Ok(()) });
    }
}

/// Writes back all that is dirty, and waits for what others are writing back. The first error counts.
pub(super) fn write_back_all(mount: &'static Mount) -> Result<(), Errno> {
    let mut outcome = Ok(());
    for inode in mount.dirty_inodes() {
        outcome = outcome.and(inode.write_back(ALL)).and(inode.store_times().map_err(errno));
    }
    outcome
}

/// Makes room for so many pages of the app's where nothing could go at once: what is dirty is saved, and mapped pages are let go.
/// Waits for all that it takes; the caller holds no locks. False if there is no room after all.
pub(crate) fn make_room(pages: usize) -> bool {
    // Others take memory meanwhile, and may be faster.
    (0..ROOM_ROUNDS).any(|_| {
        for mount in table::all() {
            // What fails is told to whoever syncs the file.
            let _ = write_back_all(mount);
        }
        space::release_clean_in_turn();
        net::squeeze();
        reclaim::make_room(pages.max(frames::reserve_pages() / 2));
        frames::can_app_take(pages)
    })
}

/// The page cache, for those below that run short of frames.
pub(crate) struct Cache;

impl PageCache for Cache {
    fn shrink(&self, wanted: usize) -> usize {
        cache::shrink(wanted)
    }

    fn make_room(&self, pages: usize) -> bool {
        make_room(pages)
    }
}
