//! What the page cache's functions (`unikernel_vfs::cache`) need of the kernel, for an inode: locks, sleep, frames, disks.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

use unikernel_vfs::cache::{Backend, Copies, Counts, Direction, FileCache, Frame, Piece, Requests, Shared};
use unikernel_vfs::{AttributeChange, Error, FileSystem, InodeNumber, Timestamp};

use super::inode::Inode;
use super::{cache, flusher, now};
use crate::block::device::{DiskError, Memory, Operation, SECTOR_BYTES};
use crate::block::volume::Volume;
use crate::kmem::room;
use crate::mem::shared::SharedFrame;
use crate::mem::space;
use crate::platform::time;
use crate::task::mutex::MutexGuard;
use crate::task::scheduler;

impl Frame for SharedFrame {
    fn clear(&self, offset: usize, len: usize) {
        Self::clear(self, offset, len);
    }

    fn fill(&self, offset: usize, bytes: &[u8]) {
        Self::fill(self, offset, bytes);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        Self::read(self, offset, into);
    }

    fn is_sole_owner(&self) -> bool {
        Self::is_sole_owner(self)
    }
}

impl Backend for Inode {
    type Frame = SharedFrame;
    type Guard<'a> = MutexGuard<'a, ()>;

    fn with<T>(&self, work: impl FnOnce(&mut FileCache<SharedFrame>) -> T) -> T {
        work(&mut self.content.lock())
    }

    fn lock_io(&self) -> MutexGuard<'_, ()> {
        self.io_lock.lock()
    }

    fn wait(&self, mut is_over: impl FnMut() -> bool) {
        self.loaded.wait_uninterrupted(None, || is_over().then_some(()));
    }

    fn wake(&self) {
        self.loaded.wake_all();
    }

    fn yield_now(&self) {
        scheduler::breathe();
    }

    fn breathe(&self, done: usize) {
        scheduler::breathe_now_and_then(done);
    }

    fn new_frame(&self) -> Option<SharedFrame> {
        SharedFrame::for_cache()
    }

    fn make_room(&self) -> bool {
        flusher::make_room(1)
    }

    fn buffer(&self, len: usize) -> Result<Vec<u8>, Error> {
        room::filled(0, len).map_err(|_| Error::NoMemory)
    }

    fn counts(&self) -> &Counts {
        &cache::COUNTS
    }

    fn note_added(&self, pages: Range<u64>) {
        cache::note_added(&self.this, pages);
    }

    fn is_mapped(&self) -> bool {
        self.is_mapped.load(Ordering::Relaxed)
    }

    fn collect_mapped(&self) {
        space::collect_dirty(self);
    }

    fn unmap(&self, pages: Range<u64>, copies: Copies) {
        let copies = match copies {
            Copies::Keep => space::Copies::Keep,
            Copies::Drop => space::Copies::Drop,
        };
        space::unmap_object(self, pages, copies);
    }

    fn number(&self) -> InodeNumber {
        self.number
    }

    fn shared(&self) -> &Shared {
        &self.mount.shared
    }

    fn is_read_only(&self) -> bool {
        self.mount.is_mounted_read_only
    }

    fn has_failed(&self) -> bool {
        self.mount.has_failed()
    }

    fn with_filesystem<T>(
        &self,
        work: impl FnOnce(&mut dyn FileSystem) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.mount.with_error(work)
    }

    fn transfer(
        &self,
        direction: Direction,
        requests: Requests,
        pieces: &[Piece<'_, SharedFrame>],
    ) -> Result<(), Vec<usize>> {
        let Some(volume) = &self.mount.blocks else { return Ok(()) };
        if volume.is_checked() {
            return in_parts(pieces, &mut |part| read_checked(volume, part));
        }
        let operation = match direction {
            Direction::Read => Operation::Read,
            Direction::Write => Operation::Write,
        };
        in_parts(pieces, &mut |part| transfer_part(volume, operation, requests, part))
    }

    fn now(&self) -> Timestamp {
        now()
    }

    fn modified(&self) -> Timestamp {
        self.attributes().modified
    }

    fn note_write(&self) {
        self.note_change();
    }

    fn note_resize(&self) {
        self.has_new_times.store(false, Ordering::Relaxed);
    }

    fn note_dirty(&self) {
        if self.dirty_since_ns.load(Ordering::Relaxed) == 0 {
            self.dirty_since_ns.store(time::now_ns().max(1), Ordering::Relaxed);
        }
        self.mount.note_dirty(self);
    }

    fn note_write_back(&self, is_all: bool) {
        if is_all {
            self.mount.dirty.lock().remove(&self.number.0);
        }
        self.dirty_since_ns.store(0, Ordering::Relaxed);
    }

    fn store_times(&self) -> Result<(), Error> {
        if !self.has_new_times.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let attributes = self.attributes();
        let change = AttributeChange { modified: Some(attributes.modified), ..AttributeChange::default() };
        self.mount.with_error(|filesystem| filesystem.set_attributes(self.number, change, attributes.changed))
    }

    fn refresh(&self) -> Result<(), Error> {
        self.refresh_attributes()
    }

    fn record_error(&self, error: Error) {
        self.mount.errors.lock().record(error);
    }

    fn report_losses(&self, pages: usize, error: Error) {
        let (disk, path) = (&self.mount.disk, self.mount.path_of(self.number));
        log::error!("{disk}: {path}: {pages} page(s) could not be written: {:?}", super::errno(error));
    }

    fn has_too_many_dirty(&self) -> bool {
        cache::COUNTS.dirty() > cache::most_dirty()
    }

    fn refresh_space(&self) {
        // What it answers is noted on the way.
        let _ = self.mount.statistics();
    }

    fn write_back_others(&self) {
        let _ = flusher::write_back_all(self.mount);
    }
}

/// Why pieces were not moved.
#[derive(PartialEq, Eq, Debug)]
enum Refusal {
    /// There is no memory for so many at once: nothing was asked of the disk.
    NoMemory,
    /// These may have failed.
    Failed(Vec<usize>),
}

/// Has `transfer` move all pieces, at once if there is memory for it, and otherwise one half after the other: who writes back dirty pages to
/// have memory again must not need a lot of it.
fn in_parts<P>(
    pieces: &[P],
    transfer: &mut dyn FnMut(&[P]) -> Result<(), Refusal>,
) -> Result<(), Vec<usize>> {
    match transfer(pieces) {
        Ok(()) => Ok(()),
        Err(Refusal::Failed(places)) => Err(places),
        Err(Refusal::NoMemory) if pieces.len() <= 1 => Err((0..pieces.len()).collect()),
        Err(Refusal::NoMemory) => {
            let (first, second) = pieces.split_at(pieces.len() / 2);
            let mut failed = in_parts(first, transfer).err().unwrap_or_default();
            let later = in_parts(second, transfer).err().unwrap_or_default();
            failed.extend(later.into_iter().map(|place| place + first.len()));
            if failed.is_empty() { Ok(()) } else { Err(failed) }
        }
    }
}

/// Moves pieces between memory and the disk, all of them in flight together.
fn transfer_part(
    volume: &Volume,
    operation: Operation,
    requests: Requests,
    pieces: &[Piece<'_, SharedFrame>],
) -> Result<(), Refusal> {
    let (mut transfers, mut own) = (Vec::new(), Vec::new());
    // The first request that each piece can be in: the one that the piece before ended in.
    let mut firsts = Vec::new();
    // A page is a part of one request on every disk that does not limit parts to less.
    transfers.try_reserve(pieces.len()).map_err(|_| Refusal::NoMemory)?;
    own.try_reserve(1).map_err(|_| Refusal::NoMemory)?;
    firsts.try_reserve(pieces.len()).map_err(|_| Refusal::NoMemory)?;
    for piece in pieces {
        let address = piece.frame.address().as_u64() + piece.offset as u64;
        let memory = Memory { address, len: piece.len as u32 };
        match requests {
            Requests::Joined => {
                firsts.push(transfers.len().saturating_sub(1));
                volume.limits().add(&mut transfers, piece.sector, memory);
            }
            Requests::Apart => {
                firsts.push(transfers.len());
                volume.limits().add(&mut own, piece.sector, memory);
                transfers.append(&mut own);
            }
        }
    }
    let last = transfers.len().saturating_sub(1);
    let Err(failed) = volume.transfer(operation, transfers) else { return Ok(()) };
    let ends = firsts.iter().skip(1).map(|next| match requests {
        Requests::Joined => *next,
        Requests::Apart => next - 1,
    });
    let is_doubtful = |(first, last): (&usize, usize)| failed.0.iter().any(|at| (*first..=last).contains(at));
    let doubtful = firsts.iter().zip(ends.chain([last])).map(is_doubtful);
    let places = doubtful.enumerate().filter(|(_, is_doubtful)| *is_doubtful).map(|(place, _)| place);
    Err(Refusal::Failed(places.collect()))
}

/// Most bytes of a disk whose blocks are checked that are read at once.
const CHECKED_BYTES: usize = 128 << 10;

/// Reads pieces of a disk whose blocks are checked, which come by a copy: neighbours together.
fn read_checked(volume: &Volume, pieces: &[Piece<'_, SharedFrame>]) -> Result<(), Refusal> {
    let (mut failed, mut first) = (Vec::new(), 0);
    let mut copy = Vec::new();
    copy.try_reserve_exact(most_bytes(pieces)).map_err(|_| Refusal::NoMemory)?;
    while first < pieces.len() {
        let end = first + neighbours(&pieces[first..]);
        if read_run(volume, &pieces[first..end], &mut copy).is_err() {
            failed.extend(first..end);
        }
        first = end;
    }
    if failed.is_empty() { Ok(()) } else { Err(Refusal::Failed(failed)) }
}

/// What a copy of the longest run of neighbours takes at most.
fn most_bytes(pieces: &[Piece<'_, SharedFrame>]) -> usize {
    pieces.iter().map(|piece| piece.len).sum::<usize>().min(CHECKED_BYTES)
}

/// How many of these pieces lie one behind the other on the disk, at least one.
fn neighbours(pieces: &[Piece<'_, SharedFrame>]) -> usize {
    let mut bytes = 0;
    let follows = pieces.windows(2).take_while(|pair| {
        bytes += pair[0].len;
        pair[0].sector.checked_add(pair[0].len as u64 / SECTOR_BYTES) == Some(pair[1].sector)
            && bytes + pair[1].len <= CHECKED_BYTES
    });
    1 + follows.count()
}

/// Reads a run of neighbours into `copy`, which has room for it, and from there into their frames.
fn read_run(volume: &Volume, run: &[Piece<'_, SharedFrame>], copy: &mut Vec<u8>) -> Result<(), DiskError> {
    let len = run.iter().map(|piece| piece.len).sum();
    let offset = run.first().map_or(0, |piece| piece.sector).checked_mul(SECTOR_BYTES).ok_or(DiskError)?;
    copy.clear();
    copy.resize(len, 0);
    volume.read(offset, copy)?;
    let mut rest = &copy[..];
    for piece in run {
        let (own, others) = rest.split_at(piece.len);
        piece.frame.fill(piece.offset, own);
        rest = others;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    /// Moves pieces as long as there are no more than `most`, and fails those in `bad`; notes what it was asked for.
    fn disk<'a>(
        most: usize,
        bad: &'a [usize],
        asked: &'a mut Vec<Vec<usize>>,
    ) -> impl FnMut(&[usize]) -> Result<(), Refusal> + 'a {
        move |pieces| {
            if pieces.len() > most {
                return Err(Refusal::NoMemory);
            }
            asked.push(pieces.to_vec());
            let is_bad = |place: &usize| bad.contains(&pieces[*place]);
            let failed: Vec<usize> = (0..pieces.len()).filter(is_bad).collect();
            if failed.is_empty() { Ok(()) } else { Err(Refusal::Failed(failed)) }
        }
    }

    #[test]
    fn transfers_are_halved_until_there_is_memory() {
        let pieces: Vec<usize> = (0..13).collect();
        for most in 1..=13 {
            let mut asked = Vec::new();
            assert_eq!(in_parts(&pieces, &mut disk(most, &[], &mut asked)), Ok(()));
            // Each piece once, in their order, and no more at once than there is memory for.
            assert_eq!(asked.concat(), pieces, "{most}");
            assert!(asked.iter().all(|part| part.len() <= most));
            assert_eq!(asked.len() == 1, most == 13);
        }
    }

    #[test]
    fn places_that_failed_are_those_among_all_pieces() {
        let pieces: Vec<usize> = (0..13).collect();
        for most in 1..=13 {
            let mut asked = Vec::new();
            let outcome = in_parts(&pieces, &mut disk(most, &[0, 5, 6, 12], &mut asked));
            assert_eq!(outcome, Err(vec![0, 5, 6, 12]), "{most}");
            assert_eq!(asked.concat(), pieces);
        }
    }

    #[test]
    fn without_any_memory_all_have_failed() {
        let mut asked = Vec::new();
        let outcome = in_parts(&[7, 8, 9], &mut disk(0, &[], &mut asked));
        assert_eq!((outcome, asked), (Err(vec![0, 1, 2]), vec![]));
        assert_eq!(in_parts::<usize>(&[], &mut |_| Err(Refusal::NoMemory)), Err(vec![]));
    }
}
