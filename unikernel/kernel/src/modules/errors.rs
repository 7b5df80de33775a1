//! What is wrong with a module, in words for the log and as error numbers, which are Linux' (init_module(2), delete_module(2)).

use alloc::string::String;
use core::fmt;

use unikernel_elf::object::ObjectError;
use unikernel_hal::module::BadDescriptor;

use crate::abi::Errno;

/// Why a module is not loaded.
#[derive(Debug)]
pub(crate) enum LoadError<'a> {
    /// Its file.
    Object(ObjectError<'a>),
    /// It does not say what it is called, or that is no name.
    NoName,
    /// It was built for another version of the interface.
    OtherInterface(&'a str),
    /// What it describes itself by.
    Descriptor(BadDescriptor),
    /// There is a module of this name.
    IsLoaded(&'a str),
    /// It needs this one, which is not loaded.
    Needs(&'a str),
    /// It cannot be trusted.
    Untrusted,
    /// It has a parameter of this name that cannot be that.
    BadParameter(String, i32),
    /// It has not started: its own error number.
    Init(i32),
    /// There is no memory.
    OutOfMemory,
    /// Its nodes in `/sys` cannot be made.
    Nodes(Errno),
}

impl<'a> From<ObjectError<'a>> for LoadError<'a> {
    fn from(error: ObjectError<'a>) -> Self {
        Self::Object(error)
    }
}

impl From<crate::kmem::room::OutOfMemory> for LoadError<'_> {
    fn from(_: crate::kmem::room::OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl fmt::Display for LoadError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(error) => error.fmt(f),
            Self::NoName => {
                f.write_str("its section `.modinfo` has no name; build it with `unikernel-module`")
            }
            Self::OtherInterface(version) => {
                write!(
                    f,
                    "it is for version {version} of the interface, and this kernel has {ABI}; rebuild it"
                )
            }
            Self::Descriptor(BadDescriptor::OtherVersion(version)) => {
                write!(
                    f,
                    "it is for version {version} of the interface, and this kernel has {ABI}; rebuild it"
                )
            }
            Self::Descriptor(BadDescriptor::Damaged) => {
                f.write_str("its `unikernel_module` is missing or damaged; build it with `unikernel-module`")
            }
            Self::IsLoaded(name) => write!(f, "`{name}` is loaded already"),
            Self::Needs(name) => write!(f, "it needs the module `{name}`; load that first"),
            Self::Untrusted => f.write_str("it is not signed by anybody whom this kernel trusts"),
            Self::BadParameter(name, error) => {
                write!(f, "its parameter `{name}` cannot be that (error {error}); `modinfo` says what it can")
            }
            Self::Init(error) => write!(f, "it did not start (error {error})"),
            Self::OutOfMemory => f.write_str("there is no memory for it"),
            Self::Nodes(error) => write!(f, "its nodes in /sys/module cannot be made ({})", error.name()),
        }
    }
}

const ABI: u32 = unikernel_module::abi::VERSION;

impl From<&LoadError<'_>> for Errno {
    fn from(error: &LoadError<'_>) -> Self {
        match error {
            LoadError::Object(ObjectError::UnknownSymbol(_)) | LoadError::Needs(_) => Self::ENOENT,
            LoadError::Object(ObjectError::OtherVersion { .. }) => Self::EINVAL,
            LoadError::Object(ObjectError::OutOfMemory) | LoadError::OutOfMemory => Self::ENOMEM,
            LoadError::Object(_)
            | LoadError::NoName
            | LoadError::OtherInterface(_)
            | LoadError::Descriptor(_) => Self::ENOEXEC,
            LoadError::IsLoaded(_) => Self::EEXIST,
            LoadError::Untrusted => Self::EKEYREJECTED,
            LoadError::BadParameter(_, error) | LoadError::Init(error) => Self::of_module(*error),
            LoadError::Nodes(error) => *error,
        }
    }
}
