//! Operations on open files, sockets and paths: one function for each, which system calls and io_uring call alike. They take
//! what was decoded from registers or from an entry of a ring, and open files rather than descriptors where the caller may
//! have a file without one.
//!
//! - [`buffers`]: the buffers that a call names; [`path`]: what a path means;
//! - [`open`] and [`open_how`]: opening; [`names`] and [`rename`]: making, removing, renaming; [`stat`](mod@stat): what files are;
//! - [`file`]: changing what a file holds, and saving it; [`splice`]: from file to file; [`epoll`]: watching;
//! - [`socket`]: making, naming, ending; [`message`], with `control` and `control_out`: sending and receiving;
//!   [`sockopt`]: options;
//! - [`memory`]: what the app says about its memory.

pub(crate) mod buffers;
mod control;
mod control_out;
pub(crate) mod epoll;
pub(crate) mod file;
pub(crate) mod memory;
pub(crate) mod message;
pub(crate) mod names;
pub(crate) mod open;
pub(crate) mod open_how;
pub(crate) mod path;
pub(crate) mod rename;
pub(crate) mod socket;
pub(crate) mod sockopt;
mod sockopt_ip;
mod sockopt_tcp;
mod sockopt_udp;
pub(crate) mod splice;
pub(crate) mod stat;
mod tcp_info;
