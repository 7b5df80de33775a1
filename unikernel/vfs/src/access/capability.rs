//! Capabilities (capabilities(7)), one by one and in sets.

/// How many Linux 6.1 knows.
pub const CAPABILITY_COUNT: u32 = 41;

/// A part of root's privileges; the numbers are Linux's (linux/capability.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Capability {
    /// Give files away.
    Chown = 0,
    /// Pass over modes and lists.
    DacOverride = 1,
    /// The same to read files, and to list and search directories.
    DacReadSearch = 2,
    /// Do what only a file's owner may.
    FileOwner = 3,
    /// Keep and set the set-user-ID and set-group-ID bits.
    FileSetId = 4,
    /// Signal whomever.
    Kill = 5,
    /// Any group, and a list of them.
    SetGid = 6,
    /// Any user.
    SetUid = 7,
    /// Change what may be inherited, and the bounding set.
    SetPcap = 8,
    /// Ports below 1024.
    NetBindService = 10,
    /// Change the network.
    NetAdmin = 12,
    /// Sockets that see whole packets.
    NetRaw = 13,
    /// More locked memory than `RLIMIT_MEMLOCK`.
    IpcLock = 14,
    /// Modules of the kernel.
    SysModule = 16,
    /// Another root directory.
    SysChroot = 18,
    /// Look into others.
    SysPtrace = 19,
    /// Much of the rest.
    SysAdmin = 21,
    /// Restart the machine.
    SysBoot = 22,
    /// Higher priorities, real time.
    SysNice = 23,
    /// Higher limits, and more than they allow.
    SysResource = 24,
    /// Set the clock.
    SysTime = 25,
    /// Device nodes.
    Mknod = 27,
    /// Give files capabilities.
    SetFileCapabilities = 31,
    /// Read the kernel's log.
    Syslog = 34,
    /// Wake the machine.
    WakeAlarm = 35,
}

/// A set of capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// None.
    pub const NONE: Self = Self(0);
    /// All that there are.
    pub const ALL: Self = Self((1 << CAPABILITY_COUNT) - 1);
    /// Those that concern files, which follow the user id for files (Linux: `CAP_FS_SET`): `CHOWN`, `DAC_OVERRIDE`, `DAC_READ_SEARCH`, `FOWNER`,
    /// `FSETID`, `LINUX_IMMUTABLE`, `MKNOD`, `MAC_OVERRIDE`.
    pub const OF_FILES: Self = Self(0x1f | 1 << 9 | 1 << 27 | 1 << 32);

    /// From the bits that Linux gives them; what there is not is left out.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// As bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// A number of a capability, if it is one.
    pub const fn is_number(number: u64) -> bool {
        number < CAPABILITY_COUNT as u64
    }

    /// The set with one, by its number.
    pub const fn of_number(number: u64) -> Self {
        Self::from_bits(if Self::is_number(number) { 1 << number } else { 0 })
    }

    /// True if it has one.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u8 != 0
    }

    /// True if it has all of another.
    pub const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// True if it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that the other has not.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl From<Capability> for CapabilitySet {
    fn from(capability: Capability) -> Self {
        Self(1 << capability as u8)
    }
}
