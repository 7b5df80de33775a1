//! What crosses the border between a module and the kernel. C structures and C functions only, so that either side may be built by any
//! compiler, of this or another version.
//!
//! [`VERSION`] is the form of the structures and of what begins and ends a module. Each function has a version of its own besides, in the table of
//! [`for_each_service`](crate::for_each_service): the kernel loads no module that was built for another of one that it uses. A function's
//! version goes up when its meaning or its arguments change; structures only grow at their ends, which [`Descriptor::bytes`] tells.

/// The version of the interface.
pub const VERSION: u32 = 1;

/// The version as text, for `.modinfo`.
#[doc(hidden)]
#[macro_export]
macro_rules! abi_version_text {
    () => {
        "1"
    };
}

/// A text: UTF-8, without a NUL at its end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Its first byte.
    pub start: *const u8,
    /// How many bytes it has.
    pub bytes: usize,
}

impl Text {
    /// A text that is there for good.
    pub const fn new(text: &'static str) -> Self {
        Self { start: text.as_ptr(), bytes: text.len() }
    }
}

/// What a module is to the kernel. The object has one, under the name `unikernel_module`.
#[repr(C)]
#[derive(Debug)]
pub struct Descriptor {
    /// [`VERSION`], when the module was built.
    pub(crate) abi: u32,
    /// Bytes of this structure, when the module was built.
    pub(crate) bytes: u32,
    pub(crate) name: Text,
    pub(crate) init: extern "C" fn(module: u64) -> i32,
    pub(crate) exit: extern "C" fn(module: u64),
    pub(crate) parameters: *const Parameter,
    pub(crate) parameter_count: usize,
    pub(crate) exports: *const Export,
    pub(crate) export_count: usize,
}

// SAFETY: it is made once and never changed, and so is what it points to.
unsafe impl Sync for Descriptor {}

/// The fields of a [`Descriptor`], for the kernel's machine.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// The version of the interface.
    pub abi: u32,
    /// Bytes of the descriptor.
    pub bytes: u32,
    /// The module's name.
    pub name: Text,
    /// Starts it: 0, or a negative error number.
    pub init: extern "C" fn(module: u64) -> i32,
    /// Ends it.
    pub exit: extern "C" fn(module: u64),
    /// The first of its parameters.
    pub parameters: *const Parameter,
    /// How many there are.
    pub parameter_count: usize,
    /// The first of its exports.
    pub exports: *const Export,
    /// How many there are.
    pub export_count: usize,
}

impl Descriptor {
    /// Describes a module.
    pub const fn new(
        name: &'static str,
        init: extern "C" fn(module: u64) -> i32,
        exit: extern "C" fn(module: u64),
        parameters: &'static [Parameter],
        exports: &'static [Export],
    ) -> Self {
        Self {
            abi: VERSION,
            bytes: size_of::<Self>() as u32,
            name: Text::new(name),
            init,
            exit,
            parameters: parameters.as_ptr(),
            parameter_count: parameters.len(),
            exports: exports.as_ptr(),
            export_count: exports.len(),
        }
    }

    /// What is in it.
    pub const fn parts(&self) -> Parts {
        Parts {
            abi: self.abi,
            bytes: self.bytes,
            name: self.name,
            init: self.init,
            exit: self.exit,
            parameters: self.parameters,
            parameter_count: self.parameter_count,
            exports: self.exports,
            export_count: self.export_count,
        }
    }
}

/// A parameter: its value goes both ways as text.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: Text,
    /// Who may read and write it once the module runs (`0o644`).
    pub mode: u32,
    /// Handed to the functions.
    pub value: *const (),
    /// Writes the value's text; answers its length.
    pub get: extern "C" fn(value: *const (), into: *mut u8, bytes: usize) -> isize,
    /// Takes a text: 0, or a negative error number.
    pub set: extern "C" fn(value: *const (), text: *const u8, bytes: usize) -> i32,
}

// SAFETY: the functions may be called on any core with this value: [`crate::parameter`] makes no other.
unsafe impl Sync for Parameter {}

/// A symbol that other modules may use.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Export {
    /// Its name, which is the linker's, too.
    pub name: Text,
    /// Its version.
    pub version: u32,
    /// Where it is.
    pub address: *const (),
}

// SAFETY: it is never changed; the address is that of a function.
unsafe impl Sync for Export {}

/// A character device's functions. Calls about one device come one at a time, with interrupts masked: none of them may wait.
/// `file` is what `open` has answered.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DeviceFunctions {
    /// Bytes of this structure, when the module was built.
    pub bytes: u32,
    /// Opens it: a number for the opened file, or a negative error number.
    pub open: extern "C" fn(device: *const (), flags: u32) -> i64,
    /// The last descriptor of an opened file is gone.
    pub close: extern "C" fn(device: *const (), file: i64),
    /// Fills a buffer, `offset` bytes behind what the file has read first; answers how much, 0 at the end.
    pub read: extern "C" fn(device: *const (), file: i64, offset: u64, into: *mut u8, bytes: usize) -> isize,
    /// Takes bytes; answers how many.
    pub write: extern "C" fn(device: *const (), file: i64, from: *const u8, bytes: usize) -> isize,
    /// A request of ioctl(2), with what it points to; its number says how many bytes that is.
    pub control:
        extern "C" fn(device: *const (), file: i64, request: u32, argument: *mut u8, bytes: usize) -> i32,
}

/// A run of memory that a device reads or writes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DiskPart {
    /// Where it is, for the device.
    pub address: u64,
    /// How long.
    pub bytes: u32,
}

/// A request to a disk.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DiskRequest {
    /// 0 reads, 1 writes, 2 makes what was written, and answered, survive a power cut.
    pub operation: u32,
    /// By which its answer is known: below [`DiskLimits::requests`], and in flight once.
    pub tag: u32,
    /// The first sector, of 512 bytes.
    pub sector: u64,
    /// The first part of its memory, which is whole blocks.
    pub parts: *const DiskPart,
    /// How many there are.
    pub part_count: usize,
}

/// How a request ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskAnswer {
    /// Its tag.
    pub tag: u32,
    /// 0, or an error number, which is positive.
    pub error: i32,
}

/// What requests to a disk must keep to, and how large it is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DiskLimits {
    /// Bytes of this structure, when the module was built.
    pub bytes: u32,
    /// Bytes of a block: a power of two, 512 to 4,096.
    pub block_bytes: u32,
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// Bytes of a request at most.
    pub max_bytes: u32,
    /// Parts of a request at most.
    pub max_parts: u32,
    /// Parts of a request meet at multiples of it, which is a power of two; 1 if they meet anywhere.
    pub boundary: u32,
    /// Requests in flight at most.
    pub requests: u32,
    /// [`DISK_IS_READ_ONLY`], [`DISK_HAS_CACHE`].
    pub flags: u32,
}

/// The disk cannot be written.
pub const DISK_IS_READ_ONLY: u32 = 1;
/// What was written survives a power cut only after request 2.
pub const DISK_HAS_CACHE: u32 = 1 << 1;

/// A disk's functions. Calls about one disk come one at a time, with interrupts masked: none of them may wait.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DiskFunctions {
    /// Bytes of this structure, when the module was built.
    pub bytes: u32,
    /// Begins a request, or puts it where `notify` does so: 0, or a negative error number, and then there is no answer. What the request points to is there
    /// during the call, the memory of its parts until the answer.
    pub submit: extern "C" fn(disk: *const (), request: *const DiskRequest) -> i32,
    /// Begins all that was submitted.
    pub notify: extern "C" fn(disk: *const ()),
    /// Takes up to `most` answers of the device's; says how many.
    pub poll: extern "C" fn(disk: *const (), answers: *mut DiskAnswer, most: usize) -> usize,
    /// The device does not answer. When this comes back, it touches no memory any more.
    pub stop: extern "C" fn(disk: *const ()),
}

/// For `uk_pci_find`: whatever it is.
pub const PCI_ANY: u32 = u32::MAX;

/// Something to be done later: answers after how many nanoseconds again, or [`NEVER`].
pub type WorkFunction = extern "C" fn(data: *const ()) -> u64;
/// Work is over.
pub const NEVER: u64 = u64::MAX;

/// A frame passes: whether it goes on ([`crate::packet::Verdict`]).
pub type PacketFunction = extern "C" fn(data: *const (), place: u32, frame: *const u8, bytes: usize) -> u32;

/// Calls a macro with all functions that the kernel has for modules, and their versions.
#[macro_export]
macro_rules! for_each_service {
    ($macro:ident) => {
        $macro! {
            uk_log: 1, uk_alloc: 1, uk_free: 1, uk_now_ns: 1, uk_wall_ns: 1, uk_relax: 1, uk_panic: 1,
            uk_hold: 1, uk_release: 1,
            uk_work_add: 1, uk_work_cancel: 1,
            uk_device_add: 1, uk_device_remove: 1,
            uk_packet_hook_add: 1, uk_packet_hook_remove: 1,
            uk_pci_find: 2, uk_pci_release: 1, uk_pci_config_read: 1, uk_pci_config_write: 1, uk_pci_map: 1,
            uk_pci_interrupt_add: 1, uk_pci_interrupt_remove: 1,
            uk_dma_alloc: 1, uk_dma_free: 1,
            uk_disk_add: 1, uk_disk_remove: 1, uk_disk_poll: 1,
            uk_sleep: 1,
        }
    };
}

unsafe extern "C" {
    /// Logs a text: level 1 is an error, 5 a trace.
    pub fn uk_log(module: u64, level: u32, text: *const u8, bytes: usize);
    /// Takes memory, which is charged to the module; null if there is none.
    pub fn uk_alloc(module: u64, bytes: usize, alignment: usize) -> *mut u8;
    /// Gives memory back, of the same size and alignment.
    pub fn uk_free(module: u64, memory: *mut u8, bytes: usize, alignment: usize);
    /// Nanoseconds since boot.
    pub fn uk_now_ns() -> u64;
    /// Nanoseconds since 1970.
    pub fn uk_wall_ns() -> u64;
    /// To be called again and again by a core that waits for another, which may wait for this one.
    pub fn uk_relax();
    /// The module cannot go on, nor can the machine.
    pub fn uk_panic(module: u64, text: *const u8, bytes: usize) -> !;
    /// Keeps the module loaded: 0, or a negative error number.
    pub fn uk_hold(module: u64) -> i32;
    /// Undoes that.
    pub fn uk_release(module: u64);
    /// Has a function called on a thread of the kernel's, after a while, and again if it says so: a number for it, or a negative error number.
    pub fn uk_work_add(module: u64, delay_ns: u64, function: WorkFunction, data: *const ()) -> i64;
    /// When this comes back, the function does not run, and will not: 1 if it had not begun. To be called by anybody but that function.
    pub fn uk_work_cancel(module: u64, work: i64) -> i32;
    /// Makes a device in `/dev`: a number for it, or a negative error number.
    pub fn uk_device_add(
        module: u64,
        name: *const u8,
        name_bytes: usize,
        mode: u32,
        functions: *const DeviceFunctions,
        device: *const (),
    ) -> i64;
    /// Takes it away. When this comes back, none of its functions runs, and none will.
    pub fn uk_device_remove(module: u64, device: i64);
    /// Has a function see the frames that pass at a place: a number for it, or a negative error number.
    pub fn uk_packet_hook_add(module: u64, place: u32, function: PacketFunction, data: *const ()) -> i64;
    /// When this comes back, the function does not run, and will not.
    pub fn uk_packet_hook_remove(module: u64, hook: i64);
    /// The first PCI function of this maker, type and class (class, subclass and interface, a byte each), each of which may be [`PCI_ANY`], that nobody
    /// drives: a number for it, or a negative error number. It is the module's until `uk_pci_release`.
    pub fn uk_pci_find(module: u64, vendor: u32, device: u32, class: u32) -> i64;
    /// Gives it back: it does not use memory on its own any more.
    pub fn uk_pci_release(module: u64, function: i64);
    /// Has a function called, from the interrupt handler, when entry `entry` of the PCI function's MSI-X table is raised: a number for it, or a negative error
    /// number. What the function answers means nothing; it may ask for what may be asked with a lock held, and wake who waits.
    pub fn uk_pci_interrupt_add(
        module: u64,
        function: i64,
        entry: u32,
        handler: WorkFunction,
        data: *const (),
    ) -> i64;
    /// When this comes back, the handler does not run, and will not.
    pub fn uk_pci_interrupt_remove(module: u64, interrupt: i64);
    /// Takes memory for devices: whole pages, zeroed, one run, charged to the module. Where it is for them goes to `address`; null if there is none.
    pub fn uk_dma_alloc(module: u64, bytes: usize, address: *mut u64) -> *mut u8;
    /// Gives it back. No device may know of it any more.
    pub fn uk_dma_free(module: u64, memory: *mut u8);
    /// Makes a disk, which is there for others when the module's start has succeeded: a number for it, or a negative error number.
    pub fn uk_disk_add(
        module: u64,
        name: *const u8,
        name_bytes: usize,
        limits: *const DiskLimits,
        functions: *const DiskFunctions,
        disk: *const (),
    ) -> i64;
    /// Takes it away. When this comes back, none of its functions runs, and none will.
    pub fn uk_disk_remove(module: u64, disk: i64);
    /// Has the kernel take the answers of all the module's disks, by their function `poll`: for interrupt handlers.
    pub fn uk_disk_poll(module: u64);
    /// Lets time pass. For a module's start and end, where nothing is locked.
    pub fn uk_sleep(module: u64, duration_ns: u64);
    /// Reads 1, 2 or 4 bytes of its configuration space, at a multiple of as many.
    pub fn uk_pci_config_read(module: u64, function: i64, offset: u16, bytes: u32) -> u32;
    /// Writes as many.
    pub fn uk_pci_config_write(module: u64, function: i64, offset: u16, bytes: u32, value: u32);
    /// Maps registers that a BAR shows, and lets the function answer there; null if that cannot be.
    pub fn uk_pci_map(module: u64, function: i64, bar: u8, bytes: usize) -> *mut u8;
}
