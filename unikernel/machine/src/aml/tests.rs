extern crate std;

use proptest::prelude::*;
use std::vec::Vec;

use super::*;

/// The DSDT that QEMU 7.2 makes for `-M microvm` with one `virtio-net-device`.
fn microvm() -> Vec<u8> {
    let text = concat!(
        "104e155f53425f5b822e46574346085f4849440d51454d553030303200085f5354410a0b085f435253110d0a",
        "0a470110051005010c79005b8232434f4d31085f4849440c41d00501085f55494401085f5354410a0f085f43",
        "525311100a0d4701f803f803000822100079005b82255254435f085f4849440c41d00b00085f43525311100a",
        "0d470170007000010822000179005b824c064745445f085f4849440d414350493030313300085f5549440d47",
        "454400085f435253110e0a0b89060003010900000079005b8045524547000c0000a0fe0a045b810b45524547",
        "434553454c20141d5f45565409704553454c60a010937b600a02000a0286505752420a805b82195057524208",
        "5f4849440d504e503043304300085f554944005b82420456523233085f4849440d4c4e524f3030303500085f",
        "5549440a17085f43434101085f435253111a0a1786090001002eb0fe0002000089060001012f000000790010",
        "105c00085f53355f1207040a05000000",
    );
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn microvm_dsdt_sleep_types_are_found() {
    assert_eq!(s5_sleep_types(&microvm()), Some([5, 0]));
}

#[test]
fn q35_package_with_bare_zeros_is_read() {
    // Name (_S5, Package (4) { Zero, Zero, Zero, Zero }), as q35 and pc have it.
    assert_eq!(s5_sleep_types(b"\x08_S5_\x12\x06\x04\0\0\0\0"), Some([0, 0]));
}

#[test]
fn package_with_long_length_is_read() {
    assert_eq!(s5_sleep_types(b"\x08_S5_\x12\x48\x00\x04\x0a\x07\x0a\x06\0\0"), Some([7, 6]));
}

#[test]
fn microvm_dsdt_virtio_device_is_found_with_its_line() {
    let line = Line { gsi: 47, trigger: Trigger::Level, polarity: Polarity::High };
    let found: Vec<_> = virtio_devices(&microvm()).collect();
    assert_eq!(found, [VirtioDevice { address: 0xfeb0_2e00, len: 512, line }]);
}

#[test]
fn microvm_dsdt_event_device_is_found() {
    let device = event_device(&microvm()).unwrap();
    let line = Line { gsi: 9, trigger: Trigger::Edge, polarity: Polarity::High };
    let expected = EventDevice { register: 0xfea0_0000, register_bytes: 4, power_button: 1 << 1, line };
    assert_eq!(device, expected);
}

#[test]
fn event_device_of_cloud_hypervisor_is_found() {
    // A device with the region, whose address has 32 or 64 bits, and behind it the one with the hardware id and an
    // edge-triggered interrupt.
    let device = |address: &[u8]| {
        let parts: [&[u8]; 5] = [
            b"\x5b\x82GEC_\x08_HID\x0c\x41\xd0\x0a\x06\x5b\x80GDST\0",
            address,
            b"\x5b\x81\x0bGDST\x01GDAT\x08",
            b"\x5b\x82GED_\x08_HID\x0dACPI0013\0",
            b"\x08_CRS\x11\x0e\x0a\x0b\x89\x06\0\x03\x01\x0b\0\0\0\x79\0",
        ];
        event_device(&parts.concat()).unwrap()
    };
    let line = Line { gsi: 11, trigger: Trigger::Edge, polarity: Polarity::High };
    let expected = EventDevice { register: 0xe800_0000, register_bytes: 1, power_button: 1 << 3, line };
    assert_eq!(device(b"\x0c\0\0\0\xe8\x01"), expected);
    let high = EventDevice { register: 0x10_e800_0000, ..expected };
    assert_eq!(device(b"\x0e\0\0\0\xe8\x10\0\0\0\x01"), high);
}

#[test]
fn device_without_interrupt_is_ignored() {
    let mut code = microvm();
    let hardware_id = find(&code, b"LNRO0005").unwrap();
    let interrupt = hardware_id + find(&code[hardware_id..], &[0x89, 6, 0]).unwrap();
    code[interrupt] = 0x88;
    assert_eq!(virtio_devices(&code).count(), 0);
}

#[test]
fn further_pci_roots_are_found() {
    let code = b"\x5b\x82PC40\x08_BBN\x0a\x40\x08_UID\x0a\x40 \x5b\x82PCFF\x08_BBN\x0b\xff\x01\x08_BBN\x01";
    assert_eq!(root_buses(code).collect::<Vec<_>>(), [0x40, 1]);
    assert_eq!(root_buses(&microvm()).count(), 0);
    assert_eq!(root_buses(b"\x08_BBN").count(), 0);
}

/// What QEMU 7.2 says of the host bridge of `-M microvm,pcie=on`, without its interrupts but one.
const GPEX: &[u8] = b"\x08_HID\x0dPNP0A08\0\x08_CID\x0dPNP0A03\0\x08_BBN\0\
    \x08_CRS\x11\x0e\x0a\x0b\x89\x06\0\x01\x01\x13\0\0\0\x79\0\
    \x14\x0c_CBA\0\xa4\x0c\0\0\0\xe0\
    \x08_CRS\x11\x4e\x05\x0a\x5a\x88\x0d\0\x02\x0c\0\0\0\0\0\xff\0\0\0\0\x01\
    \x87\x17\0\0\x0c\x01\0\0\0\0\0\0\0\xc0\xff\xff\xff\xdf\0\0\0\0\0\0\0\x20\
    \x8a\x2b\0\0\x0c\x01\0\0\0\0\0\0\0\0\0\0\0\0\xc0\0\0\0\xff\xff\xff\xff\xff\0\0\0\
    \0\0\0\0\0\0\0\0\0\0\0\0\x40\0\0\0\x79\0";

#[test]
fn clock_page_is_the_only_memory_of_its_device() {
    let code = b"\x08_HID\x0dAMZNC10C\0\x08_CID\x0dVMCLOCK\0\x08_DDN\x0dVMCLOCK\0\x14\x09_STA\0\xa4\x0a\x0f\
        \x08_CRS\x11\x33\x0a\x30\x8a\x2b\0\0\x0c\x02\0\0\0\0\0\0\0\0\0\xf0\xfd\x0f\x01\0\0\0\xff\xff\xfd\x0f\x01\0\0\0\
        \0\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\x79\0";
    assert_eq!(clock_page(code), Some(0x1_0ffd_f000));
    assert_eq!(clock_page(&microvm()), None);
}

#[test]
fn events_of_firecracker_have_lines_of_their_own() {
    let code = b"\x08_HID\x0dACPI0013\0\x08_CRS\x11\x17\x0a\x14\x89\x06\0\x03\x01\x05\0\0\0\x89\x06\0\x03\x01\x06\0\0\0\x79\0";
    let line = |gsi| Line { gsi, trigger: Trigger::Edge, polarity: Polarity::High };
    assert_eq!(event_lines(code).collect::<Vec<_>>(), [line(5), line(6)]);
}

#[test]
fn host_bridge_of_microvm_is_found() {
    let bridge = host_bridge(GPEX).unwrap();
    assert_eq!((bridge.ecam, bridge.first_bus, bridge.last_bus), (0xe000_0000, 0, 255));
    assert_eq!((bridge.window_start, bridge.window_end), (0xc000_0000, 0xe000_0000));
    assert_eq!(host_bridge(&microvm()), None);
}

#[test]
fn generation_is_where_each_hypervisor_says() {
    let qemu = |address: &[u8]| {
        generation(
            &[b"\x08VGIA\x0c", address, b"\x10\x08_SB_\x5b\x82VGEN\x08_HID\x0dQEMUVGID\0\x72VGIA\x0a\x28"]
                .concat(),
        )
    };
    assert_eq!(qemu(b"\0\xf0\xfd\x0f"), Some(0x0ffd_f028));
    assert_eq!(qemu(b"\0\0\0\0"), None);
    // Firecracker's, whose hardware id was another before 1.13.
    for hardware_id in [&b"FCVMGID\0"[..], b"VMGENCTR\0"] {
        let parts = [
            b"\x08_HID\x0d",
            hardware_id,
            b"\x08_CID\x0dVM_Gen_Counter\0\x08_DDN\x0dVM_Gen_Counter\0\x08ADDR\x12\x08\x02\x0c\xf0\xff\xff\xfe\x01",
        ];
        assert_eq!(generation(&parts.concat()), Some(0x1_feff_fff0));
    }
    assert_eq!(generation(&microvm()), None);
}

proptest! {
    /// Whatever the firmware says, looking at it does not panic.
    #[test]
    fn cut_and_changed_tables_do_no_harm(cut in 0usize..400, at in 0usize..368, byte: u8) {
        let mut code = microvm();
        code[at] = byte;
        code.truncate(cut);
        let _ = (s5_sleep_types(&code), event_device(&code));
        prop_assert!(virtio_devices(&code).count() <= 1);
    }

    #[test]
    fn changed_host_bridge_does_no_harm(cut in 0usize..200, at in 0usize..150, byte: u8) {
        let mut code = GPEX.to_vec();
        code[at] = byte;
        code.truncate(cut);
        if let Some(bridge) = host_bridge(&code) {
            prop_assert!(bridge.window_start < bridge.window_end && bridge.window_end <= 1 << 32);
        }
    }

    #[test]
    fn noise_does_no_harm(code: Vec<u8>) {
        let _ = (s5_sleep_types(&code), event_device(&code), virtio_devices(&code).count());
        let _ = generation(&[b"QEMUVGID\0\x08VGIA", &code[..]].concat());
        let _ = host_bridge(&[b"PNP0A08\0_CBA\x01_CRS\x11", &code[..]].concat());
        let _ = generation(&[b"VM_Gen_Counter\0\x08ADDR\x12", &code[..]].concat());
        let _ = clock_page(&[b"VMCLOCK\0_CRS\x11", &code[..]].concat());
        let _ = event_lines(&[b"ACPI0013\0_CRS\x11", &code[..]].concat()).count();
    }
}
