//! Frames for who asks for them now (`/pcap` of the owner's channel), as a pcapng file in memory.
//!
//! A card waits for nobody: frames are written into buffers that are there, which whoever gathers takes and replaces every now and then
//! ([`Gathering::take`]). Without one, frames are lost, counted, and told in the file with the next one.

use alloc::vec::Vec;

use unikernel_net::pcapng::{self, Direction, PACKET_OVERHEAD, Packet};
use unikernel_trace::filter::Filter;

use super::cards;
use super::taps::{self, Watcher};
use crate::kmem::room::OutOfMemory;
use crate::platform::time;
use crate::sync::SpinLock;

/// Bytes of a buffer: it holds the largest frame that there is, and what is around it.
pub(crate) const BUFFER_BYTES: usize = 128 << 10;
const MAX_SNAP_BYTES: usize = BUFFER_BYTES - PACKET_OVERHEAD;
/// Buffers that are waiting for frames: two megabytes, for the time between two looks.
pub(crate) const BUFFERS: usize = 16;

/// Enough for the block of a card, or of the file.
const HEAD_BYTES: usize = 256;

static GATHERED: SpinLock<Option<Gathered>> = SpinLock::new(None);

struct Gathered {
    filter: Filter,
    snap_len: usize,
    /// Being filled.
    current: Option<Vec<u8>>,
    full: Vec<Vec<u8>>,
    empty: Vec<Vec<u8>>,
    interfaces: Vec<Counts>,
}

/// Frames of a card.
#[derive(Clone, Copy, Default)]
struct Counts {
    written: u64,
    lost: u64,
    /// Since the last one that was not.
    lost_lately: u64,
}

/// Frames are gathered for as long as somebody has it.
pub(crate) struct Gathering(());

/// Why frames are not gathered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Somebody else has them gathered.
    Busy,
    /// There is no memory for the buffers.
    OutOfMemory,
}

impl From<OutOfMemory> for Refusal {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl Gathering {
    /// Begins, with buffers that `new_buffer` makes. Of each frame, so many bytes are kept.
    #[cold]
    pub(crate) fn start(
        filter: Filter,
        snap_len: Option<usize>,
        new_buffer: impl Fn() -> Result<Vec<u8>, OutOfMemory>,
    ) -> Result<Self, Refusal> {
        let snap_len = snap_len.map_or(MAX_SNAP_BYTES, |len| len.min(MAX_SNAP_BYTES));
        let cards = cards::all();
        let (mut full, mut empty, mut interfaces) = (Vec::new(), Vec::new(), Vec::new());
        // There is never more than these, and the first.
        let reserved = [full.try_reserve_exact(BUFFERS + 1), empty.try_reserve_exact(BUFFERS + 1)];
        if reserved.iter().any(Result::is_err) || interfaces.try_reserve_exact(cards.len()).is_err() {
            return Err(Refusal::OutOfMemory);
        }
        interfaces.resize(cards.len(), Counts::default());
        for _ in 0..BUFFERS {
            empty.push(new_buffer()?);
        }
        let mut first = new_buffer()?;
        let mut is_whole = write(&mut first, HEAD_BYTES, |room| pcapng::section(room, "unikernel"));
        for card in cards {
            let block = |room: &mut [u8]| pcapng::interface(room, &card.name, card.mac, snap_len);
            is_whole &= write(&mut first, HEAD_BYTES, block);
        }
        if !is_whole {
            return Err(Refusal::OutOfMemory);
        }
        let gathered = Gathered { filter, snap_len, current: Some(first), full, empty, interfaces };
        let refused = {
            let mut place = GATHERED.lock();
            match &*place {
                Some(_) => Some(gathered),
                None => {
                    *place = Some(gathered);
                    None
                }
            }
        };
        // What is refused goes without the lock.
        if refused.is_some() {
            return Err(Refusal::Busy);
        }
        taps::show(Watcher::Gathering, true);
        Ok(Self(()))
    }

    /// Takes the buffers that are full, and gives empty ones in return, as many as `new_buffer` makes.
    #[cold]
    pub(crate) fn take(&self, new_buffer: impl Fn() -> Result<Vec<u8>, OutOfMemory>) -> Vec<Vec<u8>> {
        let counts = GATHERED.lock().as_ref().map(|gathered| (gathered.full.len(), gathered.empty.len()));
        let (full, empty) = counts.unwrap_or((0, BUFFERS));
        // Where memory was missing before, these are more than what is taken.
        let missing = BUFFERS.saturating_sub(empty);
        let (mut taken, mut fresh) = (Vec::new(), Vec::new());
        // Before the lock is held: no memory is asked for below it.
        if taken.try_reserve_exact(full).is_err() || fresh.try_reserve_exact(missing).is_err() {
            return taken;
        }
        fresh.extend((0..missing).map_while(|_| new_buffer().ok()));
        if let Some(gathered) = GATHERED.lock().as_mut() {
            taken.extend(gathered.full.drain(..full.min(gathered.full.len())));
            // There is room in both lists for so many.
            let room = BUFFERS.saturating_sub(gathered.empty.len() + gathered.full.len());
            gathered.empty.extend(fresh.drain(..room.min(fresh.len())));
        }
        taken
    }

    /// Ends, and answers what is left: the buffer that is not full, with how many frames there were at its end.
    #[cold]
    pub(crate) fn finish(self) -> Vec<Vec<u8>> {
        // What follows is what dropping it would do; once more, it could be another's that ends.
        core::mem::forget(self);
        taps::show(Watcher::Gathering, false);
        let Some(mut gathered) = GATHERED.lock().take() else { return Vec::new() };
        for (interface, counts) in (0..).zip(core::mem::take(&mut gathered.interfaces)) {
            let (seen, lost) = (counts.written + counts.lost, counts.lost);
            let now_ns = time::wall_ns();
            let statistics = |room: &mut [u8]| pcapng::statistics(room, interface, now_ns, seen, lost);
            gathered.append(PACKET_OVERHEAD, statistics);
        }
        let Gathered { mut full, current, .. } = gathered;
        // There is room for all buffers.
        full.extend(current);
        full
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        taps::show(Watcher::Gathering, false);
        let gathered = GATHERED.lock().take();
        drop(gathered);
    }
}

/// A frame passes a card.
#[cold]
pub(super) fn frame(interface: u32, direction: Direction, frame: &[u8]) {
    if let Some(gathered) = GATHERED.lock().as_mut() {
        gathered.add(interface, direction, frame);
    }
}

impl Gathered {
    fn add(&mut self, interface: u32, direction: Direction, frame: &[u8]) {
        let (snap_len, index) = (self.snap_len, interface as usize);
        let Some(counts) = self.interfaces.get(index).filter(|_| self.filter.takes(frame)) else { return };
        let lost = counts.lost_lately;
        let packet = Packet { interface, direction, time_ns: time::wall_ns(), frame, snap_len, lost };
        let needed = frame.len().min(snap_len) + PACKET_OVERHEAD;
        let is_written = self.append(needed, |room| pcapng::packet(room, &packet));
        let counts = &mut self.interfaces[index];
        counts.written += u64::from(is_written);
        counts.lost += u64::from(!is_written);
        counts.lost_lately = if is_written { 0 } else { lost + 1 };
    }

    /// Writes a block for which `needed` bytes are enough. False if there is no buffer for it.
    fn append(&mut self, needed: usize, block: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let has_room = |buffer: &Vec<u8>| buffer.capacity() - buffer.len() >= needed;
        if !self.current.as_ref().is_some_and(has_room) {
            self.full.extend(self.current.take());
            self.current = self.empty.pop();
        }
        self.current.as_mut().is_some_and(|buffer| write(buffer, needed, block))
    }
}

/// Writes a block of `most` bytes at most behind what a buffer holds, in the memory that it has. False if it does not fit.
fn write(buffer: &mut Vec<u8>, most: usize, block: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
    let begin = buffer.len();
    buffer.resize(buffer.capacity().min(begin + most), 0);
    let written = block(&mut buffer[begin..]);
    buffer.truncate(begin + written.unwrap_or(0));
    written.is_some()
}
