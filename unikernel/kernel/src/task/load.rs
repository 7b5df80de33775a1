//! Programs from the tree: the one that `init=` names starts in place of the linked one, as `execve` would start it.
//!
//! What a file says is checked by `unikernel_elf`. Here its pages are mapped: those that show the file as any private mapping
//! does, so that they come at the first touch, and those of its own.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;

use linux_raw_sys::general::{AT_FDCWD, O_RDONLY};
use unikernel_elf::{ElfError, HEADER_BYTES, Header, Kind, Segment};
use unikernel_mm::places;

use super::exec::Program;
use super::linked::Linked;
use crate::file::OpenFile;
use crate::mem::room;
use crate::mem::space::{self, PageSource, Placement, Protection, Sharing, SpaceError};
use crate::mem::user::{Fault, USER_END, UserSlice};
use crate::platform::random;
use crate::syscall::{Errno, open};

/// Where a program may have memory.
pub(super) const ALLOWED: Range<u64> = space::LOWEST..USER_END;
/// Why a program cannot be loaded.
#[derive(Debug)]
pub struct LoadError {
    path: String,
    /// True for the interpreter of the program that was meant.
    is_interpreter: bool,
    reason: Reason,
}

/// What is wrong with one file.
#[derive(Debug)]
enum Reason {
    /// It cannot be opened.
    Open(Errno),
    /// It is no regular file, or one that cannot be mapped.
    NotAFile,
    /// Nobody may execute it.
    NotExecutable,
    /// The disk does not give it.
    Unreadable,
    /// It is no program for this machine, or a damaged one.
    Elf(ElfError),
    /// Something of the kernel's is at its addresses.
    Taken,
    /// Memory is too small.
    OutOfMemory,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.is_interpreter { ", which the program names as its interpreter" } else { "" };
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
            Self::Unreadable => f.write_str("it cannot be read"),
            Self::Elf(error) => write!(f, "{error}"),
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

/// Maps a program, and its interpreter if it names one.
pub fn load(path: &str) -> Result<Program, LoadError> {
    let error = |reason| LoadError { path: path.into(), is_interpreter: false, reason };
    let file = Executable::open(path.as_bytes()).map_err(error)?;
    let bias = program_bias(&file.program);
    file.map(bias).map_err(error)?;
    let interpreter = file.program.interpreter.clone();
    let interpreter = interpreter.map(|range| file.interpreter_path(range)).transpose().map_err(error)?;
    mapped(file.opened.file.name(), &file.program, bias, interpreter.as_deref())
}

/// Maps what the program in the image lacks: its pages are there.
pub fn load_linked(path: String, linked: &Linked) -> Result<Program, LoadError> {
    let error = |reason| LoadError { path: path.clone(), is_interpreter: false, reason };
    linked.map().map_err(|reason| error(reason.into()))?;
    let name = |range| linked.file_bytes(range).ok_or_else(|| error(ElfError::BadInterpreter.into()));
    let interpreter = linked.program.interpreter.clone().map(name).transpose()?;
    mapped(path, &linked.program, linked.bias, interpreter)
}

/// A program whose segments are mapped: with its break, and its interpreter if it names one.
fn mapped(
    path: String,
    file: &unikernel_elf::Program,
    bias: u64,
    interpreter: Option<&[u8]>,
) -> Result<Program, LoadError> {
    space::set_break_behind(file.span().end.wrapping_add(bias));
    let entry = file.entry.wrapping_add(bias);
    let mut program = Program {
        path,
        entry,
        start: entry,
        interpreter_base: 0,
        headers: file.headers.map_or(0, |headers| headers.wrapping_add(bias)),
        header_count: file.header_count,
    };
    if let Some(name) = interpreter {
        let error = |reason| LoadError {
            path: String::from_utf8_lossy(name).into_owned(),
            is_interpreter: true,
            reason,
        };
        let interpreter = Executable::open(name).map_err(error)?;
        let bias = interpreter.bias().map_err(error)?;
        interpreter.map(bias).map_err(error)?;
        program.start = interpreter.program.entry.wrapping_add(bias);
        program.interpreter_base = bias;
    }
    Ok(program)
}

/// How far from its own addresses a program goes.
pub fn program_bias(program: &unikernel_elf::Program) -> u64 {
    match program.kind {
        Kind::Fixed => 0,
        Kind::Relocatable => bias_at(program, places::program_start(random::next_u64())),
    }
}

fn bias_at(program: &unikernel_elf::Program, start: u64) -> u64 {
    start.next_multiple_of(program.alignment).wrapping_sub(program.span().start)
}

/// A program's file, which has been checked.
struct Executable {
    opened: Arc<OpenFile>,
    pages: Arc<dyn PageSource>,
    program: unikernel_elf::Program,
}

impl Executable {
    fn open(path: &[u8]) -> Result<Self, Reason> {
        let opened = open::open_path(AT_FDCWD, path, O_RDONLY, 0).map_err(Reason::Open)?;
        let metadata = opened.file.metadata();
        if !opened.file.is_regular() {
            return Err(Reason::NotAFile);
        }
        if metadata.mode & 0o111 == 0 {
            return Err(Reason::NotExecutable);
        }
        let mut bytes = [0; HEADER_BYTES];
        let bytes = &mut bytes[..(HEADER_BYTES as u64).min(metadata.size) as usize];
        read(&opened, 0, bytes)?;
        let header = Header::parse(bytes)?;
        let mut table = room::filled(0, header.table_bytes()).map_err(|_| Reason::OutOfMemory)?;
        read(&opened, header.table_offset(), &mut table)?;
        let program = unikernel_elf::Program::parse(&header, &table, metadata.size, &ALLOWED)?;
        let pages = opened.file.page_source().map_err(|_| Reason::NotAFile)?;
        Ok(Self { opened, pages, program })
    }

    /// How far from its own addresses an interpreter goes, which is where a mapping would.
    fn bias(&self) -> Result<u64, Reason> {
        if self.program.kind == Kind::Fixed {
            return Ok(0);
        }
        let span = self.program.span();
        let len = span.end - span.start + self.program.alignment;
        // Nothing else runs yet, so what was free is free.
        let start = space::map(Placement::Anywhere(0), len, Protection::empty(), false)?;
        space::unmap(start, len)?;
        Ok(bias_at(&self.program, start))
    }

    fn map(&self, bias: u64) -> Result<(), Reason> {
        self.program.segments.iter().try_for_each(|segment| self.map_segment(segment, bias))
    }

    fn map_segment(&self, segment: &Segment, bias: u64) -> Result<(), Reason> {
        let mut protection = Protection::empty();
        protection.set(Protection::READ, segment.is_readable);
        protection.set(Protection::WRITE, segment.is_writable);
        protection.set(Protection::EXECUTE, segment.is_executable);
        let place = |pages: Range<u64>| (pages.start.wrapping_add(bias), pages.end - pages.start);
        let (start, len) = place(segment.shown());
        if len != 0 {
            let (placement, pages) = (Placement::FixedNoReplace(start), Arc::clone(&self.pages));
            let offset = segment.shown_offset();
            space::map_object(
                placement,
                len,
                protection,
                Protection::all(),
                pages,
                offset,
                Sharing::Private,
            )?;
        }
        let (start, len) = place(segment.own());
        if len == 0 {
            return Ok(());
        }
        let edge = segment.edge();
        if edge.is_empty() {
            space::map(Placement::FixedNoReplace(start), len, protection, true)?;
            return Ok(());
        }
        let filled = Protection::READ | Protection::WRITE;
        space::map(Placement::FixedNoReplace(start), len, filled, true)?;
        let mut bytes = room::filled(0, (edge.end - edge.start) as usize).map_err(|_| Reason::OutOfMemory)?;
        read(&self.opened, edge.start, &mut bytes)?;
        UserSlice::new(start, bytes.len()).write(&bytes)?;
        if protection != filled {
            space::protect(start, len, protection)?;
        }
        Ok(())
    }

    fn interpreter_path(&self, range: Range<u64>) -> Result<alloc::vec::Vec<u8>, Reason> {
        let mut name =
            room::filled(0, (range.end - range.start) as usize).map_err(|_| Reason::OutOfMemory)?;
        read(&self.opened, range.start, &mut name)?;
        if name.contains(&0) { Err(ElfError::BadInterpreter.into()) } else { Ok(name) }
    }
}

/// Reads so many bytes of a file.
fn read(opened: &OpenFile, offset: u64, bytes: &mut [u8]) -> Result<(), Reason> {
    let mut done = 0;
    while done < bytes.len() {
        // SAFETY: the buffer is the caller's, lent for this call, and the slice is used in this round only.
        let rest = unsafe { UserSlice::of_kernel(&mut bytes[done..]) };
        let at = offset.checked_add(done as u64).ok_or(ElfError::Truncated)?;
        match opened.file.read_at(at, rest) {
            Ok(0) => return Err(ElfError::Truncated.into()),
            Ok(count) => done += count,
            Err(_) => return Err(Reason::Unreadable),
        }
    }
    Ok(())
}
