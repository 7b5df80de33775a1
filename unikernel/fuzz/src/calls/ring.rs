//! A ring of a thread (io_uring(7)), and entries for it.

use linux_raw_sys::general as linux;
use linux_raw_sys::io_uring::{
    IORING_ENTER_GETEVENTS, IORING_OFF_CQ_RING, IORING_OFF_SQ_RING, IORING_OFF_SQES,
};
use unikernel_hal::sim::app;

use super::super::input::Input;
use super::arguments::Memory;
use super::call;

const ENTRIES: u64 = 8;
const PAGE: u64 = 4096;
/// Bytes of `struct io_uring_params`.
const PARAMS_BYTES: usize = 120;
/// Operations that there are.
const OPERATIONS: usize = 60;

/// Where the app has its inputs and outputs, as [`Memory`] lays them out.
const MEMORY: u64 = 0x2000_0000 + 2 * PAGE;

/// A ring, mapped.
pub(super) struct Ring {
    fd: u64,
    entries: u64,
    sq_tail: u64,
    sq_array: u64,
    cq_head: u64,
    cq_tail: u64,
}

/// An entry: operation, flags, descriptor, memory and numbers of the input's.
pub(super) fn entry(input: &mut Input<'_>) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[0] = input.below(OPERATIONS) as u8;
    bytes[1] = input.byte() & input.byte();
    bytes[2] = input.byte() & input.byte() & 0xf;
    bytes[4] = input.byte() % 16;
    let offset = match input.byte() {
        0xff => u64::MAX,
        byte @ 0..=127 => byte.into(),
        byte => MEMORY + u64::from(byte) * 64,
    };
    bytes[8..16].copy_from_slice(&offset.to_le_bytes());
    let address = MEMORY + u64::from(input.byte()) * 64;
    bytes[16..24].copy_from_slice(&address.to_le_bytes());
    bytes[24..26].copy_from_slice(&u16::from(input.byte()).to_le_bytes());
    bytes[28..32].copy_from_slice(&(input.word() & input.word()).to_le_bytes());
    bytes[32] = input.byte() % 8;
    bytes[40] = input.byte() % 4;
    bytes[44] = input.byte() % 8;
    bytes[48..56].copy_from_slice(&(MEMORY + u64::from(input.byte()) * 64).to_le_bytes());
    bytes
}

fn word(address: u64) -> u32 {
    let mut bytes = [0; 4];
    app::read(address, &mut bytes);
    u32::from_le_bytes(bytes)
}

impl Ring {
    /// Makes a ring, if there may be another.
    pub(super) fn new(memory: Memory) -> Option<Self> {
        let params = memory.scratch() + 128;
        app::write(params, &[0; PARAMS_BYTES]);
        let fd = u64::try_from(call(linux::__NR_io_uring_setup, &[ENTRIES, params])).ok()?;
        let map = |len: u64, offset: u32| {
            let protection = linux::PROT_READ | linux::PROT_WRITE;
            let arguments = [0, len, protection.into(), linux::MAP_SHARED.into(), fd, offset.into()];
            u64::try_from(call(linux::__NR_mmap, &arguments)).ok()
        };
        let field = |at: u64| u64::from(word(params + at));
        let (sq_tail, sq_array, cq_head, cq_tail) = (field(44), field(64), field(80), field(84));
        let sq = map(PAGE, IORING_OFF_SQ_RING)?;
        let cq = map(PAGE, IORING_OFF_CQ_RING)?;
        let entries = map(PAGE, IORING_OFF_SQES)?;
        Some(Self {
            fd,
            entries,
            sq_tail: sq + sq_tail,
            sq_array: sq + sq_array,
            cq_head: cq + cq_head,
            cq_tail: cq + cq_tail,
        })
    }

    /// Submits an entry, and takes all completions that there are.
    pub(super) fn submit(&self, entry: &[u8; 64]) {
        let tail = word(self.sq_tail);
        let index = tail % ENTRIES as u32;
        app::write(self.entries + u64::from(index) * 64, entry);
        app::write(self.sq_array + u64::from(index) * 4, &index.to_le_bytes());
        app::write(self.sq_tail, &(tail + 1).to_le_bytes());
        call(linux::__NR_io_uring_enter, &[self.fd, 1, 0, IORING_ENTER_GETEVENTS.into(), 0, 0]);
        app::write(self.cq_head, &word(self.cq_tail).to_le_bytes());
    }
}
