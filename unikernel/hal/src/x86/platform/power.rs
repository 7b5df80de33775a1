//! Ends of the machine's life: off, again, halted, or with an exit code for the host; and the
//! power button.

use spin::Once;
use x86_64::instructions::tables;
use x86_64::structures::DescriptorTablePointer;
use x86_64::{PhysAddr, VirtAddr};

use super::acpi::{self, FixedRegister, PowerRegisters};
use super::console;
use super::generation;
use super::interrupts;
use super::io::{IoPort, Mmio};
use super::keyboard;
use super::time;

/// QEMU's `isa-debug-exit`, where the runner puts it.
const DEBUG_EXIT_PORT: u16 = 0xf4;
/// PM1 control (ACPI 6.5, section 4.8.3.2): sleep type and "go".
const SLEEP_TYPE_SHIFT: u16 = 10;
const SLEEP_ENABLE: u16 = 1 << 13;
/// The same in the sleep control register of a hardware-reduced machine (section 4.8.3.7).
const REDUCED_TYPE_SHIFT: u8 = 2;
const REDUCED_ENABLE: u8 = 1 << 5;
/// PM1 status and enable: the power button; PM1 control: events come as interrupts.
const POWER_BUTTON: u16 = 1 << 8;
const SCI_ENABLE: u16 = 1;
/// The general-purpose event of QEMU's `vmgenid`, `_E05`.
const GENERATION_CHANGED: u16 = 1 << 5;

/// How often a port is read while a hypervisor notices a reset: the clock may not run yet. An access takes a microsecond or
/// more, on hardware and under hypervisors alike.
const RESET_READS: u32 = 10_000;

/// How long switching off may take.
const PATIENCE_NS: u64 = 100_000_000;

static ON_POWER_BUTTON: Once<fn()> = Once::new();
static EVENT_REGISTER: Once<Mmio> = Once::new();

/// Switches the machine off. One without the registers for that is reset, which ends a machine of
/// Firecracker's and one of QEMU's with `-no-reboot`; one on which they do nothing halts.
pub fn power_off() -> ! {
    console::flush();
    let Some(power) =
        acpi::machine_if_read().map(|machine| &machine.power).filter(|power| power.can_switch_off())
    else {
        log::info!("this machine has no way to be switched off; it is reset");
        reboot()
    };
    let [a, b] = power.s5_types.unwrap_or_default();
    if let Some(register) = power.sleep_control {
        register.write_u8(a << REDUCED_TYPE_SHIFT | REDUCED_ENABLE);
    }
    for (register, kind) in power.pm1_control.into_iter().zip([a, b]) {
        if let Some(register) = register {
            register.write_u16(u16::from(kind) << SLEEP_TYPE_SHIFT | SLEEP_ENABLE);
        }
    }
    // A hypervisor takes a moment to notice.
    let deadline_ns = time::now_ns() + PATIENCE_NS;
    while time::now_ns() < deadline_ns {
        core::hint::spin_loop();
    }
    log::warn!("this machine cannot be switched off; it is halted");
    halt()
}

/// Starts the machine again, by whichever way exists.
pub fn reboot() -> ! {
    console::flush();
    if let Some((register, value)) = acpi::machine_if_read().and_then(|machine| machine.power.reset) {
        register.write_u8(value);
    }
    // The keyboard controller's reset line, which is the one that Firecracker has, then the reset register of PCI chipsets.
    for (port, value) in [(0x64, 0xfe), (0xcf9, 0x06)] {
        // SAFETY: the machine ends here, or the port does nothing.
        let port = unsafe { IoPort::<u8>::new(port) };
        port.write(value);
        // Firecracker ends the machine from another thread, and takes what comes before that for an error.
        for _ in 0..RESET_READS {
            port.read();
        }
    }
    triple_fault()
}

/// The last way to a reset: an exception without a table of handlers, which every processor and
/// hypervisor answers by starting over.
fn triple_fault() -> ! {
    let nothing = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
    // SAFETY: nothing of this machine's state is used any more.
    unsafe {
        tables::lidt(&nothing);
        core::arch::asm!("ud2", options(noreturn));
    }
}

/// Gives `code` to the host through `isa-debug-exit` (QEMU exits with `code * 2 + 1`). Returns if
/// there is no such device.
pub fn debug_exit(code: u8) {
    console::flush();
    // SAFETY: the port ends the machine or does nothing.
    unsafe { IoPort::<u32>::new(DEBUG_EXIT_PORT) }.write(u32::from(code));
}

/// Stops for good, without burning the host's processor.
pub fn halt() -> ! {
    console::flush();
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

/// Calls `on_press`, from the interrupt handler, when the power button is pressed.
pub fn enable_power_button(on_press: fn()) {
    ON_POWER_BUTTON.call_once(|| on_press);
    let power = &acpi::machine().power;
    if let Some(device) = power.event_device {
        // SAFETY: the DSDT says that the event register is there; it does no DMA.
        EVENT_REGISTER.call_once(|| unsafe { Mmio::map(PhysAddr::new_truncate(device.register), 4) });
        if let Some(vector) = interrupts::register(&event_interrupt) {
            interrupts::route(device.line, vector);
        }
    } else if let (Some(line), Some(vector)) = (power.sci, interrupts::register(&sci_interrupt)) {
        take_over_events(power);
        interrupts::route(line, vector);
    } else {
        keyboard::enable();
    }
    // There is no bit that says which event it is; Firecracker has none but these.
    for line in &power.event_lines {
        if let Some(vector) = interrupts::register(&generation::check) {
            interrupts::route(*line, vector);
        }
    }
}

/// Asks the firmware for the events, and for the button's alone.
fn take_over_events(power: &PowerRegisters) {
    let is_enabled = power.pm1_control[0].is_some_and(|control| control.read_u16() & SCI_ENABLE != 0);
    if let (false, Some((port, value))) = (is_enabled, power.enable) {
        // SAFETY: the FADT names this port and value for exactly this.
        unsafe { IoPort::<u8>::new(port) }.write(value);
    }
    for (status, enable) in event_blocks(power) {
        status.write_u16(POWER_BUTTON);
        enable.write_u16(POWER_BUTTON);
    }
    enable_generation_event(power);
}

/// Asks for the general-purpose event that says that the machine goes on from a saved state.
fn enable_generation_event(power: &PowerRegisters) {
    if let (Some((status, half)), true) = (power.gpe0, acpi::machine().generation.is_some()) {
        status.write_u16(GENERATION_CHANGED);
        status.offset(half).write_u16(GENERATION_CHANGED);
    }
}

/// Status and enable register of each event block.
fn event_blocks(power: &PowerRegisters) -> impl Iterator<Item = (FixedRegister, FixedRegister)> {
    let half = u16::from(power.pm1_event_bytes / 2);
    power.pm1_event.into_iter().flatten().map(move |block| (block, block.offset(half)))
}

fn sci_interrupt() {
    for (status, _) in event_blocks(&acpi::machine().power) {
        if status.read_u16() & POWER_BUTTON != 0 {
            // Writing a one clears the bit.
            status.write_u16(POWER_BUTTON);
            pressed();
        }
    }
    if let Some((status, _)) = acpi::machine().power.gpe0.filter(|_| acpi::machine().generation.is_some())
        && status.read_u16() & GENERATION_CHANGED != 0
    {
        status.write_u16(GENERATION_CHANGED);
        generation::check();
    }
}

fn event_interrupt() {
    let (Some(register), Some(device)) = (EVENT_REGISTER.get(), acpi::machine().power.event_device) else {
        return;
    };
    let events =
        if device.register_bytes == 1 { register.read::<u8>(0).into() } else { register.read::<u32>(0) };
    if events & device.power_button != 0 {
        pressed();
    }
}

pub(super) fn pressed() {
    if let Some(on_press) = ON_POWER_BUTTON.get() {
        on_press();
    }
}
