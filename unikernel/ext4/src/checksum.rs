//! The checksums of ext4 and of its journal. All are chained: the result of one piece seeds the next.

use crc::{Algorithm, Crc, Table};

/// CRC-32C as the kernel computes it: no inversion at either end, the caller does that.
static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&Algorithm {
    width: 32,
    poly: 0x1edc_6f41,
    init: 0,
    refin: true,
    refout: true,
    xorout: 0,
    check: 0,
    residue: 0,
});

/// The journal's checksum of old (`journal_checksum` without `metadata_csum`): most significant bit first.
static CRC32_BE: Crc<u32> = Crc::<u32>::new(&Algorithm {
    width: 32,
    poly: 0x04c1_1db7,
    init: 0,
    refin: false,
    refout: false,
    xorout: 0,
    check: 0,
    residue: 0,
});

/// The group descriptors' checksum before `metadata_csum`.
static CRC16: Crc<u16> = Crc::<u16>::new(&Algorithm {
    width: 16,
    poly: 0x8005,
    init: 0,
    refin: true,
    refout: true,
    xorout: 0,
    check: 0,
    residue: 0,
});

/// Continues the CRC-32C `seed` over `bytes`. The first seed is `!0`.
pub(crate) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    let mut digest = CRC32C.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// Continues the big-endian CRC-32 `seed` over `bytes`.
pub(crate) fn crc32_be(seed: u32, bytes: &[u8]) -> u32 {
    let mut digest = CRC32_BE.digest_with_initial(seed);
    digest.update(bytes);
    digest.finalize()
}

/// Continues the CRC-16 `seed` over `bytes`.
pub(crate) fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    let mut digest = CRC16.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_has_its_published_check_value() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn crc32c_in_pieces_is_the_same() {
        assert_eq!(crc32c(crc32c(!0, b"12345"), b"6789"), crc32c(!0, b"123456789"));
    }

    #[test]
    fn crc32_be_has_its_published_check_value() {
        assert_eq!(crc32_be(!0, b"123456789"), 0x0376_e6e7); // CRC-32/MPEG-2
    }

    #[test]
    fn crc16_has_its_published_check_value() {
        assert_eq!(crc16(!0, b"123456789"), 0x4b37); // CRC-16/MODBUS
    }
}
