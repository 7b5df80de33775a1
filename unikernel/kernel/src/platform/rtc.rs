//! The battery-backed clock of the PC (Motorola MC146818): wall time in whole seconds.

use super::io::IoPort;
use super::time::NS_PER_SECOND;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;

const UPDATE_IN_PROGRESS: u8 = 1 << 7;
const IS_24_HOURS: u8 = 1 << 1;
const IS_BINARY: u8 = 1 << 2;
/// In 12-hour mode, the hour's flag for the afternoon.
const IS_AFTERNOON: u8 = 1 << 7;
/// An update takes 2 ms at most; a clock that claims longer is not there.
const UPDATE_TRIES: usize = 10_000;

/// Reads the clock as nanoseconds since 1970; `None` if there is none.
pub(super) fn read_ns() -> Option<u64> {
    let mut fields = read_fields()?;
    loop {
        // The clock may have ticked between two fields: twice the same means that it has not.
        let again = read_fields()?;
        if again == fields {
            break;
        }
        fields = again;
    }
    let [second, minute, hour, day, month, year] = decode(fields, register(STATUS_B))?;
    let days = days_since_1970(2000 + year, month, day);
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * NS_PER_SECOND)
}

fn register(index: u8) -> u8 {
    // SAFETY: the clock's registers cannot break memory safety. Bit 7 of the index port masks
    // NMIs; it stays clear.
    let (select, data) = unsafe { (IoPort::<u8>::new(0x70), IoPort::<u8>::new(0x71)) };
    select.write(index);
    data.read()
}

fn read_fields() -> Option<[u8; 6]> {
    (0..UPDATE_TRIES).find(|_| register(STATUS_A) & UPDATE_IN_PROGRESS == 0)?;
    Some([SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR].map(register))
}

/// Undoes BCD and 12-hour mode, and rejects what is no time.
fn decode(fields: [u8; 6], status: u8) -> Option<[u64; 6]> {
    let [second, minute, hour, day, month, year] = fields;
    let number = |value: u8| if status & IS_BINARY != 0 { value } else { (value >> 4) * 10 + (value & 0xf) };
    let mut hour_number = number(hour & !IS_AFTERNOON);
    if status & IS_24_HOURS == 0 {
        hour_number = hour_number % 12 + if hour & IS_AFTERNOON != 0 { 12 } else { 0 };
    }
    let decoded = [number(second), number(minute), hour_number, number(day), number(month), number(year)];
    let limits = [0..=59, 0..=59, 0..=23, 1..=31, 1..=12, 0..=99];
    let is_time = decoded.iter().zip(limits).all(|(value, limit)| limit.contains(value));
    is_time.then(|| decoded.map(u64::from))
}

/// Days of the Gregorian calendar, counting years from March so that the leap day comes last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_month = (153 * month + 2) / 5;
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + days_before_month + day - 1 - 719_468
}
