//! How the app starts: as `execve` would start it, except that the linked one is in memory already, because it is one
//! with the kernel's image. [`load`] brings another.
//!
//! The stack at entry is the System V ABI's (3.4.1): argument count, argument pointers, null,
//! environment pointers, null, auxiliary vector; the strings above.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use linux_raw_sys::auxvec::*;
use linux_raw_sys::elf_uapi::elf64_phdr;

use spin::Once;

use super::linked;
use super::load::{self, LoadError};
use super::process::process;
use super::thread::{OutOfMemory, Thread};
use crate::arch::descriptor::{USER_CODE, USER_DATA};
use crate::arch::trap::TrapFrame;
use crate::fs::image;
use crate::mem::layout::PAGE_BYTES;
use crate::mem::space::{self, SpaceError};
use crate::mem::user::{Fault, UserSlice};
use crate::platform::random;
use crate::syscall::credentials;

/// Linux's `USER_HZ`, which `times` and `/proc` count in.
const CLOCK_TICKS_PER_SECOND: u64 = 100;

/// Why the app could not be started.
#[derive(Debug)]
pub enum ExecError {
    /// The program cannot be loaded.
    Load(LoadError),
    /// There is none in the image.
    NoProgram,
    /// Memory is too small for the image's page tables, stack or first thread.
    OutOfMemory,
    /// Arguments and environment do not fit the stack.
    ArgumentsTooLong,
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => write!(f, "{error}"),
            Self::NoProgram => f.write_str(
                "there is no program in this kernel: `init=/bin/server` starts one from the initrd or a disk, `cargo unikernel pack` makes one file of both",
            ),
            Self::OutOfMemory => f.write_str("there is too little memory"),
            Self::ArgumentsTooLong => f.write_str("its arguments and environment do not fit its stack"),
        }
    }
}

impl From<LoadError> for ExecError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl From<SpaceError> for ExecError {
    fn from(_: SpaceError) -> Self {
        Self::OutOfMemory
    }
}

impl From<OutOfMemory> for ExecError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<Fault> for ExecError {
    fn from(_: Fault) -> Self {
        Self::ArgumentsTooLong
    }
}

/// A program in memory.
#[derive(Debug)]
pub struct Program {
    /// Where its file is, as `/proc/self/exe` tells it.
    pub path: String,
    /// Its first instruction.
    pub entry: u64,
    /// Where its first thread starts: there, or in its interpreter.
    pub start: u64,
    /// Where the interpreter is, if there is one.
    pub interpreter_base: u64,
    /// Where its segments' headers are.
    pub headers: u64,
    /// How many there are.
    pub header_count: u16,
}

static PROGRAM: Once<Program> = Once::new();

/// Where the program's file is.
pub fn path() -> String {
    PROGRAM.get().map_or_else(image::path, |program| program.path.clone())
}

/// Makes the first thread of a program and lets it run: of the one at this path, or of the linked one.
pub fn start(path: Option<&str>, arguments: &[&[u8]], environment: &[&[u8]]) -> Result<(), ExecError> {
    let stack_top = space::map_first_stack()?;
    let program = match path {
        Some(path) => load::load(path)?,
        None => load::load_linked(image::path(), linked::linked().ok_or(ExecError::NoProgram)?)?,
    };
    log::debug!("{program:x?}");
    let program = PROGRAM.call_once(|| program);
    let vdso = space::map_vdso()?;
    let builder = StackBuilder { at: stack_top, vdso, program };
    let stack_pointer = builder.build(arguments, environment)?;
    let frame = TrapFrame {
        rip: program.start,
        cs: u64::from(USER_CODE.0),
        // IF, and the bit that is always one.
        rflags: 0x202,
        rsp: stack_pointer,
        ss: u64::from(USER_DATA.0),
        ..TrapFrame::default()
    };
    let thread = Thread::new(process().allocate_id(), &frame, 0, false)?;
    set_name(&thread, program.path.as_bytes());
    process().start_thread(thread);
    Ok(())
}

fn set_name(thread: &Arc<Thread>, path: &[u8]) {
    let file = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let len = file.len().min(15);
    thread.name.lock()[..len].copy_from_slice(&file[..len]);
}

/// Writes the first stack from its top downwards.
struct StackBuilder<'a> {
    at: u64,
    vdso: u64,
    program: &'a Program,
}

impl StackBuilder<'_> {
    fn push_bytes(&mut self, bytes: &[u8]) -> Result<u64, Fault> {
        self.at -= bytes.len() as u64;
        UserSlice::new(self.at, bytes.len()).write(bytes)?;
        Ok(self.at)
    }

    fn push_strings(&mut self, strings: &[&[u8]]) -> Result<Vec<u64>, Fault> {
        let mut addresses = Vec::with_capacity(strings.len());
        for string in strings {
            self.push_bytes(&[0])?;
            addresses.push(self.push_bytes(string)?);
        }
        Ok(addresses)
    }

    fn build(mut self, arguments: &[&[u8]], environment: &[&[u8]]) -> Result<u64, ExecError> {
        let name = arguments.first().copied().unwrap_or_default();
        self.push_bytes(&[0])?;
        let name = self.push_bytes(name)?;
        self.push_bytes(b"x86_64\0")?;
        let platform = self.at;
        let environment = self.push_strings(environment)?;
        let arguments = self.push_strings(arguments)?;
        let mut seed = [0; 16];
        random::fill(&mut seed);
        let random = self.push_bytes(&seed)?;

        let mut words = Vec::new();
        words.push(arguments.len() as u64);
        words.extend(&arguments);
        words.push(0);
        words.extend(&environment);
        words.push(0);
        let vector = auxiliary_vector(self.program, self.vdso, name, platform, random);
        let vector: Vec<u64> = vector.into_iter().flat_map(|(key, value)| [u64::from(key), value]).collect();
        words.extend(&vector);
        AUXILIARY_VECTOR.call_once(|| vector.iter().flat_map(|word| word.to_le_bytes()).collect());
        self.at = (self.at - words.len() as u64 * 8) & !15;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        UserSlice::new(self.at, bytes.len()).write(&bytes)?;
        Ok(self.at)
    }
}

static AUXILIARY_VECTOR: Once<Vec<u8>> = Once::new();

/// The auxiliary vector as it lies on the first thread's stack.
pub fn auxiliary_vector_bytes() -> &'static [u8] {
    AUXILIARY_VECTOR.get().map_or(&[], Vec::as_slice)
}

/// What getauxval(3) answers.
fn auxiliary_vector(program: &Program, vdso: u64, name: u64, platform: u64, random: u64) -> [(u32, u64); 19] {
    let features = raw_cpuid::native_cpuid::cpuid_count(1, 0).edx;
    let ([user, effective_user, _], [group, effective_group, _]) = credentials::ids();
    [
        (AT_SYSINFO_EHDR, vdso),
        (AT_PHDR, program.headers),
        (AT_PHENT, size_of::<elf64_phdr>() as u64),
        (AT_PHNUM, u64::from(program.header_count)),
        (AT_PAGESZ, PAGE_BYTES as u64),
        (AT_BASE, program.interpreter_base),
        (AT_FLAGS, 0),
        (AT_ENTRY, program.entry),
        (AT_UID, u64::from(user)),
        (AT_EUID, u64::from(effective_user)),
        (AT_GID, u64::from(group)),
        (AT_EGID, u64::from(effective_group)),
        (AT_SECURE, 0),
        (AT_CLKTCK, CLOCK_TICKS_PER_SECOND),
        (AT_HWCAP, u64::from(features)),
        (AT_PLATFORM, platform),
        (AT_RANDOM, random),
        (AT_EXECFN, name),
        (AT_NULL, 0),
    ]
}
