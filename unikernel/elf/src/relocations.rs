//! A program that moves itself: the table of the absolute addresses in its data and its code, and the change of them.
//!
//! The table names words of 8 bytes in areas of data, and then places in the code where 4 bytes are an address of the last or
//! the first 2 GiB. For each area there is the number of its places, and then, for each place, how many words (or bytes of code)
//! lie between it and the one before. The numbers are in LEB128 (DWARF 5, section 7.6), so most take one byte.
//!
//! Nothing in a table is believed: all of it is looked at before the first place is changed, and what a listed place holds
//! must be an address of the program.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

/// How many areas of data there are.
pub const AREAS: usize = 2;
/// Code may name a place before or behind what it means: the beginning of a list whose first element has a number, an end that it
/// rounds up to a large page. So far at most.
pub const SLACK: u64 = 4 << 20;
/// Bytes of an address in code.
const SHORT_BYTES: usize = 4;
/// A number of 32 bits has no more bytes than this, with 7 bits in each.
const MOST_NUMBER_BYTES: u32 = 5;

/// The table is not one that [`encode`] made for this program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged;

/// Makes the table, of the indices of words in each area and the indices of bytes in the code, in ascending order.
///
/// # Panics
///
/// If they are not in that order, or overlap.
pub fn encode(words: [&[u32]; AREAS], code: &[u32]) -> Vec<u8> {
    let mut table = Vec::new();
    let lists = words.into_iter().map(|list| (list, 1)).chain([(code, SHORT_BYTES as u32)]);
    for (list, size) in lists {
        push_number(&mut table, list.len() as u32);
        let mut next = 0;
        for &place in list {
            push_number(&mut table, place.checked_sub(next).expect("the places are in ascending order"));
            next = place + size;
        }
    }
    table
}

/// Checks a table: the number of addresses if each lies in its area and is one of `linked`, the program's addresses.
pub fn check(
    table: &[u8],
    words: [&[u64]; AREAS],
    code: &[u8],
    linked: &RangeInclusive<u64>,
) -> Result<usize, Damaged> {
    check_move(table, words, code, linked, 0)
}

/// Adds `distance` to each address; nothing is changed if the table is damaged, or an address in the code would not fit.
pub fn apply(
    table: &[u8],
    words: [&mut [u64]; AREAS],
    code: &mut [u8],
    linked: &RangeInclusive<u64>,
    distance: u64,
) -> Result<(), Damaged> {
    let [first, second] = words;
    check_move(table, [first, second], code, linked, distance)?;
    let mut words = [first, second];
    for_each(table, |place| {
        match place {
            Place::Word(area, index) => {
                let address = words[area].get_mut(index).ok_or(Damaged)?;
                *address = address.wrapping_add(distance);
            }
            Place::Code(at) => {
                let address = code.get_mut(at..).and_then(|code| code.first_chunk_mut()).ok_or(Damaged)?;
                *address = moved(*address, distance).ok_or(Damaged)?;
            }
        }
        Ok(())
    })
}

/// A place in the table.
enum Place {
    /// A word of an area.
    Word(usize, usize),
    /// Bytes in the code from here on.
    Code(usize),
}

fn check_move(
    table: &[u8],
    words: [&[u64]; AREAS],
    code: &[u8],
    linked: &RangeInclusive<u64>,
    distance: u64,
) -> Result<usize, Damaged> {
    let mut count = 0;
    for_each(table, |place| {
        count += 1;
        let address = match place {
            Place::Word(area, index) => words[area].get(index).copied(),
            Place::Code(at) => {
                let address = code.get(at..).and_then(|code| code.first_chunk()).copied();
                address.filter(|address| moved(*address, distance).is_some()).map(extended)
            }
        };
        if address.is_some_and(|address| linked.contains(&address)) { Ok(()) } else { Err(Damaged) }
    })?;
    Ok(count)
}

/// The address that an instruction makes of its bytes.
fn extended(address: [u8; SHORT_BYTES]) -> u64 {
    i64::from(i32::from_le_bytes(address)) as u64
}

/// The bytes for an address so far away, if there are any.
fn moved(address: [u8; SHORT_BYTES], distance: u64) -> Option<[u8; SHORT_BYTES]> {
    let address = extended(address).wrapping_add(distance) as i64;
    i32::try_from(address).ok().map(i32::to_le_bytes)
}

/// Calls `visit` with each place in the table.
fn for_each(table: &[u8], mut visit: impl FnMut(Place) -> Result<(), Damaged>) -> Result<(), Damaged> {
    let mut rest = table;
    for area in 0..=AREAS {
        let size = if area < AREAS { 1 } else { SHORT_BYTES as u32 };
        let mut next: u32 = 0;
        for _ in 0..take_number(&mut rest)? {
            let at = next.checked_add(take_number(&mut rest)?).ok_or(Damaged)?;
            visit(if area < AREAS { Place::Word(area, at as usize) } else { Place::Code(at as usize) })?;
            next = at.checked_add(size).ok_or(Damaged)?;
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(Damaged) }
}

fn push_number(table: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        table.push(number as u8 | 0x80);
        number >>= 7;
    }
    table.push(number as u8);
}

fn take_number(rest: &mut &[u8]) -> Result<u32, Damaged> {
    let mut number = 0;
    for index in 0..MOST_NUMBER_BYTES {
        let (&byte, behind) = rest.split_first().ok_or(Damaged)?;
        *rest = behind;
        let bits = u64::from(byte & 0x7f) << (7 * index);
        number |= u32::try_from(bits).map_err(|_| Damaged)?;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

#[cfg(test)]
mod tests;
