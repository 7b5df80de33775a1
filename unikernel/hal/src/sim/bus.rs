//! Registers in memory, and the devices behind them.

use core::cmp::Reverse;
use core::ops::Range;
use std::boxed::Box;
use std::collections::BinaryHeap;
use std::vec::Vec;

use super::engine::Single;

/// Where PCI configuration space is, above any RAM.
pub const ECAM: u64 = 1 << 40;
/// Where devices have their registers.
pub const REGISTERS: u64 = ECAM + (1 << 30);

/// What a device knows of the machine while it is asked or runs.
pub struct Context<'a> {
    /// The time.
    pub now_ns: u64,
    device: usize,
    events: &'a mut Events,
}

impl Context<'_> {
    /// Has the device run after a while; `tag` tells it why.
    pub fn run_after(&mut self, ns: u64, tag: u64) {
        self.events.row += 1;
        self.events.queue.push(Reverse((self.now_ns.saturating_add(ns), self.events.row, self.device, tag)));
    }

    /// When a device runs next.
    pub fn next_event_ns(&self) -> Option<u64> {
        self.events.queue.peek().map(|Reverse((due_ns, ..))| *due_ns)
    }
}

/// Something behind registers.
pub trait Device {
    /// A register is read.
    fn read(&mut self, offset: u64, bytes: usize, context: &mut Context<'_>) -> u64;
    /// A register is written.
    fn write(&mut self, offset: u64, bytes: usize, value: u64, context: &mut Context<'_>);
    /// The time has come that was asked for.
    fn run(&mut self, tag: u64, context: &mut Context<'_>);
}

/// When a device runs: time, row among equals, device, tag.
type Event = (u64, u64, usize, u64);

struct Events {
    queue: BinaryHeap<Reverse<Event>>,
    row: u64,
}

struct Bus {
    /// A device may have several ranges.
    ranges: Vec<(Range<u64>, usize, u64)>,
    devices: Vec<Box<dyn Device>>,
    events: Events,
    now_ns: u64,
}

static BUS: Single<Option<Bus>> = Single::new(None);

fn with<R>(work: impl FnOnce(&mut Bus) -> R) -> R {
    BUS.with(|bus| {
        let empty = || Bus {
            ranges: Vec::new(),
            devices: Vec::new(),
            events: Events { queue: BinaryHeap::new(), row: 0 },
            now_ns: 0,
        };
        work(bus.get_or_insert_with(empty))
    })
}

/// Adds a device with ranges of registers; a device is told offsets that begin with the number beside each.
pub fn add(device: Box<dyn Device>, ranges: impl IntoIterator<Item = (Range<u64>, u64)>) {
    with(|bus| {
        let number = bus.devices.len();
        bus.devices.push(device);
        bus.ranges.extend(ranges.into_iter().map(|(range, offset)| (range, number, offset)));
    });
}

impl Bus {
    fn find(&self, address: u64) -> Option<(usize, u64)> {
        let (range, device, offset) = self.ranges.iter().find(|(range, ..)| range.contains(&address))?;
        Some((*device, address - range.start + offset))
    }

    fn call<R>(&mut self, device: usize, call: impl FnOnce(&mut dyn Device, &mut Context<'_>) -> R) -> R {
        let mut context = Context { now_ns: self.now_ns, device, events: &mut self.events };
        call(&mut *self.devices[device], &mut context)
    }
}

/// Reads a register: all ones where there is none.
pub(super) fn read(address: u64, bytes: usize) -> u64 {
    with(|bus| {
        let Some((device, offset)) = bus.find(address) else { return u64::MAX };
        bus.call(device, |device, context| device.read(offset, bytes, context))
    })
}

/// Writes a register.
pub(super) fn write(address: u64, bytes: usize, value: u64) {
    with(|bus| {
        let Some((device, offset)) = bus.find(address) else { return };
        bus.call(device, |device, context| device.write(offset, bytes, value, context));
    });
}

/// Has the devices run whose time has come.
pub(super) fn run_due(now_ns: u64) {
    with(|bus| {
        bus.now_ns = now_ns;
        while let Some(Reverse((due_ns, _, device, tag))) = bus.events.queue.peek().copied()
            && due_ns <= now_ns
        {
            bus.events.queue.pop();
            bus.call(device, |device, context| device.run(tag, context));
        }
    });
}

/// Has every device run at once.
pub(super) fn run_all(tag: u64) {
    with(|bus| {
        for device in 0..bus.devices.len() {
            bus.call(device, |device, context| device.run(tag, context));
        }
    });
}

/// When the next device runs.
pub(super) fn next_event_ns() -> Option<u64> {
    with(|bus| bus.events.queue.peek().map(|Reverse((due_ns, ..))| *due_ns))
}
