//! Errors of write-back, which happen when nobody waits for them: everyone who has the file open is told of each
//! once. The rules are Linux's (`lib/errseq.c`): an error that nobody was told of yet is also for who opens
//! the file later; one that somebody was told of is only for those who had the file open before.

use core::sync::atomic::{AtomicU64, Ordering};

/// The errors of one file, or of one filesystem. Of several that an observer has missed, the latest is told.
#[derive(Debug)]
pub struct ErrorSequence<E> {
    latest: Option<E>,
    /// Errors so far.
    count: u64,
    /// Somebody was told of the latest.
    is_told: bool,
}

/// How far one observer was told. It belongs to one sequence, whose lock orders all that happens to it.
#[derive(Debug, Default)]
pub struct ErrorCursor(AtomicU64);

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
        ErrorCursor(AtomicU64::new(if self.is_told { self.count } else { 0 }))
    }

    /// The error that an observer was not told of yet, of which it is told by this.
    pub fn check(&mut self, cursor: &ErrorCursor) -> Option<E> {
        if cursor.0.swap(self.count, Ordering::Relaxed) == self.count {
            return None;
        }
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
        let (first, second) = (errors.sample(), errors.sample());
        assert_eq!(errors.check(&first), None);
        errors.record(5);
        assert_eq!(errors.check(&first), Some(5));
        assert_eq!(errors.check(&first), None);
        assert_eq!(errors.check(&second), Some(5));
        errors.record(28);
        errors.record(5);
        assert_eq!(errors.check(&second), Some(5), "the latest stands for both");
        assert_eq!(errors.check(&second), None);
        assert_eq!(errors.check(&first), Some(5));
    }

    #[test]
    fn who_opens_later_is_told_only_of_what_nobody_was() {
        let mut errors = ErrorSequence::default();
        errors.record(5);
        let early = errors.sample();
        assert_eq!(errors.check(&early), Some(5), "nobody was told before");
        let late = errors.sample();
        assert_eq!(errors.check(&late), None);
        errors.record(28);
        let later = errors.sample();
        for cursor in [&early, &late, &later] {
            assert_eq!(errors.check(cursor), Some(28));
            assert_eq!(errors.check(cursor), None);
        }
    }
}
