//! One file of a kernel and a program that was linked by somebody else, and of files for it if it wants any.
//!
//! The program's bytes stay as they are, at the same place in the file: sections, symbols and debug information with them.
//! Behind them come a new table of segments' headers, the files, and the kernel.
//!
//! ```text
//!   in the file         for Linux (p_vaddr)                   for a hypervisor (p_paddr)
//!   program             its own addresses                     behind the kernel, segment by segment
//!   headers, way in     as far from the program as in the     behind the kernel
//!                       file: older Linux counts on that
//!   files, kernel       behind, where nobody looks            the kernel at 2 MiB, the files behind
//! ```
//!
//! The kernel maps the program's pages from where they were loaded to its addresses (`task::linked`); it is told where to
//! look by the words at `__kernel_contents` (`image.ld`).

mod boot_file;
mod entry;
mod kernel_parts;
mod packing;

use std::fmt;

use unikernel_elf::{ElfError, Header, Program};

use crate::image_check;
use kernel_parts::KernelParts;
use packing::Packing;

const PAGE_BYTES: u64 = 4096;
/// Where a program may be; as the kernel's.
const ALLOWED: std::ops::Range<u64> = 0x1_0000..0x7fff_ffff_f000;
/// Everything is loaded below: there is RAM up to here in each machine that is large enough, and devices above.
const MOST_PHYSICAL: u64 = 3 << 30;

/// Why there is no image of a program.
#[derive(Debug, PartialEq, Eq)]
pub enum PackError {
    /// It is no program for this machine, or a damaged one.
    Program(ElfError),
    /// It has a kernel in it.
    HasKernel,
    /// It wants this interpreter, and there are no files.
    NeedsFiles(String),
    /// There is no room left beside it for the kernel's segments (Linux maps them, too).
    NoRoom,
    /// It would be loaded up to this address.
    TooLarge(u64),
    /// The kernel is not one that was linked alone.
    NotAKernel(&'static str),
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(error) => write!(f, "{error}"),
            Self::HasKernel => f.write_str("it is an image already: `cargo unikernel run` boots it"),
            Self::NeedsFiles(interpreter) => write!(
                f,
                "it is linked dynamically, and its interpreter {interpreter} has to come with it: name a folder with it and the libraries (`--root`)"
            ),
            Self::NoRoom => f.write_str("there is no room for a kernel beside its addresses"),
            Self::TooLarge(end) => {
                write!(f, "it would take memory up to {end:#x}; {MOST_PHYSICAL:#x} is the most")
            }
            Self::NotAKernel(what) => write!(f, "the kernel has no {what}"),
        }
    }
}

impl std::error::Error for PackError {}

impl From<ElfError> for PackError {
    fn from(error: ElfError) -> Self {
        Self::Program(error)
    }
}

/// What a program is, as far as whoever packs it wants to know.
#[derive(Debug, PartialEq, Eq)]
pub struct Packable {
    program: Program,
    /// The path of the interpreter, if the program is linked dynamically.
    pub interpreter: Option<String>,
}

/// Looks at a program: an error if it cannot be packed, with files or without.
pub fn examine(file: &[u8], has_files: bool) -> Result<Packable, PackError> {
    let header = Header::parse(file)?;
    if image_check::has_way_in(file) {
        return Err(PackError::HasKernel);
    }
    let table = usize::try_from(header.table_offset()).ok().and_then(|at| file.get(at..));
    let table = table.ok_or(ElfError::Truncated)?;
    let program = Program::parse(&header, table, file.len() as u64, &ALLOWED)?;
    let path = program.interpreter.clone().map(|range| &file[range.start as usize..range.end as usize]);
    if path.is_some_and(|path| path.contains(&0)) {
        return Err(ElfError::BadInterpreter.into());
    }
    let interpreter = path.map(|path| String::from_utf8_lossy(path).into_owned());
    match interpreter {
        Some(interpreter) if !has_files => Err(PackError::NeedsFiles(interpreter)),
        interpreter => Ok(Packable { program, interpreter }),
    }
}

/// Makes the image: `kernel` is one that was linked alone, `files` an archive (cpio), `name` what reports call the program.
pub fn pack(kernel: &[u8], file: &[u8], name: &str, files: Option<&[u8]>) -> Result<Vec<u8>, PackError> {
    let Packable { program, .. } = examine(file, files.is_some())?;
    let mut kernel = KernelParts::read(kernel)?;
    kernel.set_names(file, name);
    Packing::new(file, &program, kernel, files.unwrap_or_default())?.write()
}

/// Makes an image without a program of its own: a kernel and an archive of files. `words` say what runs of them and how
/// (`unikernel_cmdline::parse_for_image`), `name` is what reports call it.
pub fn pack_files(kernel: &[u8], name: &str, files: &[u8], words: &[u8]) -> Result<Vec<u8>, PackError> {
    let mut kernel = KernelParts::read(kernel)?;
    kernel.set_names(&[], name);
    boot_file::with_files(kernel, files, words)
}

/// The image as GRUB boots it: as it is, or with the header in front that [`pack`] leaves behind the program. `None` if it has
/// none.
pub fn for_grub(image: Vec<u8>) -> Option<Result<Vec<u8>, PackError>> {
    if image_check::has_multiboot2_header(&image) { Some(Ok(image)) } else { boot_file::of_image(&image) }
}

fn page_up(address: u64) -> u64 {
    address.next_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
mod tests;
