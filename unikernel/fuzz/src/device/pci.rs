//! Configuration space that answers anything: the walks over it end, and no address is given that is not in the window.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use unikernel_machine::pci_setup::{ConfigSpace, Place, set_up};

use crate::input::Input;

const WINDOW: core::ops::Range<u64> = 0xc000_0000..0xd000_0000;
/// More accesses than any walk makes: 256 buses of 32 devices with 8 functions, a few dozen each.
const MOST_ACCESSES: u64 = 4 << 20;

/// A few functions, whose registers keep what is written in the bits that can be.
struct Space {
    registers: RefCell<BTreeMap<(Place, u16), u32>>,
    masks: [u32; 16],
    accesses: Cell<u64>,
}

impl Space {
    fn count(&self) {
        self.accesses.set(self.accesses.get() + 1);
        assert!(self.accesses.get() < MOST_ACCESSES, "the walk does not end");
    }
}

impl ConfigSpace for Space {
    fn read(&self, place: Place, offset: u16) -> u32 {
        self.count();
        self.registers.borrow().get(&(place, offset)).copied().unwrap_or(u32::MAX)
    }

    fn write(&self, place: Place, offset: u16, value: u32) {
        self.count();
        if let Some(register) = self.registers.borrow_mut().get_mut(&(place, offset)) {
            let mask = self.masks[usize::from(offset / 4) % self.masks.len()];
            *register = value & mask | *register & !mask;
        }
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let buses = input.byte()..=input.byte();
    let mut masks = [u32::MAX; 16];
    // The identity and the kind cannot be written; the size of a BAR is in the bits that can.
    (masks[0], masks[3]) = (0, 0);
    masks[4..10].iter_mut().for_each(|mask| *mask = u32::MAX << (input.byte() & 31));
    let mut registers = BTreeMap::new();
    while !input.is_over() && registers.len() < 16 * 40 {
        let bus = if input.flag() { *buses.start() } else { input.byte() };
        let place = Place { bus, device: input.byte() & 31, function: input.byte() & 7 };
        for offset in (0..64).step_by(4) {
            registers.insert((place, offset), 0);
        }
        registers.insert((place, 0), 0x1af4);
        registers.insert((place, 0xc), u32::from(input.byte()) << 16);
        for _ in 0..input.below(4) {
            registers.insert((place, u16::from(input.byte() & 15) * 4), input.word());
        }
    }
    let space = Space { registers: RefCell::new(registers), masks, accesses: Cell::new(0) };
    let _ = set_up(&space, buses, WINDOW);
}
