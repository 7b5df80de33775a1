//! Waiting for many files, and files that tell of events.
//!
//! - [`epoll`], [`poll_set`]: waiting for many files;
//! - [`eventfd`], [`timerfd`], [`signalfd`], [`inotify`], [`pidfd`]: events as files.

pub(crate) mod epoll;
mod epoll_nesting;
pub(crate) mod eventfd;
pub(crate) mod inotify;
pub(crate) mod pidfd;
pub(crate) mod poll_set;
pub(crate) mod signalfd;
pub(crate) mod timerfd;
