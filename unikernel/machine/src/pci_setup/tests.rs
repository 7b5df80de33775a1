extern crate std;

use std::cell::RefCell;
use std::collections::HashMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// A function: what its registers answer, which of their bits can be set, and what lies behind a bridge.
#[derive(Clone, Debug, Default)]
struct Device {
    is_bridge: bool,
    /// The bits of each BAR that can be set, and those that are fixed.
    bars: Vec<(u32, u32)>,
    behind: Vec<Device>,
}

/// Configuration space of devices, one a slot, that are reached as bridges pass it on.
struct Machine {
    root: Vec<Device>,
    registers: RefCell<HashMap<(Vec<usize>, u16), u32>>,
}

impl Machine {
    fn new(root: &[Device]) -> Self {
        Self { root: root.to_vec(), registers: RefCell::default() }
    }

    fn register(&self, path: &[usize], offset: u16) -> u32 {
        self.registers.borrow().get(&(path.to_vec(), offset)).copied().unwrap_or(0)
    }

    /// The device at a place, and the slots on the way to it.
    fn find(&self, place: Place) -> Option<(&Device, Vec<usize>)> {
        let (mut bus, mut path) = (&self.root, Vec::new());
        let mut number = 0;
        while number != place.bus {
            let passes = |(slot, device): &(usize, &Device)| {
                let way = [&path[..], &[*slot]].concat();
                let [_, secondary, subordinate, _] = self.register(&way, BUSES).to_le_bytes();
                device.is_bridge && secondary != 0 && (secondary..=subordinate).contains(&place.bus)
            };
            let (slot, bridge) = bus.iter().enumerate().find(passes)?;
            path.push(slot);
            number = self.register(&path, BUSES).to_le_bytes()[1];
            bus = &bridge.behind;
        }
        let slot = usize::from(place.device);
        path.push(slot);
        Some((bus.get(slot).filter(|_| place.function == 0)?, path))
    }
}

impl ConfigSpace for Machine {
    fn read(&self, place: Place, offset: u16) -> u32 {
        let Some((device, path)) = self.find(place) else { return u32::MAX };
        match offset {
            ID => 0x1041_1af4,
            HEADER_TYPE => u32::from(device.is_bridge) << 16,
            _ => self.register(&path, offset),
        }
    }

    fn write(&self, place: Place, offset: u16, value: u32) {
        let Some((device, path)) = self.find(place) else { return };
        let bar = offset.checked_sub(FIRST_BAR).map(|bytes| usize::from(bytes / 4));
        let (settable, fixed) = match bar.filter(|bar| *bar < if device.is_bridge { 2 } else { 6 }) {
            Some(bar) => device.bars.get(bar).copied().unwrap_or_default(),
            None => (u32::MAX, 0),
        };
        self.registers.borrow_mut().insert((path, offset), value & settable | fixed);
    }
}

/// As QEMU's network card has them: ports, 4 KiB, 16 KiB with 64 bits.
fn card() -> Device {
    let bars = [(0xffff_ffe0, 1), (0xffff_f000, 0), (0, 0), (0, 0), (0xffff_c000, 0xc), (0xffff_ffff, 0)];
    Device { bars: bars.to_vec(), ..Device::default() }
}

fn bridge(behind: &[Device]) -> Device {
    Device { is_bridge: true, bars: [(0xffff_f000, 0)].to_vec(), behind: behind.to_vec() }
}

const WINDOW: Range<u64> = 0xc000_0000..0xc100_0000;

fn set_up_all(machine: &Machine) -> usize {
    set_up(machine, 0..=255, WINDOW)
}

#[test]
fn card_on_the_root_gets_its_addresses() {
    let machine = Machine::new(&[Device::default(), card()]);
    assert_eq!(set_up_all(&machine), 0);
    let bars: Vec<u32> = (0..6).map(|slot| machine.register(&[1], bar_offset(slot))).collect();
    assert_eq!(bars, [1, 0xc000_0000, 0, 0, 0xc000_400c, 0]);
}

#[test]
fn card_behind_bridges_is_within_their_windows() {
    let machine = Machine::new(&[card(), bridge(&[bridge(&[card()]), card()]), bridge(&[])]);
    assert_eq!(set_up_all(&machine), 0);
    let buses = |path: &[usize]| machine.register(path, BUSES).to_le_bytes();
    assert_eq!((buses(&[1]), buses(&[1, 0]), buses(&[2])), ([0, 1, 2, 0], [1, 2, 2, 0], [0, 3, 3, 0]));
    let window = |path: &[usize]| {
        let value = machine.register(path, MEMORY_WINDOW);
        ((value & 0xfff0) << 16, value & 0xfff0_0000 | 0xf_ffff)
    };
    let inner = machine.register(&[1, 0, 0], bar_offset(4)) & !0xf;
    let (start, end) = window(&[1, 0]);
    assert!((start..end).contains(&inner), "{inner:#x} in {start:#x} to {end:#x}");
    let (outer_start, outer_end) = window(&[1]);
    assert!(outer_start <= start && end <= outer_end);
    let beside = machine.register(&[1, 1], bar_offset(1));
    assert!((outer_start..outer_end).contains(&beside) && !(start..=end).contains(&beside));
    let (start, end) = window(&[2]);
    assert!(start > end, "nothing is behind it");
    assert_eq!(machine.register(&[1, 0], COMMAND), COMMAND_MEMORY | COMMAND_MASTER);
}

#[test]
fn bus_that_nobody_answers_for_is_empty() {
    struct Same(u32);
    impl ConfigSpace for Same {
        fn read(&self, _: Place, _: u16) -> u32 {
            self.0
        }
        fn write(&self, place: Place, offset: u16, _: u32) {
            panic!("write to {place:?}, {offset:#x}");
        }
    }
    for answer in [0, u32::MAX, 0xffff_0000, 0xffff] {
        assert_eq!(set_up(&Same(answer), 0..=255, WINDOW), 0);
    }
}

#[test]
fn what_firmware_has_set_up_is_left() {
    let machine = Machine::new(&[card(), bridge(&[card()])]);
    machine.write(Place { bus: 0, device: 0, function: 0 }, bar_offset(1), 0xfebd_0000);
    assert_eq!(set_up_all(&machine), 0);
    assert_eq!(machine.register(&[0], bar_offset(1)), 0xfebd_0000);
    assert_eq!(machine.register(&[1], BUSES), 0);
}

#[test]
fn what_finds_no_room_is_counted_and_has_none() {
    let large = Device { bars: [(0xc000_0000, 0)].to_vec(), ..Device::default() };
    let machine = Machine::new(&[large, card()]);
    assert_eq!(set_up_all(&machine), 1);
    assert_eq!(machine.register(&[0], bar_offset(0)), 0);
    assert_eq!(machine.register(&[1], bar_offset(1)), 0xc000_0000);
    let deep = (0..12).fold(card(), |inner, _| bridge(&[inner]));
    assert_eq!(set_up_all(&Machine::new(&[deep])), 1);
}

fn devices() -> impl Strategy<Value = Vec<Device>> {
    let endpoint = prop::collection::vec(any::<(u32, u32)>(), 0..7)
        .prop_map(|bars| Device { bars, ..Device::default() });
    let leaf = prop_oneof![endpoint, Just(card())];
    let device = leaf.prop_recursive(4, 40, 4, |inner| {
        prop::collection::vec(inner, 0..4).prop_map(|behind| bridge(&behind))
    });
    prop::collection::vec(device, 0..8)
}

/// Addresses of 32 bits and their sizes, of functions that keep to the specification.
fn runs(machine: &Machine, devices: &[Device], path: &[usize], found: &mut Vec<(u32, u32)>) {
    for (slot, device) in devices.iter().enumerate() {
        let path = [path, &[slot]].concat();
        if !device.is_bridge && device.bars == card().bars {
            for (bar, size) in [(1, 0x1000), (4, 0x4000)] {
                let address = machine.register(&path, bar_offset(bar)) & !0xf;
                if address != 0 {
                    found.push((address, size));
                }
            }
        }
        runs(machine, &device.behind, &path, found);
    }
}

proptest! {
    /// Whatever devices answer, it ends, and what got addresses got different ones within the window.
    #[test]
    fn no_two_get_the_same_addresses(devices in devices(), last_bus: u8) {
        let machine = Machine::new(&devices);
        set_up(&machine, 0..=last_bus, WINDOW);
        let mut found = Vec::new();
        runs(&machine, &machine.root, &[], &mut found);
        found.sort_unstable();
        for pair in found.windows(2) {
            prop_assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
        }
        for (address, size) in found {
            prop_assert!(WINDOW.start <= address.into() && u64::from(address + size) <= WINDOW.end);
        }
    }
}
