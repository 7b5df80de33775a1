//! What peers send.

pub(crate) mod dhcp;
mod frame;
mod host;
pub(crate) mod http;
pub(crate) mod ip;
pub(crate) mod ntp;
pub(crate) mod tcp;
pub(crate) mod vsock;
