//! Giving numbers to PCI buses and addresses to devices, on a machine whose firmware has not: QEMU's `microvm,pcie=on`.
//! It is done in two walks (PCI Express base specification 5.0, sections 7.5.1.2 and 7.5.1.3): the first numbers the
//! buses behind bridges, the second hands out the host bridge's window, in which everything behind a bridge lies
//! together, as bridges pass one run of addresses on.
//!
//! Whatever a device answers, the walks end: a bus number is given once, and bridges are followed [`MAX_DEPTH`] deep.

use core::ops::{Range, RangeInclusive};

/// Where a function is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// Its bus.
    pub bus: u8,
    /// Its device, below 32.
    pub device: u8,
    /// Its number, below 8.
    pub function: u8,
}

/// Configuration space; offsets are multiples of 4. What is not there reads as ones.
pub trait ConfigSpace {
    /// Reads 32 bits.
    fn read(&self, place: Place, offset: u16) -> u32;
    /// Writes 32 bits.
    fn write(&self, place: Place, offset: u16, value: u32);
}

/// Offsets in configuration space.
const ID: u16 = 0x00;
const COMMAND: u16 = 0x04;
const HEADER_TYPE: u16 = 0x0c;
const FIRST_BAR: u16 = 0x10;
/// Primary, secondary, subordinate bus of a bridge; then its windows for ports, memory, prefetchable memory.
const BUSES: u16 = 0x18;
const PORT_WINDOW: u16 = 0x1c;
const MEMORY_WINDOW: u16 = 0x20;
const PREFETCH_WINDOW: u16 = 0x24;
/// Bits of the command register: answer to memory, pass on what comes from behind.
const COMMAND_MEMORY: u32 = 1 << 1;
const COMMAND_MASTER: u32 = 1 << 2;
/// Windows whose end is before their beginning: closed.
const CLOSED_PORTS: u32 = 0x00f0;
const CLOSED_MEMORY: u32 = 0xfff0;
/// Bits of a BAR.
const IS_PORTS: u32 = 1;
const IS_64_BITS: u32 = 0b100;
/// No two devices' registers share a page.
const MIN_ALIGN: u64 = 4096;
/// A bridge's window begins and ends at a multiple of it.
const BRIDGE_ALIGN: u64 = 1 << 20;
/// Bridges behind bridges.
const MAX_DEPTH: usize = 8;
/// What bridges and BARs of 32 bits can name.
const END_OF_32_BITS: u64 = 1 << 32;

/// Sets the hierarchy up that begins at the first of `buses`, unless somebody has: with the other numbers for buses
/// behind bridges, and the addresses of `window`. Answers how many runs of registers found no room.
pub fn set_up(space: &impl ConfigSpace, buses: RangeInclusive<u8>, window: Range<u64>) -> usize {
    let root = *buses.start();
    if is_set_up(space, root) || window.end > END_OF_32_BITS {
        return 0;
    }
    let mut walk =
        Walk { space, last_given: root, last_bus: *buses.end(), at: window.start, window, refused: 0 };
    walk.number_buses(root, 0);
    walk.give_addresses(root, 0);
    walk.refused
}

/// True if a function on the bus has an address, or a bridge a bus.
fn is_set_up(space: &impl ConfigSpace, bus: u8) -> bool {
    functions(space, bus).any(|(place, kind)| match kind {
        Kind::Bridge => secondary(space, place) != 0,
        Kind::Endpoint => (0..kind.bars()).any(|slot| {
            let bar = space.read(place, bar_offset(slot));
            bar & IS_PORTS == 0 && bar & !0xf != 0
        }),
    })
}

/// True if a function with such a vendor is there: a bus without one answers with ones, Firecracker's without PCI with zeros
/// (Linux takes both so, `drivers/pci/probe.c`).
pub fn is_vendor(id: u16) -> bool {
    id != 0 && id != u16::MAX
}

/// What a function is, of the kinds that have registers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Endpoint,
    Bridge,
}

impl Kind {
    fn bars(self) -> u16 {
        match self {
            Self::Endpoint => 6,
            Self::Bridge => 2,
        }
    }
}

/// The functions on a bus.
fn functions<S: ConfigSpace>(space: &S, bus: u8) -> impl Iterator<Item = (Place, Kind)> {
    let header = |place| (space.read(place, HEADER_TYPE) >> 16) as u8;
    let is_there = |place: &Place| is_vendor(space.read(*place, ID) as u16);
    (0..32).map(move |device| Place { bus, device, function: 0 }).filter(is_there).flat_map(move |first| {
        let count = if header(first) & 0x80 != 0 { 8 } else { 1 };
        let places = (0..count).map(move |function| Place { function, ..first });
        places.filter(is_there).filter_map(move |place| match header(place) & 0x7f {
            0 => Some((place, Kind::Endpoint)),
            1 => Some((place, Kind::Bridge)),
            _ => None,
        })
    })
}

fn secondary(space: &impl ConfigSpace, bridge: Place) -> u8 {
    space.read(bridge, BUSES).to_le_bytes()[1]
}

fn bar_offset(slot: u16) -> u16 {
    FIRST_BAR + 4 * slot
}

struct Walk<'a, S> {
    space: &'a S,
    /// The last number that a bus got, and the last that one can have.
    last_given: u8,
    last_bus: u8,
    /// Up to where the window has been handed out.
    at: u64,
    window: Range<u64>,
    refused: usize,
}

impl<S: ConfigSpace> Walk<'_, S> {
    /// Numbers the buses behind the bridges on `bus`.
    fn number_buses(&mut self, bus: u8, depth: usize) {
        for (bridge, _) in functions(self.space, bus).filter(|(_, kind)| *kind == Kind::Bridge) {
            if depth == MAX_DEPTH || self.last_given >= self.last_bus {
                self.refused += 1;
                continue;
            }
            self.last_given += 1;
            let secondary = self.last_given;
            let space = self.space;
            let write = |last| space.write(bridge, BUSES, u32::from_le_bytes([bus, secondary, last, 0]));
            // While the buses behind it are counted, it passes all numbers on.
            write(self.last_bus);
            self.number_buses(secondary, depth + 1);
            write(self.last_given);
        }
    }

    /// Gives addresses to what is on `bus` and behind its bridges.
    fn give_addresses(&mut self, bus: u8, depth: usize) {
        let space = self.space;
        for (place, kind) in functions(space, bus) {
            let mut slot = 0;
            while slot < kind.bars() {
                slot += self.give_address(place, slot, kind.bars());
            }
            let secondary = if kind == Kind::Bridge { secondary(space, place) } else { 0 };
            if secondary > bus && depth < MAX_DEPTH {
                self.open_bridge(place, secondary, depth);
            }
        }
    }

    /// Gives an address to a BAR; answers how many slots it takes.
    fn give_address(&mut self, place: Place, slot: u16, slots: u16) -> u16 {
        let (space, low) = (self.space, bar_offset(slot));
        space.write(place, low, u32::MAX);
        let answer = space.read(place, low);
        space.write(place, low, 0);
        let is_wide = answer & (IS_64_BITS | IS_PORTS) == IS_64_BITS && slot + 1 < slots;
        let taken = 1 + u16::from(is_wide);
        if answer & IS_PORTS != 0 {
            return taken;
        }
        // The bits that can be set are those above the size (section 7.5.1.2.1).
        let mut settable = u64::from(answer & !0xf);
        if is_wide {
            space.write(place, low + 4, u32::MAX);
            settable |= u64::from(space.read(place, low + 4)) << 32;
            space.write(place, low + 4, 0);
        }
        let size = settable & settable.wrapping_neg();
        if size == 0 {
            return taken;
        }
        match self.take(size, size) {
            Some(address) => space.write(place, low, address as u32),
            None => self.refused += 1,
        }
        taken
    }

    /// Takes a part of the window.
    fn take(&mut self, size: u64, align: u64) -> Option<u64> {
        let start = self.at.checked_next_multiple_of(align.max(MIN_ALIGN))?;
        let end = start.checked_add(size).filter(|end| *end <= self.window.end)?;
        self.at = end;
        Some(start)
    }

    /// Has a bridge pass on what lies behind it.
    fn open_bridge(&mut self, bridge: Place, secondary: u8, depth: usize) {
        let space = self.space;
        space.write(bridge, PORT_WINDOW, CLOSED_PORTS);
        space.write(bridge, PREFETCH_WINDOW, CLOSED_MEMORY);
        space.write(bridge, MEMORY_WINDOW, CLOSED_MEMORY);
        if let Some(start) = self.take(0, BRIDGE_ALIGN) {
            self.give_addresses(secondary, depth + 1);
            // What is left of the last MiB is the bridge's, too.
            if self.at > start && self.take(0, BRIDGE_ALIGN).is_some() {
                let (base, limit) = (start as u32 >> 16, (self.at - 1) as u32 >> 16);
                space.write(bridge, MEMORY_WINDOW, base & 0xfff0 | (limit & 0xfff0) << 16);
            }
        }
        // The upper half of the word is the status, whose bits are cleared by writing ones.
        let command = space.read(bridge, COMMAND) & 0xffff;
        space.write(bridge, COMMAND, command | COMMAND_MEMORY | COMMAND_MASTER);
    }
}

#[cfg(test)]
mod tests;
