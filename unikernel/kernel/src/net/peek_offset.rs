//! Where peeking goes on in what a socket has received (socket(7), `SO_PEEK_OFF`).

use core::sync::atomic::{AtomicI64, Ordering};

use super::message::MessageFlags;

/// The place, from the first byte that is not read yet; less than 0 if each peek begins there.
pub(crate) struct PeekOffset(AtomicI64);

impl Default for PeekOffset {
    fn default() -> Self {
        Self(AtomicI64::new(-1))
    }
}

impl PeekOffset {
    /// What the option shows.
    pub(crate) fn get(&self) -> i32 {
        i32::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(i32::MAX)
    }

    /// Sets the option.
    pub(crate) fn set(&self, offset: i32) {
        self.0.store(offset.max(-1).into(), Ordering::Relaxed);
    }

    /// How many bytes a call leaves out.
    #[inline]
    pub(crate) fn start(&self, flags: MessageFlags) -> usize {
        if !flags.contains(MessageFlags::PEEK) {
            return 0;
        }
        usize::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// A call has looked at so many bytes, or has taken so many away.
    #[inline]
    pub(crate) fn advance(&self, flags: MessageFlags, looked: usize, taken: usize) {
        let offset = self.0.load(Ordering::Relaxed);
        if offset < 0 {
            return;
        }
        let offset = match flags.contains(MessageFlags::PEEK) {
            true => offset.saturating_add(looked as i64),
            false => offset.saturating_sub(taken as i64).max(0),
        };
        self.0.store(offset, Ordering::Relaxed);
    }
}
