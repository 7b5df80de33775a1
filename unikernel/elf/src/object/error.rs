//! What is wrong with a module's file, in words for people.

use core::fmt;

/// Why a file is no module that can be loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectError<'a> {
    /// It does not begin as ELF files do.
    NotElf,
    /// It is for another machine.
    OtherMachine,
    /// It is an ELF file of another type (`e_type`).
    NotRelocatable(u16),
    /// The file ends before what it says is in it.
    Truncated,
    /// The file, or what it would be in memory, is larger than any module.
    TooLarge,
    /// The table of sections is damaged.
    BadSections,
    /// There is no table of symbols, or more than one, or a damaged one.
    BadSymbols,
    /// It has no code.
    NoCode,
    /// What it says about itself is not text.
    BadModinfo,
    /// This section could be written and executed.
    WritableAndExecutable(&'a str),
    /// This section is to be there once for each thread.
    ThreadLocal(&'a str),
    /// This section has an alignment that no page has.
    BadAlignment(&'a str),
    /// Relocations of this section are damaged, or of a form that x86-64 does not have.
    BadRelocation(&'a str),
    /// A relocation of this type, which is none that modules have.
    UnknownRelocation(u32),
    /// What this symbol names is too far away for the instruction that uses it.
    OutOfReach(&'a str),
    /// Nobody defines this symbol.
    UnknownSymbol(&'a str),
    /// This symbol is there with another version.
    OtherVersion {
        /// Its name.
        name: &'a str,
        /// What the module was built for.
        wanted: u32,
        /// What there is.
        found: u32,
    },
    /// This symbol is in no section that is in memory.
    BadSymbol(&'a str),
    /// There is no memory to look at it.
    OutOfMemory,
}

impl fmt::Display for ObjectError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("it is no ELF file"),
            Self::OtherMachine => f.write_str("it is not for 64-bit x86"),
            Self::NotRelocatable(2 | 3) => {
                f.write_str("it is a linked program or library; a module is a relocatable object (`ld -r`)")
            }
            Self::NotRelocatable(other) => write!(f, "it is an ELF file of type {other}, not an object (1)"),
            Self::Truncated => f.write_str("the file is truncated"),
            Self::TooLarge => write!(f, "it is larger than {} MiB", super::MOST_OBJECT_BYTES >> 20),
            Self::BadSections => f.write_str("its table of sections is damaged"),
            Self::BadSymbols => f.write_str("its table of symbols is damaged, or was stripped"),
            Self::NoCode => f.write_str("it has no code"),
            Self::BadModinfo => f.write_str("its section `.modinfo` is no list of `key=value`"),
            Self::WritableAndExecutable(name) => write!(f, "its section `{name}` is writable and executable"),
            Self::ThreadLocal(name) => write!(f, "its section `{name}` has thread-local data"),
            Self::BadAlignment(name) => write!(f, "its section `{name}` has a bad alignment"),
            Self::BadRelocation(name) => write!(f, "the relocations of its section `{name}` are damaged"),
            Self::UnknownRelocation(kind) => {
                write!(f, "it has a relocation of type {kind}, which modules do not have")
            }
            Self::OutOfReach(name) => {
                write!(f, "`{name}` is out of an instruction's reach; build it position-independent")
            }
            Self::UnknownSymbol(name) => write!(f, "unknown symbol `{name}`"),
            Self::OtherVersion { name, wanted, found } => {
                write!(
                    f,
                    "it was built for version {wanted} of `{name}`, and there is version {found}; rebuild it"
                )
            }
            Self::BadSymbol(name) => write!(f, "its symbol `{name}` is in no section that is loaded"),
            Self::OutOfMemory => f.write_str("there is no memory for it"),
        }
    }
}
