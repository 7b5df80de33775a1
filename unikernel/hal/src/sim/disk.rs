//! A disk (Virtio 1.2, section 5.2) with a volatile cache, as disks have: what was written survives a power cut only after a
//! flush, or if luck has it.

use core::ptr;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

use super::engine::Random;
use super::machine::{self, share, unshare};
use super::virtio::{self, Chain, Model, Slot};

const SECTOR_BYTES: usize = 512;
/// What a disk writes whole or not at all.
const BLOCK_SECTORS: u64 = 8;
const FLUSH_FEATURE: u64 = 1 << 9;
const INDIRECT_DESC: u64 = 1 << 28;
/// Requests (section 5.2.6), and what they answer.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// What a disk keeps without power: it outlives the machines that it is plugged into.
pub struct Disk {
    media: *mut u8,
    bytes: usize,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Decides what does.
    pub seed: u64,
    /// A read fails once in so many times; 0 for never.
    pub read_error_one_in: u32,
    /// A write fails once in so many times.
    pub write_error_one_in: u32,
    /// Writes fail that touch this sector.
    pub bad_sector: Option<u64>,
    /// A flush fails once in so many times.
    pub flush_error_one_in: u32,
    /// The power goes at this write.
    pub cut_at_write: Option<u64>,
}

impl Disk {
    /// A disk of zeros.
    pub fn new(bytes: usize) -> Self {
        Self { media: share(bytes), bytes }
    }

    /// What is on it.
    pub fn content(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.bytes);
        // SAFETY: so many bytes are shared memory that lives as long as this; machines that write to it are run to their end
        // before anybody else looks.
        content.extend_from_slice(unsafe { core::slice::from_raw_parts(self.media, self.bytes) });
        content
    }

    /// Writes to it while no machine has it.
    ///
    /// # Panics
    ///
    /// If it has not so many bytes there.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.bytes && bytes.len() <= self.bytes - at, "behind the end of the disk");
        // SAFETY: so many bytes are there, by the check; nobody else looks while no machine runs with the disk, by the borrow in
        // `plug_in`'s caller, which waits for the machine's end.
        unsafe { ptr::copy(bytes.as_ptr(), self.media.add(at), bytes.len()) };
    }

    /// Plugs it into the machine that is about to boot.
    pub fn plug_in(&self, faults: Faults) {
        self.plug_into(Slot::Pci, faults);
    }

    /// The same, there.
    pub fn plug_into(&self, slot: Slot, faults: Faults) {
        let disk = Plugged {
            media: self.media,
            sectors: (self.bytes / SECTOR_BYTES) as u64,
            cache: BTreeMap::new(),
            random: Random::new(faults.seed),
            faults,
            writes: 0,
        };
        virtio::add_to(slot, Box::new(disk));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // SAFETY: machines that use it are gone before the parent lets go of it.
        unsafe { unshare(self.media, self.bytes) };
    }
}

struct Plugged {
    media: *mut u8,
    sectors: u64,
    /// Sectors that were written and not flushed.
    cache: BTreeMap<u64, [u8; SECTOR_BYTES]>,
    random: Random,
    faults: Faults,
    writes: u64,
}

impl Plugged {
    fn sector(&self, number: u64) -> [u8; SECTOR_BYTES] {
        if let Some(sector) = self.cache.get(&number) {
            return *sector;
        }
        let mut sector = [0; SECTOR_BYTES];
        // SAFETY: the number is below `sectors` by the check in `serve`, and the memory is shared by this machine alone.
        unsafe {
            ptr::copy(self.media.add(number as usize * SECTOR_BYTES), sector.as_mut_ptr(), SECTOR_BYTES);
        };
        sector
    }

    fn keep(&mut self, number: u64, sector: &[u8; SECTOR_BYTES]) {
        // SAFETY: as above.
        unsafe { ptr::copy(sector.as_ptr(), self.media.add(number as usize * SECTOR_BYTES), SECTOR_BYTES) };
    }

    fn flush(&mut self) {
        for (number, sector) in core::mem::take(&mut self.cache) {
            self.keep(number, &sector);
        }
    }

    /// The power goes: some of the cache was written by then, in whatever order. No block is torn, as filesystems rely on.
    fn lose_power(&mut self) -> ! {
        let mut last = None;
        let mut is_kept = false;
        for (number, sector) in core::mem::take(&mut self.cache) {
            let block = number / BLOCK_SECTORS;
            if last.replace(block) != Some(block) {
                is_kept = self.random.one_in(2);
            }
            if is_kept {
                self.keep(number, &sector);
            }
        }
        machine::cut_power()
    }

    /// Does what a request asks for; answers data and status.
    fn serve(&mut self, request: &[u8], room: usize) -> (Vec<u8>, u8) {
        let Some((header, data)) = request.split_at_checked(16) else { return (Vec::new(), UNSUPPORTED) };
        let kind = u32::from_le_bytes(header[..4].try_into().expect("four bytes"));
        let first = u64::from_le_bytes(header[8..].try_into().expect("eight bytes"));
        let bytes = if kind == IN { room.saturating_sub(1) } else { data.len() };
        let count = (bytes / SECTOR_BYTES) as u64;
        if first.checked_add(count).is_none_or(|end| end > self.sectors) {
            return (Vec::new(), IOERR);
        }
        match kind {
            IN if self.random.one_in(self.faults.read_error_one_in) => (Vec::new(), IOERR),
            IN => ((first..first + count).flat_map(|number| self.sector(number)).collect(), OK),
            OUT => {
                self.writes += 1;
                let is_chosen =
                    self.faults.bad_sector.is_some_and(|bad| (first..first + count).contains(&bad));
                let fails = is_chosen || self.random.one_in(self.faults.write_error_one_in);
                for (number, sector) in (first..).zip(data.chunks_exact(SECTOR_BYTES)) {
                    // What fails may have been written in part.
                    if !fails || self.random.one_in(2) {
                        self.cache.insert(number, sector.try_into().expect("a sector"));
                    }
                }
                if self.faults.cut_at_write.is_some_and(|last| self.writes >= last) {
                    self.lose_power();
                }
                (Vec::new(), if fails { IOERR } else { OK })
            }
            FLUSH if self.random.one_in(self.faults.flush_error_one_in) => (Vec::new(), IOERR),
            FLUSH => {
                self.flush();
                (Vec::new(), OK)
            }
            _ => (Vec::new(), UNSUPPORTED),
        }
    }
}

impl Model for Plugged {
    fn device_type(&self) -> u16 {
        2
    }

    fn features(&self) -> u64 {
        FLUSH_FEATURE | INDIRECT_DESC
    }

    fn config(&self) -> Vec<u8> {
        self.sectors.to_le_bytes().to_vec()
    }

    fn queues(&self) -> u16 {
        1
    }

    fn accept(&mut self, _: u16, _: &Chain) -> Option<u64> {
        // Long enough for others to run, and out of order.
        Some(1_000 + self.random.below(20_000))
    }

    fn finish(&mut self, _: u16, chain: &Chain) -> Option<u32> {
        let room = chain.room();
        let (mut answer, status) = self.serve(&chain.read(), room);
        answer.resize(room.saturating_sub(1), 0);
        answer.push(status);
        Some(chain.write(&answer))
    }
}
