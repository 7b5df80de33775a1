//! What modules ask of the kernel, as C functions (`unikernel_module::abi`). Each makes safe values of what it is told and asks the kernel, which
//! has registered itself ([`set_services`]). A module is trusted: that its addresses are what they should be is its own affair.

use alloc::alloc::{alloc, dealloc};
use alloc::string::String;
use core::alloc::Layout;
use core::slice;

use spin::Once;
pub use unikernel_module::Level;
use unikernel_module::abi::{DeviceFunctions, DiskFunctions, DiskLimits, PacketFunction, WorkFunction};

use super::call::{UnboundDevice, UnboundDisk, UnboundHook, UnboundWork, Work};
use super::{memory, pci};
use crate::arch::{cpu, tlb};
use crate::platform::time;

/// What the kernel does for modules. Errors are error numbers, positive.
pub trait Services: Sync {
    /// Writes a line to the log.
    fn log(&self, module: u64, level: Level, text: &str);
    /// A module's name.
    fn name(&self, module: u64) -> String;
    /// Charges memory to a module, or, if it is negative, takes the charge back. False if it may not have more.
    fn charge(&self, module: u64, bytes: isize) -> bool;
    /// Keeps a module loaded; false if it is on its way out.
    fn hold(&self, module: u64) -> bool;
    /// Undoes that.
    fn release(&self, module: u64);
    /// Has work done after a while; answers its number.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    fn add_work(&self, module: u64, delay_ns: u64, work: UnboundWork) -> Result<i64, i32>;
    /// Takes work back; true if it had not begun. When this comes back, it does not run.
    fn cancel_work(&self, module: u64, work: i64) -> bool;
    /// Makes a device; answers its number.
    ///
    /// # Errors
    ///
    /// If that cannot be.
    fn add_device(&self, module: u64, name: &str, mode: u32, device: UnboundDevice) -> Result<i64, i32>;
    /// Takes it away. When this comes back, nobody uses it.
    fn remove_device(&self, module: u64, device: i64);
    /// Has frames seen; answers the hook's number.
    ///
    /// # Errors
    ///
    /// If that cannot be.
    fn add_hook(&self, module: u64, place: u32, hook: UnboundHook) -> Result<i64, i32>;
    /// Takes it away. When this comes back, nobody uses it.
    fn remove_hook(&self, module: u64, hook: i64);
    /// Binds a handler of interrupts to the module's code.
    ///
    /// # Errors
    ///
    /// If it is not the module's.
    fn bind(&self, module: u64, work: UnboundWork) -> Result<Work, i32>;
    /// Makes a disk; answers its number.
    ///
    /// # Errors
    ///
    /// If that cannot be.
    fn add_disk(&self, module: u64, name: &str, disk: UnboundDisk) -> Result<i64, i32>;
    /// Takes it away. When this comes back, nobody uses it.
    fn remove_disk(&self, module: u64, disk: i64);
    /// Takes the answers of all the module's disks; from an interrupt handler.
    fn poll_disks(&self, module: u64);
    /// Lets time pass; with nothing locked.
    fn sleep(&self, duration_ns: u64);
}

static SERVICES: Once<&'static dyn Services> = Once::new();

/// Sets who does it, before the first module is loaded.
pub fn set_services(services: &'static dyn Services) {
    SERVICES.call_once(|| services);
}

fn services() -> &'static dyn Services {
    *SERVICES.get().expect("they are set before the first module is loaded")
}

/// What modules may use of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Export {
    /// Its name.
    pub name: &'static str,
    /// Its version; none for what every C program expects.
    pub version: Option<u32>,
    /// Where it is.
    pub address: u64,
}

unsafe extern "C" {
    fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
    fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
    fn memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8;
    fn memcmp(one: *const u8, other: *const u8, bytes: usize) -> i32;
}

/// The symbol of this name.
pub fn exports(name: &str) -> Option<Export> {
    macro_rules! find {
        ($($service:ident: $version:literal),* $(,)?) => {
            match name {
                $(stringify!($service) => {
                    let address = $service as *const () as u64;
                    Some(Export { name: stringify!($service), version: Some($version), address })
                })*
                "memcpy" => Some(Export { name: "memcpy", version: None, address: memcpy as *const () as u64 }),
                "memmove" => Some(Export { name: "memmove", version: None, address: memmove as *const () as u64 }),
                "memset" => Some(Export { name: "memset", version: None, address: memset as *const () as u64 }),
                "memcmp" | "bcmp" => {
                    Some(Export { name: "memcmp", version: None, address: memcmp as *const () as u64 })
                }
                _ => None,
            }
        };
    }
    unikernel_module::for_each_service!(find)
}

fn answer(outcome: Result<i64, i32>) -> i64 {
    outcome.unwrap_or_else(|error| -i64::from(error))
}

/// Bytes that a module names, which are there during the call.
fn bytes<'a>(start: *const u8, len: usize) -> &'a [u8] {
    if len == 0 || start.is_null() {
        return &[];
    }
    // SAFETY: the module says so.
    unsafe { slice::from_raw_parts(start, len) }
}

#[unsafe(no_mangle)]
extern "C" fn uk_log(module: u64, level: u32, text: *const u8, len: usize) {
    let level = match level {
        1 => Level::Error,
        2 => Level::Warn,
        3 => Level::Info,
        _ => Level::Debug,
    };
    services().log(module, level, core::str::from_utf8(bytes(text, len)).unwrap_or("(no text)"));
}

#[unsafe(no_mangle)]
extern "C" fn uk_alloc(module: u64, len: usize, alignment: usize) -> *mut u8 {
    let Ok(layout) = Layout::from_size_align(len.max(1), alignment) else { return core::ptr::null_mut() };
    if !services().charge(module, layout.size() as isize) {
        return core::ptr::null_mut();
    }
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc(layout) };
    if memory.is_null() {
        services().charge(module, -(layout.size() as isize));
    }
    memory
}

#[unsafe(no_mangle)]
extern "C" fn uk_free(module: u64, memory: *mut u8, len: usize, alignment: usize) {
    let Ok(layout) = Layout::from_size_align(len.max(1), alignment) else { return };
    if memory.is_null() {
        return;
    }
    // SAFETY: the module got it from `uk_alloc`, with this layout.
    unsafe { dealloc(memory, layout) };
    services().charge(module, -(layout.size() as isize));
}

#[unsafe(no_mangle)]
extern "C" fn uk_now_ns() -> u64 {
    time::now_ns()
}

#[unsafe(no_mangle)]
extern "C" fn uk_wall_ns() -> u64 {
    time::wall_ns()
}

#[unsafe(no_mangle)]
extern "C" fn uk_relax() {
    cpu::relax();
    tlb::serve();
}

#[unsafe(no_mangle)]
extern "C" fn uk_panic(module: u64, text: *const u8, len: usize) -> ! {
    let text = core::str::from_utf8(bytes(text, len)).unwrap_or("(no text)");
    panic!("module {}: {text}", services().name(module))
}

#[unsafe(no_mangle)]
extern "C" fn uk_hold(module: u64) -> i32 {
    /// `EBUSY`.
    const BUSY: i32 = 16;
    if services().hold(module) { 0 } else { -BUSY }
}

#[unsafe(no_mangle)]
extern "C" fn uk_release(module: u64) {
    services().release(module);
}

#[unsafe(no_mangle)]
extern "C" fn uk_work_add(module: u64, delay_ns: u64, function: WorkFunction, data: *const ()) -> i64 {
    answer(services().add_work(module, delay_ns, UnboundWork { function, data }))
}

#[unsafe(no_mangle)]
extern "C" fn uk_work_cancel(module: u64, work: i64) -> i32 {
    services().cancel_work(module, work).into()
}

#[unsafe(no_mangle)]
extern "C" fn uk_device_add(
    module: u64,
    name: *const u8,
    name_bytes: usize,
    mode: u32,
    functions: *const DeviceFunctions,
    data: *const (),
) -> i64 {
    /// `EINVAL`.
    const INVALID: i64 = 22;
    let Ok(name) = core::str::from_utf8(bytes(name, name_bytes)) else { return -INVALID };
    if functions.is_null() {
        return -INVALID;
    }
    // SAFETY: the module says that they are there.
    let functions = unsafe { *functions };
    if (functions.bytes as usize) < size_of::<DeviceFunctions>() {
        return -INVALID;
    }
    answer(services().add_device(module, name, mode, UnboundDevice { functions, data }))
}

#[unsafe(no_mangle)]
extern "C" fn uk_device_remove(module: u64, device: i64) {
    services().remove_device(module, device);
}

#[unsafe(no_mangle)]
extern "C" fn uk_packet_hook_add(module: u64, place: u32, function: PacketFunction, data: *const ()) -> i64 {
    answer(services().add_hook(module, place, UnboundHook { function, data }))
}

#[unsafe(no_mangle)]
extern "C" fn uk_packet_hook_remove(module: u64, hook: i64) {
    services().remove_hook(module, hook);
}

#[unsafe(no_mangle)]
extern "C" fn uk_pci_find(module: u64, vendor: u32, device: u32, class: u32) -> i64 {
    /// `ENODEV`.
    const NO_DEVICE: i64 = 19;
    pci::find(module, vendor, device, class).map_or(-NO_DEVICE, |number| number as i64)
}

#[unsafe(no_mangle)]
extern "C" fn uk_pci_release(module: u64, function: i64) {
    pci::release(module, function);
}

/// True for what configuration space has.
fn is_config(offset: u16, len: u32) -> bool {
    matches!(len, 1 | 2 | 4) && u32::from(offset).is_multiple_of(len) && offset < 4096
}

#[unsafe(no_mangle)]
extern "C" fn uk_pci_config_read(module: u64, function: i64, offset: u16, len: u32) -> u32 {
    let read = || pci::with(module, function, |found| found.read_config_part(offset, len));
    is_config(offset, len).then(read).flatten().unwrap_or(u32::MAX)
}

#[unsafe(no_mangle)]
extern "C" fn uk_pci_config_write(module: u64, function: i64, offset: u16, len: u32, value: u32) {
    if is_config(offset, len) {
        // SAFETY: the module is the device's driver, and says that the value is right.
        pci::with(module, function, |found| unsafe { found.write_config_part(offset, len, value) });
    }
}

#[unsafe(no_mangle)]
extern "C" fn uk_pci_map(module: u64, function: i64, bar: u8, len: usize) -> *mut u8 {
    pci::map(module, function, bar, len).unwrap_or(core::ptr::null_mut())
}

#[unsafe(no_mangle)]
extern "C" fn uk_pci_interrupt_add(
    module: u64,
    function: i64,
    entry: u32,
    handler: WorkFunction,
    data: *const (),
) -> i64 {
    /// `ENOSPC` and `EOPNOTSUPP`.
    const NO_ROOM: i32 = 28;
    const NOT_SUPPORTED: i32 = 95;
    answer(services().bind(module, UnboundWork { function: handler, data }).and_then(|handler| {
        let added = pci::add_interrupt(module, function, entry as usize, handler);
        added.map(|number| number as i64).map_err(|problem| match problem {
            pci::NoInterrupt::NoEntry => NOT_SUPPORTED,
            pci::NoInterrupt::NoRoom => NO_ROOM,
        })
    }))
}

#[unsafe(no_mangle)]
extern "C" fn uk_pci_interrupt_remove(module: u64, interrupt: i64) {
    pci::remove_interrupt(module, interrupt);
}

#[unsafe(no_mangle)]
extern "C" fn uk_dma_alloc(module: u64, len: usize, address: *mut u64) -> *mut u8 {
    let none = core::ptr::null_mut();
    let Some(bytes) = memory::whole(len) else { return none };
    if !services().charge(module, bytes as isize) {
        return none;
    }
    let Some((start, for_devices)) = memory::alloc(module, bytes) else {
        services().charge(module, -(bytes as isize));
        return none;
    };
    // SAFETY: the module says that an address can be written there.
    unsafe { address.write(for_devices) };
    start
}

#[unsafe(no_mangle)]
extern "C" fn uk_dma_free(module: u64, start: *mut u8) {
    let bytes = memory::free(module, start);
    services().charge(module, -(bytes as isize));
}

#[unsafe(no_mangle)]
extern "C" fn uk_disk_add(
    module: u64,
    name: *const u8,
    name_bytes: usize,
    limits: *const DiskLimits,
    functions: *const DiskFunctions,
    data: *const (),
) -> i64 {
    /// `EINVAL`.
    const INVALID: i64 = 22;
    let Ok(name) = core::str::from_utf8(bytes(name, name_bytes)) else { return -INVALID };
    if functions.is_null() || limits.is_null() {
        return -INVALID;
    }
    // SAFETY: the module says that they are there.
    let (functions, limits) = unsafe { (*functions, *limits) };
    let is_whole = functions.bytes as usize >= size_of::<DiskFunctions>()
        && limits.bytes as usize >= size_of::<DiskLimits>();
    if !is_whole {
        return -INVALID;
    }
    answer(services().add_disk(module, name, UnboundDisk { functions, data, limits }))
}

#[unsafe(no_mangle)]
extern "C" fn uk_disk_remove(module: u64, disk: i64) {
    services().remove_disk(module, disk);
}

#[unsafe(no_mangle)]
extern "C" fn uk_disk_poll(module: u64) {
    services().poll_disks(module);
}

#[unsafe(no_mangle)]
extern "C" fn uk_sleep(_: u64, duration_ns: u64) {
    services().sleep(duration_ns);
}
