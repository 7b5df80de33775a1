//! The disk's side of [`Device`]: a disk in memory that does nearly what it is asked.

use super::queue::{HONESTY, Part};
use super::{Address, Device, Memory};
use crate::random::Random;

/// Bytes of the disk.
const BYTES: usize = 16 << 20;
/// What it may offer: limits, block size, flush, discard, zeros, tables, indices of events.
const FEATURES: [u64; 7] = [1, 2, 6, 9, 13, 14, 28];

/// A disk and its content.
pub(crate) struct Disk(Vec<u8>);

impl Disk {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(vec![0; BYTES])
    }
}

impl Device for Disk {
    fn features(&self) -> &'static [u64] {
        &FEATURES
    }

    fn configuration(&self, random: &mut Random) -> Option<[u8; 64]> {
        Some(configuration(random))
    }

    fn perform(&mut self, _queue: usize, memory: &Memory, parts: &[Part], random: &mut Random) -> u32 {
        answer(memory, parts, &mut self.0, random)
    }
}

/// What a disk says of itself (Virtual I/O Device specification 1.2, section 5.2.4): often the truth.
fn configuration(random: &mut Random) -> [u8; 64] {
    let sectors = BYTES as u64 / 512;
    let mut config = [0; 64];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    let odd = [0, 1, 2, 3, 511, 513, 4095, 5000, 8192, 1 << 20, 1 << 31, u32::MAX];
    let mut pick = |truth: u32| if random.below(3) > 0 { truth } else { *random.pick(&odd) };
    let capacity = match pick(0) {
        0 => sectors,
        odd => u64::from(odd) << (odd & 32),
    };
    put(0, &capacity.to_le_bytes());
    put(8, &pick(65_536).to_le_bytes());
    put(12, &pick(126).to_le_bytes());
    put(20, &pick(512).to_le_bytes());
    put(34, &1_u16.to_le_bytes());
    for at in [36, 40, 44, 48, 52] {
        put(at, &pick(128).to_le_bytes());
    }
    config
}

/// Does a disk's request (section 5.2.6), or nearly; answers how many bytes were written to memory.
fn answer(memory: &Memory, parts: &[Part], disk: &mut [u8], random: &mut Random) -> u32 {
    let [header, data @ .., status] = parts else { return 0 };
    let Some(words) = memory.read::<16>(Address::Guest(header.address)).map(u128::from_le_bytes) else {
        return 0;
    };
    let mut at = ((words >> 64) as u64).saturating_mul(512);
    let mut written = 1;
    for part in data {
        let len = (part.len as usize).min(disk.len());
        let place = usize::try_from(at).ok().and_then(|at| disk.get_mut(at..at.checked_add(len)?));
        match (place, part.is_written) {
            (Some(content), true) => {
                memory.write(Address::Guest(part.address), content);
            }
            (Some(content), false) if words as u32 == 1 => {
                memory.read_into(Address::Guest(part.address), content);
            }
            _ => {}
        }
        if part.is_written && random.below(40 * HONESTY) == 0 {
            let noise: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
            memory.write(Address::Guest(part.address), &noise);
        }
        written += if part.is_written { part.len } else { 0 };
        at += u64::from(part.len);
    }
    let code = if random.below(4 * HONESTY) == 0 { random.below(256) as u8 } else { 0 };
    memory.write(Address::Guest(status.address), &[code]);
    written
}
