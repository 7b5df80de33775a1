//! NVMe controllers of any maker (PCI class 01h, 08h, 02h), with their namespaces as disks: `nvme0n1` is the first of the first controller. What is said to a
//! controller, and believed of it, is `unikernel_nvme`; here it gets the kernel's registers, memory and interrupts.
//!
//! A controller has one interrupt, by MSI-X, upon which the answers of all its disks are taken.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering, fence};

use unikernel_module::disk::{self, Answer, BlockDevice, Disk, Limits, Operation, Request};
use unikernel_module::lock::Lock;
use unikernel_module::pci::{DmaSwitch, Function, Handler, Interrupt, Registers};
use unikernel_module::{Context, Error, Module, dma, error, info, module, time, warn};
use unikernel_nvme::{
    Controller, Kind, Machine, Memory, Namespace, PAGE_BYTES, Part, REGISTER_BYTES, StartError,
};

/// Mass storage, non-volatile memory, NVM Express.
const CLASS: [u8; 3] = [0x01, 0x08, 0x02];
/// Controllers that are driven.
const MOST_CONTROLLERS: usize = 16;
/// How long a look at a controller that is busy lasts.
const PAUSE_NS: u64 = 100_000;
/// The entry of the MSI-X table.
const VECTOR: u16 = 0;
/// Failed requests of a disk that the log has a line for.
const MOST_LINES: u32 = 16;

/// How a controller is reached.
#[derive(Clone, Copy)]
struct Port {
    context: Context,
    registers: Registers,
    switch: DmaSwitch,
}

struct Shared(dma::Memory);

impl Memory for Shared {
    fn address(&self) -> u64 {
        self.0.address()
    }

    fn load(&self, offset: usize) -> u32 {
        self.0.load(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        self.0.store(offset, value);
    }
}

impl Machine for Port {
    type Memory = Shared;

    fn read(&self, offset: usize) -> u32 {
        self.registers.read(offset)
    }

    fn write(&self, offset: usize, value: u32) {
        // What was stored to memory is there before: the processor keeps the order of writes, and the compiler must, too.
        fence(Ordering::Release);
        self.registers.write(offset, value);
    }

    fn allocate(&self, bytes: usize) -> Option<Shared> {
        dma::Memory::allocate(self.context, bytes).ok().map(Shared)
    }

    fn now_ns(&self) -> u64 {
        time::now_ns()
    }

    fn pause(&self) {
        time::sleep(self.context, PAUSE_NS);
    }

    fn cut_off(&self) {
        self.switch.turn_off();
    }
}

/// A disk's name: the numbers of its controller, from 0, and of its place there, from 1 (as Linux numbers them).
#[derive(Clone, Copy)]
struct Name {
    controller: usize,
    place: usize,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nvme{}n{}", self.controller, self.place)
    }
}

/// A namespace, as a disk.
struct Store {
    port: Port,
    name: Name,
    namespace: Lock<Namespace<Port>>,
    failed: AtomicU32,
}

impl BlockDevice for Store {
    fn submit(&self, request: &Request<'_>) -> Result<(), Error> {
        let kind = match request.operation {
            Operation::Read => Kind::Read,
            Operation::Write => Kind::Write,
            Operation::Flush => Kind::Flush,
        };
        let tag = u16::try_from(request.tag).map_err(|_| Error::EINVAL)?;
        let parts = request.parts.iter().map(|part| Part { address: part.address, bytes: part.bytes });
        let request = unikernel_nvme::Request { tag, kind, sector: request.sector, parts };
        self.namespace.lock().submit(request).map_err(|_| Error::EINVAL)
    }

    fn notify(&self) {
        self.namespace.lock().ring();
    }

    fn poll(&self) -> Option<Answer> {
        let answer = self.namespace.lock().poll()?;
        let status = answer.status;
        if !status.is_success() && self.failed.fetch_add(1, Ordering::Relaxed) < MOST_LINES {
            error!(self.port.context, "{}: a request failed: {status}", self.name);
        }
        let outcome = if status.is_success() { Ok(()) } else { Err(Error::EIO) };
        Some(Answer { tag: answer.tag.into(), outcome })
    }

    fn stop(&self) {
        // It may not even notice that it is to stop, but it cannot reach memory any more.
        self.port.cut_off();
    }
}

/// The interrupt of a controller.
struct Bell(Context);

impl Handler for Bell {
    fn interrupt(&self) {
        disk::poll_all(self.0);
    }
}

/// A controller with its disks.
struct Drive {
    disks: Vec<Disk<Store>>,
    controller: Controller<Port>,
    _interrupt: Interrupt<Bell>,
}

impl Drive {
    /// Starts the controller `number`.
    fn start(context: Context, function: &Function, number: usize) -> Result<Self, Error> {
        let registers = function.map(0, REGISTER_BYTES)?;
        function.enable_dma();
        let port = Port { context, registers, switch: function.dma_switch() };
        let interrupt = Interrupt::add(function, VECTOR.into(), Bell(context));
        let interrupt = interrupt.inspect_err(|_| error!(context, "nvme{number}: it has no MSI-X for us"))?;
        let controller = Controller::start(port).map_err(|problem| refused(context, number, problem))?;
        let mut drive = Self { disks: Vec::new(), controller, _interrupt: interrupt };
        let ids = drive.controller.namespaces().map_err(|problem| refused(context, number, problem))?;
        info!(context, "nvme{number}: {}", drive.controller.model());
        drive.disks.try_reserve_exact(ids.len()).map_err(|_| Error::ENOMEM)?;
        for id in ids {
            match drive.controller.open(id, VECTOR) {
                Ok(namespace) => {
                    let name = Name { controller: number, place: drive.disks.len() + 1 };
                    let disk = add(port, name, namespace)?;
                    drive.disks.push(disk);
                }
                // Of version 1.0 nobody knows how many there are.
                Err(StartError::NoNamespace) => {}
                Err(problem) => warn!(context, "nvme{number}: namespace {id}: not used: {problem}"),
            }
        }
        Ok(drive)
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        // The disks' memory goes after this, when the controller does not know of it any more.
        self.disks.iter().for_each(Disk::remove);
        self.controller.stop();
    }
}

/// Makes a disk of a namespace.
fn add(port: Port, name: Name, namespace: Namespace<Port>) -> Result<Disk<Store>, Error> {
    let limits = Limits {
        block_bytes: namespace.block_bytes(),
        sectors: namespace.sectors(),
        max_bytes: namespace.max_bytes(),
        max_parts: namespace.max_bytes() / PAGE_BYTES as u32,
        // Between pages there is no gap (PRP entries).
        boundary: PAGE_BYTES as u32,
        requests: namespace.requests().into(),
        is_read_only: namespace.is_read_only(),
        has_cache: namespace.has_cache(),
    };
    let store = Store { port, name, namespace: Lock::new(namespace), failed: AtomicU32::new(0) };
    /// Two numbers below a hundred, and the letters.
    const MOST_NAME_BYTES: usize = 16;
    let mut text = String::new();
    text.try_reserve(MOST_NAME_BYTES).map_err(|_| Error::ENOMEM)?;
    // There is room.
    let _ = write!(text, "{name}");
    Disk::add(port.context, &text, &limits, store)
}

fn refused(context: Context, number: usize, problem: StartError) -> Error {
    error!(context, "nvme{number}: not used: {problem}");
    if problem == StartError::OutOfMemory { Error::ENOMEM } else { Error::EIO }
}

/// The module. A controller goes before its function, which does not use memory any more then.
struct Driver {
    _drives: Vec<(Drive, Function)>,
}

/// A list with room for one entry each controller.
fn list<T>() -> Result<Vec<T>, Error> {
    let mut list = Vec::new();
    list.try_reserve_exact(MOST_CONTROLLERS).map_err(|_| Error::ENOMEM)?;
    Ok(list)
}

impl Module for Driver {
    fn init(context: Context) -> Result<Self, Error> {
        // One that cannot be used is kept until the end, so that the next that is found is another.
        let (mut drives, mut unused) = (list()?, list()?);
        let mut last_problem = Error::ENODEV;
        for number in 0..MOST_CONTROLLERS {
            let Ok(function) = Function::find_class(context, CLASS) else { break };
            match Drive::start(context, &function, number) {
                Ok(drive) => drives.push((drive, function)),
                Err(problem) => {
                    function.dma_switch().turn_off();
                    last_problem = problem;
                    unused.push(function);
                }
            }
        }
        if drives.is_empty() { Err(last_problem) } else { Ok(Self { _drives: drives }) }
    }
}

module! {
    name: "nvme",
    type: Driver,
}
