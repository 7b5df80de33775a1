//! What is done with output on its way to the screen, and where that leaves the cursor.

use super::settings::{Settings, input, output};

/// Tabs stop at multiples of this.
pub(super) const TAB_COLUMNS: usize = 8;

/// True for a byte that goes on with a character of UTF-8.
pub(super) const fn continues(settings: &Settings, byte: u8) -> bool {
    settings.input & input::UTF8 != 0 && byte & 0xc0 == 0x80
}

/// Gives `byte`, or what it becomes, to `put`; `column` is where the cursor stands.
pub(super) fn process(settings: &Settings, column: &mut usize, byte: u8, mut put: impl FnMut(u8)) {
    let has = |bit: u32| settings.output & bit != 0;
    if !has(output::PROCESS) {
        return put(byte);
    }
    match byte {
        b'\n' => {
            if has(output::NEWLINE_RETURNS | output::NEWLINE_TO_BOTH) {
                *column = 0;
            }
            if has(output::NEWLINE_TO_BOTH) {
                put(b'\r');
            }
            put(b'\n');
        }
        b'\r' if has(output::NO_RETURN_AT_START) && *column == 0 => {}
        b'\r' if has(output::RETURN_TO_NEWLINE) => {
            if has(output::NEWLINE_RETURNS) {
                *column = 0;
            }
            put(b'\n');
        }
        b'\r' => {
            *column = 0;
            put(b'\r');
        }
        b'\t' => {
            let spaces = TAB_COLUMNS - *column % TAB_COLUMNS;
            *column = column.wrapping_add(spaces);
            if settings.output & output::EXPAND_TABS == output::EXPAND_TABS {
                (0..spaces).for_each(|_| put(b' '));
            } else {
                put(b'\t');
            }
        }
        b'\x08' => {
            *column = column.saturating_sub(1);
            put(byte);
        }
        _ => {
            if !byte.is_ascii_control() && !continues(settings, byte) {
                *column = column.wrapping_add(1);
            }
            put(if has(output::TO_UPPER) { byte.to_ascii_uppercase() } else { byte });
        }
    }
}
