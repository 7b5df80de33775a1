//! Waiting for many files, and files that tell of events.
//!
//! - [`epoll`], [`poll_set`]: waiting for many files;
//! - [`eventfd`], [`timerfd`], [`signalfd`], [`inotify`], [`pidfd`]: events as files.

pub mod epoll;
mod epoll_nesting;
pub mod eventfd;
pub mod inotify;
pub mod pidfd;
pub mod poll_set;
pub mod signalfd;
pub mod timerfd;
