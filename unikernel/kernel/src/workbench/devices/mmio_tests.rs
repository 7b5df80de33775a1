//! Devices behind registers in memory, which the command line tells of (Virtio 1.2, section 4.2), and places without one.

use alloc::vec::Vec;

use linux_raw_sys::general::*;
use unikernel_hal::sim::disk::{Disk, Faults};
use unikernel_hal::sim::plain::{Device, Plain, Use};
use unikernel_hal::sim::virtio::Slot;

use super::super::app::Machine;
use super::super::app::calls::{Room, sys};
use super::super::app::files::{read, sleep_ms};

const BASE: u64 = 0xd000_0000;

fn slot(is_legacy: bool) -> Slot {
    Slot::Mmio { base: BASE, line: 5, is_legacy }
}

fn machine(rest: &str) -> Machine {
    let command_line = std::format!("log=debug virtio_mmio.device=512@{BASE:#x}:5 {rest}");
    Machine { command_line, ..Machine::default() }
}

#[test]
fn disk_in_memory_is_used_whatever_its_version() {
    for is_legacy in [false, true] {
        let disk = Disk::new(16 << 20);
        let write = || {
            let file = sys!(open, "/data/file", O_RDWR | O_CREAT, 0o600).unwrap();
            let bytes: Vec<u8> = (0..100_000u32).map(|at| (at / 5) as u8).collect();
            assert_eq!(sys!(write, file, &Room::of(&bytes), bytes.len()), Ok(100_000));
            assert_eq!(sys!(fsync, file), Ok(0));
            0
        };
        let plug_in = || disk.plug_into(slot(is_legacy), Faults::default());
        let outcome = machine("mount=/data:blk0 format=blk0").run_with(plug_in, write);
        assert_eq!(outcome.code, Some(0), "{}", outcome.console);
        // On PCI it is the same disk.
        let command_line = "mount=/data:blk0:ro".into();
        let other = Machine { command_line, ..Machine::default() };
        let outcome = other.run_with(
            || disk.plug_in(Faults::default()),
            || {
                let file = sys!(open, "/data/file", O_RDONLY, 0).unwrap();
                let bytes = read(file, 200_000).unwrap();
                assert!(bytes.len() == 100_000 && (0..100_000).all(|at| bytes[at] == (at / 5) as u8));
                0
            },
        );
        assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    }
}

#[test]
fn configuration_is_read_written_and_changes() {
    let balloon = || {
        let queues = [Use::Sink, Use::Sink].into();
        Plain { device_type: 5, features: 0, config: alloc::vec![0; 8], queues }.plug_into(slot(false));
    };
    let outcome = machine("").run_with(balloon, || {
        Device(0).set_config(0, &500u32.to_le_bytes());
        sleep_ms(20);
        assert_eq!(Device(0).config()[4..], 500u32.to_le_bytes());
        0
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
}

#[test]
fn places_without_a_device_we_drive_are_passed_over() {
    let plug_in = || {
        let plain =
            |device_type| Plain { device_type, features: 0, config: Vec::new(), queues: [Use::Sink].into() };
        plain(0).plug_into(slot(false));
        plain(99).plug_into(Slot::Mmio { base: BASE + 0x1000, line: 6, is_legacy: false });
    };
    let listed = "virtio_mmio.device=4K@0xd0001000:6 virtio_mmio.device=4K@0xd0002000:7 \
                  virtio_mmio.device=16@0xd0003000:8 virtio_mmio.device=4K@0x1000:9";
    let outcome = machine(listed).run_with(plug_in, || 0);
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    let told = |text: &str| outcome.console.contains(text);
    assert!(!told("at 0xd0000000: not used"), "an empty place is none to warn of: {}", outcome.console);
    assert!(told("at 0xd0001000: not used: there is no driver for it"), "{}", outcome.console);
    for address in ["0xd0002000", "0xd0003000", "0x1000"] {
        let reason = std::format!("at {address}: not used: no virtio device has its registers there");
        assert!(told(&reason), "{reason}: {}", outcome.console);
    }
}
