//! The Linux ABI: types without logic. Every room may use it; the numbers and structures that are Linux' own come
//! from `linux-raw-sys`.

mod errno;

pub use errno::{Errno, SysResult};
