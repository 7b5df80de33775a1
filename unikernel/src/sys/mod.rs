//! The system calls, as safe functions: the only `unsafe` of this crate but for what `entry!` leaves
//! in the program. Each passes pointers that it made from references of its own arguments, with the
//! right lengths, so that the kernel reads and writes only what the caller lent.

mod descriptor;
mod memory;
mod policy;
mod raw;
mod socket;

pub(crate) use descriptor::*;
pub(crate) use memory::*;
pub(crate) use policy::*;
pub(crate) use socket::*;
