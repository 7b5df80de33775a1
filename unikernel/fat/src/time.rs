//! Times of entries: local ones, of an unknown place, which are taken as UTC.

use unikernel_vfs::Timestamp;

const DAY_SECONDS: i64 = 86_400;
/// The year from which dates count.
const FIRST_YEAR: u16 = 1980;

/// The moment of a date (day, month, years in 5, 4, 7 bits from the lowest), a time (2 seconds, minutes, hours in 5, 6, 5 bits)
/// and hundredths of a second, up to 199; none for a date that was never set. What is out of range is brought into it.
pub(crate) fn timestamp(date: u16, time: u16, hundredths: u8) -> Option<Timestamp> {
    if date == 0 {
        return None;
    }
    let hundredths = i64::from(hundredths.min(199));
    let day = i64::from((date & 0x1f).max(1));
    let month = (date >> 5 & 0xf).clamp(1, 12);
    let days = days_before_month(FIRST_YEAR + (date >> 9), month) + day - 1;
    let hours = i64::from((time >> 11).min(23));
    let minutes = i64::from((time >> 5 & 0x3f).min(59));
    let seconds = i64::from((time & 0x1f).min(29)) * 2;
    Some(Timestamp {
        seconds: days * DAY_SECONDS + (hours * 60 + minutes) * 60 + seconds + hundredths / 100,
        nanoseconds: (hundredths % 100) as u32 * 10_000_000,
    })
}

/// Days from 1970 to the beginning of a month (1 to 12) of a year from 1980 to 2107.
fn days_before_month(year: u16, month: u16) -> i64 {
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let is_leap = year.is_multiple_of(4) && year != 2100;
    let years = i64::from(year) - 1970;
    // One of each four years since 1968, but 2100.
    let leap_days = (years + 1) / 4 - i64::from(year > 2100);
    years * 365 + leap_days + BEFORE[usize::from(month) - 1] + i64::from(is_leap && month > 2)
}
