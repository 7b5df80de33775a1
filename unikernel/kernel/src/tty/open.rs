//! How terminals are opened by their nodes (`/dev/console`, `/dev/tty`, `/dev/ptmx`, `/dev/pts`).

use alloc::format;
use alloc::sync::Arc;

use super::console;
use super::master::Master;
use super::pty;
use super::slave::Slave;
use crate::abi::Errno;
use crate::file::File;
use crate::fs::Handle;
use crate::fs::device::{self, Device};
use crate::fs::proc::Entry;

/// The terminals of this kernel.
pub(crate) struct Terminals;

impl device::Terminals for Terminals {
    fn open(&self, device: Device, node: Handle) -> Result<Arc<dyn File>, Errno> {
        Ok(match device {
            Device::Ptmx => Master::open(node)?,
            Device::Slave(index) => Slave::open_index(index, node)?,
            Device::Tty => match Slave::open_controlling(&node) {
                Some(opened) => opened?,
                None => console::open_again()?,
            },
            Device::Console => console::open_again()?,
            // What is no terminal does not come here.
            _ => return Err(Errno::ENXIO),
        })
    }

    fn texts(&self) -> &'static [Entry] {
        &[
            ("/proc/sys/kernel/pty/max", || format!("{}\n", pty::MAX_PTYS)),
            ("/proc/sys/kernel/pty/nr", || format!("{}\n", pty::count())),
        ]
    }
}
