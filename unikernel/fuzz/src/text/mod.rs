//! What people write: options, configurations, keys; and what programs write for people.

pub(crate) mod cloud_config;
pub(crate) mod cmdline;
pub(crate) mod syslog;
pub(crate) mod terminal;
