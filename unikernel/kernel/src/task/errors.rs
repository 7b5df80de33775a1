//! What goes wrong with threads, as error numbers.

use super::thread::OutOfMemory;
use crate::abi::Errno;

impl From<OutOfMemory> for Errno {
    fn from(_: OutOfMemory) -> Self {
        Self::ENOMEM
    }
}
