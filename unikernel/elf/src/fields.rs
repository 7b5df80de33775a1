//! Little-endian numbers in a structure of the file.

/// A structure's bytes. A field beyond them reads as zero; [`crate::Header`] and [`crate::Program`] make no such ones.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    fn at<const N: usize>(self, offset: usize) -> [u8; N] {
        self.0.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
    }

    pub(crate) fn byte(self, offset: usize) -> u8 {
        let [byte] = self.at(offset);
        byte
    }

    pub(crate) fn half(self, offset: usize) -> u16 {
        u16::from_le_bytes(self.at(offset))
    }

    pub(crate) fn int(self, offset: usize) -> u32 {
        u32::from_le_bytes(self.at(offset))
    }

    pub(crate) fn word(self, offset: usize) -> u64 {
        u64::from_le_bytes(self.at(offset))
    }
}
