//! Ends of the machine's life.

use spin::Once;

use crate::sim::machine;

static ON_POWER_BUTTON: Once<fn()> = Once::new();

/// Switches the machine off.
pub fn power_off() -> ! {
    machine::end()
}

/// Starts the machine again, which ends it here.
pub fn reboot() -> ! {
    machine::end()
}

/// Gives `code` to the host.
pub fn debug_exit(code: u8) {
    machine::set_code(code);
}

/// Stops.
pub fn halt() -> ! {
    machine::end()
}

/// Calls `on_press` when the power button is pressed.
pub fn enable_power_button(on_press: fn()) {
    ON_POWER_BUTTON.call_once(|| on_press);
}

/// Presses it: the kernel is told at once, as from an interrupt.
pub(in crate::sim) fn press_button() {
    if let Some(on_press) = ON_POWER_BUTTON.get() {
        on_press();
    }
}
