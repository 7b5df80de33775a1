//! The app comes in by [`crate::sim::app`].

/// There is nothing to point at the kernel.
pub fn init() {}
