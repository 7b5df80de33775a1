//! Character devices that need no hardware (null(4), full(4), random(4)).

use alloc::string::String;

use alloc::sync::Arc;

use spin::Once;

use super::memory_file::MemoryFile;
use super::proc::Entry;
use super::{Handle, node};
use crate::abi::{Errno, SysResult};
use crate::file::{File, MAX_FILE_BYTES, Metadata, NamedNode, WaitMode};
use crate::mem::space::PageSource;
use crate::mem::user::UserSlice;
use crate::platform::random;
use crate::task::{self, scheduler};

/// Bytes handed out at a time.
const CHUNK_BYTES: usize = 512;

/// Which device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Device {
    /// Takes everything, has nothing.
    Null,
    /// Takes everything, has zeros.
    Zero,
    /// Never has room, has zeros.
    Full,
    /// The kernel's generator of random numbers, which never blocks.
    Random,
    /// The same under its other name.
    URandom,
    /// The serial console.
    Console,
    /// The app's controlling terminal.
    Tty,
    /// Makes a pseudo-terminal at each opening.
    Ptmx,
    /// The slave of a pseudo-terminal.
    Slave(u32),
}

/// Who opens terminals.
pub(crate) trait Terminals: Sync {
    /// Opens the console, the controlling terminal, a new pseudo-terminal or a slave by its node.
    fn open(&self, device: Device, node: Handle) -> Result<Arc<dyn File>, Errno>;
    /// What files of `/proc` tell of them.
    fn texts(&self) -> &'static [Entry];
}

static TERMINALS: Once<&'static dyn Terminals> = Once::new();

/// Sets who opens terminals, before the tree is made.
pub(crate) fn set_terminals(terminals: &'static dyn Terminals) {
    TERMINALS.call_once(|| terminals);
}

/// Who opens them.
///
/// # Panics
///
/// Before [`set_terminals`].
pub(super) fn terminals() -> &'static dyn Terminals {
    *TERMINALS.get().expect("they are set before the tree is made")
}

/// Where they are.
pub(crate) const NODES: &[(&str, Device)] = &[
    ("/dev/null", Device::Null),
    ("/dev/zero", Device::Zero),
    ("/dev/full", Device::Full),
    ("/dev/random", Device::Random),
    ("/dev/urandom", Device::URandom),
    ("/dev/console", Device::Console),
    ("/dev/tty", Device::Tty),
    ("/dev/ptmx", Device::Ptmx),
    ("/dev/pts/ptmx", Device::Ptmx),
];

impl Device {
    /// Its number, as Linux gives it (major 1, but for terminals).
    pub(crate) const fn number(self) -> u64 {
        const MEMORY_MAJOR: u64 = 1 << 8;
        const TERMINAL_MAJOR: u64 = 5 << 8;
        const SLAVE_MAJOR: u64 = 136 << 8;
        match self {
            Self::Null => MEMORY_MAJOR | 3,
            Self::Zero => MEMORY_MAJOR | 5,
            Self::Full => MEMORY_MAJOR | 7,
            Self::Random => MEMORY_MAJOR | 8,
            Self::URandom => MEMORY_MAJOR | 9,
            Self::Console => TERMINAL_MAJOR | 1,
            Self::Tty => TERMINAL_MAJOR,
            Self::Ptmx => TERMINAL_MAJOR | 2,
            // As `parts` takes it apart.
            Self::Slave(index) => {
                let index = index as u64;
                SLAVE_MAJOR | index & 0xff | (index & !0xff) << 12
            }
        }
    }
}

/// The major and minor parts of a device number. A minor number has bits on both sides of the major one (`makedev`).
pub(crate) const fn parts(number: u64) -> (u32, u32) {
    ((number >> 8 & 0xfff) as u32, (number & 0xff | number >> 12 & 0xf_ff00) as u32)
}

const _: () = {
    let (major, minor) = parts(Device::Slave(256).number());
    assert!(major == 136 && minor == 256, "what is packed is taken apart again");
};

/// A device as an open file.
pub(super) struct DeviceFile {
    pub(super) device: Device,
    pub(super) handle: Handle,
}

/// Fills the app's buffer piece by piece; a fault after the first bytes makes a short count.
fn produce(into: UserSlice, fill: impl Fn(&mut [u8])) -> SysResult {
    let mut chunk = [0; CHUNK_BYTES];
    let mut done = 0;
    while done < into.len() {
        let rest = into.skip(done);
        let chunk = &mut chunk[..rest.len().min(CHUNK_BYTES)];
        fill(chunk);
        match rest.write(chunk) {
            Ok(()) => {
                done += chunk.len();
                scheduler::breathe_now_and_then(done / CHUNK_BYTES);
                // As on Linux, a signal does not wait for the rest.
                if done < into.len() && task::has_signal() {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(done)
}

impl File for DeviceFile {
    fn node(&self) -> Option<&dyn NamedNode> {
        Some(&self.handle)
    }

    fn takes_offset(&self) -> bool {
        true
    }

    fn ignores_seek(&self) -> bool {
        true
    }

    fn read(&self, into: UserSlice, _mode: WaitMode) -> SysResult {
        match self.device {
            Device::Zero | Device::Full => produce(into, |_| {}),
            Device::Random | Device::URandom => produce(into, random::fill),
            Device::Null | Device::Console | Device::Tty | Device::Ptmx | Device::Slave(_) => Ok(0),
        }
    }

    fn write(&self, from: UserSlice, _mode: WaitMode) -> SysResult {
        match self.device {
            Device::Full if !from.is_empty() => Err(Errno::ENOSPC),
            _ => Ok(from.len()),
        }
    }

    fn read_at(&self, _offset: u64, into: UserSlice) -> SysResult {
        self.read(into, WaitMode::MayBlock)
    }

    fn write_at(&self, _offset: u64, from: UserSlice) -> SysResult {
        self.write(from, WaitMode::MayBlock)
    }

    fn metadata(&self) -> Metadata {
        node::metadata(self.handle.id)
    }

    fn page_source(&self) -> Result<Arc<dyn PageSource>, Errno> {
        // A mapping of zeros is what an empty file of the greatest length shows.
        if self.device != Device::Zero {
            return Err(Errno::ENODEV);
        }
        let zeros = MemoryFile::empty();
        zeros.resize(MAX_FILE_BYTES)?;
        Ok(zeros)
    }

    fn name(&self) -> String {
        let node = NODES.iter().find(|(_, device)| *device == self.device);
        node.map_or_else(String::new, |(path, _)| String::from(*path))
    }
}
