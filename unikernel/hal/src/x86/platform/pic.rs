//! The interrupt controllers of old, which are not used.

use super::io::IoPort;

/// The two 8259s: moved off the exceptions' vectors, in case one of them signals a spurious
/// interrupt, and all lines masked.
pub(super) fn mask() {
    const COMMANDS: [(u16, u16, u8, u8); 2] = [(0x20, 0x21, 32, 4), (0xa0, 0xa1, 40, 2)];
    for (command, data, first_vector, cascade) in COMMANDS {
        // SAFETY: an interrupt controller's registers cannot break memory safety.
        let (command, data) = unsafe { (IoPort::<u8>::new(command), IoPort::<u8>::new(data)) };
        command.write(0x11);
        for value in [first_vector, cascade, 0x01, 0xff] {
            data.write(value);
        }
    }
}
