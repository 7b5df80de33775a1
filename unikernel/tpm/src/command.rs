//! Commands (TPM 2.0 Library, part 3), as bytes.

use arrayvec::ArrayVec;

use crate::bank::{Bank, Digest};

/// Bytes of the longest command here: all banks' digests are in it.
pub const MOST_BYTES: usize = 512;

/// A command, ready to be sent.
pub type Command = ArrayVec<u8, MOST_BYTES>;

/// `TPM_ST_NO_SESSIONS`, `TPM_ST_SESSIONS` (part 2, section 6.9).
pub(crate) const NO_SESSIONS: u16 = 0x8001;
pub(crate) const SESSIONS: u16 = 0x8002;
/// `TPM_CC` (part 2, section 6.5.2).
const STARTUP: u32 = 0x0144;
const GET_CAPABILITY: u32 = 0x017a;
const PCR_READ: u32 = 0x017e;
const PCR_EXTEND: u32 = 0x0182;
/// `TPM_SU_CLEAR`.
const CLEAR: u16 = 0;
/// `TPM_CAP_PCRS`.
const CAP_PCRS: u32 = 5;
/// `TPM_RS_PW`: the password, which is empty for registers.
const PASSWORD_SESSION: u32 = 0x4000_0009;
/// Session handle, empty nonce, attributes, empty password.
const AUTHORISATION_BYTES: u32 = 9;
/// Bytes of a selection of registers: 24 of them (`TPMS_PCR_SELECTION`).
pub(crate) const SELECT_BYTES: u8 = 3;

/// Bytes of a command, of which the length comes last. All commands here are shorter than there is room for.
struct Writer(Command);

impl Writer {
    fn new(tag: u16, code: u32) -> Self {
        let mut writer = Self(Command::new());
        writer.half(tag);
        writer.word(0);
        writer.word(code);
        writer
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let fits = self.0.try_extend_from_slice(bytes).is_ok();
        debug_assert!(fits, "commands are short");
    }

    fn half(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    fn word(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    fn finish(mut self) -> Command {
        let len = self.0.len() as u32;
        self.0[2..6].copy_from_slice(&len.to_be_bytes());
        self.0
    }
}

/// `TPM2_Startup(CLEAR)`, which firmware has done, unless there is none.
pub fn startup() -> Command {
    let mut writer = Writer::new(NO_SESSIONS, STARTUP);
    writer.half(CLEAR);
    writer.finish()
}

/// `TPM2_GetCapability(PCRS)`: which banks there are.
pub fn get_banks() -> Command {
    let mut writer = Writer::new(NO_SESSIONS, GET_CAPABILITY);
    writer.word(CAP_PCRS);
    writer.word(0);
    writer.word(1);
    writer.finish()
}

/// `TPM2_PCR_Extend`: each bank's register becomes the hash of what it is and the digest.
pub fn extend(register: u8, digests: &[Digest]) -> Command {
    let mut writer = Writer::new(SESSIONS, PCR_EXTEND);
    writer.word(register.into());
    writer.word(AUTHORISATION_BYTES);
    writer.word(PASSWORD_SESSION);
    writer.half(0);
    writer.bytes(&[0]);
    writer.half(0);
    writer.word(digests.len() as u32);
    for digest in digests {
        writer.half(digest.bank.id());
        writer.bytes(digest.bytes());
    }
    writer.finish()
}

/// `TPM2_PCR_Read` of one register.
pub fn read(bank: Bank, register: u8) -> Command {
    let mut writer = Writer::new(NO_SESSIONS, PCR_READ);
    writer.word(1);
    writer.half(bank.id());
    writer.bytes(&[SELECT_BYTES]);
    let mut select = [0; SELECT_BYTES as usize];
    if let Some(byte) = select.get_mut(usize::from(register / 8)) {
        *byte = 1 << (register % 8);
    }
    writer.bytes(&select);
    writer.finish()
}
