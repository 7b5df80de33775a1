//! What is wrong with a file, in words for people.

use core::fmt;

/// Why a file is not a program that can be loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElfError {
    /// It does not begin as ELF files do.
    NotElf,
    /// The file ends before what it says is in it.
    Truncated,
    /// It is for a machine of another width.
    Not64Bit,
    /// Its numbers have their high bytes first.
    BigEndian,
    /// It is of this version of the format, and there is only one.
    Version(u8),
    /// It is for this other processor (`e_machine`).
    Machine(u16),
    /// It is an ELF file of another type (`e_type`).
    NotExecutable(u16),
    /// The table of segments has no entries, too many, or such of another size.
    BadTable,
    /// Nothing of it is to be loaded.
    NoSegments,
    /// The segment at this address has impossible sizes or offsets.
    BadSegment(u64),
    /// The segment at this address could be written and executed.
    WritableAndExecutable(u64),
    /// The segment at this address shares a page with the one before.
    Overlap(u64),
    /// It needs addresses, from here on, that no program may have.
    OutOfRange(u64),
    /// Its entry is not in its code.
    BadEntry(u64),
    /// The name of its interpreter cannot be a path.
    BadInterpreter,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("it is no ELF file"),
            Self::Truncated => f.write_str("the file is truncated"),
            Self::Not64Bit => {
                f.write_str("it is a 32-bit program, and this is a 64-bit machine without the other mode")
            }
            Self::BigEndian => f.write_str("it is for a big-endian processor, and this one is x86-64"),
            Self::Version(version) => {
                write!(f, "it says that it is ELF of version {version}, and there is only 1")
            }
            Self::Machine(machine) => match processor(*machine) {
                Some(name) => write!(f, "it is for {name}, and this processor is x86-64"),
                None => write!(f, "it is for processor type {machine}, and this one is x86-64 (62)"),
            },
            Self::NotExecutable(1) => f.write_str("it is an object file, which has to be linked first"),
            Self::NotExecutable(4) => f.write_str("it is a core dump"),
            Self::NotExecutable(other) => write!(f, "it is an ELF file of type {other}, not a program"),
            Self::BadTable => f.write_str("its table of segments is damaged"),
            Self::NoSegments => f.write_str("it has nothing to load"),
            Self::BadSegment(at) => write!(f, "its segment at {at:#x} is damaged"),
            Self::WritableAndExecutable(at) => write!(f, "its segment at {at:#x} is writable and executable"),
            Self::Overlap(at) => write!(f, "its segment at {at:#x} shares a page with the one before"),
            Self::OutOfRange(at) => {
                write!(f, "it needs memory at {at:#x} and above, which no program can have")
            }
            Self::BadEntry(at) => write!(f, "its entry {at:#x} is not in its code"),
            Self::BadInterpreter => f.write_str("the path of its interpreter is damaged"),
        }
    }
}

fn processor(machine: u16) -> Option<&'static str> {
    Some(match machine {
        3 => "x86",
        8 => "MIPS",
        20 | 21 => "PowerPC",
        22 => "S/390",
        40 => "ARM",
        183 => "ARM (AArch64)",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => return None,
    })
}
