//! A virtio device on PCI (Virtio 1.2, section 4.1), as the kernel's driver finds it. What it does with a request is a
//! [`Model`]'s; what it is told by the driver is checked as little as hardware would check it.

mod mmio;
mod queue;

use core::ops::Range;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

use super::bus::{self, Context, Device};
use super::engine;
use super::engine::Single;
use super::platform::ioapic;
pub use queue::Chain;
use queue::Queue;

/// Where the structures are in the device's registers.
const COMMON: u64 = 0;
const ISR: u64 = 0x1000;
const CONFIG: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const NOTIFY_MULTIPLIER: u32 = 4;
const MSIX_TABLE: u64 = 0x4000;
const MSIX_ENTRIES: usize = 16;
const REGISTER_BYTES: u64 = 0x6000;
/// Distance between the registers of devices.
const STRIDE: u64 = 0x1_0000;
/// Offsets from here on are registers, those below configuration space.
const IN_REGISTERS: u64 = 1 << 20;
/// `VIRTIO_F_VERSION_1`.
const VERSION_1: u64 = 1 << 32;
/// `VIRTIO_F_EVENT_IDX`.
const EVENT_IDX: u64 = 1 << 29;
/// Of the status: the driver has said which features it wants.
const FEATURES_OK: u8 = 8;
/// What kind of device it is.
pub trait Model {
    /// Its number (section 5).
    fn device_type(&self) -> u16;
    /// What it offers beside what the transport needs.
    fn features(&self) -> u64;
    /// Its configuration.
    fn config(&self) -> Vec<u8>;
    /// How many queues it has.
    fn queues(&self) -> u16;
    /// A request has come: how long it takes, or none if it waits for something else ([`Self::ready`]).
    fn accept(&mut self, queue: u16, chain: &Chain) -> Option<u64>;
    /// The request's time is over: how many bytes were written; none if it is never answered.
    fn finish(&mut self, queue: u16, chain: &Chain) -> Option<u32>;
    /// The driver writes to the configuration.
    fn write_config(&mut self, _at: usize, _bytes: &[u8]) {}
    /// True once after the device has changed its configuration.
    fn take_config_change(&mut self) -> bool {
        false
    }
    /// The driver has chosen features.
    fn agreed(&mut self, _features: u64) {}
    /// Called whenever something may have changed: the time, and when anything else of the machine has something to do, none if it
    /// waits for this device. Answers when to be called again.
    fn tick(&mut self, _now_ns: u64, _next_ns: Option<u64>) -> Option<u64> {
        None
    }
    /// What has come from outside for a request that waits ([`poke`], [`Self::tick`]): which queue it is for, and the answer.
    fn ready(&mut self) -> Option<(u16, Vec<u8>)> {
        None
    }
    /// An element of a queue's ring of used requests that the device makes up: queue, request, bytes written.
    fn forged(&mut self) -> Option<(u16, u32, u32)> {
        None
    }
}

struct Pci {
    model: Box<dyn Model>,
    space: [u8; 256],
    device_features: u32,
    /// Which half of the features the driver writes, and what it has written.
    driver_features: u32,
    accepted: u64,
    status: u8,
    selected: u16,
    config_vector: u16,
    queues: Vec<Queue>,
    isr: u8,
    msix: [u32; MSIX_ENTRIES * 4],
    /// Requests in flight, by tag.
    in_flight: BTreeMap<u64, (u16, Chain)>,
    next_tag: u64,
    /// When the model wants to be called next.
    tick_ns: Option<u64>,
    /// The line that it raises, where that is not a message.
    line: Option<u32>,
}

/// Where a device is plugged in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// On the PCI bus, which the kernel searches.
    Pci,
    /// Registers in memory, at an address and with an interrupt line that the command line tells (`virtio_mmio.device=`).
    Mmio {
        /// Where they are.
        base: u64,
        /// The line.
        line: u32,
        /// It is of the version before virtio 1.
        is_legacy: bool,
    },
}

/// The tag of what comes from outside.
const POKED: u64 = u64::MAX;

static COUNT: Single<u64> = Single::new(0);

/// Plugs a device in.
pub fn add(model: Box<dyn Model>) {
    add_to(Slot::Pci, model);
}

/// Plugs a device in there.
pub fn add_to(slot: Slot, model: Box<dyn Model>) {
    if let Slot::Mmio { base, line, is_legacy } = slot {
        return mmio::add(model, base, line, is_legacy);
    }
    let number = COUNT.with(|count| {
        *count += 1;
        *count
    });
    let registers = bus::REGISTERS + number * STRIDE;
    let device = Pci::new(model, registers);
    let space = bus::ECAM + (number << 15);
    let ranges = [(space..space + 4096, 0), (registers..registers + REGISTER_BYTES, IN_REGISTERS)];
    bus::add(Box::new(device), ranges);
}

/// Something outside has changed: every device looks at once.
pub fn poke() {
    bus::run_all(POKED);
}

/// Configuration space: a header, MSI-X, and the four structures of virtio.
fn space(device_type: u16, registers: u64) -> [u8; 256] {
    let mut space = [0; 256];
    let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0x1af4_u16.to_le_bytes());
    put(2, &(0x1040 + device_type).to_le_bytes());
    put(6, &0x10_u16.to_le_bytes()); // it has capabilities
    put(0x0b, &[0xff]);
    put(0x10, &(registers as u32 | 0b100).to_le_bytes()); // a BAR of 64 bits
    put(0x14, &((registers >> 32) as u32).to_le_bytes());
    put(0x34, &[0x40]);
    put(0x40, &[0x11, 0x50]);
    put(0x42, &(MSIX_ENTRIES as u16 - 1).to_le_bytes());
    put(0x44, &(MSIX_TABLE as u32).to_le_bytes());
    put(0x48, &0x5000_u32.to_le_bytes());
    let structures =
        [(1, COMMON, 0x38, 0x60), (2, NOTIFY, 0x100, 0x74), (3, ISR, 4, 0x88), (4, CONFIG, 0x100, 0)];
    let mut at = 0x50;
    for (kind, offset, bytes, next) in structures {
        put(at, &[0x09, next, if kind == 2 { 20 } else { 16 }, kind]);
        put(at + 8, &(offset as u32).to_le_bytes());
        put(at + 12, &(bytes as u32).to_le_bytes());
        if kind == 2 {
            put(at + 16, &NOTIFY_MULTIPLIER.to_le_bytes());
        }
        at = next as usize;
    }
    space
}

/// The low `bytes` of a number in a run of bytes; what lies beyond reads as zeros.
fn number_at(space: &[u8], at: usize, bytes: usize) -> u64 {
    let byte = |index: usize| u64::from(space.get(at + index).copied().unwrap_or(0)) << (8 * index);
    (0..bytes).map(byte).sum()
}

impl Pci {
    fn new(model: Box<dyn Model>, registers: u64) -> Self {
        let queues = (0..model.queues()).map(|_| Queue::new()).collect();
        Self {
            space: space(model.device_type(), registers),
            model,
            device_features: 0,
            driver_features: 0,
            accepted: 0,
            status: 0,
            selected: 0,
            config_vector: 0xffff,
            queues,
            isr: 0,
            msix: [0; MSIX_ENTRIES * 4],
            in_flight: BTreeMap::new(),
            next_tag: 0,
            tick_ns: None,
            line: None,
        }
    }

    fn queue(&mut self) -> Option<&mut Queue> {
        self.queues.get_mut(usize::from(self.selected))
    }

    fn offered(&self) -> u64 {
        self.model.features() | VERSION_1
    }

    fn common(&mut self, offset: u64) -> u64 {
        let offered = self.offered();
        let half = if self.device_features == 0 { offered as u32 } else { (offered >> 32) as u32 };
        let is_known = self.device_features < 2;
        let (status, count, selected) = (self.status, self.queues.len(), self.selected);
        match offset {
            0x04 => u64::from(if is_known { half } else { 0 }),
            0x10 => self.config_vector.into(),
            0x12 => count as u64,
            0x14 => status.into(),
            0x16 => selected.into(),
            0x18 => self.queue().map_or(0, |queue| queue.size.into()),
            0x1a => self.queue().map_or(0xffff, |queue| queue.vector.into()),
            0x1c => self.queue().map_or(0, |queue| queue.is_enabled.into()),
            0x1e => selected.into(),
            _ => 0,
        }
    }

    fn set_common(&mut self, offset: u64, value: u64) {
        match offset {
            0x00 => self.device_features = value as u32,
            0x08 => self.driver_features = value as u32,
            0x0c => {
                let shift = if self.driver_features == 0 { 0 } else { 32 };
                self.accepted = self.accepted & !(0xffff_ffff << shift) | (value & 0xffff_ffff) << shift;
            }
            0x10 => self.config_vector = value as u16,
            0x14 if value == 0 => self.reset(),
            0x14 => self.set_status(value as u8),
            0x16 => self.selected = value as u16,
            _ => {
                let Some(queue) = self.queue() else { return };
                let half = |word: &mut u64, is_high: bool| {
                    let shift = if is_high { 32 } else { 0 };
                    *word = *word & !(0xffff_ffff << shift) | (value & 0xffff_ffff) << shift;
                };
                match offset {
                    0x18 => queue.size = value as u16,
                    0x1a => queue.vector = value as u16,
                    0x1c => queue.is_enabled = value == 1,
                    0x20 | 0x24 => half(&mut queue.descriptors, offset == 0x24),
                    0x28 | 0x2c => half(&mut queue.driver, offset == 0x2c),
                    0x30 | 0x34 => half(&mut queue.device, offset == 0x34),
                    _ => {}
                }
            }
        }
    }

    fn set_status(&mut self, status: u8) {
        let is_chosen = status & FEATURES_OK != 0 && self.status & FEATURES_OK == 0;
        self.status = status;
        if is_chosen && self.accepted & !self.offered() != 0 {
            self.status &= !FEATURES_OK;
        } else if is_chosen {
            self.model.agreed(self.accepted);
            self.queues.iter_mut().for_each(|queue| queue.has_event_index = self.accepted & EVENT_IDX != 0);
        }
    }

    fn reset(&mut self) {
        (self.status, self.accepted) = (0, 0);
        self.in_flight.clear();
        self.queues.iter_mut().for_each(|queue| *queue = Queue::new());
    }

    /// Raises the interrupt of a queue: the message that the driver has put into the table.
    fn interrupt(&mut self, queue: u16) {
        self.isr |= 1;
        self.send_message(self.queues[usize::from(queue)].vector);
    }

    fn send_message(&self, vector: u16) {
        if let Some(line) = self.line {
            return ioapic::raise(line);
        }
        let entry = usize::from(vector);
        let Some([low, _, data, control]) = self.msix.get(entry * 4..entry * 4 + 4) else { return };
        if control & 1 == 0 {
            engine::raise((low >> 12 & 0xff) as usize, *data as u8);
        }
    }

    fn notified(&mut self, number: u16, context: &mut Context<'_>) {
        self.tick(context);
        while let Some(chain) = self.queues.get_mut(usize::from(number)).and_then(Queue::take) {
            match self.model.accept(number, &chain) {
                Some(ns) => {
                    self.next_tag += 1;
                    self.in_flight.insert(self.next_tag, (number, chain));
                    context.run_after(ns, self.next_tag);
                }
                None => self.queues[usize::from(number)].waiting.push_back(chain),
            }
        }
        self.serve_outside(context);
    }

    fn tick(&mut self, context: &mut Context<'_>) {
        let others = engine::next_core_ns(context.now_ns).into_iter().chain(context.next_event_ns());
        let next_ns = self.model.tick(context.now_ns, others.min());
        let is_sooner =
            |next_ns: &u64| self.tick_ns.is_none_or(|known| *next_ns < known || known <= context.now_ns);
        if let Some(next_ns) = next_ns.filter(is_sooner) {
            self.tick_ns = Some(next_ns);
            context.run_after(next_ns.saturating_sub(context.now_ns), POKED);
        }
    }

    /// Answers requests that wait for what has come from outside.
    fn serve_outside(&mut self, context: &mut Context<'_>) {
        self.tick(context);
        if self.model.take_config_change() {
            self.isr |= 2;
            self.send_message(self.config_vector);
        }
        while let Some((number, bytes)) = self.model.ready() {
            let queue = &mut self.queues[usize::from(number)];
            // As a card does when the driver has given it no buffer: it is lost.
            let Some(chain) = queue.waiting.pop_front() else { continue };
            let written = chain.write(&bytes);
            if queue.give_back(&chain, written) {
                self.interrupt(number);
            }
        }
        while let Some((number, id, written)) = self.model.forged() {
            if self.queues[usize::from(number)].push_used(id, written) {
                self.interrupt(number);
            }
        }
    }
}

impl Device for Pci {
    fn read(&mut self, offset: u64, bytes: usize, _: &mut Context<'_>) -> u64 {
        let Some(register) = offset.checked_sub(IN_REGISTERS) else {
            return number_at(&self.space, offset as usize, bytes);
        };
        let is_in = |range: Range<u64>| range.contains(&register);
        match register {
            _ if is_in(COMMON..COMMON + 0x38) => self.common(register),
            _ if is_in(ISR..ISR + 4) => u64::from(core::mem::take(&mut self.isr)),
            _ if is_in(CONFIG..NOTIFY) => {
                number_at(&self.model.config(), (register - CONFIG) as usize, bytes)
            }
            _ if is_in(MSIX_TABLE..MSIX_TABLE + 256) => {
                self.msix[(register - MSIX_TABLE) as usize / 4].into()
            }
            _ => 0,
        }
    }

    fn write(&mut self, offset: u64, bytes: usize, value: u64, context: &mut Context<'_>) {
        let Some(register) = offset.checked_sub(IN_REGISTERS) else {
            // The command register and MSI-X' control can be written; addresses stay where they are.
            if offset == 4 || offset == 0x40 {
                let at = offset as usize;
                let kept = if offset == 0x40 { 2 } else { 0 };
                let value = value.to_le_bytes();
                self.space[at + kept..at + bytes.min(4)].copy_from_slice(&value[kept..bytes.min(4)]);
                self.space[6] = 0x10;
            }
            return;
        };
        let is_in = |range: Range<u64>| range.contains(&register);
        match register {
            _ if is_in(COMMON..COMMON + 0x38) => self.set_common(register, value),
            _ if is_in(NOTIFY..NOTIFY + 0x100) => {
                self.notified(((register - NOTIFY) / u64::from(NOTIFY_MULTIPLIER)) as u16, context);
            }
            _ if is_in(CONFIG..NOTIFY) => {
                self.model.write_config((register - CONFIG) as usize, &value.to_le_bytes()[..bytes]);
            }
            _ if is_in(MSIX_TABLE..MSIX_TABLE + 256) => {
                self.msix[(register - MSIX_TABLE) as usize / 4] = value as u32;
            }
            _ => {}
        }
    }

    fn run(&mut self, tag: u64, context: &mut Context<'_>) {
        // One that is gone with a reset is nobody's.
        if let Some((number, chain)) = self.in_flight.remove(&tag)
            && let Some(written) = self.model.finish(number, &chain)
            && self.queues[usize::from(number)].give_back(&chain, written)
        {
            self.interrupt(number);
        }
        self.serve_outside(context);
    }
}
