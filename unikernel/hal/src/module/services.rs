//! What modules ask of the kernel, as C functions (`unikernel_module::abi`). Each makes safe values of what it is told and asks the kernel, which
//! has registered itself ([`set_services`]). A module is trusted: that its addresses are what they should be is its own affair.

use alloc::alloc::{alloc, dealloc};
use alloc::string::String;
use core::alloc::Layout;
use core::slice;

use spin::Once;
pub use unikernel_module::Level;
use unikernel_module::abi::{DeviceFunctions, PacketFunction, WorkFunction};

use super::call::{UnboundDevice, UnboundHook, UnboundWork};
use super::pci;
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
extern "C" fn uk_pci_find(_: u64, vendor: u16, device: u16, index: u32) -> i64 {
    /// `ENODEV`.
    const NO_DEVICE: i64 = 19;
    pci::find(vendor, device, index as usize).map_or(-NO_DEVICE, |number| number as i64)
}

/// True for what configuration space has.
fn is_config(offset: u16, len: u32) -> bool {
    matches!(len, 1 | 2 | 4) && u32::from(offset).is_multiple_of(len) && offset < 4096
}

#[unsafe(no_mangle)]
extern "C" fn uk_pci_config_read(_: u64, function: i64, offset: u16, len: u32) -> u32 {
    let read = || pci::with(function, |found| found.read_config_part(offset, len));
    is_config(offset, len).then(read).flatten().unwrap_or(u32::MAX)
}

#[unsafe(no_mangle)]
extern "C" fn uk_pci_config_write(_: u64, function: i64, offset: u16, len: u32, value: u32) {
    if is_config(offset, len) {
        // SAFETY: the module is the device's driver, and says that the value is right.
        pci::with(function, |found| unsafe { found.write_config_part(offset, len, value) });
    }
}

#[unsafe(no_mangle)]
extern "C" fn uk_pci_map(_: u64, function: i64, bar: u8, len: usize) -> *mut u8 {
    pci::map(function, bar, len).unwrap_or(core::ptr::null_mut())
}
