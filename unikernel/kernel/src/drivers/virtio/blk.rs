//! The block device (specification, section 5.2): what was agreed with it, and requests to it. Each core
//! has a queue of its own where the device offers so many ([`blk_queue`](super::blk_queue)).
//!
//! A request blocks the calling thread until the device has answered; threads that wait at the same time have
//! their requests in flight together, and one caller can have several ([`Disk::transfer`]). A device that
//! answers with an error, with nonsense or not at all gives a [`DiskError`] and one line in the log; one that
//! does not answer is reset, so that it cannot write to memory that has meanwhile gone to somebody else.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bitflags::bitflags;
use smallvec::SmallVec;
use unikernel_machine::disk::{BadBlocks, Claims, Parts};
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};

use super::blk_queue::{Queue, Status};
use super::transport::VirtioTransport;
use super::{StartError, VirtioDevice};
use crate::arch::cpu::this_cpu;
use crate::block::device::{
    BlockDevice, DiskError, FailedRequests, Limits, Operation, SECTOR_BYTES, Transfer, memory,
};
use crate::drivers::registry::Driver;
use crate::drivers::{Devices, Settings};
use crate::platform::events::{self, Kind};
use crate::sync::SpinLock;

bitflags! {
    /// Feature bits (sections 5.2.3 and 6).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u64 {
        /// A part of a request has a most of bytes.
        const SIZE_MAX = 1 << 1;
        /// A request has a most of parts.
        const SEG_MAX = 1 << 2;
        /// It cannot be written.
        const RO = 1 << 5;
        /// It tells how many bytes it reads and writes at once.
        const BLK_SIZE = 1 << 6;
        /// It knows flushes.
        const FLUSH = 1 << 9;
        /// It has several queues.
        const MQ = 1 << 12;
        /// It knows discards.
        const DISCARD = 1 << 13;
        /// It writes zeros by itself.
        const WRITE_ZEROES = 1 << 14;
        /// The parts of a request may be of any length.
        const ANY_LAYOUT = 1 << 27;
        /// A request may be one descriptor that names a table of descriptors.
        const INDIRECT_DESC = 1 << 28;
        /// The device is modern.
        const VERSION_1 = 1 << 32;
    }
}

/// Offsets in the configuration (section 5.2.4).
const CONFIG_CAPACITY: usize = 0;
const CONFIG_SIZE_MAX: usize = 8;
const CONFIG_SEG_MAX: usize = 12;
const CONFIG_BLK_SIZE: usize = 20;
const CONFIG_NUM_QUEUES: usize = 34;
const CONFIG_MAX_DISCARD: usize = 36;
const CONFIG_MAX_WRITE_ZEROES: usize = 48;
/// Queues at most: more cores share them.
const MAX_QUEUES: usize = 8;
/// Failed requests of one transfer that the log has a line for.
const MOST_LINES: usize = 16;

/// The driver.
pub(crate) const DRIVER: Driver = Driver { device_type: DeviceType::Block, probe };

fn probe(device: VirtioDevice, settings: &Settings, devices: &mut Devices) -> Result<(), StartError> {
    let disk = Disk::start(device, settings.on_disk, settings.most_queues())?;
    devices.disks.push(Arc::new(disk));
    Ok(())
}

/// A request in flight: its slot in the queue, its place in the transfer, and where on the disk it begins.
struct Waiting {
    slot: u16,
    index: usize,
    sector: u64,
}

/// A disk, started.
pub(crate) struct Disk {
    link: SpinLock<VirtioTransport>,
    features: Features,
    /// Where it sits, for messages.
    place: String,
    queues: Box<[Queue]>,
    sectors: AtomicU64,
    limits: Limits,
    /// It was reset because it did not answer.
    is_dead: AtomicBool,
}

impl Disk {
    /// Starts the device with up to `most_queues` queues. `on_interrupt` is called from the interrupt handler.
    fn start(device: VirtioDevice, on_interrupt: fn(), most_queues: usize) -> Result<Self, StartError> {
        let mut link = device.link;
        let features = link.negotiate(|offered: Features| offered)?;
        let takes_tables = features.contains(Features::INDIRECT_DESC);
        let configured = |feature, offset| read_limit(&link, features.contains(feature), offset);
        let claims = Claims {
            block_bytes: configured(Features::BLK_SIZE, CONFIG_BLK_SIZE)?,
            max_part_bytes: configured(Features::SIZE_MAX, CONFIG_SIZE_MAX)?,
            max_parts: configured(Features::SEG_MAX, CONFIG_SEG_MAX)?,
            max_discard: configured(Features::DISCARD, CONFIG_MAX_DISCARD)?,
            max_write_zeroes: configured(Features::WRITE_ZEROES, CONFIG_MAX_WRITE_ZEROES)?,
            ..Claims::default()
        };
        let capacity = read_capacity(&link)?;
        let count = offered_queues(&link, features)?.min(most_queues).clamp(1, MAX_QUEUES);
        link.connect_interrupt(on_interrupt, 1)?;
        let queues = (0..count).map(|queue| Queue::new(&mut link, queue as u16, takes_tables));
        let queues = queues.collect::<Result<Box<[_]>, _>>()?;
        let room = queues.iter().map(Queue::max_parts).min().unwrap_or(1);
        let limits = Limits::new(claims, room).map_err(|BadBlocks(bytes)| StartError::BadBlocks(bytes))?;
        let sectors = limits.sectors(capacity);
        link.start();
        log::debug!("{}: disk of {sectors} sectors, {features:?}, {count} queues", device.place);
        Ok(Self {
            link: SpinLock::new(link),
            features,
            place: device.place,
            queues,
            sectors: AtomicU64::new(sectors),
            limits,
            is_dead: AtomicBool::new(false),
        })
    }

    fn run(&self, operation: Operation, transfers: &[Transfer]) -> Result<(), FailedRequests> {
        let queue = &self.queues[this_cpu().index() % self.queues.len()];
        let mut waiting = SmallVec::<[Waiting; 8]>::new();
        let mut failed = Vec::new();
        for (index, transfer) in transfers.iter().enumerate() {
            loop {
                if self.is_dead.load(Ordering::Acquire) {
                    failed.push(index);
                    break;
                }
                if let Some(slot) = queue.submit(operation, transfer) {
                    if events::is_on() {
                        let bytes = transfer.bytes() as u32;
                        events::note(Kind::DiskBegin, bytes, transfer.sector, operation as u64);
                    }
                    waiting.push(Waiting { slot, index, sector: transfer.sector });
                    break;
                }
                queue.notify();
                // The oldest of ours gives its place to the next; if none is ours, others' will be free.
                if waiting.is_empty() {
                    queue.wait_for_room();
                } else {
                    self.finish(queue, operation, waiting.remove(0), &mut failed);
                }
            }
        }
        queue.notify();
        waiting.into_iter().for_each(|request| self.finish(queue, operation, request, &mut failed));
        if failed.len() > MOST_LINES {
            log::error!("{}: {operation:?}: {} requests failed in all", self.place, failed.len());
        }
        if failed.is_empty() { Ok(()) } else { Err(FailedRequests(failed)) }
    }

    /// Waits for a request's end.
    fn finish(&self, queue: &Queue, operation: Operation, request: Waiting, failed: &mut Vec<usize>) {
        let Waiting { slot, index, sector } = request;
        let is_modern = self.features.contains(Features::VERSION_1);
        let status = match queue.wait(slot) {
            Some(status) => status,
            None => {
                self.give_up(operation);
                queue.wait(slot).unwrap_or(Status::Reset)
            }
        };
        let is_good = match status {
            Status::Done { written, expected } => written >= expected || !is_modern,
            Status::Reset | Status::Failed(_) => false,
        };
        events::note(Kind::DiskEnd, u32::from(!is_good), sector, operation as u64);
        if is_good {
            return;
        }
        failed.push(index);
        // Of a reset `give_up` tells.
        if status != Status::Reset && failed.len() <= MOST_LINES {
            log::error!("{}: {operation:?} at sector {sector} failed: {status}", self.place);
        }
    }

    /// The device does not answer. It is reset, which ends all its requests; no further ones are begun.
    fn give_up(&self, operation: Operation) {
        if self.is_dead.swap(true, Ordering::AcqRel) {
            return;
        }
        log::error!("{}: no answer to {operation:?}: the disk is given up", self.place);
        self.link.lock().set_status(DeviceStatus::empty());
        self.queues.iter().for_each(Queue::abandon);
    }
}

impl BlockDevice for Disk {
    fn place(&self) -> &str {
        &self.place
    }

    fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Relaxed)
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn is_read_only(&self) -> bool {
        self.features.contains(Features::RO)
    }

    fn transfer(&self, operation: Operation, transfers: &[Transfer]) -> Result<(), FailedRequests> {
        let sectors = self.sectors();
        let fits = |transfer: &Transfer| {
            let count = transfer.bytes().div_ceil(SECTOR_BYTES);
            transfer.sector.checked_add(count).is_some_and(|end| end <= sectors)
        };
        if !transfers.iter().all(fits) {
            log::error!("{}: {operation:?} past the end of the disk", self.place);
            return Err(FailedRequests((0..transfers.len()).collect()));
        }
        self.run(operation, transfers)
    }

    fn flush(&self) -> Result<(), DiskError> {
        if !self.features.contains(Features::FLUSH) {
            // It writes through (section 5.2.6.2).
            return Ok(());
        }
        Ok(self.run(Operation::Flush, &[Transfer { sector: 0, parts: Parts::new() }])?)
    }

    fn clear(&self, operation: Operation, sector: u64, count: u32) -> Result<(), DiskError> {
        // `struct virtio_blk_discard_write_zeroes` (section 5.2.6); the last four bytes are flags.
        let mut range = vec![0; 16];
        range[..8].copy_from_slice(&sector.to_le_bytes());
        range[8..12].copy_from_slice(&count.to_le_bytes());
        Ok(self.run(operation, &[Transfer { sector: 0, parts: Parts::from_slice(&[memory(&range)]) }])?)
    }

    fn interrupt(&self) {
        // Answers have come, or the configuration has changed.
        self.queues.iter().for_each(Queue::interrupt);
        let capacity = self.link.try_lock().and_then(|link| read_capacity(&link).ok());
        let now = capacity.map(|capacity| self.limits.sectors(capacity));
        if let Some(now) = now
            && !self.is_dead.load(Ordering::Relaxed)
            && self.sectors.swap(now, Ordering::Relaxed) != now
        {
            log::info!("{}: the disk has {now} sectors now", self.place);
        }
    }
}

fn read_capacity(link: &VirtioTransport) -> Result<u64, StartError> {
    // Registers in memory have four bytes at most.
    link.read_consistent(|| link.read_config_space::<[u32; 2]>(CONFIG_CAPACITY))
        .map(|[low, high]| u64::from(high) << 32 | u64::from(low))
        .map_err(|_| StartError::BadConfiguration)
}

/// A number of the configuration; `None` if the device has no such field.
fn read_limit(link: &VirtioTransport, is_there: bool, offset: usize) -> Result<Option<u32>, StartError> {
    if !is_there {
        return Ok(None);
    }
    link.read_config_space::<u32>(offset).map(Some).map_err(|_| StartError::BadConfiguration)
}

fn offered_queues(link: &VirtioTransport, features: Features) -> Result<usize, StartError> {
    if !features.contains(Features::MQ) {
        return Ok(1);
    }
    let count = link.read_config_space::<u16>(CONFIG_NUM_QUEUES).map_err(|_| StartError::BadConfiguration)?;
    Ok(usize::from(count))
}
