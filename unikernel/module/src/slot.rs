//! Where [`module!`](crate::module) keeps the module while it is loaded.

use crate::lock::Lock;
use crate::{Context, Error, Module};

/// A module, from its start to its end.
#[doc(hidden)]
#[derive(Debug)]
pub struct Slot<T>(Lock<Option<T>>);

impl<T: Module> Slot<T> {
    /// Not started.
    #[expect(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Self {
        Self(Lock::new(None))
    }

    /// Starts it; answers 0 or a negative error number.
    pub fn init(&self, module: u64) -> i32 {
        #[cfg(feature = "loadable")]
        crate::runtime::set_module(module);
        match T::init(Context::new(module)) {
            Ok(value) => {
                *self.0.lock() = Some(value);
                0
            }
            Err(error) => -Error::number(error),
        }
    }

    /// Ends it.
    pub fn exit(&self) {
        let value = self.0.lock().take();
        drop(value);
    }

    /// Runs `work` with the module, if it is there: for functions that it exports. They must not call each other.
    pub fn with<R>(&self, work: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.lock().as_ref().map(work)
    }
}
