//! Tables of the firmware and of the hypervisor: ACPI's bytecode, SMBIOS, VMClock, the battery-backed clock's registers.

use unikernel_machine::{aml, smbios, vmclock};

use crate::input::Input;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(3) {
        0 => bytecode(input.rest()),
        1 => {
            if let Some((_, len)) = smbios::entry(data) {
                assert!(len <= smbios::MAX_TABLE_BYTES);
            }
            let _ = smbios::system_serial(input.rest());
        }
        _ => {
            let page = input.array();
            assert!(vmclock::state(|| page).is_none() || vmclock::is_page(&page));
        }
    }
}

fn bytecode(code: &[u8]) {
    let most = code.len();
    assert!(aml::virtio_devices(code).count() <= most);
    assert!(aml::root_buses(code).count() <= most);
    assert!(aml::event_lines(code).count() <= most);
    let _ = aml::s5_sleep_types(code);
    let _ = aml::event_device(code);
    let _ = aml::host_bridge(code);
    let _ = aml::generation(code);
    let _ = aml::clock_page(code);
}
