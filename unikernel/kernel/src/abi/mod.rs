//! The Linux ABI: types without logic. Every room may use it; the numbers and structures that are Linux' own come
//! from `linux-raw-sys`.

mod errno;

pub(crate) use errno::{Errno, SysResult};

/// What `uname -r` shows: programs parse it to guess features, so it names the Linux version
/// whose calls the table follows.
pub(crate) const RELEASE: &str = "6.1.0-unikernel";
/// What `uname` says of the build.
pub(crate) const VERSION: &str = concat!("unikernel ", env!("CARGO_PKG_VERSION"));
