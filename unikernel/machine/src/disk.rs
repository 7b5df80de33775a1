//! Disks: what one says of itself, checked ([`Limits`]), and runs of memory cut into requests that it takes
//! ([`Limits::add`]).
//!
//! A device may say anything (Virtual I/O Device specification 1.2, section 5.2.4). What can be is made to fit; what
//! cannot be is an error before the disk is used.

use alloc::vec::Vec;

use smallvec::SmallVec;

/// Bytes of a sector, in which a disk counts.
pub const SECTOR_BYTES: u64 = 512;
/// The largest block that a disk may have: a page.
const MAX_BLOCK_BYTES: u32 = 4096;
/// One request takes so many bytes at most, so that several are in flight for a long run.
pub const REQUEST_BYTES: u32 = 256 * 1024;
/// Sectors of the largest disk: its bytes can be counted, with room to add to them.
const MOST_SECTORS: u64 = 1 << 54;

/// A run of memory that a device reads or writes. Its form is that of a module's interface, too (`unikernel_module::abi::DiskPart`).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// Where it lies, for the device.
    pub address: u64,
    /// Its bytes.
    pub len: u32,
}

/// The parts of a request.
pub type Parts = SmallVec<[Memory; 8]>;

/// One request: memory and the sectors from `sector` on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// The first sector.
    pub sector: u64,
    /// As much memory as sectors; at most [`Limits::max_parts`] parts.
    pub parts: Parts,
}

impl Transfer {
    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.len)).sum()
    }
}

/// What a disk says, of the fields that it has.
#[derive(Clone, Copy, Default, Debug)]
pub struct Claims {
    /// Bytes that it reads and writes at once.
    pub block_bytes: Option<u32>,
    /// Bytes of a part at most.
    pub max_part_bytes: Option<u32>,
    /// Parts of a request at most.
    pub max_parts: Option<u32>,
    /// Sectors that one discard takes at most.
    pub max_discard: Option<u32>,
    /// Sectors that it sets to zero with one request at most.
    pub max_write_zeroes: Option<u32>,
    /// Bytes of a request at most.
    pub max_bytes: Option<u32>,
    /// Parts of a request meet at multiples of it, a power of two.
    pub boundary: Option<u32>,
}

/// Blocks have so many bytes, which no disk can have that is used here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadBlocks(pub u32);

/// What requests to a disk must keep to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Requests begin and end at multiples of it: a power of two, 512 to 4,096.
    pub block_bytes: u32,
    /// Bytes of a part at most: a multiple of a block, at least one.
    pub max_part_bytes: u32,
    /// Parts of a request at most, at least one.
    pub max_parts: usize,
    /// Sectors of a discard at most, a multiple of a block; 0 if there are none.
    pub max_discard: u32,
    /// The same of a request for zeros.
    pub max_write_zeroes: u32,
    /// Bytes of a request at most: a multiple of a block, at least one.
    pub max_bytes: u32,
    /// Bits that are zero where one part of a request ends and the next begins; none if they may meet anywhere. (Linux: `virt_boundary_mask`.)
    pub boundary_mask: u64,
}

impl Limits {
    /// Checks what a disk says. A request has room for `room` parts.
    pub fn new(claims: Claims, room: usize) -> Result<Self, BadBlocks> {
        let claimed = claims.block_bytes.unwrap_or(SECTOR_BYTES as u32);
        if !claimed.is_power_of_two() || claimed > MAX_BLOCK_BYTES {
            return Err(BadBlocks(claimed));
        }
        let block_bytes = claimed.max(SECTOR_BYTES as u32);
        let whole = |bytes: u32, unit: u32| bytes / unit * unit;
        let block_sectors = block_bytes / SECTOR_BYTES as u32;
        let max_bytes = claims.max_bytes.unwrap_or(REQUEST_BYTES).min(REQUEST_BYTES);
        let part = claims.max_part_bytes.unwrap_or(max_bytes).min(max_bytes);
        Ok(Self {
            block_bytes,
            max_part_bytes: whole(part, block_bytes).max(block_bytes),
            max_bytes: whole(max_bytes, block_bytes).max(block_bytes),
            boundary_mask: u64::from(claims.boundary.unwrap_or(1).max(1)).next_power_of_two() - 1,
            max_parts: (claims.max_parts.unwrap_or(1) as usize).clamp(1, room.max(1)),
            max_discard: whole(claims.max_discard.unwrap_or(0), block_sectors),
            max_write_zeroes: whole(claims.max_write_zeroes.unwrap_or(0), block_sectors),
        })
    }

    /// How many sectors a disk is taken to have that says `claimed`: whole blocks.
    pub fn sectors(&self, claimed: u64) -> u64 {
        let block_sectors = u64::from(self.block_bytes) / SECTOR_BYTES;
        claimed.min(MOST_SECTORS) / block_sectors * block_sectors
    }

    /// Adds the transfer of `memory` from or to `sector` and after, to the last of `transfers` as far as it goes on
    /// there and has room, and as new ones. Who gives whole blocks gets parts of whole blocks.
    pub fn add(&self, transfers: &mut Vec<Transfer>, sector: u64, memory: Memory) {
        let (mut sector, mut rest) = (sector, memory);
        while rest.len > 0 {
            let len = rest.len.min(self.max_part_bytes);
            self.add_part(transfers, sector, Memory { len, ..rest });
            sector = sector.saturating_add(u64::from(len) / SECTOR_BYTES);
            rest = Memory { address: rest.address.saturating_add(len.into()), len: rest.len - len };
        }
    }

    fn add_part(&self, transfers: &mut Vec<Transfer>, sector: u64, memory: Memory) {
        if let Some(last) = transfers.last_mut()
            && last.sector.checked_add(last.bytes() / SECTOR_BYTES) == Some(sector)
            && last.bytes() + u64::from(memory.len) <= self.max_bytes.into()
        {
            let has_room = last.parts.len() < self.max_parts;
            match last.parts.last_mut() {
                Some(part)
                    if part.address.checked_add(part.len.into()) == Some(memory.address)
                        && part.len + memory.len <= self.max_part_bytes =>
                {
                    part.len += memory.len;
                    return;
                }
                Some(part)
                    if has_room
                        && (part.address.wrapping_add(part.len.into()) | memory.address)
                            & self.boundary_mask
                            == 0 =>
                {
                    return last.parts.push(memory);
                }
                _ => {}
            }
        }
        transfers.push(Transfer { sector, parts: Parts::from_slice(&[memory]) });
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn limits(claims: Claims) -> Limits {
        Limits::new(claims, 60).unwrap()
    }

    #[test]
    fn silent_disk_has_sectors_and_requests_of_one_part() {
        let expected = Limits {
            block_bytes: 512,
            max_part_bytes: REQUEST_BYTES,
            max_parts: 1,
            max_discard: 0,
            max_write_zeroes: 0,
            max_bytes: REQUEST_BYTES,
            boundary_mask: 0,
        };
        assert_eq!(limits(Claims::default()), expected);
    }

    #[test]
    fn parts_are_whole_blocks() {
        let claims = Claims { block_bytes: Some(4096), max_part_bytes: Some(6000), ..Claims::default() };
        assert_eq!(limits(claims).max_part_bytes, 4096);
        let mut transfers = Vec::new();
        limits(claims).add(&mut transfers, 8, Memory { address: 0x10_0000, len: 12_288 });
        let lens: Vec<(u64, u64)> =
            transfers.iter().map(|transfer| (transfer.sector, transfer.bytes())).collect();
        assert_eq!(lens, [(8, 4096), (16, 4096), (24, 4096)]);
    }

    #[test]
    fn blocks_that_cannot_be_are_refused() {
        for block_bytes in [0, 3, 513, 4095, 8192, u32::MAX] {
            let claims = Claims { block_bytes: Some(block_bytes), ..Claims::default() };
            assert_eq!(Limits::new(claims, 60), Err(BadBlocks(block_bytes)));
        }
        assert_eq!(limits(Claims { block_bytes: Some(1), ..Claims::default() }).block_bytes, 512);
    }

    #[test]
    fn no_size_overflows() {
        let large = limits(Claims { block_bytes: Some(4096), ..Claims::default() });
        for claimed in [0, 1, 7, 8, 1 << 63, u64::MAX] {
            let bytes = large.sectors(claimed).checked_mul(SECTOR_BYTES).unwrap();
            assert!(bytes.is_multiple_of(4096) && bytes / SECTOR_BYTES <= claimed);
        }
    }

    #[test]
    fn adjacent_memory_becomes_one_part_and_scattered_several() {
        let disk = limits(Claims { max_parts: Some(2), ..Claims::default() });
        let mut transfers = Vec::new();
        for (sector, address) in [(0, 0x1000), (8, 0x2000), (16, 0x9000), (24, 0x5000), (100, 0x6000)] {
            disk.add(&mut transfers, sector, Memory { address, len: 4096 });
        }
        let parts: Vec<Vec<u32>> =
            transfers.iter().map(|transfer| transfer.parts.iter().map(|part| part.len).collect()).collect();
        assert_eq!(parts, [vec![8192, 4096], vec![4096], vec![4096]]);
    }

    #[test]
    fn parts_meet_at_boundaries() {
        let claims = Claims { max_parts: Some(60), boundary: Some(4096), ..Claims::default() };
        let disk = limits(claims);
        let lens = |runs: &[(u64, u32)]| {
            let (mut transfers, mut sector) = (Vec::new(), 0);
            for &(address, len) in runs {
                disk.add(&mut transfers, sector, Memory { address, len });
                sector += u64::from(len) / SECTOR_BYTES;
            }
            transfers.iter().map(|transfer| transfer.parts.len()).collect::<Vec<_>>()
        };
        assert_eq!(lens(&[(0x1000, 4096), (0x3000, 4096), (0x8000, 512)]), [3]);
        assert_eq!(lens(&[(0x1200, 0xe00), (0x3000, 4096)]), [2]);
        assert_eq!(lens(&[(0x1000, 512), (0x3000, 4096)]), [1, 1]);
        assert_eq!(lens(&[(0x1000, 4096), (0x3200, 512)]), [1, 1]);
    }

    fn claims() -> impl Strategy<Value = Claims> {
        let word =
            || prop::option::of(prop_oneof![0u32..20, Just(513), Just(4096), Just(5000), any::<u32>()]);
        let block = prop::sample::select(vec![None, Some(1), Some(512), Some(1024), Some(4096)]);
        let boundary = prop::sample::select(vec![None, Some(0), Some(4096), Some(u32::MAX)]);
        let words = (word(), word(), word(), word(), word());
        (block, words, boundary).prop_map(|(block_bytes, words, boundary)| Claims {
            block_bytes,
            max_part_bytes: words.0,
            max_parts: words.1,
            max_discard: words.2,
            max_write_zeroes: words.3,
            max_bytes: words.4,
            boundary,
        })
    }

    proptest! {
        /// Whatever the disk says, requests carry each byte once, in order, and keep to what it can take.
        #[test]
        fn requests_carry_everything_within_the_limits(
            claims in claims(),
            room in 0usize..80,
            runs in prop::collection::vec((0u64..2000, 0u64..40, 1u32..200), 0..20),
        ) {
            let Ok(disk) = Limits::new(claims, room) else { return Ok(()) };
            let block = disk.block_bytes;
            let mut transfers = Vec::new();
            let mut expected = Vec::new();
            for (start, address, blocks) in runs {
                let sector = start * u64::from(block) / SECTOR_BYTES;
                let memory = Memory { address: (address << 20) + (start & 1) * 512, len: blocks * block };
                disk.add(&mut transfers, sector, memory);
                expected.extend((0..blocks).map(|at| {
                    let bytes = u64::from(at * block);
                    (sector + bytes / SECTOR_BYTES, memory.address + bytes)
                }));
            }
            let mut carried = Vec::new();
            for transfer in &transfers {
                prop_assert!(transfer.parts.len() <= disk.max_parts && transfer.bytes() <= disk.max_bytes.into());
                prop_assert!(disk.max_bytes <= REQUEST_BYTES);
                for meeting in transfer.parts.windows(2) {
                    let end = meeting[0].address + u64::from(meeting[0].len);
                    prop_assert_eq!((end | meeting[1].address) & disk.boundary_mask, 0);
                }
                let mut sector = transfer.sector;
                for part in &transfer.parts {
                    prop_assert!(part.len > 0 && part.len <= disk.max_part_bytes && part.len.is_multiple_of(block));
                    for at in (0..part.len).step_by(block as usize) {
                        carried.push((sector, part.address + u64::from(at)));
                        sector += u64::from(block) / SECTOR_BYTES;
                    }
                }
            }
            prop_assert_eq!(carried, expected);
        }

        #[test]
        fn sectors_anywhere_do_no_harm(sector: u64, address: u64, len: u32, claims in claims()) {
            if let Ok(disk) = Limits::new(claims, 60) {
                let mut transfers = Vec::new();
                disk.add(&mut transfers, sector, Memory { address, len: len % (8 << 20) });
                disk.add(&mut transfers, sector, Memory { address, len: 512 });
            }
        }
    }
}
