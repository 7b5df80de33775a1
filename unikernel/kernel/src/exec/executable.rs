//! A program's file, checked, and how its pages are mapped: those that show the file as any private mapping does, so that they
//! come at the first touch, and those of its own.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use unikernel_elf::script::HEAD_BYTES;
use unikernel_elf::{ElfError, HEADER_BYTES, Header, Kind, Segment};
use unikernel_vfs::access::ProgramFile;

use super::load::Reason;
use crate::abi::Errno;
use crate::file::OpenFile;
use crate::fs::{image, permission};
use crate::kmem::layout::PAGE_BYTES;
use crate::kmem::room;
use crate::mem::space::{self, PageSource, Placement, Protection, Sharing};
use crate::mem::user::{UserSlice, with_kernel_buffer};
use crate::process::linked::{ALLOWED, bias_at, program_bias, protection_of};
use crate::vfs::table;

/// A longer file without a place of its own would not find one.
const MOST_SPAN_BYTES: u64 = 1 << 44;

/// The first bytes of a file that may be executed.
pub(super) struct Head {
    bytes: [u8; HEAD_BYTES],
    len: usize,
}

impl Head {
    pub(super) fn read(opened: &OpenFile) -> Result<Self, Reason> {
        let metadata = opened.file.metadata();
        if !opened.file.is_regular() {
            return Err(Reason::NotAFile);
        }
        match permission::check_execute(&*opened.file) {
            Err(Errno::EACCES) if metadata.mode & 0o111 == 0 => return Err(Reason::NotExecutable),
            Err(error) => return Err(Reason::Open(error)),
            Ok(()) => {}
        }
        if !table::may_execute(metadata.device) {
            return Err(Reason::NotTrusted);
        }
        let mut head = Self { bytes: [0; HEAD_BYTES], len: (HEAD_BYTES as u64).min(metadata.size) as usize };
        read(opened, 0, &mut head.bytes[..head.len])?;
        Ok(head)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A program's file, which has been checked.
pub(super) struct Executable {
    opened: Arc<OpenFile>,
    pages: Arc<dyn PageSource>,
    pub(super) program: unikernel_elf::Program,
}

impl Executable {
    /// Checks a program whose first bytes are known.
    pub(super) fn of(opened: Arc<OpenFile>, head: &Head) -> Result<Self, Reason> {
        let header = Header::parse(&head.bytes()[..head.len.min(HEADER_BYTES)])?;
        let mut table = room::filled(0, header.table_bytes()).map_err(|_| Reason::OutOfMemory)?;
        read(&opened, header.table_offset(), &mut table)?;
        let size = opened.file.metadata().size;
        let program = unikernel_elf::Program::parse(&header, &table, size, &ALLOWED)?;
        let pages = opened.file.page_source().map_err(|_| Reason::NotAFile)?;
        // Its pages are in use, and what the app has changed in them is nowhere else.
        if image::is_shown_by(&*pages) {
            return Err(Reason::InUse);
        }
        let span = program.span();
        if program.kind == Kind::Relocatable && span.end - span.start > MOST_SPAN_BYTES {
            return Err(Reason::OutOfMemory);
        }
        Ok(Self { opened, pages, program })
    }

    /// What its file says of whom it runs as.
    pub(super) fn privileges(&self) -> Result<ProgramFile, Errno> {
        permission::of_program(&*self.opened.file)
    }

    /// Where the file is.
    pub(super) fn path(&self) -> String {
        self.opened.file.name()
    }

    /// Pages that it is promised for writing.
    pub(super) fn writable_pages(&self) -> u64 {
        let bytes = |range: Range<u64>| range.end - range.start;
        let writable = self.program.segments.iter().filter(|segment| segment.is_writable);
        writable.map(|segment| (bytes(segment.shown()) + bytes(segment.own())) / PAGE_BYTES as u64).sum()
    }

    /// How far from its own addresses it goes if it is a program.
    pub(super) fn program_bias(&self) -> u64 {
        program_bias(&self.program)
    }

    /// How far from its own addresses an interpreter goes, which is where a mapping would.
    pub(super) fn interpreter_bias(&self) -> Result<u64, Reason> {
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

    pub(super) fn map(&self, bias: u64) -> Result<(), Reason> {
        self.program.segments.iter().try_for_each(|segment| self.map_segment(segment, bias))
    }

    fn map_segment(&self, segment: &Segment, bias: u64) -> Result<(), Reason> {
        let protection = protection_of(segment);
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

    /// The path of the interpreter that it names.
    pub(super) fn interpreter_path(&self) -> Option<Result<Vec<u8>, Reason>> {
        self.program.interpreter.clone().map(|range| {
            let len = (range.end - range.start) as usize;
            let mut name = room::filled(0, len).map_err(|_| Reason::OutOfMemory)?;
            read(&self.opened, range.start, &mut name)?;
            if name.contains(&0) { Err(ElfError::BadInterpreter.into()) } else { Ok(name) }
        })
    }
}

/// Reads so many bytes of a file.
pub(super) fn read(opened: &OpenFile, offset: u64, bytes: &mut [u8]) -> Result<(), Reason> {
    let mut done = 0;
    while done < bytes.len() {
        let at = offset.checked_add(done as u64).ok_or(ElfError::Truncated)?;
        match with_kernel_buffer(&mut bytes[done..], |rest| opened.file.read_at(at, rest)) {
            Ok(0) => return Err(ElfError::Truncated.into()),
            Ok(count) => done += count,
            Err(_) => return Err(Reason::Unreadable),
        }
    }
    Ok(())
}
