//! Packages of users: any crate with a program becomes an appliance, wherever it lies and however it is set up.
//!
//! - [`selection`]: which programs of which package, as cargo's own commands understand it;
//! - [`kernel`]: the kernel, compiled once for all packages; [`build`]: cargo, then the image; [`native`]: what is often missing then;
//! - [`pack`]: a program that somebody else built, and a kernel;
//! - [`create`]: `new`; [`init`]: plain cargo makes the image, of our crates from an [`origin`]; [`check_host`]: what is missing on this host.

mod build;
mod c_library;
mod check_host;
mod create;
mod features;
mod init;
mod kernel;
mod native;
mod origin;
mod pack;
mod selection;

pub(crate) use build::build;
pub(crate) use check_host::{check_host, finds};
pub(crate) use create::create;
pub(crate) use init::{InitOptions, init};
pub(crate) use origin::Origin;
pub(crate) use pack::{PackOptions, Packed, pack, packed, write_kernel};
pub(crate) use selection::{PackageOptions, package_of, take_option};
