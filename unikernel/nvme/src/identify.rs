//! What a controller says of itself and of its namespaces (base specification, figure 275; NVM command set specification, figure 97).

use alloc::string::String;

use crate::{Memory, PAGE_BYTES, StartError};

/// Bytes of an answer.
pub(crate) const ANSWER_BYTES: usize = PAGE_BYTES;
/// Blocks of 512 and of 4,096 bytes, as powers of two.
const BLOCK_POWERS: core::ops::RangeInclusive<u8> = 9..=12;
/// Bytes of the largest namespace: they can be counted, with room to add to them.
const MOST_BYTES_POWER: u32 = 62;
/// The most that one command moves here, whatever the controller takes: so many pages, for whose addresses there is room.
const MOST_PAGES_POWER: u32 = 6;

fn byte(answer: &impl Memory, at: usize) -> u8 {
    answer.load(at & !3).to_le_bytes()[at & 3]
}

/// A controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// Its model, as text that can be shown.
    pub(crate) model: String,
    /// Bytes of a request at most: a power of two, a page at least.
    pub(crate) max_bytes: u32,
    /// It keeps what was written in memory that a power cut empties, until it is told to flush.
    pub(crate) has_cache: bool,
}

impl Identity {
    pub(crate) fn read(answer: &impl Memory) -> Result<Self, StartError> {
        let (submission, completion) = (byte(answer, 512), byte(answer, 513));
        // The low halves are the least, which both must be at our sizes (2^6 and 2^4), the high ones the most.
        let has = |sizes: u8, power: u8| (sizes & 0xf..=sizes >> 4).contains(&power);
        if !has(submission, 6) || !has(completion, 4) {
            return Err(StartError::BadEntries(submission, completion));
        }
        // MDTS: a power of two of pages; zero is no limit.
        let pages_power = match u32::from(byte(answer, 77)) {
            0 => MOST_PAGES_POWER,
            power => power.min(MOST_PAGES_POWER),
        };
        let mut model = String::new();
        if model.try_reserve(40).is_ok() {
            let shown = (24..64).map(|at| byte(answer, at)).filter(|byte| matches!(byte, b' '..=b'~'));
            model.extend(shown.map(char::from));
            model.truncate(model.trim_end().len());
        }
        let max_bytes = (PAGE_BYTES as u32) << pages_power;
        Ok(Self { model, max_bytes, has_cache: byte(answer, 525) & 1 != 0 })
    }
}

/// How a namespace is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    /// How many blocks it has.
    pub(crate) blocks: u64,
    /// A block's bytes, as a power of two: 9 to 12.
    pub(crate) block_power: u8,
    /// It is write protected.
    pub(crate) is_read_only: bool,
}

impl Geometry {
    pub(crate) fn read(answer: &impl Memory) -> Result<Self, StartError> {
        let blocks = u64::from(answer.load(4)) << 32 | u64::from(answer.load(0));
        if blocks == 0 {
            // It is none, or it is not active (figure 97).
            return Err(StartError::NoNamespace);
        }
        // FLBAS: which of the formats it has. Bits 6:5 count if there are more than 16 (NLBAF, from 0).
        let (formats, chosen) = (byte(answer, 25), byte(answer, 26));
        let high = if formats > 15 { chosen >> 1 & 0x30 } else { 0 };
        let format = usize::from(high | chosen & 0xf);
        if format > usize::from(formats) {
            return Err(StartError::NoNamespace);
        }
        // LBADS in the third byte, metadata in the first two.
        let [metadata_low, metadata_high, block_power, _] = answer.load(128 + 4 * format).to_le_bytes();
        let metadata = u16::from_le_bytes([metadata_low, metadata_high]);
        if metadata != 0 {
            return Err(StartError::HasMetadata(metadata));
        }
        if !BLOCK_POWERS.contains(&block_power) {
            return Err(StartError::BadBlocks(block_power));
        }
        let most = 1u64 << (MOST_BYTES_POWER - u32::from(block_power));
        // NSATTR, bit 0: it is write protected.
        Ok(Self { blocks: blocks.min(most), block_power, is_read_only: byte(answer, 99) & 1 != 0 })
    }
}
