//! Measured boot: what the machine is told and runs is hashed into registers of its TPM before it is used, and listed in a log. Who has the registers'
//! values signed by the TPM (a quote) can prove what was booted.
//!
//! | register | what |
//! |---|---|
//! | 8 | the command line, and the words in the image |
//! | 9 | the initrd, and the files in the image |
//! | 11 | the program that is linked or packed into the image |
//! | 12 | the configuration |
//! | 13 | modules |
//!
//! Nothing is measured in a machine without a TPM. `unikernel_tpm` has commands and log, `drivers::tpm` the device.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

use spin::Once;
use unikernel_tpm::response::{self, MOST_BYTES, ResponseError};
use unikernel_tpm::{Bank, Banks, Digest, EventLog, EventType, Hasher, command};
use unikernel_trust::Kind;

use crate::abi::Errno;
use crate::drivers::tpm::{Tpm, TpmError};
use crate::fs::attribute::{self, Attribute};
use crate::kmem::room;
use crate::process::linked;
use crate::task::mutex::Mutex;
use crate::task::scheduler;

const COMMAND_LINE: u8 = 8;
const FILES: u8 = 9;
const PROGRAM: u8 = 11;
const CONFIGURATION: u8 = 12;
const MODULES: u8 = 13;
/// Registers that can be read as files.
const REGISTERS: u8 = 24;
/// What is hashed at a time: with three banks some 300 microseconds. Then others may run.
const PART_BYTES: usize = 16 << 10;
const LOG_PATH: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

/// A TPM in use, and what was measured.
struct Measured {
    tpm: Tpm,
    log: EventLog,
}

static MEASURED: Mutex<Option<Measured>> = Mutex::new(None);
/// Its banks; unset if there is no TPM, so that nothing is hashed for nobody.
static BANKS: Once<Banks> = Once::new();

/// Why something was not measured, for people.
pub(crate) enum Problem {
    /// The TPM does not answer.
    Device(TpmError),
    /// It refuses, or its answer is none.
    Answer(ResponseError),
    /// There is no memory for hashing, or for the log.
    OutOfMemory,
    /// The image's own file cannot be read.
    Unreadable,
}

impl core::fmt::Display for Problem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Device(error) => write!(f, "{error}"),
            Self::Answer(error) => write!(f, "{error}"),
            Self::OutOfMemory => f.write_str("there is no memory for it"),
            Self::Unreadable => f.write_str("it cannot be read"),
        }
    }
}

impl From<ResponseError> for Problem {
    fn from(error: ResponseError) -> Self {
        Self::Answer(error)
    }
}

/// Sends a command; `read` makes of the answer what was asked for. Its frame is large: callers shall not have one for each call.
#[inline(never)]
fn ask<T>(
    tpm: &mut Tpm,
    command: &[u8],
    read: impl FnOnce(&[u8]) -> Result<T, ResponseError>,
) -> Result<T, Problem> {
    let mut answer = [0; MOST_BYTES];
    let len = tpm.send(command, &mut answer).map_err(Problem::Device)?;
    Ok(read(&answer[..len])?)
}

/// Finds the TPM, before anything is to be measured.
pub(crate) fn start() {
    let Some(mut tpm) = Tpm::find() else { return };
    match begin(&mut tpm) {
        Ok((banks, log)) => {
            let names: Vec<&str> = banks.iter().map(|bank| bank.name()).collect();
            log::info!("TPM 2.0: what is booted is measured, with {}", names.join(", "));
            *MEASURED.lock() = Some(Measured { tpm, log });
            BANKS.call_once(|| banks);
        }
        Err(problem) => log::error!("TPM: nothing is measured: {problem}"),
    }
}

fn begin(tpm: &mut Tpm) -> Result<(Banks, EventLog), Problem> {
    ask(tpm, &command::startup(), response::started)?;
    let banks = ask(tpm, &command::get_banks(), response::banks)?;
    let log = EventLog::new(&banks).map_err(|_| Problem::OutOfMemory)?;
    Ok((banks, log))
}

/// Extends a register, and notes the event. The register is extended even if there is no memory for the event: that the log lacks something is seen by
/// whoever replays it, and that a register does is not.
fn extend(register: u8, digests: &[Digest], what: &[u8]) -> Result<(), Problem> {
    let mut measured = MEASURED.lock();
    let Some(Measured { tpm, log }) = measured.as_mut() else { return Ok(()) };
    let noted = log.add(register, EventType::Ipl, digests, what).map_err(|_| Problem::OutOfMemory);
    ask(tpm, &command::extend(register, digests), response::done)?;
    noted
}

/// Measures bytes; `what` is told of them.
fn measure(register: u8, bytes: &[u8], what: &[u8]) -> Result<(), Problem> {
    let Some(banks) = BANKS.get() else { return Ok(()) };
    let mut hasher = Hasher::new(banks).map_err(|_| Problem::OutOfMemory)?;
    for part in bytes.chunks(PART_BYTES) {
        hasher.update(part);
        scheduler::breathe();
    }
    extend(register, &hasher.finish(), what)
}

/// The machine starts even if something is not measured: its registers say that they are not those of a good boot.
fn complain(what: &str, outcome: Result<(), Problem>) {
    if let Err(problem) = outcome {
        log::error!("TPM: {what} is not measured: {problem}");
    }
}

/// Measures what the machine is told by who boots it, and the words and files that are in the image.
pub(crate) fn boot(command_line: &str, packed_words: &str, packed_files: Option<&[u8]>) {
    let line = command_line.as_bytes();
    complain("the command line", measure(COMMAND_LINE, line, line));
    if !packed_words.is_empty() {
        let words = packed_words.as_bytes();
        complain("the image's command line", measure(COMMAND_LINE, words, words));
    }
    if let Some(files) = packed_files {
        complain("what is packed into the image", measure(FILES, files, b"packed files"));
    }
    complain("the program", program());
}

/// Measures a file that comes from elsewhere, before it is looked at, with its signature if it has one.
///
/// # Errors
///
/// If it is not measured.
pub(crate) fn file(kind: Kind, bytes: &[u8]) -> Result<(), Problem> {
    let register = match kind {
        Kind::Initrd => FILES,
        Kind::Configuration => CONFIGURATION,
        Kind::Module => MODULES,
        // It is on the command line.
        Kind::Verity => return Ok(()),
    };
    measure(register, bytes, kind.name().as_bytes())
}

/// The same while the machine starts, which goes on in any case.
pub(crate) fn file_at_boot(kind: Kind, name: &str, bytes: &[u8]) {
    complain(name, file(kind, bytes));
}

/// Measures the image's program: the bytes of its file that are loaded, segment by segment.
fn program() -> Result<(), Problem> {
    let (Some(banks), Some(linked)) = (BANKS.get(), linked::linked()) else { return Ok(()) };
    let mut hasher = Hasher::new(banks).map_err(|_| Problem::OutOfMemory)?;
    for segment in &linked.program.segments {
        let end = segment.offset.saturating_add(segment.file_bytes);
        let mut at = segment.offset;
        while at < end {
            let next = at.saturating_add(PART_BYTES as u64).min(end);
            let Some(part) = linked.file_bytes(at..next) else {
                return Err(Problem::Unreadable);
            };
            hasher.update(&part);
            at = next;
        }
    }
    extend(PROGRAM, &hasher.finish(), linked::path().as_bytes())
}

/// Shows log and registers, as Linux does (Documentation/ABI/stable/sysfs-class-tpm).
pub(crate) fn show() {
    let Some(banks) = BANKS.get() else { return };
    if let Err(error) = show_all(banks) {
        log::error!("TPM: its files cannot be made: {}", error.name());
    }
}

fn show_all(banks: &Banks) -> Result<(), Errno> {
    attribute::add(LOG_PATH, Arc::new(Log), 0o440)?;
    attribute::add("/sys/class/tpm/tpm0/tpm_version_major", Arc::new(Version), 0o444)?;
    for bank in banks.iter() {
        for number in 0..REGISTERS {
            let path = format!("/sys/class/tpm/tpm0/pcr-{}/{number}", bank.name());
            attribute::add(&path, Arc::new(Register { bank: *bank, number }), 0o444)?;
        }
    }
    Ok(())
}

/// The log, which is no text.
struct Log;

impl Attribute for Log {
    fn show(&self) -> Result<Vec<u8>, Errno> {
        let measured = MEASURED.lock();
        let bytes = measured.as_ref().map_or(&[][..], |measured| measured.log.bytes());
        let mut copy = room::with_capacity(bytes.len())?;
        copy.extend_from_slice(bytes);
        Ok(copy)
    }
}

/// Which generation of TPMs it is.
struct Version;

impl Attribute for Version {
    fn show(&self) -> Result<Vec<u8>, Errno> {
        Ok(b"2\n".into())
    }
}

/// A register's value, in digits.
struct Register {
    bank: Bank,
    number: u8,
}

impl Attribute for Register {
    /// Nothing if it cannot be read.
    fn show(&self) -> Result<Vec<u8>, Errno> {
        let mut text = String::new();
        match read(self.bank, self.number) {
            Ok(digest) => {
                for byte in digest.bytes() {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "{byte:02X}");
                }
                text.push('\n');
            }
            Err(problem) => log::error!("TPM: a register cannot be read: {problem}"),
        }
        Ok(text.into_bytes())
    }
}

fn read(bank: Bank, register: u8) -> Result<Digest, Problem> {
    let mut measured = MEASURED.lock();
    let Some(measured) = measured.as_mut() else { return Err(Problem::Answer(ResponseError::Malformed)) };
    ask(&mut measured.tpm, &command::read(bank, register), |answer| response::register(answer, bank))
}
