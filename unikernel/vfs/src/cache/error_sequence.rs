//! Errors of write-back, which happen when nobody waits for them: everyone who has the file open is told of each
//! once. The rules are Linux's (`lib/errseq.c`): an error that nobody was told of yet is also for who opens
//! the file later; one that somebody was told of is only for those who had the file open before.

/// The errors of one file, or of one filesystem. Of several that an observer has missed, the latest is told.
#[derive(Debug)]
pub struct ErrorSequence<E> {
    latest: Option<E>,
    /// Errors so far.
    count: u64,
    /// Somebody was told of the latest.
    is_told: bool,
}

/// How far one observer was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ErrorCursor(u64);

impl<E> Default for ErrorSequence<E> {
    fn default() -> Self {
        Self { latest: None, count: 0, is_told: false }
    }
}

impl<E: Copy> ErrorSequence<E> {
    /// Notes an error.
    pub fn record(&mut self, error: E) {
        self.latest = Some(error);
        self.count += 1;
        self.is_told = false;
    }

    /// A new observer, as of now.
    pub fn sample(&self) -> ErrorCursor {
        if self.is_told { ErrorCursor(self.count) } else { ErrorCursor::default() }
    }

    /// The error that an observer was not told of yet, of which it is told by this.
    pub fn check(&mut self, cursor: &mut ErrorCursor) -> Option<E> {
        if cursor.0 == self.count {
            return None;
        }
        cursor.0 = self.count;
        self.is_told = true;
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_observer_is_told_once_of_each_error() {
        let mut errors = ErrorSequence::default();
        let (mut first, mut second) = (errors.sample(), errors.sample());
        assert_eq!(errors.check(&mut first), None);
        errors.record(5);
        assert_eq!(errors.check(&mut first), Some(5));
        assert_eq!(errors.check(&mut first), None);
        assert_eq!(errors.check(&mut second), Some(5));
        errors.record(28);
        errors.record(5);
        assert_eq!(errors.check(&mut second), Some(5), "the latest stands for both");
        assert_eq!(errors.check(&mut second), None);
        assert_eq!(errors.check(&mut first), Some(5));
    }

    #[test]
    fn who_opens_later_is_told_only_of_what_nobody_was() {
        let mut errors = ErrorSequence::default();
        errors.record(5);
        let mut early = errors.sample();
        assert_eq!(errors.check(&mut early), Some(5), "nobody was told before");
        let mut late = errors.sample();
        assert_eq!(errors.check(&mut late), None);
        errors.record(28);
        let mut later = errors.sample();
        for cursor in [&mut early, &mut late, &mut later] {
            assert_eq!(errors.check(cursor), Some(28));
            assert_eq!(errors.check(cursor), None);
        }
    }
}
