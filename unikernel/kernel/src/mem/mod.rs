//! The app's memory.
//!
//! - [`space`]: its regions (`mmap` and friends); [`fault`]: demand paging;
//! - [`reclaim`]: getting frames back when they run short;
//! - [`shared`]: frames with several owners;
//! - [`user`]: checked access for the kernel.

mod errors;
pub(crate) mod fault;
pub(crate) mod reclaim;
pub(crate) mod shared;
pub(crate) mod space;
pub(crate) mod user;
