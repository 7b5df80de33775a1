//! Bytes as numbers and choices. An input that is over reads as zeros, so each is whole.

/// What is left of an input.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Reads from the start.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// True if there is nothing left.
    pub const fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next 16 bits, little-endian.
    pub fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next 32 bits.
    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// The next 64 bits.
    pub fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `bound`, of one byte.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    /// A choice.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// The next bytes, as many as asked for and there are.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// The next bytes, whose number stands in front of them.
    pub fn chunk(&mut self) -> &'a [u8] {
        let len = self.byte().into();
        self.take(len)
    }

    /// The next bytes, with zeros behind the end.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}

#[cfg(test)]
mod tests {
    use super::Input;

    #[test]
    fn input_that_is_over_reads_as_zeros() {
        let mut input = Input::new(&[1, 2, 3, 2, 9]);
        assert_eq!(input.half(), 0x0201);
        assert_eq!(input.below(2), 1);
        assert_eq!(input.chunk(), [9]);
        assert!(input.is_over());
        assert_eq!((input.long(), input.flag(), input.chunk().len()), (0, false, 0));
        assert_eq!(Input::new(&[7]).array(), [7, 0, 0]);
    }
}
