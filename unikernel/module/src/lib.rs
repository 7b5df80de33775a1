//! What modules of the kernel are written with.
//!
//! A module is a library with one type that implements [`Module`], and one use of [`module!`]:
//!
//! ```ignore
//! #![no_std]
//! use unikernel_module::parameter::Uint;
//! use unikernel_module::{Context, Error, Module, info, module};
//!
//! static TIMES: Uint = Uint::new(1, 1..=10);
//!
//! struct Hello(Context);
//!
//! impl Module for Hello {
//!     fn init(context: Context) -> Result<Self, Error> {
//!         (0..TIMES.get()).for_each(|_| info!(context, "hello"));
//!         Ok(Self(context))
//!     }
//! }
//!
//! impl Drop for Hello {
//!     fn drop(&mut self) {
//!         info!(self.0, "goodbye");
//!     }
//! }
//!
//! module! {
//!     name: "hello",
//!     type: Hello,
//!     parameters: { times: Uint = TIMES, 0o644, "how often hello is said" },
//! }
//! ```
//!
//! With the feature `loadable` the library, linked to one relocatable object, is a file that a running kernel loads (`docs/modules.md` says how);
//! without it, the kernel can be built with the library in it. The source is the same.
//!
//! - [`abi`]: what crosses the border: C structures and functions, with versions; nothing of Rust's own ABI;
//! - [`parameter`]: what the command line and `/sys/module/NAME/parameters` set; [`device`]: character devices; [`work`]: what is done later;
//! - [`lock`]: what several cores change; [`pci`]: devices on the bus; [`dma`]: memory that they use; [`disk`]: disks; [`packet`]: frames that pass.
//!
//! A module runs in ring 0 and is trusted as the kernel is: nothing here keeps it from doing harm, but its mistakes are those of
//! ordinary Rust, for all `unsafe` code is here.

#![no_std]

extern crate alloc;

pub mod abi;
pub mod device;
pub mod disk;
pub mod dma;
mod error;
pub mod lock;
mod log;
#[doc(hidden)]
pub mod macros;
pub mod packet;
pub mod parameter;
pub mod pci;
#[cfg(feature = "loadable")]
mod runtime;
pub mod slot;
#[cfg(test)]
mod testing;
pub mod time;
pub mod work;

use alloc::boxed::Box;
use alloc::vec::Vec;

pub use error::Error;
pub use log::Level;

/// Which module the caller is: given to [`Module::init`], asked for by whatever the kernel keeps for a module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context(u64);

impl Context {
    /// For [`module!`], which knows the number that the kernel has given.
    #[doc(hidden)]
    pub const fn new(module: u64) -> Self {
        Self(module)
    }

    /// The number by which the kernel knows the module.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Keeps the module from being unloaded until [`Self::release`]. False if it is on its way out.
    pub fn hold(self) -> bool {
        // SAFETY: a number goes there, and one comes back.
        unsafe { abi::uk_hold(self.0) == 0 }
    }

    /// Undoes a [`Self::hold`].
    pub fn release(self) {
        // SAFETY: a number goes there.
        unsafe { abi::uk_release(self.0) };
    }
}

/// A value in memory that may be missing: a slice of one, for nothing else of `alloc` asks.
fn boxed<T>(value: T) -> Result<Box<[T]>, Error> {
    let mut one = Vec::new();
    one.try_reserve_exact(1).map_err(|_| Error::ENOMEM)?;
    one.push(value);
    Ok(one.into_boxed_slice())
}

/// What a module is while it is loaded. It ends by being dropped, which must undo all that it has done; what it has registered with
/// the kernel is in values that do so themselves.
pub trait Module: Sized + Send + Sync + 'static {
    /// Starts it. After an error nothing is left of it.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from working: who loads it is told.
    fn init(context: Context) -> Result<Self, Error>;
}
