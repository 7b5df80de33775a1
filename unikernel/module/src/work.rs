//! What is done later, on a thread of the kernel's: after a while, or as soon as it gets its turn.

use alloc::boxed::Box;

use crate::lock::Lock;
use crate::{Context, Error, abi};

/// Work of one kind, which may be put off again and again.
pub trait Work: Send + Sync + 'static {
    /// Does it; answers after how many nanoseconds again, if at all. Interrupts are masked, and it must not wait.
    fn run(&self) -> Option<u64>;
}

/// Has a [`Work`] done. When this is dropped, the work does not run, and will not.
pub struct Deferred<W: Work> {
    context: Context,
    work: Box<W>,
    /// The number of what the kernel has been asked last.
    asked: Lock<Option<i64>>,
}

extern "C" fn run<W: Work>(work: *const ()) -> u64 {
    // SAFETY: `Deferred` lends a `W`, and takes what it has asked for back before that ends.
    unsafe { &*work.cast::<W>() }.run().unwrap_or(abi::NEVER)
}

impl<W: Work> Deferred<W> {
    /// For work that nobody has asked for yet.
    pub fn new(context: Context, work: W) -> Self {
        Self { context, work: Box::new(work), asked: Lock::new(None) }
    }

    /// What is to be done.
    pub fn work(&self) -> &W {
        &self.work
    }

    /// Has it done in `delay_ns` nanoseconds, and not when it was asked for before.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn ask(&self, delay_ns: u64) -> Result<(), Error> {
        let mut asked = self.asked.lock();
        self.take_back(&mut asked);
        let work: *const W = &raw const *self.work;
        // SAFETY: the work is there until `drop` has taken it back.
        let answer = unsafe { abi::uk_work_add(self.context.number(), delay_ns, run::<W>, work.cast()) };
        *asked = Some(Error::check(answer)? as i64);
        Ok(())
    }

    /// Takes back what was asked for. When this comes back, the work does not run. Not for the work itself.
    pub fn cancel(&self) {
        self.take_back(&mut self.asked.lock());
    }

    fn take_back(&self, asked: &mut Option<i64>) {
        if let Some(number) = asked.take() {
            // SAFETY: a number goes there.
            unsafe { abi::uk_work_cancel(self.context.number(), number) };
        }
    }
}

impl<W: Work> Drop for Deferred<W> {
    fn drop(&mut self) {
        self.cancel();
    }
}
