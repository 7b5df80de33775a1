//! Bits of a bitmap block: searching and changing runs of them. Bit `n` is bit `n % 8` of byte `n / 8`.

/// The word that holds bit `64 * index` and the next 63; past the end all bits are set.
fn word(bytes: &[u8], index: usize) -> u64 {
    bytes.get(index * 8..index * 8 + 8).map_or(!0, |bytes| {
        u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    })
}

/// The first bit from `from` below `limit` for which `flip` makes the word's bit 1.
fn find(bytes: &[u8], from: u32, limit: u32, flip: u64) -> Option<u32> {
    if from >= limit {
        return None;
    }
    let mut index = from / 64;
    let mut bits = (word(bytes, index as usize) ^ flip) & (!0 << (from % 64));
    while bits == 0 {
        index += 1;
        if index * 64 >= limit {
            return None;
        }
        bits = word(bytes, index as usize) ^ flip;
    }
    let found = index * 64 + bits.trailing_zeros();
    (found < limit).then_some(found)
}

/// The first clear bit in `from..limit`.
pub(crate) fn next_clear(bytes: &[u8], from: u32, limit: u32) -> Option<u32> {
    find(bytes, from, limit, !0)
}

/// The first set bit in `from..limit`.
pub(crate) fn next_set(bytes: &[u8], from: u32, limit: u32) -> Option<u32> {
    find(bytes, from, limit, 0)
}

/// True if all bits of the run are set.
pub(crate) fn all_set(bytes: &[u8], from: u32, len: u32) -> bool {
    next_clear(bytes, from, from + len).is_none()
}

/// Sets a run of bits; returns how many were clear.
pub(crate) fn set(bytes: &mut [u8], from: u32, len: u32) -> u32 {
    change(bytes, from, len, |byte, mask| {
        let changed = (!*byte & mask).count_ones();
        *byte |= mask;
        changed
    })
}

/// Clears a run of bits; returns how many were set.
pub(crate) fn clear(bytes: &mut [u8], from: u32, len: u32) -> u32 {
    change(bytes, from, len, |byte, mask| {
        let changed = (*byte & mask).count_ones();
        *byte &= !mask;
        changed
    })
}

fn change(bytes: &mut [u8], from: u32, len: u32, mut each: impl FnMut(&mut u8, u8) -> u32) -> u32 {
    let (mut bit, end, mut changed) = (from, from + len, 0);
    while bit < end {
        let in_byte = (8 - bit % 8).min(end - bit);
        let mask = (((1u16 << in_byte) - 1) << (bit % 8)) as u8;
        if let Some(byte) = bytes.get_mut(bit as usize / 8) {
            changed += each(byte, mask);
        }
        bit += in_byte;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_set_found_and_cleared() {
        let mut bytes = [0u8; 32];
        assert_eq!(set(&mut bytes, 5, 70), 70);
        assert_eq!(set(&mut bytes, 0, 10), 5);
        assert_eq!(next_clear(&bytes, 0, 256), Some(75));
        assert_eq!(next_set(&bytes, 75, 256), None);
        assert_eq!(clear(&mut bytes, 64, 64), 11);
        assert_eq!(next_clear(&bytes, 0, 256), Some(64));
        assert_eq!(next_clear(&bytes, 0, 64), None);
        assert!(all_set(&bytes, 0, 64) && !all_set(&bytes, 64, 1));
    }

    #[test]
    fn the_end_of_the_bitmap_reads_as_set() {
        assert_eq!(next_clear(&[0xff; 8], 0, 1000), None);
    }
}
