//! The registers of the battery-backed clock (Motorola MC146818) as a time.

/// Bits of status register B.
const IS_24_HOURS: u8 = 1 << 1;
const IS_BINARY: u8 = 1 << 2;
/// In 12-hour mode, the hour's flag for the afternoon.
const IS_AFTERNOON: u8 = 1 << 7;
/// Centuries that a clock may be in. A register without a century in it says something else.
const CENTURIES: core::ops::RangeInclusive<u8> = 19..=21;
/// Two digits of a year without a century are from 1970 to 2069, since time begins in 1970.
const FIRST_YEAR: u64 = 70;

/// The clock's registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    /// Seconds, minutes, hours.
    pub time: [u8; 3],
    /// Day of the month, month, year.
    pub date: [u8; 3],
    /// The century, if the firmware names a register for it.
    pub century: Option<u8>,
    /// Status register B: how the others are to be read.
    pub status: u8,
}

/// Seconds between 1970 and what the registers say; `None` if they say no time at all, as when
/// there is no clock.
pub fn seconds_since_1970(registers: Registers) -> Option<u64> {
    let number = |value: u8| {
        if registers.status & IS_BINARY != 0 {
            return Some(value);
        }
        let (tens, ones) = (value >> 4, value & 0xf);
        (tens <= 9 && ones <= 9).then_some(tens * 10 + ones)
    };
    let [second, minute, hour] = registers.time;
    let [day, month, year] = registers.date;
    let hour = if registers.status & IS_24_HOURS != 0 {
        number(hour)?
    } else {
        twelve_hours(number(hour & !IS_AFTERNOON)?, hour & IS_AFTERNOON != 0)?
    };
    let fields = [number(second)?, number(minute)?, hour, number(day)?, number(month)?, number(year)?];
    let limits = [0..=59, 0..=59, 0..=23, 1..=31, 1..=12, 0..=99];
    if !fields.iter().zip(limits).all(|(value, limit)| limit.contains(value)) {
        return None;
    }
    let [second, minute, hour, day, month, year] = fields.map(u64::from);
    let century = registers.century.and_then(number).filter(|century| CENTURIES.contains(century));
    let year = match century {
        Some(century) => u64::from(century) * 100 + year,
        None => year + if year < FIRST_YEAR { 2000 } else { 1900 },
    };
    let days = days_since_1970(year, month, day)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// 12 at night is 0, 12 at noon is 12.
fn twelve_hours(hour: u8, is_afternoon: bool) -> Option<u8> {
    (1..=12).contains(&hour).then(|| hour % 12 + if is_afternoon { 12 } else { 0 })
}

/// Days of the Gregorian calendar, counting years from March so that the leap day comes last. `None` before 1970.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    /// Days from 1 March of the year 0 to 1 January 1970.
    const TO_1970: u64 = 719_468;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_month = (153 * month + 2) / 5;
    let leap_days = year / 4 - year / 100 + year / 400;
    (year * 365 + leap_days + days_before_month + day - 1).checked_sub(TO_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bcd(time: [u8; 3], date: [u8; 3]) -> Registers {
        Registers { time, date, century: None, status: IS_24_HOURS }
    }

    #[test]
    fn known_times_are_read() {
        assert_eq!(seconds_since_1970(bcd([0, 0, 0], [1, 1, 0])), Some(946_684_800));
        assert_eq!(seconds_since_1970(bcd([0x59, 0x59, 0x23], [0x29, 2, 0x24])), Some(1_709_251_199));
        assert_eq!(seconds_since_1970(bcd([0, 0, 0], [1, 3, 0x24])), Some(1_709_251_200));
        assert_eq!(seconds_since_1970(bcd([0x13, 0x31, 0x19], [0x23, 0x11, 0x26])), Some(1_795_462_273));
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut expected = days_since_1970(2000, 1, 1).unwrap();
        for year in 2000..2100 {
            for (month, length) in (1..).zip(lengths) {
                let is_leap_february = month == 2 && year % 4 == 0;
                for day in 1..=length + u64::from(is_leap_february) {
                    assert_eq!(days_since_1970(year, month, day), Some(expected));
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn binary_and_twelve_hour_modes_say_the_same() {
        let expected = seconds_since_1970(bcd([0x30, 0x45, 0x12], [9, 8, 0x26]));
        let binary = Registers {
            time: [30, 45, 12],
            date: [9, 8, 26],
            century: None,
            status: IS_24_HOURS | IS_BINARY,
        };
        let noon = Registers {
            time: [0x30, 0x45, 0x12 | IS_AFTERNOON],
            date: [9, 8, 0x26],
            century: None,
            status: 0,
        };
        assert!(expected.is_some());
        assert_eq!(seconds_since_1970(binary), expected);
        assert_eq!(seconds_since_1970(noon), expected);
        let midnight = Registers { time: [0, 0, 0x12], date: [9, 8, 0x26], century: None, status: 0 };
        assert_eq!(seconds_since_1970(midnight), seconds_since_1970(bcd([0, 0, 0], [9, 8, 0x26])));
    }

    #[test]
    fn century_is_the_registers_or_the_likely_one() {
        let at = |century, date| seconds_since_1970(Registers { century, ..bcd([0; 3], date) });
        let (of_1999, of_2000) = (Some(946_598_400), Some(946_684_800));
        assert_eq!(at(Some(0x19), [0x31, 0x12, 0x99]), of_1999);
        assert_eq!(at(None, [0x31, 0x12, 0x99]), of_1999);
        assert_eq!(at(Some(0x20), [1, 1, 0]), of_2000);
        // No century is what a byte of something else says.
        for nonsense in [0x00, 0x05, 0x18, 0x22, 0x1a, 0xff] {
            assert_eq!(at(Some(nonsense), [0x31, 0x12, 0x99]), of_1999, "{nonsense:#x}");
        }
        assert_eq!(at(Some(0x20), [1, 1, 0x70]), Some(3_155_760_000));
        assert_eq!(at(Some(0x19), [0x31, 0x12, 0x69]), None);
        let binary = Registers {
            century: Some(19),
            date: [31, 12, 99],
            status: IS_24_HOURS | IS_BINARY,
            ..bcd([0; 3], [0; 3])
        };
        assert_eq!(seconds_since_1970(binary), of_1999);
    }

    #[test]
    fn missing_clock_has_no_time() {
        assert_eq!(
            seconds_since_1970(Registers {
                time: [0xff; 3],
                date: [0xff; 3],
                century: Some(0xff),
                status: 0xff
            }),
            None
        );
        assert_eq!(seconds_since_1970(bcd([0; 3], [0; 3])), None);
        assert_eq!(seconds_since_1970(bcd([0x5a, 0, 0], [1, 1, 1])), None);
    }
}
