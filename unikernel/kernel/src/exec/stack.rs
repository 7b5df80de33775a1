//! The first stack of a program, which is the System V ABI's (3.4.1): argument count, argument pointers, null, environment
//! pointers, null, auxiliary vector; the strings above, in that order (setproctitle(3) counts on it).

use linux_raw_sys::auxvec::*;
use linux_raw_sys::elf_uapi::elf64_phdr;

use super::ExecError;
use crate::kmem::layout::PAGE_BYTES;
use crate::mem::user::{Fault, UserPtr, UserSlice};
use crate::platform::random;
use crate::process::program::Program;
use crate::sync::SpinLock;
use crate::task::credentials::Credentials;

/// Linux's `USER_HZ`, which `times` and `/proc` count in.
const CLOCK_TICKS_PER_SECOND: u64 = 100;
/// Numbers of the auxiliary vector.
const VECTOR_PAIRS: usize = 19;
/// Its bytes.
pub(crate) const VECTOR_BYTES: usize = VECTOR_PAIRS * 16;
/// What is on the stack besides strings and their addresses, at most.
const OTHER_BYTES: u64 = 1024;

static VECTOR: SpinLock<[u8; VECTOR_BYTES]> = SpinLock::new([0; VECTOR_BYTES]);

/// The auxiliary vector as it lies on the first thread's stack.
pub(crate) fn auxiliary_vector_bytes() -> [u8; VECTOR_BYTES] {
    *VECTOR.lock()
}

/// Whom a program runs as.
pub(crate) struct StartedAs<'a> {
    /// Whose rights it has.
    pub who: &'a Credentials,
    /// They are more than its caller had (`AT_SECURE`).
    pub is_secure: bool,
}

/// What a program is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    /// The path that was executed.
    pub file: &'a [u8],
    /// Its arguments.
    pub arguments: &'a [&'a [u8]],
    /// Its environment.
    pub environment: &'a [&'a [u8]],
}

impl Told<'_> {
    /// How many bytes of the stack that takes at most.
    pub(crate) fn bytes(&self) -> u64 {
        let words = (self.arguments.len() + self.environment.len()) as u64 * 8;
        self.string_bytes() + words + self.file.len() as u64 + OTHER_BYTES
    }

    fn string_bytes(&self) -> u64 {
        self.strings().map(|string| string.len() as u64 + 1).sum()
    }

    fn strings(&self) -> impl Iterator<Item = &[u8]> {
        self.arguments.iter().chain(self.environment).copied()
    }
}

/// Writes the stack below `top`; answers where the stack pointer is.
pub(crate) fn build(
    top: u64,
    vdso: u64,
    program: &Program,
    told: &Told<'_>,
    who: &StartedAs<'_>,
) -> Result<u64, ExecError> {
    let mut stack = StackBuilder { at: top };
    stack.push(&[0; 8])?;
    stack.push(&[0])?;
    let file = stack.push(told.file)?;
    stack.at -= told.string_bytes();
    let strings = stack.at;
    write_strings(strings, told)?;
    let platform = stack.push(b"x86_64\0")?;
    let mut seed = [0; 16];
    random::fill(&mut seed);
    let random = stack.push(&seed)?;
    let vector = auxiliary_vector(program, [vdso, file, platform, random], who);
    let words = 3 + told.arguments.len() + told.environment.len();
    stack.at = (stack.at - (words * 8 + VECTOR_BYTES) as u64) & !15;
    let mut words = Words { at: stack.at };
    words.put(told.arguments.len() as u64)?;
    let mut string_at = strings;
    for list in [told.arguments, told.environment] {
        for string in list {
            words.put(string_at)?;
            string_at += string.len() as u64 + 1;
        }
        words.put(0)?;
    }
    let mut bytes = [0; VECTOR_BYTES];
    for (place, (key, value)) in bytes.chunks_exact_mut(16).zip(vector) {
        place[..8].copy_from_slice(&u64::from(key).to_le_bytes());
        place[8..].copy_from_slice(&value.to_le_bytes());
    }
    UserSlice::new(words.at, bytes.len()).write(&bytes)?;
    *VECTOR.lock() = bytes;
    Ok(stack.at)
}

fn write_strings(start: u64, told: &Told<'_>) -> Result<(), Fault> {
    let mut at = start;
    for string in told.strings() {
        UserSlice::new(at, string.len()).write(string)?;
        at += string.len() as u64;
        UserPtr::<u8>::new(at).write(0)?;
        at += 1;
    }
    Ok(())
}

/// Writes from the top downwards.
struct StackBuilder {
    at: u64,
}

impl StackBuilder {
    fn push(&mut self, bytes: &[u8]) -> Result<u64, Fault> {
        self.at -= bytes.len() as u64;
        UserSlice::new(self.at, bytes.len()).write(bytes)?;
        Ok(self.at)
    }
}

/// Writes words upwards.
struct Words {
    at: u64,
}

impl Words {
    fn put(&mut self, word: u64) -> Result<(), Fault> {
        UserPtr::<u64>::new(self.at).write(word)?;
        self.at += 8;
        Ok(())
    }
}

/// What getauxval(3) answers.
fn auxiliary_vector(
    program: &Program,
    [vdso, file, platform, random]: [u64; 4],
    StartedAs { who, is_secure }: &StartedAs<'_>,
) -> [(u32, u64); VECTOR_PAIRS] {
    let features = raw_cpuid::native_cpuid::cpuid_count(1, 0).edx;
    let (user, group) = (who.user, who.group);
    [
        (AT_SYSINFO_EHDR, vdso),
        (AT_PHDR, program.headers),
        (AT_PHENT, size_of::<elf64_phdr>() as u64),
        (AT_PHNUM, u64::from(program.header_count)),
        (AT_PAGESZ, PAGE_BYTES as u64),
        (AT_BASE, program.interpreter_base),
        (AT_FLAGS, 0),
        (AT_ENTRY, program.entry),
        (AT_UID, u64::from(user.real)),
        (AT_EUID, u64::from(user.effective)),
        (AT_GID, u64::from(group.real)),
        (AT_EGID, u64::from(group.effective)),
        (AT_SECURE, u64::from(*is_secure)),
        (AT_CLKTCK, CLOCK_TICKS_PER_SECOND),
        (AT_HWCAP, u64::from(features)),
        (AT_PLATFORM, platform),
        (AT_RANDOM, random),
        (AT_EXECFN, file),
        (AT_NULL, 0),
    ]
}
