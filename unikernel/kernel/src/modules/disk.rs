//! Disks of modules: what the kernel asks of a disk ([`BlockDevice`]), put into requests with tags, of which the module's functions take one after the other.
//! Threads wait here, as they do for virtio's disks (`drivers::virtio::blk_queue`): they look for a while, and sleep then until the interrupt.
//!
//! What a module says is checked: an answer to a tag that is not in flight is passed over, and a device that does not answer is stopped and given up.

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};

use smallvec::SmallVec;
use unikernel_hal::module::{Disk, UnboundDisk};
use unikernel_machine::disk::{BadBlocks, Claims, Parts};
use unikernel_module::abi::{DISK_HAS_CACHE, DISK_IS_READ_ONLY};

use super::Module;
use crate::abi::Errno;
use crate::block;
use crate::block::device::{
    BlockDevice, DiskError, FailedRequests, Limits, Operation, SECTOR_BYTES, Transfer,
};
use crate::platform::time;
use crate::sync::SpinLock;
use crate::task::{WaitQueue, scheduler};

/// Requests of a disk in flight at most, and parts of a request.
const MOST_REQUESTS: u32 = 128;
const MOST_PARTS: usize = 64;
/// Disks that modules may have.
const MOST_DISKS: usize = 128;
/// How long to look for an answer before sleeping, and when there will be none any more.
const LOOK_NS: u64 = 100_000;
const PATIENCE_NS: u64 = 60_000_000_000;
/// Failed requests of one transfer that the log has a line for.
const MOST_LINES: usize = 16;

/// States of a tag.
const IDLE: u8 = 0;
const IN_FLIGHT: u8 = 1;
const DONE: u8 = 2;
const FAILED: u8 = 3;
const ABANDONED: u8 = 4;

/// One request's place.
#[derive(Default)]
struct Tag {
    state: AtomicU8,
    waiters: WaitQueue,
}

/// What is used with the lock held: that of a module's functions.
struct State {
    /// None when it was taken away.
    disk: Option<Disk>,
    free: Vec<u16>,
}

/// A disk of a module's.
struct ModuleDisk {
    number: i64,
    module_number: u64,
    module: Weak<Module>,
    name: String,
    limits: Limits,
    sectors: u64,
    flags: u32,
    state: SpinLock<State>,
    tags: Vec<Tag>,
    /// Threads that wait for a tag.
    room: WaitQueue,
    /// It was given up, or taken away.
    is_dead: AtomicBool,
}

/// All of them.
static DISKS: SpinLock<Vec<Arc<ModuleDisk>>> = SpinLock::new(Vec::new());

/// Makes a disk; [`publish`] shows it.
pub(super) fn add(module: &Arc<Module>, name: &str, unbound: UnboundDisk) -> Result<i64, Errno> {
    static NEXT: AtomicI64 = AtomicI64::new(1);
    let said = unbound.limits;
    let claims = Claims {
        block_bytes: Some(said.block_bytes),
        max_parts: Some(said.max_parts),
        max_bytes: Some(said.max_bytes),
        boundary: Some(said.boundary),
        ..Claims::default()
    };
    let limits = Limits::new(claims, MOST_PARTS).map_err(|BadBlocks(_)| Errno::EINVAL)?;
    let is_good =
        block::is_name(name) && said.boundary.is_power_of_two() && said.max_bytes >= limits.block_bytes;
    let disk =
        unbound.bind(module.loaded.code()).filter(|_| is_good && said.requests > 0).ok_or(Errno::EINVAL)?;
    let count = said.requests.min(MOST_REQUESTS) as u16;
    let (mut tags, mut free, mut own_name) = (Vec::new(), Vec::new(), String::new());
    tags.try_reserve_exact(count.into()).map_err(|_| Errno::ENOMEM)?;
    free.try_reserve_exact(count.into()).map_err(|_| Errno::ENOMEM)?;
    own_name.try_reserve_exact(name.len()).map_err(|_| Errno::ENOMEM)?;
    tags.resize_with(count.into(), Tag::default);
    free.extend((0..count).rev());
    own_name.push_str(name);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let disk = Arc::new(ModuleDisk {
        number,
        module_number: module.number,
        module: Arc::downgrade(module),
        name: own_name,
        sectors: limits.sectors(said.sectors),
        limits,
        flags: said.flags,
        state: SpinLock::new(State { disk: Some(disk), free }),
        tags,
        room: WaitQueue::new(),
        is_dead: AtomicBool::new(false),
    });
    let mut disks = DISKS.lock();
    if disks.len() >= MOST_DISKS {
        return Err(Errno::ENOSPC);
    }
    if disks.iter().any(|known| known.name == name) {
        return Err(Errno::EEXIST);
    }
    disks.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    disks.push(disk);
    Ok(number)
}

fn of_module(module: u64) -> SmallVec<[Arc<ModuleDisk>; 4]> {
    DISKS.lock().iter().filter(|disk| disk.module_number == module).cloned().collect()
}

/// Shows a module's disks to all, with their partitions.
pub(super) fn publish(module: &Module) {
    for disk in of_module(module.number) {
        let kind = if disk.is_read_only() { ", read-only" } else { "" };
        log::info!("{}: {} MiB{kind}, by module {}", disk.name, disk.sectors / 2048, module.name);
        block::add(&disk.name, &(Arc::clone(&disk) as Arc<dyn BlockDevice>));
    }
}

/// Takes a disk away: nobody is in its functions then, and nobody will be.
pub(super) fn remove(module: u64, number: i64) {
    remove_where(|disk| disk.number == number && disk.module_number == module);
}

/// The same with all disks of a module.
pub(super) fn remove_all(module: u64) {
    while remove_where(|disk| disk.module_number == module) {}
}

fn remove_where(is_meant: impl Fn(&ModuleDisk) -> bool) -> bool {
    let removed = {
        let mut disks = DISKS.lock();
        let place = disks.iter().position(|disk| is_meant(disk));
        place.map(|place| disks.remove(place))
    };
    let Some(disk) = removed else { return false };
    block::remove(&disk.name);
    disk.is_dead.store(true, Ordering::Release);
    let functions = disk.state.lock().disk.take();
    drop(functions);
    disk.abandon();
    true
}

/// Takes the answers of all disks of a module; from an interrupt handler.
pub(super) fn poll_all(module: u64) {
    for index in 0..MOST_DISKS {
        // The list is not held while a disk is asked; one that comes or goes meanwhile is asked by who waits for it.
        let Some(disk) = DISKS.lock().get(index).cloned() else { break };
        if disk.module_number == module {
            disk.poll();
        }
    }
}

impl ModuleDisk {
    /// Takes what the device has answered, and wakes who waits for it.
    fn poll(&self) {
        let mut state = self.state.lock();
        let State { disk: Some(disk), free } = &mut *state else { return };
        // Each round takes an answer of those that are in flight, or the module makes them up.
        let most_rounds = self.tags.len() - free.len();
        for _ in 0..=most_rounds {
            let has_more = disk.poll(|number, is_good| {
                let Some(tag) = self.tags.get(number as usize) else { return };
                let end = if is_good { DONE } else { FAILED };
                let outcome =
                    tag.state.compare_exchange(IN_FLIGHT, end, Ordering::Release, Ordering::Relaxed);
                if outcome.is_ok() {
                    tag.waiters.wake_all();
                }
            });
            if !has_more {
                break;
            }
        }
    }

    /// Submits a request: its tag, `None` if all are taken, or an error if the module refuses it.
    fn submit(&self, operation: Operation, transfer: &Transfer) -> Result<Option<u16>, DiskError> {
        let code = match operation {
            Operation::Read => 0,
            Operation::Write => 1,
            Operation::Flush => 2,
            Operation::Discard | Operation::WriteZeroes => return Err(DiskError),
        };
        let mut state = self.state.lock();
        let State { disk: Some(disk), free } = &mut *state else { return Err(DiskError) };
        let Some(number) = free.pop() else { return Ok(None) };
        let tag = &self.tags[usize::from(number)].state;
        tag.store(IN_FLIGHT, Ordering::Relaxed);
        if !disk.submit(code, number.into(), transfer.sector, &transfer.parts) {
            tag.store(IDLE, Ordering::Relaxed);
            free.push(number);
            return Err(DiskError);
        }
        Ok(Some(number))
    }

    fn notify(&self) {
        if let Some(disk) = &self.state.lock().disk {
            disk.notify();
        }
    }

    /// Waits for a request's end, and gives its tag back. `None` if the device does not answer.
    fn wait(&self, number: u16) -> Option<bool> {
        let tag = &self.tags[usize::from(number)];
        let is_over = || tag.state.load(Ordering::Acquire) != IN_FLIGHT;
        let start_ns = time::now_ns();
        let may_sleep = scheduler::can_block();
        while !is_over() {
            self.poll();
            if is_over() {
                break;
            }
            let waited_ns = time::now_ns() - start_ns;
            if waited_ns > PATIENCE_NS {
                return None;
            }
            if may_sleep && (waited_ns > LOOK_NS || scheduler::has_others_waiting()) {
                let deadline_ns = start_ns + PATIENCE_NS;
                tag.waiters.wait_uninterrupted(Some(deadline_ns), || is_over().then_some(()))?;
            }
        }
        Some(self.release(number))
    }

    /// Gives a tag back that is over; true if its request was done.
    fn release(&self, number: u16) -> bool {
        let tag = &self.tags[usize::from(number)];
        let is_good = match tag.state.load(Ordering::Acquire) {
            // The device may hold it for ever: nobody gets it again.
            ABANDONED => return false,
            state => state == DONE,
        };
        tag.state.store(IDLE, Ordering::Relaxed);
        // There is room for all.
        self.state.lock().free.push(number);
        self.room.wake_one();
        is_good
    }

    fn wait_for_room(&self) {
        self.poll();
        if scheduler::can_block() {
            let has_room = || {
                let is_there = self.is_dead.load(Ordering::Acquire) || !self.state.lock().free.is_empty();
                is_there.then_some(())
            };
            let _ = self.room.wait_uninterrupted(Some(time::now_ns() + PATIENCE_NS), has_room);
        }
    }

    /// The device does not answer: it is kept from memory, and all that is in flight has ended.
    fn give_up(&self, operation: Operation) {
        if self.is_dead.swap(true, Ordering::AcqRel) {
            return;
        }
        log::error!("{}: no answer to {operation:?}: the disk is given up", self.name);
        if let Some(disk) = &self.state.lock().disk {
            disk.stop();
        }
        self.abandon();
    }

    fn abandon(&self) {
        for tag in &self.tags {
            let outcome =
                tag.state.compare_exchange(IN_FLIGHT, ABANDONED, Ordering::AcqRel, Ordering::Relaxed);
            if outcome.is_ok() {
                tag.waiters.wake_all();
            }
        }
        self.room.wake_all();
    }

    fn run(&self, operation: Operation, transfers: &[Transfer]) -> Result<(), FailedRequests> {
        let mut waiting = SmallVec::<[(u16, usize); 8]>::new();
        let mut failed = Vec::new();
        for (index, transfer) in transfers.iter().enumerate() {
            loop {
                if self.is_dead.load(Ordering::Acquire) {
                    failed.push(index);
                    break;
                }
                match self.submit(operation, transfer) {
                    Ok(Some(number)) => waiting.push((number, index)),
                    Err(DiskError) => self.note_failed(operation, transfers, index, &mut failed),
                    Ok(None) => {
                        self.notify();
                        // The oldest of ours gives its place to the next; if none is ours, others' will be free.
                        if waiting.is_empty() {
                            self.wait_for_room();
                        } else {
                            let oldest = waiting.remove(0);
                            self.finish(operation, transfers, oldest, &mut failed);
                        }
                        continue;
                    }
                }
                break;
            }
        }
        self.notify();
        waiting.into_iter().for_each(|request| self.finish(operation, transfers, request, &mut failed));
        if failed.is_empty() { Ok(()) } else { Err(FailedRequests(failed)) }
    }

    fn finish(
        &self,
        operation: Operation,
        transfers: &[Transfer],
        (number, index): (u16, usize),
        failed: &mut Vec<usize>,
    ) {
        let is_good = self.wait(number).unwrap_or_else(|| {
            self.give_up(operation);
            self.wait(number).unwrap_or(false)
        });
        if !is_good {
            self.note_failed(operation, transfers, index, failed);
        }
    }

    fn note_failed(
        &self,
        operation: Operation,
        transfers: &[Transfer],
        index: usize,
        failed: &mut Vec<usize>,
    ) {
        failed.push(index);
        if failed.len() <= MOST_LINES && !self.is_dead.load(Ordering::Relaxed) {
            log::error!("{}: {operation:?} at sector {} failed", self.name, transfers[index].sector);
        }
    }
}

impl BlockDevice for ModuleDisk {
    fn place(&self) -> &str {
        &self.name
    }

    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn is_read_only(&self) -> bool {
        self.flags & DISK_IS_READ_ONLY != 0
    }

    fn transfer(&self, operation: Operation, transfers: &[Transfer]) -> Result<(), FailedRequests> {
        let fits = |transfer: &Transfer| {
            let count = transfer.bytes().div_ceil(SECTOR_BYTES);
            transfer.sector.checked_add(count).is_some_and(|end| end <= self.sectors)
        };
        if !transfers.iter().all(fits) {
            log::error!("{}: {operation:?} past the end of the disk", self.name);
            return Err(FailedRequests((0..transfers.len()).collect()));
        }
        self.run(operation, transfers)
    }

    fn flush(&self) -> Result<(), DiskError> {
        if self.flags & DISK_HAS_CACHE == 0 {
            return Ok(());
        }
        Ok(self.run(Operation::Flush, &[Transfer { sector: 0, parts: Parts::new() }])?)
    }

    fn clear(&self, _: Operation, _: u64, _: u32) -> Result<(), DiskError> {
        // Its limits say that it does not.
        Err(DiskError)
    }

    fn hold(&self) -> bool {
        self.module.upgrade().is_some_and(|module| module.hold())
    }

    fn interrupt(&self) {
        self.poll();
    }
}
