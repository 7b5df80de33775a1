//! The hypervisor's description of the machine (SMBIOS 3.7, DMTF DSP0134), as far as it is of use: the system's serial number,
//! into which clouds write where the configuration is.

/// Where the entry point lies on a PC without UEFI (section 5.2), and the steps in which it is looked for.
pub const AREA: core::ops::Range<u64> = 0xf_0000..0x10_0000;
const STEP: usize = 16;
/// The largest table that is believed.
pub const MAX_TABLE_BYTES: usize = 64 << 10;
/// Type 1, "System Information", and where in it the number of the string is.
const SYSTEM: u8 = 1;
const SERIAL_AT: usize = 7;
const HEADER_BYTES: usize = 4;

/// Where the table is, and how long at most, by the entry point in the area.
pub fn entry(area: &[u8]) -> Option<(u64, usize)> {
    (0..area.len()).step_by(STEP).find_map(|at| {
        let point = &area[at..];
        let number = |at: usize, len: usize| -> u64 {
            let bytes = point.get(at..at + len).unwrap_or_default();
            bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let (len_at, table, len) = match point {
            [b'_', b'S', b'M', b'3', b'_', ..] => (6, number(16, 8), number(12, 4)),
            [b'_', b'S', b'M', b'_', ..] => (5, number(24, 4), number(22, 2)),
            _ => return None,
        };
        let own = point.get(..usize::from(*point.get(len_at)?))?;
        let is_whole = own.len() > 16 && own.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0;
        is_whole.then_some((table, (len as usize).min(MAX_TABLE_BYTES)))
    })
}

/// The serial number of the system.
pub fn system_serial(mut table: &[u8]) -> Option<&str> {
    while let [kind, len, _, _, ..] = *table {
        let formatted = table.get(..usize::from(len).max(HEADER_BYTES))?;
        // Strings follow, each with a zero, and another zero at the end; two if there is none.
        let strings = &table[formatted.len()..];
        let end = strings.windows(2).position(|pair| pair == [0, 0])?;
        if kind == SYSTEM {
            let number = usize::from(*formatted.get(SERIAL_AT)?);
            let serial = strings[..end].split(|byte| *byte == 0).nth(number.checked_sub(1)?)?;
            return core::str::from_utf8(serial).ok();
        }
        table = &strings[end + 2..];
    }
    None
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn table() -> Vec<u8> {
        let mut table = vec![0, 8, 0, 0, 1, 0, 0, 0];
        table.extend(b"vendor\0\0");
        table.extend([4, 6, 1, 0, 0, 0, 0, 0]);
        table.extend([1, 9, 2, 0, 1, 0, 0, 2, 0]);
        table.extend(b"QEMU\0ds=nocloud;h=web-1\0\0");
        table.extend([127, 4, 3, 0, 0, 0]);
        table
    }

    #[test]
    fn serial_number_is_found_among_structures() {
        assert_eq!(system_serial(&table()), Some("ds=nocloud;h=web-1"));
        assert_eq!(system_serial(&[]), None);
        assert_eq!(system_serial(&[1, 9, 2, 0, 1, 0, 0, 3, 0, b'x', 0, 0]), None);
    }

    #[test]
    fn entry_points_have_a_checksum() {
        let mut area = vec![0; 256];
        area[32..37].copy_from_slice(b"_SM3_");
        area[38] = 24;
        area[44..48].copy_from_slice(&100_u32.to_le_bytes());
        area[48..56].copy_from_slice(&0x1234_5678_u64.to_le_bytes());
        assert_eq!(entry(&area), None);
        area[37] = area.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
        assert_eq!(entry(&area), Some((0x1234_5678, 100)));
        let mut area = vec![0; 64];
        area[..4].copy_from_slice(b"_SM_");
        (area[5], area[22], area[24]) = (31, 200, 16);
        area[4] = area.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
        assert_eq!(entry(&area), Some((16, 200)));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), at in 0_usize..60, byte: u8) {
            let _ = (entry(&bytes), system_serial(&bytes));
            let mut table = table();
            let len = table.len();
            table[at % len] = byte;
            let _ = system_serial(&table[..len - at % 20]);
            let _ = entry(&[b"_SM3_".as_slice(), &bytes].concat());
        }
    }
}
