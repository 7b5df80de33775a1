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

pub mod buffers;
mod control;
mod control_out;
pub mod epoll;
pub mod file;
pub mod memory;
pub mod message;
pub mod names;
pub mod open;
pub mod open_how;
pub mod path;
pub mod rename;
pub mod socket;
pub mod sockopt;
mod sockopt_ip;
mod sockopt_tcp;
mod sockopt_udp;
pub mod splice;
pub mod stat;
mod tcp_info;
