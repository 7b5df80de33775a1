//! What the app hands over that is more than a system call's arguments.

pub(crate) mod policy;
