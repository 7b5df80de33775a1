//! The app's memory.
//!
//! - [`space`]: its regions (`mmap` and friends); [`fault`]: demand paging;
//! - [`reclaim`]: getting frames back when they run short;
//! - [`shared`]: frames with several owners;
//! - [`user`]: checked access for the kernel.

mod errors;
pub mod fault;
pub mod reclaim;
pub mod shared;
pub mod space;
pub mod user;
