//! The entries of a table, one behind the other.

use alloc::vec::Vec;

const MORE: u8 = 0x80;

/// Writes an entry.
pub(super) fn push(entries: &mut Vec<u8>, distance: u32, short: &[u8]) {
    let mut left = distance;
    while left >= u32::from(MORE) {
        entries.push(left as u8 | MORE);
        left >>= 7;
    }
    entries.push(left as u8);
    entries.push(short.len() as u8);
    entries.extend(short);
}

/// Addresses and names. Damaged entries end it.
#[derive(Clone, Copy)]
pub(super) struct Entries<'a> {
    rest: &'a [u8],
    address: u32,
    /// The address of the next entry, if it is known without those before.
    known: Option<u32>,
}

impl<'a> Entries<'a> {
    /// All, from the first.
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest, address: 0, known: None }
    }

    /// From one that lies at this address.
    pub(super) fn from_mark(address: u32, rest: &'a [u8]) -> Self {
        Self { rest, address: 0, known: Some(address) }
    }

    fn distance(&mut self) -> Option<u32> {
        let mut distance = 0;
        for shift in (0..u32::BITS).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            distance |= u32::from(byte & !MORE) << shift;
            if byte & MORE == 0 {
                return Some(distance);
            }
        }
        None
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let by_distance = self.address.wrapping_add(self.distance()?);
        self.address = self.known.take().unwrap_or(by_distance);
        let (len, rest) = self.rest.split_first()?;
        let (short, rest) = rest.split_at_checked(usize::from(*len))?;
        self.rest = rest;
        Some((self.address, short))
    }
}
