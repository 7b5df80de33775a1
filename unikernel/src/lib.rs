//! What an appliance depends on: the ring-3 side.
//!
//! A `std` program needs nothing from here: `unikernel_build::link_image` in its build script links the
//! kernel in. A `no_std` program finds the machine behind these modules:
//!
//! - [`net`]: TCP and UDP; [`poll`]: waiting for many sockets; [`fs`]: files;
//! - [`io`]: the console, over [`embedded_io`]; [`time`], [`thread`], [`mod@env`], [`process`];
//! - [`policy`]: what the program forbids itself;
//! - [`entry!`]: makes a function the program's start, with a heap and a panic handler.
//!
//! All of it speaks the Linux x86-64 system-call ABI and nothing else, so the same program runs as a
//! Linux process. `unsafe` is in `sys`, where the `syscall` instruction is, and in the code that
//! [`entry!`] leaves in the program.
//!
//! A whole program (not compiled here, since a doc example has `std` and unwinds; `apps/http` is one that is):
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//!
//! unikernel::entry!(serve);
//!
//! fn serve() -> i32 {
//!     unikernel::println!("Hello from ring 3!");
//!     0
//! }
//! ```

#![no_std]

pub mod env;
mod error;
pub mod fs;
pub mod io;
pub mod logger;
pub mod net;
pub mod policy;
pub mod poll;
pub mod process;
#[doc(hidden)]
pub mod start;
mod sys;
pub mod thread;
pub mod time;

pub use embedded_io;
pub use error::Error;
pub use log;
