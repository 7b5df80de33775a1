//! Ends of the machine's life.

use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;

use super::console;
use crate::sim::machine;

static ON_POWER_BUTTON: Once<fn()> = Once::new();
/// Pressed before anybody wanted to know.
static IS_PRESSED: AtomicBool = AtomicBool::new(false);

/// Switches the machine off.
pub fn power_off() -> ! {
    console::flush();
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

/// Calls `on_press` when the power button is pressed, or was before: its status bit waits for who enables it.
pub fn enable_power_button(on_press: fn()) {
    ON_POWER_BUTTON.call_once(|| on_press);
    if IS_PRESSED.swap(false, Ordering::Relaxed) {
        on_press();
    }
}

/// Presses it: the kernel is told at once, as from an interrupt.
pub(in crate::sim) fn press_button() {
    match ON_POWER_BUTTON.get() {
        Some(on_press) => on_press(),
        None => IS_PRESSED.store(true, Ordering::Relaxed),
    }
}
