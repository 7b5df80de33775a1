//! Disks: what the kernel mounts, and reads partitions of, as of its own.

use alloc::boxed::Box;

pub use crate::abi::DiskPart as Part;
use crate::abi::{
    self, DISK_HAS_CACHE, DISK_IS_READ_ONLY, DiskAnswer, DiskFunctions, DiskLimits, DiskRequest,
};
use crate::{Context, Error, boxed};

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Sectors to memory.
    Read,
    /// Memory to sectors.
    Write,
    /// What was written, and answered, survives a power cut.
    Flush,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// By which its answer is known: below [`Limits::requests`], and in flight once.
    pub tag: u32,
    /// What is to be done.
    pub operation: Operation,
    /// The first sector of 512 bytes.
    pub sector: u64,
    /// Its memory, which is whole blocks.
    pub parts: &'a [Part],
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Its tag.
    pub tag: u32,
    /// Whether it was done.
    pub outcome: Result<(), Error>,
}

/// What requests must keep to, and how large the disk is.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
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
    /// It cannot be written.
    pub is_read_only: bool,
    /// What was written survives a power cut only after a flush.
    pub has_cache: bool,
}

/// What a disk does. Its calls come one at a time, with interrupts masked, and must not wait.
pub trait BlockDevice: Send + Sync + 'static {
    /// Puts a request where the device finds it; it may begin with it.
    ///
    /// # Errors
    ///
    /// If it cannot be; then there is no answer.
    fn submit(&self, request: &Request<'_>) -> Result<(), Error>;

    /// Tells the device of all that was submitted.
    fn notify(&self);

    /// The next answer of the device's, if there is one.
    fn poll(&self) -> Option<Answer>;

    /// The device does not answer, and must touch no memory any more when this returns.
    fn stop(&self);
}

/// A disk that is there until this is dropped. While it is mounted, the module cannot be unloaded.
pub struct Disk<D: BlockDevice> {
    context: Context,
    number: i64,
    device: Box<[D]>,
}

impl<D: BlockDevice> Disk<D> {
    /// Makes a disk. Its partitions are looked for when the module has started.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is such a name, `EINVAL` if it can be none or the limits cannot be, `ENOMEM`.
    pub fn add(context: Context, name: &str, limits: &Limits, device: D) -> Result<Self, Error> {
        let device = boxed(device)?;
        let functions = const { functions::<D>() };
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let limits = DiskLimits {
            bytes: size_of::<DiskLimits>() as u32,
            block_bytes: limits.block_bytes,
            sectors: limits.sectors,
            max_bytes: limits.max_bytes,
            max_parts: limits.max_parts,
            boundary: limits.boundary,
            requests: limits.requests,
            flags: flag(limits.is_read_only, DISK_IS_READ_ONLY) | flag(limits.has_cache, DISK_HAS_CACHE),
        };
        // SAFETY: name, limits and functions are there while the kernel copies them, the disk until `remove` has taken it back.
        let answer = unsafe {
            abi::uk_disk_add(
                context.number(),
                name.as_ptr(),
                name.len(),
                &raw const limits,
                &raw const functions,
                device.as_ptr().cast(),
            )
        };
        Ok(Self { context, number: Error::check(answer)? as i64, device })
    }

    /// What it does.
    pub fn device(&self) -> &D {
        &self.device[0]
    }

    /// Takes the disk away, but for what it does: the device may have to be stopped before that ends.
    pub fn remove(&self) {
        // SAFETY: numbers go there. Afterwards nobody calls the disk's functions any more.
        unsafe { abi::uk_disk_remove(self.context.number(), self.number) };
    }
}

impl<D: BlockDevice> Drop for Disk<D> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Has the kernel take the answers of all the module's disks: for interrupt handlers.
pub fn poll_all(context: Context) {
    // SAFETY: a number goes there.
    unsafe { abi::uk_disk_poll(context.number()) };
}

const fn functions<D: BlockDevice>() -> DiskFunctions {
    DiskFunctions {
        bytes: size_of::<DiskFunctions>() as u32,
        submit: submit::<D>,
        notify: notify::<D>,
        poll: poll::<D>,
        stop: stop::<D>,
    }
}

fn of<'a, D: BlockDevice>(disk: *const ()) -> &'a D {
    // SAFETY: `Disk` lends a `D`, and takes it back before that ends; the kernel hands it back while it has it.
    unsafe { &*disk.cast::<D>() }
}

extern "C" fn submit<D: BlockDevice>(disk: *const (), request: *const DiskRequest) -> i32 {
    // SAFETY: the kernel hands over a request that is there during the call.
    let request = unsafe { &*request };
    let operation = match request.operation {
        0 => Operation::Read,
        1 => Operation::Write,
        2 => Operation::Flush,
        _ => return -Error::EOPNOTSUPP.number(),
    };
    let parts = match request.part_count {
        0 => &[][..],
        // SAFETY: so many parts are there during the call, the kernel says.
        count => unsafe { core::slice::from_raw_parts(request.parts, count) },
    };
    let request = Request { tag: request.tag, operation, sector: request.sector, parts };
    of::<D>(disk).submit(&request).map_or_else(|error| -error.number(), |()| 0)
}

extern "C" fn notify<D: BlockDevice>(disk: *const ()) {
    of::<D>(disk).notify();
}

extern "C" fn poll<D: BlockDevice>(disk: *const (), answers: *mut DiskAnswer, most: usize) -> usize {
    let mut count = 0;
    while count < most
        && let Some(Answer { tag, outcome }) = of::<D>(disk).poll()
    {
        let error = outcome.map_or_else(Error::number, |()| 0);
        // SAFETY: there is room for `most` answers, the kernel says.
        unsafe { answers.add(count).write(DiskAnswer { tag, error }) };
        count += 1;
    }
    count
}

extern "C" fn stop<D: BlockDevice>(disk: *const ()) {
    of::<D>(disk).stop();
}
