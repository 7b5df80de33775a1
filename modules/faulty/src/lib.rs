//! For tests: a module that panics when somebody writes to `/dev/faulty`.

#![no_std]
#![forbid(unsafe_code)]

use unikernel_module::device::{CharDevice, Device};
use unikernel_module::{Context, Error, Module, module};

struct Fault;

impl CharDevice for Fault {
    fn open(&self, _flags: u32) -> Result<u32, Error> {
        Ok(0)
    }

    fn write(&self, _file: u32, _from: &[u8]) -> Result<usize, Error> {
        panic!("as it was told to")
    }
}

/// The module.
struct Faulty {
    _device: Device<Fault>,
}

impl Module for Faulty {
    fn init(context: Context) -> Result<Self, Error> {
        Ok(Self { _device: Device::add(context, "faulty", 0o200, Fault)? })
    }
}

module! {
    name: "faulty",
    type: Faulty,
}
