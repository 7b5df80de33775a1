//! Character devices of modules: nodes in `/dev`, and their files. The module's functions see buffers of the kernel's; the app's memory is copied
//! here, with no lock held.

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use unikernel_hal::module::Device;

use super::Module;
use crate::abi::{Errno, SysResult};
use crate::file::{File, Metadata, NamedNode, WaitMode};
use crate::fs::attribute::{self, Driver};
use crate::fs::{Handle, node};
use crate::kmem::room;
use crate::mem::user::UserSlice;
use crate::sync::SpinLock;

/// Bytes that go to a module at once.
const CHUNK_BYTES: usize = 4096;
/// The longest name of a device.
const MOST_NAME_BYTES: usize = 64;
/// The major number of small devices (Linux: `MISC_MAJOR`), the minor one of watchdogs, and from where on others have theirs.
const MISC_MAJOR: u64 = 10;
const WATCHDOG_MINOR: u64 = 130;
const FIRST_MINOR: u64 = 256;

/// A device.
struct Entry {
    number: i64,
    minor: u64,
    module_number: u64,
    module: Weak<Module>,
    /// None when it was taken away. Held while one of its functions runs.
    device: SpinLock<Option<Device>>,
}

/// All of them, with their nodes.
static DEVICES: SpinLock<Vec<(Arc<Entry>, Handle)>> = SpinLock::new(Vec::new());

/// Makes a device.
pub(super) fn add(module: &Arc<Module>, name: &str, mode: u32, device: Device) -> Result<i64, Errno> {
    static NEXT: AtomicI64 = AtomicI64::new(1);
    let is_good = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    if name.is_empty() || name.len() > MOST_NAME_BYTES || !name.bytes().all(is_good) || name.starts_with('.')
    {
        return Err(Errno::EINVAL);
    }
    DEVICES.lock().try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let minor = if name == "watchdog" { WATCHDOG_MINOR } else { free_minor() };
    let entry = Arc::new(Entry {
        number,
        minor,
        module_number: module.number,
        module: Arc::downgrade(module),
        device: SpinLock::new(Some(device)),
    });
    let node = attribute::add_driver(name, Arc::clone(&entry) as Arc<dyn Driver>, (mode & 0o777) as u16)?;
    // There is room, unless others were faster: then the list grows here.
    DEVICES.lock().push((entry, node));
    Ok(number)
}

/// The lowest that no device has.
fn free_minor() -> u64 {
    let devices = DEVICES.lock();
    let is_free = |minor: &u64| devices.iter().all(|(entry, _)| entry.minor != *minor);
    (FIRST_MINOR..).find(is_free).unwrap_or(FIRST_MINOR)
}

/// Takes a device away: nobody is in its functions then, and nobody will be.
pub(super) fn remove(module: u64, number: i64) {
    remove_where(|entry| entry.number == number && entry.module_number == module);
}

/// The same with all devices of a module.
pub(super) fn remove_all(module: u64) {
    while remove_where(|entry| entry.module_number == module) {}
}

fn remove_where(is_meant: impl Fn(&Entry) -> bool) -> bool {
    let removed = {
        let mut devices = DEVICES.lock();
        let place = devices.iter().position(|(entry, _)| is_meant(entry));
        place.map(|place| devices.swap_remove(place))
    };
    let Some((entry, node)) = removed else { return false };
    attribute::remove_driver(&node);
    let device = entry.device.lock().take();
    drop(device);
    true
}

impl Entry {
    /// Runs `work` with the device, if it is still there.
    fn with<R>(&self, work: impl FnOnce(&Device) -> Result<R, i32>) -> Result<R, Errno> {
        match &*self.device.lock() {
            Some(device) => work(device).map_err(Errno::of_module),
            None => Err(Errno::ENODEV),
        }
    }

    fn release_module(&self) {
        if let Some(module) = self.module.upgrade() {
            module.release();
        }
    }
}

impl Driver for Entry {
    fn number(&self) -> u64 {
        // As `fs::device::parts` takes it apart.
        MISC_MAJOR << 8 | self.minor & 0xff | (self.minor & !0xff) << 12
    }

    fn open(&self, node: Handle, flags: u32) -> Result<Arc<dyn File>, Errno> {
        let module = self.module.upgrade().filter(|module| module.hold()).ok_or(Errno::ENODEV)?;
        let entry = {
            let devices = DEVICES.lock();
            devices.iter().find(|(entry, _)| entry.number == self.number).map(|(entry, _)| Arc::clone(entry))
        };
        let opened = entry.ok_or(Errno::ENODEV).and_then(|entry| {
            let file = entry.with(|device| device.open(flags))?;
            Ok(Arc::new(DeviceFile { entry, node, file, position: AtomicU64::new(0) }) as Arc<dyn File>)
        });
        opened.inspect_err(|_| module.release())
    }
}

/// A device, opened. The module is held until it is closed.
struct DeviceFile {
    entry: Arc<Entry>,
    node: Handle,
    /// How the module calls it.
    file: i64,
    /// Bytes that were read.
    position: AtomicU64,
}

/// A buffer for so many bytes of a call.
fn buffer(len: usize) -> Result<Vec<u8>, Errno> {
    Ok(room::filled(0, len.min(CHUNK_BYTES))?)
}

impl File for DeviceFile {
    fn node(&self) -> Option<&dyn NamedNode> {
        Some(&self.node)
    }

    fn ignores_seek(&self) -> bool {
        true
    }

    fn read(&self, into: UserSlice, _mode: WaitMode) -> SysResult {
        let mut bytes = buffer(into.len())?;
        let position = self.position.load(Ordering::Relaxed);
        let count = self.entry.with(|device| device.read(self.file, position, &mut bytes))?;
        into.write(&bytes[..count])?;
        self.position.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn write(&self, from: UserSlice, _mode: WaitMode) -> SysResult {
        let mut bytes = buffer(from.len())?;
        from.truncate(bytes.len()).read(&mut bytes)?;
        self.entry.with(|device| device.write(self.file, &bytes))
    }

    fn ioctl(&self, request: u32, argument: u64) -> SysResult {
        /// What a request's number says (Linux: `_IOC`): how many bytes, and whether they come back.
        const SIZE_SHIFT: u32 = 16;
        const SIZE_MASK: u32 = 0x3fff;
        const COMES_BACK: u32 = 1 << 31;
        let mut bytes: Vec<u8> = room::filled(0, (request >> SIZE_SHIFT & SIZE_MASK) as usize)?;
        let place = UserSlice::new(argument, bytes.len());
        // Whatever the number says of the direction: there are requests of which it is not true (`WDIOC_SETOPTIONS`).
        place.read(&mut bytes)?;
        self.entry.with(|device| device.control(self.file, request, &mut bytes))?;
        if request & COMES_BACK != 0 {
            place.write(&bytes)?;
        }
        Ok(0)
    }

    fn metadata(&self) -> Metadata {
        node::metadata(self.node.id)
    }

    fn close(&self) {
        let _ = self.entry.with(|device| {
            device.close(self.file);
            Ok(())
        });
        self.entry.release_module();
    }

    fn name(&self) -> String {
        node::name_of(&self.node)
    }
}
