//! Answers. They are a device's: each is as long as it says and as what was read, and what it says is what can be.

use core::fmt;

use crate::bank::{Bank, Banks, Digest};
use crate::command::{NO_SESSIONS, SESSIONS};

/// Bytes of the head: tag, length, code.
pub const HEAD_BYTES: usize = 10;
/// Bytes of the longest answer that is read.
pub const MOST_BYTES: usize = 1024;

/// `TPM_RC_INITIALIZE`: it has been started already.
const INITIALIZE: u32 = 0x100;

/// Why an answer cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResponseError {
    /// It is none: lengths or tags cannot be.
    Malformed,
    /// The TPM refused, with this code (part 2, section 6.6, `TPM_RC`).
    Refused(u32),
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("its answer is none"),
            Self::Refused(code) => write!(f, "it refuses with code {code:#x}"),
        }
    }
}

/// What is left of an answer.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], ResponseError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(ResponseError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ResponseError> {
        self.take(N)?.try_into().map_err(|_| ResponseError::Malformed)
    }

    fn byte(&mut self) -> Result<u8, ResponseError> {
        Ok(self.array::<1>()?[0])
    }

    fn half(&mut self) -> Result<u16, ResponseError> {
        self.array().map(u16::from_be_bytes)
    }

    fn word(&mut self) -> Result<u32, ResponseError> {
        self.array().map(u32::from_be_bytes)
    }
}

/// How long an answer says it is, of its head; none if that cannot be.
pub fn len(head: &[u8; HEAD_BYTES]) -> Option<usize> {
    let len = u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize;
    (HEAD_BYTES..=MOST_BYTES).contains(&len).then_some(len)
}

/// What stands behind the head, if the TPM did what it was asked for.
fn body(response: &[u8]) -> Result<Reader<'_>, ResponseError> {
    let mut reader = Reader(response);
    let tag = reader.half()?;
    let len = reader.word()? as usize;
    let code = reader.word()?;
    if len != response.len() || !matches!(tag, NO_SESSIONS | SESSIONS) {
        return Err(ResponseError::Malformed);
    }
    if code != 0 { Err(ResponseError::Refused(code)) } else { Ok(reader) }
}

/// Of a command that has nothing to tell.
///
/// # Errors
///
/// If it was not done.
pub fn done(response: &[u8]) -> Result<(), ResponseError> {
    body(response).map(|_| ())
}

/// Of [`command::startup`](crate::command::startup): a TPM that is started already is as good.
///
/// # Errors
///
/// If it is not started.
pub fn started(response: &[u8]) -> Result<(), ResponseError> {
    match done(response) {
        Err(ResponseError::Refused(INITIALIZE)) => Ok(()),
        outcome => outcome,
    }
}

/// Of [`command::get_banks`](crate::command::get_banks): those with registers that can be extended. One that nobody here knows is an error: it would stay
/// as it is.
///
/// # Errors
///
/// If the answer is none.
pub fn banks(response: &[u8]) -> Result<Banks, ResponseError> {
    const CAP_PCRS: u32 = 5;
    let mut reader = body(response)?;
    reader.byte()?;
    if reader.word()? != CAP_PCRS {
        return Err(ResponseError::Malformed);
    }
    let mut banks = Banks::new();
    for _ in 0..reader.word()? {
        let id = reader.half()?;
        let select_bytes = usize::from(reader.byte()?);
        let is_in_use = reader.take(select_bytes)?.iter().any(|byte| *byte != 0);
        if is_in_use {
            let bank = Bank::of(id).filter(|bank| !banks.contains(bank)).ok_or(ResponseError::Malformed)?;
            banks.try_push(bank).map_err(|_| ResponseError::Malformed)?;
        }
    }
    Ok(banks)
}

/// Of [`command::read`](crate::command::read): the register's value.
///
/// # Errors
///
/// If the answer is none, or not of this bank.
pub fn register(response: &[u8], bank: Bank) -> Result<Digest, ResponseError> {
    let mut reader = body(response)?;
    reader.word()?;
    for _ in 0..reader.word()? {
        reader.half()?;
        let select_bytes = usize::from(reader.byte()?);
        reader.take(select_bytes)?;
    }
    let count = reader.word()?;
    let len = usize::from(reader.half()?);
    let bytes = reader.take(len)?;
    let is_one = count == 1 && len == bank.digest_bytes();
    if is_one { Ok(Digest::new(bank, bytes)) } else { Err(ResponseError::Malformed) }
}
