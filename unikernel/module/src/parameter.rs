//! Parameters: typed values that the command line sets when the module is loaded, and that `/sys/module/NAME/parameters` shows, and changes
//! where the module allows that. As in Linux, they cross as text: `Y` and `N`, numbers in decimal or with `0x`, strings as they are.

use core::fmt::{self, Write};
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crate::Error;
use crate::abi::{self, Parameter};
use crate::lock::Lock;

/// What a parameter can be.
pub trait Value: Sync + 'static {
    /// Takes a text.
    ///
    /// # Errors
    ///
    /// If it is no such value, or one that the parameter cannot have; then it stays what it was.
    fn set_text(&self, text: &str) -> Result<(), Error>;

    /// Writes the text.
    ///
    /// # Errors
    ///
    /// If there is no room for it.
    fn write_text(&self, into: &mut dyn Write) -> fmt::Result;
}

/// Describes a parameter for the kernel.
#[doc(hidden)]
pub const fn describe<V: Value>(value: &'static V, name: &'static str, mode: u32) -> Parameter {
    let value = core::ptr::from_ref(value).cast();
    Parameter { name: abi::Text::new(name), mode, value, get: get::<V>, set: set::<V> }
}

extern "C" fn get<V: Value>(value: *const (), into: *mut u8, bytes: usize) -> isize {
    // SAFETY: `describe` has made it of a `V` that is there for good, and the kernel hands it back with a buffer of so many bytes.
    let (value, buffer) = unsafe { (&*value.cast::<V>(), core::slice::from_raw_parts_mut(into, bytes)) };
    let mut text = Buffer { bytes: buffer, len: 0 };
    match value.write_text(&mut text) {
        Ok(()) => text.len as isize,
        Err(fmt::Error) => -(Error::ENOSPC.number() as isize),
    }
}

extern "C" fn set<V: Value>(value: *const (), text: *const u8, bytes: usize) -> i32 {
    // SAFETY: as above; there are so many bytes.
    let (value, text) = unsafe { (&*value.cast::<V>(), core::slice::from_raw_parts(text, bytes)) };
    let outcome = core::str::from_utf8(text).map_err(|_| Error::EINVAL).and_then(|text| value.set_text(text));
    outcome.map_or_else(|error| -error.number(), |()| 0)
}

struct Buffer<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Write for Buffer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let into =
            self.bytes.get_mut(self.len..).and_then(|rest| rest.get_mut(..text.len())).ok_or(fmt::Error)?;
        into.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Yes or no.
#[derive(Debug)]
pub struct Bool(AtomicBool);

impl Bool {
    /// Makes one with a default.
    pub const fn new(value: bool) -> Self {
        Self(AtomicBool::new(value))
    }

    /// The value.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Value for Bool {
    /// As Linux takes it (`kstrtobool`); a name without a value is `Y` by then.
    fn set_text(&self, text: &str) -> Result<(), Error> {
        let value = match text.as_bytes() {
            [b'y' | b'Y' | b't' | b'T' | b'1', ..] => true,
            [b'n' | b'N' | b'f' | b'F' | b'0', ..] => false,
            [b'o' | b'O', b'n' | b'N', ..] => true,
            [b'o' | b'O', b'f' | b'F', ..] => false,
            _ => return Err(Error::EINVAL),
        };
        self.0.store(value, Ordering::Relaxed);
        Ok(())
    }

    fn write_text(&self, into: &mut dyn Write) -> fmt::Result {
        into.write_str(if self.get() { "Y" } else { "N" })
    }
}

/// A number, sign and all, within bounds.
#[derive(Debug)]
pub struct Int {
    value: AtomicI64,
    bounds: RangeInclusive<i64>,
}

/// A number without a sign, within bounds.
#[derive(Debug)]
pub struct Uint {
    value: AtomicU64,
    bounds: RangeInclusive<u64>,
}

macro_rules! number {
    ($name:ident, $type:ty, $atomic:ty) => {
        impl $name {
            /// Makes one with a default.
            pub const fn new(value: $type, bounds: RangeInclusive<$type>) -> Self {
                Self { value: <$atomic>::new(value), bounds }
            }

            /// The value.
            pub fn get(&self) -> $type {
                self.value.load(Ordering::Relaxed)
            }

            /// Sets the value, if it is within the bounds.
            ///
            /// # Errors
            ///
            /// If it is not.
            pub fn set(&self, value: $type) -> Result<(), Error> {
                if !self.bounds.contains(&value) {
                    return Err(Error::ERANGE);
                }
                self.value.store(value, Ordering::Relaxed);
                Ok(())
            }
        }

        impl Value for $name {
            fn set_text(&self, text: &str) -> Result<(), Error> {
                let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
                let (radix, digits) = digits.strip_prefix("0x").map_or((10, digits), |digits| (16, digits));
                if digits.starts_with(['+', '-']) {
                    return Err(Error::EINVAL);
                }
                let magnitude = u64::from_str_radix(digits, radix).map_err(|_| Error::EINVAL)?;
                let value = if sign.is_empty() { i128::from(magnitude) } else { -i128::from(magnitude) };
                self.set(<$type>::try_from(value).map_err(|_| Error::ERANGE)?)
            }

            fn write_text(&self, into: &mut dyn Write) -> fmt::Result {
                write!(into, "{}", self.get())
            }
        }
    };
}
number!(Int, i64, AtomicI64);
number!(Uint, u64, AtomicU64);

/// A string of at most `N` bytes.
#[derive(Debug)]
pub struct Text<const N: usize>(Lock<([u8; N], usize)>);

impl<const N: usize> Text<N> {
    /// Makes one with a default.
    ///
    /// # Panics
    ///
    /// If that is too long: at compile time, in a static.
    pub const fn new(text: &str) -> Self {
        let (bytes, mut value, mut at) = (text.as_bytes(), [0; N], 0);
        while at < bytes.len() {
            value[at] = bytes[at];
            at += 1;
        }
        Self(Lock::new((value, bytes.len())))
    }

    /// Runs `work` with the text.
    pub fn with<R>(&self, work: impl FnOnce(&str) -> R) -> R {
        let (bytes, len) = *self.0.lock();
        work(core::str::from_utf8(&bytes[..len]).unwrap_or_default())
    }
}

impl<const N: usize> Value for Text<N> {
    fn set_text(&self, text: &str) -> Result<(), Error> {
        let mut value = [0; N];
        value.get_mut(..text.len()).ok_or(Error::ENOSPC)?.copy_from_slice(text.as_bytes());
        *self.0.lock() = (value, text.len());
        Ok(())
    }

    fn write_text(&self, into: &mut dyn Write) -> fmt::Result {
        self.with(|text| into.write_str(text))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    fn text_of(parameter: &Parameter) -> String {
        let mut buffer = [0; 32];
        let len = (parameter.get)(parameter.value, buffer.as_mut_ptr(), buffer.len());
        String::from_utf8(buffer[..usize::try_from(len).unwrap()].to_vec()).unwrap()
    }

    fn set_to(parameter: &Parameter, text: &str) -> i32 {
        (parameter.set)(parameter.value, text.as_ptr(), text.len())
    }

    #[test]
    fn numbers_keep_to_their_bounds() {
        static COUNT: Uint = Uint::new(3, 1..=300);
        static SHIFT: Int = Int::new(-1, -8..=8);
        let (count, shift) = (describe(&COUNT, "count", 0o644), describe(&SHIFT, "shift", 0o444));
        assert_eq!((text_of(&count).as_str(), text_of(&shift).as_str()), ("3", "-1"));
        assert_eq!((set_to(&count, "0x10"), set_to(&shift, "-8")), (0, 0));
        assert_eq!((COUNT.get(), SHIFT.get()), (16, -8));
        let (range, invalid) = (-Error::ERANGE.number(), -Error::EINVAL.number());
        assert_eq!(
            ["0", "301", "-1", "99999999999999999999"].map(|text| set_to(&count, text)),
            [range, range, range, invalid]
        );
        assert_eq!(["", "+1", "1 ", "0x", "--1", "x"].map(|text| set_to(&shift, text)), [invalid; 6]);
        assert_eq!((COUNT.get(), SHIFT.get()), (16, -8), "what was refused changes nothing");
    }

    #[test]
    fn yes_and_no_are_said_as_in_linux() {
        static LOUD: Bool = Bool::new(false);
        let loud = describe(&LOUD, "loud", 0o644);
        for (text, value) in [("Y", true), ("0", false), ("on", true), ("off", false), ("true", true)] {
            assert_eq!((set_to(&loud, text), LOUD.get()), (0, value), "{text}");
        }
        assert_eq!((set_to(&loud, "o"), set_to(&loud, ""), text_of(&loud).as_str()), (-22, -22, "Y"));
    }
}
