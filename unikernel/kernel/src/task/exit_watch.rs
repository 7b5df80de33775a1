//! Who waits for the end of a thread.

use alloc::sync::Arc;
use core::any::Any;

/// Is told when a thread has ended.
pub(crate) trait ExitListener: Any + Send + Sync {
    /// The thread has left the list of threads.
    fn thread_ended(&self);
}

/// Who waits for the end of one thread. A part of the thread.
#[derive(Default)]
pub(crate) enum ExitWatch {
    /// Nobody yet.
    #[default]
    Nobody,
    /// Somebody does, or did.
    Listener(Arc<dyn ExitListener>),
    /// It has ended, so nobody can begin to wait.
    Over,
}

impl ExitWatch {
    /// The listener, made if there is none yet; `None` if the thread has ended.
    pub(crate) fn listener<T: ExitListener + Default>(&mut self) -> Option<Arc<T>> {
        if let Self::Nobody = self {
            *self = Self::Listener(Arc::new(T::default()));
        }
        match self {
            Self::Listener(listener) => {
                let any: Arc<dyn Any + Send + Sync> = Arc::clone(listener) as _;
                any.downcast().ok()
            }
            Self::Nobody | Self::Over => None,
        }
    }
}
