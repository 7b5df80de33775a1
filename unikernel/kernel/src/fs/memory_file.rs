//! The content of a file in memory: pages that are made when they are first written, over the bytes
//! that an archive brought, if any. Holes and what lies between the archive's bytes and the end are
//! zeros.
//!
//! A page is shared with whoever maps the file. Calls copy between a page and the app without any
//! lock of the file, for the app's memory may be a mapping of the very same file.

mod mapped;
mod seals;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::AtomicU64;

use linux_raw_sys::general::F_SEAL_SEAL;

use crate::abi::{Errno, SysResult};
use crate::file::lock::FileLocks;
use crate::file::{Content, MAX_FILE_BYTES};
use crate::kmem::{PAGE_BYTES, frames};
use crate::mem::shared::{self, SharedFrame};
use crate::mem::space::{self, Copies};
use crate::mem::user::UserSlice;
use crate::process::file_size;
use crate::sync::SpinLock;
use crate::task::mutex::Mutex;
use crate::task::scheduler;
use crate::vfs::cache;

/// A file's bytes.
pub(crate) struct MemoryFile {
    state: SpinLock<State>,
    /// Held while the end of the file moves: from the look at it to the write behind it, so that appends do not
    /// overwrite each other, and nobody zeros what another has just written behind it.
    moving_end: Mutex<()>,
    locks: FileLocks,
    /// When the app last stored to it through a mapping that had no page there, if that is newer than its node's times; else 0.
    stored_ns: AtomicU64,
}

struct State {
    /// What the archive brought, as far as it still counts.
    base: &'static [u8],
    pages: BTreeMap<u64, SharedFrame>,
    size: u64,
    /// What may not be done any more ([`seals`]).
    seals: u32,
    /// Writes that are under way.
    writing: u32,
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        shared::let_go(core::mem::take(&mut self.state.get_mut().pages));
    }
}

/// Where the bytes of one page are.
enum Piece {
    Page(SharedFrame),
    Base(&'static [u8]),
    Hole,
}

fn split(offset: u64) -> (u64, usize) {
    (offset / PAGE_BYTES as u64, (offset % PAGE_BYTES as u64) as usize)
}

impl State {
    /// The archive's bytes of a page.
    fn base_of(&self, index: u64) -> &'static [u8] {
        let start = usize::try_from(index.saturating_mul(PAGE_BYTES as u64))
            .unwrap_or(usize::MAX)
            .min(self.base.len());
        &self.base[start..self.base.len().min(start.saturating_add(PAGE_BYTES))]
    }

    fn piece(&self, index: u64) -> Piece {
        match self.pages.get(&index) {
            Some(page) => Piece::Page(page.clone()),
            None if self.base_of(index).is_empty() => Piece::Hole,
            None => Piece::Base(self.base_of(index)),
        }
    }

    /// Zeros what lies between the end and `until`, where the file is about to grow to: a mapping shows all of the last
    /// page, and may have left bytes behind the end.
    fn clear_behind_end(&self, until: u64) {
        let (index, within) = split(self.size);
        let Some(page) = self.pages.get(&index).filter(|_| until > self.size) else { return };
        let len = (until - self.size).min((PAGE_BYTES - within) as u64) as usize;
        page.clear(within, len);
    }

    /// Cuts the file; answers the pages that are not its own any more, and the number of the first of them.
    fn cut(&mut self, size: u64) -> (u64, BTreeMap<u64, SharedFrame>) {
        let (index, within) = split(size);
        let kept = usize::try_from(size).unwrap_or(usize::MAX).min(self.base.len());
        self.base = &self.base[..kept];
        let first = if within == 0 { index } else { index + 1 };
        let removed = self.pages.split_off(&first);
        if within > 0
            && let Some(page) = self.pages.get(&index)
        {
            page.clear(within, PAGE_BYTES - within);
        }
        self.size = size;
        (first, removed)
    }

    /// The first page from `index` on that is no hole.
    fn next_content(&self, index: u64) -> Option<u64> {
        if !self.base_of(index).is_empty() {
            return Some(index);
        }
        self.pages.range(index..).next().map(|(&index, _)| index)
    }

    /// The first page from `index` on that is one.
    fn next_hole(&self, index: u64) -> u64 {
        let start = index.max(self.base.len().div_ceil(PAGE_BYTES) as u64);
        let mut hole = start;
        for &written in self.pages.range(start..).map(|(index, _)| index) {
            if written != hole {
                break;
            }
            hole += 1;
        }
        hole
    }

    /// A page to write to.
    fn page(&mut self, index: u64) -> Option<SharedFrame> {
        if let Some(page) = self.pages.get(&index) {
            return Some(page.clone());
        }
        let page = SharedFrame::new_zeroed()?;
        page.fill(0, self.base_of(index));
        self.pages.insert(index, page.clone());
        Some(page)
    }
}

impl MemoryFile {
    /// A file with an archive's bytes.
    pub(crate) fn from_archive(base: &'static [u8]) -> Arc<Self> {
        let size = base.len() as u64;
        let state = State { base, pages: BTreeMap::new(), size, seals: F_SEAL_SEAL, writing: 0 };
        Arc::new(Self {
            state: SpinLock::new(state),
            moving_end: Mutex::new(()),
            locks: FileLocks::default(),
            stored_ns: AtomicU64::new(0),
        })
    }

    /// An empty file.
    pub(crate) fn empty() -> Arc<Self> {
        Self::from_archive(&[])
    }

    /// The locks on it.
    pub(crate) fn locks(&self) -> &FileLocks {
        &self.locks
    }

    /// Its length in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.state.lock().size
    }

    /// Bytes of memory that its content takes.
    pub(crate) fn occupied_bytes(&self) -> u64 {
        let state = self.state.lock();
        (state.pages.len() * PAGE_BYTES) as u64 + state.base.len() as u64
    }

    /// Copies bytes from `offset` on to the app; less than asked for at the end of the file.
    pub(crate) fn read(&self, offset: u64, into: UserSlice) -> SysResult {
        let mut done = 0;
        while done < into.len() {
            let at = offset.saturating_add(done as u64);
            let (index, within) = split(at);
            let (piece, rest) = {
                let state = self.state.lock();
                (state.piece(index), state.size.saturating_sub(at))
            };
            let len = (PAGE_BYTES - within).min(into.len() - done).min(rest.min(PAGE_BYTES as u64) as usize);
            if len == 0 {
                break;
            }
            let part = into.skip(done).truncate(len);
            let moved = copy_or_begin(part, |part| copy_out(&piece, within, part));
            match moved {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
            if moved != Ok(len) {
                break;
            }
            scheduler::breathe_now_and_then(index as usize);
        }
        Ok(done)
    }

    /// Copies the app's bytes to `offset` and after; less than all if memory runs out on the way.
    pub(crate) fn write(&self, offset: u64, from: UserSlice) -> SysResult {
        if offset.saturating_add(from.len() as u64) <= self.size() {
            return self.write_in_turn(offset, from);
        }
        let _turn = self.moving_end.lock();
        self.state.lock().clear_behind_end(offset);
        self.write_in_turn(offset, from)
    }

    /// The same for who holds `moving_end`, or stays before the end.
    fn write_in_turn(&self, offset: u64, from: UserSlice) -> SysResult {
        let from = from.truncate(file_size::room_in_file(offset, from.len(), MAX_FILE_BYTES)?);
        if from.is_empty() {
            return Ok(0);
        }
        let _writing = self.begin_write()?;
        let mut done = 0;
        while done < from.len() {
            let (index, within) = split(offset + done as u64);
            let len = (PAGE_BYTES - within).min(from.len() - done);
            let part = from.skip(done).truncate(len);
            let moved = copy_or_begin(part, |part| self.write_piece(index, within, part));
            match moved {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
            if moved != Ok(len) {
                break;
            }
            scheduler::breathe_now_and_then(index as usize);
        }
        Ok(done)
    }

    /// Writes bytes of the kernel's; false if memory runs out on the way.
    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) -> bool {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (index, within) = split(at);
            let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES - within));
            let mut state = self.state.lock();
            let Some(page) = state.page(index) else { return false };
            page.fill(within, now);
            at += now.len() as u64;
            state.size = state.size.max(at);
            rest = later;
        }
        true
    }

    fn write_piece(&self, index: u64, within: usize, from: UserSlice) -> Result<(), Errno> {
        let end = index * PAGE_BYTES as u64 + (within + from.len()) as u64;
        let page = {
            let mut state = self.state.lock();
            state.check_resize(end.max(state.size))?;
            state.page(index).ok_or(Errno::ENOSPC)?
        };
        page.copy_from(within, from.len(), from)?;
        let mut state = self.state.lock();
        state.size = state.size.max(end);
        Ok(())
    }

    /// Writes behind the end. Answers where the end is then, and how much was written.
    pub(crate) fn append(&self, from: UserSlice) -> Result<(u64, usize), Errno> {
        let _turn = self.moving_end.lock();
        let end = self.size();
        let count = self.write_in_turn(end, from)?;
        Ok((end + count as u64, count))
    }

    /// Makes the file shorter or longer; what is added is a hole.
    pub(crate) fn resize(&self, size: u64) -> Result<(), Errno> {
        let _turn = self.moving_end.lock();
        file_size::check_file_size(self.size(), size, MAX_FILE_BYTES)?;
        let mut state = self.state.lock();
        state.check_resize(size)?;
        if size >= state.size {
            state.clear_behind_end(size);
            state.size = size;
            return Ok(());
        }
        let (first, removed) = state.cut(size);
        drop(state);
        // From now on no fault finds these pages, but mappings still show them.
        space::unmap_object(self, first..u64::MAX, Copies::Drop);
        // Many frames may go back; nobody waits for the file's lock meanwhile.
        shared::let_go(removed);
        Ok(())
    }

    /// Makes sure that writes to a range will not run out of memory (fallocate(2)).
    pub(crate) fn reserve(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let (first, last) = (offset / PAGE_BYTES as u64, offset.saturating_add(len - 1) / PAGE_BYTES as u64);
        let end = offset.saturating_add(len);
        {
            let state = self.state.lock();
            state.check_resize(end.max(state.size))?;
        }
        // What there can be no room for is refused before anything is taken for it.
        let there = self.state.lock().pages.range(first..=last).count();
        let could_be_free = frames::free_pages() + cache::pages();
        if last - first >= (there + could_be_free) as u64 {
            return Err(Errno::ENOSPC);
        }
        for index in first..=last {
            self.state.lock().page(index).ok_or(Errno::ENOSPC)?;
            scheduler::breathe_now_and_then(index as usize);
        }
        Ok(())
    }

    /// Sets a range to zeros, giving whole pages back (`FALLOC_FL_PUNCH_HOLE`).
    pub(crate) fn punch(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let _writing = self.begin_write()?;
        let mut at = offset;
        loop {
            let mut state = self.state.lock();
            let end = offset.saturating_add(len).min(state.size);
            // From page to page that there is: a hole may be of any length.
            let Some(content) = state.next_content(split(at).0) else { return Ok(()) };
            at = at.max(content * PAGE_BYTES as u64);
            if at >= end {
                return Ok(());
            }
            let (index, within) = split(at);
            let count = ((PAGE_BYTES - within) as u64).min(end - at) as usize;
            match state.piece(index) {
                Piece::Hole => {}
                // A page that is mapped must stay the same page.
                Piece::Page(page) => page.clear(within, count),
                Piece::Base(_) => state.page(index).ok_or(Errno::ENOSPC)?.clear(within, count),
            }
            at += count as u64;
            drop(state);
            scheduler::breathe_now_and_then(index as usize);
        }
    }

    /// The first place from `offset` on with this kind of content; the end of the file counts as a
    /// hole. `None` if there is none.
    pub(crate) fn find(&self, offset: u64, wanted: Content) -> Option<u64> {
        let state = self.state.lock();
        if offset >= state.size {
            return None;
        }
        let index = split(offset).0;
        let found = match wanted {
            Content::Data => state.next_content(index)?,
            Content::Hole => state.next_hole(index),
        };
        let at = offset.max(found.saturating_mul(PAGE_BYTES as u64));
        match wanted {
            Content::Data => (at < state.size).then_some(at),
            Content::Hole => Some(at.min(state.size)),
        }
    }
}

/// Moves a part of the app's buffer; if that ends where its memory does, what there is of it. Answers how
/// many bytes were moved.
fn copy_or_begin(part: UserSlice, copy: impl Fn(UserSlice) -> Result<(), Errno>) -> SysResult {
    let outcome = copy(part);
    if outcome != Err(Errno::EFAULT) || part.within_page().len() == part.len() {
        return outcome.map(|()| part.len());
    }
    copy(part.within_page()).map(|()| part.within_page().len())
}

fn copy_out(piece: &Piece, within: usize, into: UserSlice) -> Result<(), Errno> {
    const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    match piece {
        Piece::Page(page) => page.copy_to(within, into.len(), into)?,
        Piece::Hole => into.write(&ZEROS[..into.len()])?,
        Piece::Base(bytes) => {
            let bytes = &bytes[within.min(bytes.len())..];
            let count = bytes.len().min(into.len());
            into.write(&bytes[..count])?;
            into.skip(count).write(&ZEROS[..into.len() - count])?;
        }
    }
    Ok(())
}
