//! Programs from the tree: the one that `init=` names starts in place of the linked one, as `execve` would start it, and
//! `execve` itself puts one in the place of another.
//!
//! What a file says is checked by `unikernel_elf`. [`open_program`] finds all files that a program needs and checks them,
//! [`Loadable::map`] maps their pages ([`executable`](super::executable)).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use linux_raw_sys::general::{AT_FDCWD, O_RDONLY};
use unikernel_elf::{ElfError, Kind, script};
use unikernel_vfs::access::ProgramFile;

use super::executable::{Executable, Head};
use crate::abi::Errno;
use crate::file::OpenFile;
use crate::kmem::layout::USER_END;
use crate::mem::space::{self, SpaceError};
use crate::mem::user::Fault;
use crate::ops::open;
use crate::process::linked::Linked;
use crate::process::program::Program;

/// Scripts whose interpreter is a script (Linux).
const MOST_SCRIPTS: usize = 5;

/// Why a program cannot be loaded.
#[derive(Debug)]
pub(crate) struct LoadError {
    path: String,
    role: Role,
    reason: Reason,
}

/// What a file is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Program,
    /// It reads a script.
    Reader,
    /// It links a program.
    Linker,
}

/// What is wrong with one file.
#[derive(Debug)]
pub(super) enum Reason {
    /// It cannot be opened.
    Open(Errno),
    /// It is no regular file, or one that cannot be mapped.
    NotAFile,
    /// Nobody may execute it.
    NotExecutable,
    /// It is on a disk whose content nobody has signed, and that is wanted.
    NotTrusted,
    /// The disk does not give it.
    Unreadable,
    /// It is no program for this machine, or a damaged one.
    Elf(ElfError),
    /// The first line of a script names no interpreter.
    BadScript,
    /// Its interpreter's interpreter's interpreter is a script.
    TooManyScripts,
    /// It is the image's program, which has been running.
    InUse,
    /// Something of the kernel's is at its addresses.
    Taken,
    /// Memory is too small.
    OutOfMemory,
}

impl LoadError {
    fn new(path: &[u8], role: Role, reason: Reason) -> Self {
        Self { path: String::from_utf8_lossy(path).into_owned(), role, reason }
    }

    /// What execve(2) answers.
    pub(crate) fn errno(&self) -> Errno {
        match self.reason {
            Reason::Open(error) => error,
            Reason::NotAFile | Reason::NotExecutable | Reason::NotTrusted => Errno::EACCES,
            Reason::Unreadable => Errno::EIO,
            Reason::Elf(_) if self.role == Role::Linker => Errno::ELIBBAD,
            Reason::Elf(_) | Reason::BadScript => Errno::ENOEXEC,
            Reason::TooManyScripts => Errno::ELOOP,
            Reason::InUse => Errno::ETXTBSY,
            Reason::Taken | Reason::OutOfMemory => Errno::ENOMEM,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Program => "",
            Role::Reader => ", which the script names as its interpreter",
            Role::Linker => ", which the program names as its interpreter",
        };
        write!(f, "`{}`{role}: {}", unikernel_cmdline::Shown(&self.path), self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(Errno::ENOENT | Errno::ENOTDIR) => f.write_str("there is no such file"),
            Self::Open(error) => write!(f, "it cannot be opened: {error:?}"),
            Self::NotAFile => f.write_str("it is no regular file"),
            Self::NotExecutable => f.write_str("nobody may execute it (`chmod +x`)"),
            Self::NotTrusted => f.write_str(
                "it is on a disk that nobody has signed, and `trust=` is set: have it in the signed initrd, or the disk checked (`verity=`)",
            ),
            Self::Unreadable => f.write_str("it cannot be read"),
            Self::Elf(error) => write!(f, "{error}"),
            Self::BadScript => f.write_str("its first line names no interpreter"),
            Self::TooManyScripts => f.write_str("it is a script of scripts of scripts"),
            Self::InUse => f.write_str("it is the image's program, which has been running"),
            Self::Taken => f.write_str("its addresses are taken, by the first stack"),
            Self::OutOfMemory => f.write_str("there is too little memory for it"),
        }
    }
}

impl From<ElfError> for Reason {
    fn from(error: ElfError) -> Self {
        Self::Elf(error)
    }
}

impl From<SpaceError> for Reason {
    fn from(error: SpaceError) -> Self {
        match error {
            SpaceError::Taken => Self::Taken,
            _ => Self::OutOfMemory,
        }
    }
}

impl From<Fault> for Reason {
    fn from(_: Fault) -> Self {
        Self::OutOfMemory
    }
}

/// The files of a program, which have been found and checked: what is left can only fail because memory is short.
pub(crate) struct Loadable {
    file: Executable,
    /// With its path.
    interpreter: Option<(Vec<u8>, Executable)>,
    /// If it reads a script: what takes the place of the first argument.
    pub script_words: Vec<Vec<u8>>,
}

/// Opens a file to execute it.
pub(crate) fn open_file(path: &[u8]) -> Result<Arc<OpenFile>, LoadError> {
    open_as(path, Role::Program)
}

fn open_as(path: &[u8], role: Role) -> Result<Arc<OpenFile>, LoadError> {
    let error = |errno| LoadError::new(path, role, Reason::Open(errno));
    open::open_path(AT_FDCWD, path, O_RDONLY | open::TO_EXECUTE, 0).map_err(error)
}

/// Checks a program's file, which was opened by this path, and finds what reads it if it is a script, and its interpreter.
pub(crate) fn open_program(opened: Arc<OpenFile>, path: &[u8]) -> Result<Loadable, LoadError> {
    let (mut opened, mut path, mut role) = (opened, path.to_vec(), Role::Program);
    let mut script_words: Vec<Vec<u8>> = Vec::new();
    for _ in 0..=MOST_SCRIPTS {
        let error = |reason| LoadError::new(&path, role, reason);
        let head = Head::read(&opened).map_err(error)?;
        let Some(line) = script::parse(head.bytes()) else {
            let file = Executable::of(opened, &head).map_err(error)?;
            let interpreter = file.interpreter_path().transpose().map_err(error)?;
            let interpreter = interpreter.map(open_interpreter).transpose()?;
            return Ok(Loadable { file, interpreter, script_words });
        };
        let line = line.map_err(|_| error(Reason::BadScript))?;
        // The script's path takes the place of the first argument.
        let words = [Some(line.interpreter), line.argument, Some(&path)].into_iter().flatten();
        let words: Vec<Vec<u8>> = words.map(<[u8]>::to_vec).collect();
        script_words.splice(..script_words.len().min(1), words);
        path = line.interpreter.to_vec();
        role = Role::Reader;
        opened = open_as(&path, role)?;
    }
    Err(LoadError::new(&path, role, Reason::TooManyScripts))
}

fn open_interpreter(path: Vec<u8>) -> Result<(Vec<u8>, Executable), LoadError> {
    let opened = open_as(&path, Role::Linker)?;
    let error = |reason| LoadError::new(&path, Role::Linker, reason);
    let head = Head::read(&opened).map_err(error)?;
    let file = Executable::of(opened, &head).map_err(error)?;
    Ok((path, file))
}

impl Loadable {
    /// What the program's file says of whom it runs as; of a script, the file of what reads it.
    pub(super) fn privileges(&self) -> Result<ProgramFile, Errno> {
        self.file.privileges()
    }

    /// Pages that it is promised for writing before it asks for any.
    pub(crate) fn writable_pages(&self) -> u64 {
        let of_interpreter = self.interpreter.as_ref().map_or(0, |(_, file)| file.writable_pages());
        self.file.writable_pages().saturating_add(of_interpreter)
    }

    /// True if an empty address space has no room for the places that its files ask for.
    pub(crate) fn has_conflict(&self) -> bool {
        /// Stack and mappings are above, somewhere (`unikernel_mm::places`).
        const TOP: u64 = USER_END - (4 << 40);
        let place = |file: &Executable| {
            Some(file.program.span()).filter(|_| file.program.kind == Kind::Fixed).unwrap_or(0..0)
        };
        let (first, second) =
            (place(&self.file), self.interpreter.as_ref().map_or(0..0, |(_, file)| place(file)));
        first.start < second.end && second.start < first.end || first.end.max(second.end) > TOP
    }

    /// Maps them.
    pub(crate) fn map(&self) -> Result<Program, LoadError> {
        let path = self.file.path();
        let bias = self.file.program_bias();
        self.file.map(bias).map_err(|reason| LoadError::new(path.as_bytes(), Role::Program, reason))?;
        mapped(path, &self.file.program, bias, self.interpreter.as_ref())
    }
}

/// Maps what the program in the image lacks: its pages are there.
pub(crate) fn load_linked(path: String, linked: &Linked) -> Result<Program, LoadError> {
    let error = |reason| LoadError::new(path.as_bytes(), Role::Program, reason);
    linked.map().map_err(|reason| error(reason.into()))?;
    let name = |range| linked.file_bytes(range).ok_or_else(|| error(ElfError::BadInterpreter.into()));
    let interpreter = linked.program.interpreter.clone().map(name).transpose()?;
    let interpreter = interpreter.map(open_interpreter).transpose()?;
    let program = mapped(path, &linked.program, linked.bias, interpreter.as_ref())?;
    Ok(Program { is_of_image: true, ..program })
}

/// A program whose segments are mapped: with its break, and its interpreter if it names one.
fn mapped(
    path: String,
    file: &unikernel_elf::Program,
    bias: u64,
    interpreter: Option<&(Vec<u8>, Executable)>,
) -> Result<Program, LoadError> {
    space::set_break_behind(file.span().end.wrapping_add(bias));
    let entry = file.entry.wrapping_add(bias);
    let mut program = Program {
        path,
        is_of_image: false,
        entry,
        start: entry,
        interpreter_base: 0,
        headers: file.headers.map_or(0, |headers| headers.wrapping_add(bias)),
        header_count: file.header_count,
    };
    if let Some((name, interpreter)) = interpreter {
        let error = |reason| LoadError::new(name, Role::Linker, reason);
        let bias = interpreter.interpreter_bias().map_err(error)?;
        interpreter.map(bias).map_err(error)?;
        program.start = interpreter.program.entry.wrapping_add(bias);
        program.interpreter_base = bias;
    }
    Ok(program)
}
