//! How much of a file is read before it is asked for. Reads that follow each other open a window, which doubles
//! as it proves right; a jump closes it, so that random reads cost no more than what they ask for.

/// One reader's state. All numbers are pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadAhead {
    /// Where a sequential reader goes on.
    next: u64,
    window: u32,
    most: u32,
    is_random: bool,
}

impl ReadAhead {
    /// The first window of a reader that begins at the beginning.
    const FIRST: u32 = 4;

    /// A new reader, for whom up to `most` pages are read at a time.
    pub const fn new(most: u32) -> Self {
        Self { next: 0, window: 0, most, is_random: false }
    }

    /// The reader says that it will jump about (`POSIX_FADV_RANDOM`), or that it will not.
    pub fn set_random(&mut self, is_random: bool) {
        self.is_random = is_random;
    }

    /// Notes a read of `count` pages from `first` on that were all there.
    pub fn hit(&mut self, first: u64, count: u32) {
        self.next = first + u64::from(count);
    }

    /// A read needs `first`, which is not there, and `count - 1` pages after it. Answers how many pages from
    /// `first` on to read now, at least `count` as far as that is allowed at once.
    pub fn miss(&mut self, first: u64, count: u32) -> u32 {
        let follows = first == self.next || first + 1 == self.next;
        self.window = match (follows, self.window) {
            _ if self.is_random => 0,
            (false, _) => 0,
            (true, 0) => Self::FIRST.max(count.saturating_mul(2)),
            (true, window) => window.saturating_mul(2),
        }
        .min(self.most);
        self.next = first + u64::from(count);
        self.window.max(count).min(self.most.max(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn window_doubles_for_who_reads_on_and_closes_at_a_jump() {
        let mut reader = ReadAhead::new(128);
        let mut at = 0;
        let mut windows = [0; 7];
        for window in &mut windows {
            *window = reader.miss(at, 1);
            (at + 1..at + u64::from(*window)).for_each(|page| reader.hit(page, 1));
            at += u64::from(*window);
        }
        assert_eq!(windows, [4, 8, 16, 32, 64, 128, 128]);
        assert_eq!(reader.miss(10_000, 1), 1);
        assert_eq!(reader.miss(500, 3), 3);
        assert_eq!(reader.miss(503, 1), 4);
    }

    #[test]
    fn who_says_random_gets_no_more_than_asked_for() {
        let mut reader = ReadAhead::new(128);
        reader.set_random(true);
        assert_eq!((0..9).map(|page| reader.miss(page, 1)).max(), Some(1));
    }

    proptest! {
        #[test]
        fn never_less_than_asked_nor_more_than_allowed(reads in prop::collection::vec((0u64..1 << 50, 1u32..400), 1..50)) {
            let mut reader = ReadAhead::new(64);
            for (first, count) in reads {
                let pages = reader.miss(first, count);
                prop_assert!(pages >= count.min(64) && pages <= 64);
            }
        }
    }
}
