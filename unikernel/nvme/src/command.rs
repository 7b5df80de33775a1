//! Commands (base specification, sections 3.3.3.1 and 4.1.1): 16 words of 32 bits, and the addresses of memory.

use crate::{PAGE_BYTES, Refused};

/// Words of a command.
pub(crate) const COMMAND_WORDS: usize = 16;
pub(crate) const COMMAND_BYTES: usize = COMMAND_WORDS * 4;

/// Operations for the controller, and for its namespaces.
pub(crate) mod operation {
    pub(crate) const CREATE_SUBMISSIONS: u8 = 0x01;
    pub(crate) const CREATE_COMPLETIONS: u8 = 0x05;
    pub(crate) const IDENTIFY: u8 = 0x06;
    pub(crate) const SET_FEATURES: u8 = 0x09;
    pub(crate) const FLUSH: u8 = 0x00;
    pub(crate) const WRITE: u8 = 0x01;
    pub(crate) const READ: u8 = 0x02;
}

/// A command, but for its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Command {
    pub(crate) operation: u8,
    pub(crate) namespace: u32,
    /// `DPTR`: PRP entries 1 and 2.
    pub(crate) memory: [u64; 2],
    /// Words 10 to 12.
    pub(crate) words: [u32; 3],
}

impl Command {
    /// As the controller reads it.
    pub(crate) fn encode(&self, number: u16) -> [u32; COMMAND_WORDS] {
        let mut words = [0; COMMAND_WORDS];
        words[0] = u32::from(self.operation) | u32::from(number) << 16;
        words[1] = self.namespace;
        for (at, address) in [6, 8].into_iter().zip(self.memory) {
            words[at] = address as u32;
            words[at + 1] = (address >> 32) as u32;
        }
        words[10..13].copy_from_slice(&self.words);
        words
    }
}

/// A run of memory, as the controller sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Where it is.
    pub address: u64,
    /// How long.
    pub bytes: u32,
}

/// Addresses in a list.
pub(crate) const LIST_ENTRIES: usize = 64;
pub(crate) const LIST_BYTES: usize = LIST_ENTRIES * size_of::<u64>();

/// The pages of a request's memory (base specification, section 4.1.1): one that may begin anywhere in its page, and those that follow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pages {
    pub(crate) first: u64,
    pub(crate) rest: [u64; LIST_ENTRIES],
    pub(crate) rest_count: usize,
    /// Bytes in all.
    pub(crate) bytes: u64,
}

impl Pages {
    /// Those of a request. Between two pages there must be no gap: each but the first begins its page, each but the last ends it. An address is a multiple
    /// of four.
    pub(crate) fn of(parts: impl Iterator<Item = Part>) -> Result<Self, Refused> {
        const PAGE: u64 = PAGE_BYTES as u64;
        let mut pages = Self { first: 0, rest: [0; LIST_ENTRIES], rest_count: 0, bytes: 0 };
        let mut last_end = None;
        for Part { address, bytes } in parts {
            let end = address.checked_add(u64::from(bytes)).ok_or(Refused::BadRequest)?;
            let has_gap = last_end.is_some_and(|last: u64| !(last | address).is_multiple_of(PAGE));
            if bytes == 0 || !address.is_multiple_of(4) || has_gap {
                return Err(Refused::BadRequest);
            }
            let mut at = address;
            while at < end {
                if pages.bytes == 0 {
                    pages.first = at;
                } else {
                    let place = pages.rest.get_mut(pages.rest_count).ok_or(Refused::BadRequest)?;
                    *place = at;
                    pages.rest_count += 1;
                }
                let next = end.min((at | (PAGE - 1)).saturating_add(1));
                pages.bytes += next - at;
                at = next;
            }
            last_end = Some(end);
        }
        Ok(pages)
    }
}
