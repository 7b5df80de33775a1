//! Errors, as Linux numbers them (errno(3)).

/// Why something did not work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error(i32);

impl Error {
    /// Not permitted.
    pub const EPERM: Self = Self(1);
    /// There is none.
    pub const ENOENT: Self = Self(2);
    /// The device does not answer.
    pub const EIO: Self = Self(5);
    /// There is no memory.
    pub const ENOMEM: Self = Self(12);
    /// Somebody has it.
    pub const EBUSY: Self = Self(16);
    /// It is there already.
    pub const EEXIST: Self = Self(17);
    /// There is no such device.
    pub const ENODEV: Self = Self(19);
    /// That means nothing.
    pub const EINVAL: Self = Self(22);
    /// The device knows no such request.
    pub const ENOTTY: Self = Self(25);
    /// There is no room.
    pub const ENOSPC: Self = Self(28);
    /// It is out of bounds.
    pub const ERANGE: Self = Self(34);
    /// The device can do much, but not this.
    pub const EOPNOTSUPP: Self = Self(95);

    /// The error of a positive number; `EINVAL` for what is none.
    pub const fn from_number(number: i32) -> Self {
        if number > 0 && number < 4096 { Self(number) } else { Self::EINVAL }
    }

    /// Its number, which is positive.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// What the kernel has answered: a number, or an error as a negative one.
    pub(crate) fn check(answer: i64) -> Result<u64, Self> {
        u64::try_from(answer).map_err(|_| Self::from_number(answer.unsigned_abs().min(4096) as i32))
    }
}
