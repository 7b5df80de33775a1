//! A controller's registers (base specification, section 3.1.3).

use crate::{Machine, StartError};

/// Bytes of registers that are there whatever a controller says: the BAR's address has no bits below 2^14 (PCIe transport specification, section
/// 3.1.10), so that it shows as much. Doorbells beyond are not used.
pub const REGISTER_BYTES: usize = 1 << 14;

pub(crate) const CAPABILITIES: usize = 0x00;
pub(crate) const VERSION: usize = 0x08;
pub(crate) const CONFIGURATION: usize = 0x14;
pub(crate) const STATUS: usize = 0x1c;
pub(crate) const ADMIN_SIZES: usize = 0x24;
pub(crate) const ADMIN_SUBMISSIONS: usize = 0x28;
pub(crate) const ADMIN_COMPLETIONS: usize = 0x30;
const DOORBELLS: usize = 0x1000;

/// `CC`: enabled; entries of 2^6 and 2^4 bytes. Zero in all other fields: the NVM command set, pages of 4 KiB, round robin.
pub(crate) const ENABLE: u32 = 1;
pub(crate) const ENTRY_SIZES: u32 = 6 << 16 | 4 << 20;
/// `CC.SHN`: a normal shutdown.
pub(crate) const SHUT_DOWN: u32 = 1 << 14;
/// `CSTS`: ready; failed; how far a shutdown is, and that it is over.
pub(crate) const IS_READY: u32 = 1;
const HAS_FAILED: u32 = 1 << 1;
pub(crate) const SHUTDOWN_MASK: u32 = 0b11 << 2;
pub(crate) const IS_SHUT_DOWN: u32 = 0b10 << 2;
/// Version 1.1, from which on there are lists of namespaces.
pub(crate) const HAS_LISTS: u32 = 1 << 16 | 1 << 8;

/// `CAP.TO` counts in these.
const TIMEOUT_UNIT_NS: u64 = 500_000_000;
/// What a controller may ask for at most: the field holds 127.5 s, for which nobody waits at boot.
const MOST_TIMEOUT_NS: u64 = 30_000_000_000;

/// What a controller can do, of what matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Capabilities {
    /// Entries of an I/O queue at most, at least two.
    pub(crate) queue_entries: u32,
    /// How long it may take to become ready, or to stop.
    pub(crate) timeout_ns: u64,
    /// Bytes from a doorbell to the next.
    stride: usize,
}

impl Capabilities {
    pub(crate) fn read(machine: &impl Machine) -> Result<Self, StartError> {
        let [low, high] = [0, 4].map(|part| machine.read(CAPABILITIES + part));
        Self::check(u64::from(high) << 32 | u64::from(low))
    }

    pub(crate) fn check(value: u64) -> Result<Self, StartError> {
        let field = |shift: u32, bits: u32| (value >> shift) as u32 & ((1 << bits) - 1);
        if value == u64::MAX {
            return Err(StartError::Gone);
        }
        if field(37, 1) == 0 {
            return Err(StartError::NoNvm);
        }
        let page_power = 12 + field(48, 4);
        if page_power != 12 {
            return Err(StartError::LargePages(page_power));
        }
        let stride_power = 2 + field(32, 4);
        let stride = 1usize << stride_power;
        // The doorbells of the first I/O queue have to be there, at least.
        if doorbells(1, stride).is_none() {
            return Err(StartError::FarDoorbells(stride_power));
        }
        let queue_entries = field(0, 16) + 1;
        if queue_entries < 2 {
            return Err(StartError::ShortQueues(queue_entries));
        }
        // A controller that asks for no time gets one unit.
        let timeout_ns = u64::from(field(24, 8)).max(1) * TIMEOUT_UNIT_NS;
        Ok(Self { queue_entries, timeout_ns: timeout_ns.min(MOST_TIMEOUT_NS), stride })
    }

    /// Where the doorbells of a queue pair are: of the submission queue's tail, and of the completion queue's head (PCIe transport specification, section
    /// 3.1.2). `None` if they lie beyond the registers.
    pub(crate) fn doorbells(&self, queue: u16) -> Option<[usize; 2]> {
        doorbells(queue, self.stride)
    }
}

fn doorbells(queue: u16, stride: usize) -> Option<[usize; 2]> {
    let tail = DOORBELLS + 2 * usize::from(queue) * stride;
    let head = tail + stride;
    (head + size_of::<u32>() <= REGISTER_BYTES).then_some([tail, head])
}

/// The controller's status; an error if it is gone, or has failed.
pub(crate) fn status(machine: &impl Machine) -> Result<u32, StartError> {
    match machine.read(STATUS) {
        u32::MAX => Err(StartError::Gone),
        status if status & HAS_FAILED != 0 => Err(StartError::Failed),
        status => Ok(status),
    }
}

/// Waits until the bits of `mask` in the status are `value`.
pub(crate) fn wait_for(
    machine: &impl Machine,
    mask: u32,
    value: u32,
    patience_ns: u64,
) -> Result<(), StartError> {
    let deadline_ns = machine.now_ns().saturating_add(patience_ns);
    while status(machine)? & mask != value {
        if machine.now_ns() >= deadline_ns {
            return Err(StartError::NotReady);
        }
        machine.pause();
    }
    Ok(())
}
