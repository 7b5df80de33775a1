//! A TPM 2.0 behind a command response buffer (TCG PC Client Platform TPM Profile, section 6.5.3, *CRB Interface*; the table `TPM2` says where it is): registers
//! that say whose turn it is, and memory of the device's for a command and its answer.
//!
//! One command is under way at a time, and the caller looks again and again whether it has ended, and lets others run between. The device is not trusted: where
//! its buffers are and how long an answer is is checked, and one that does not answer in time is given up.

use core::fmt;
use core::hint;

use unikernel_hal::registers;
use unikernel_tpm::response::{self, HEAD_BYTES, MOST_BYTES};
use x86_64::PhysAddr;

use crate::platform::acpi;
use crate::platform::io::Mmio;
use crate::platform::time;
use crate::task::scheduler;

/// Registers of the first locality, and their offsets.
const REGISTERS_BYTES: usize = 0x1000;
const LOCALITY_STATE: usize = 0x00;
const LOCALITY_CONTROL: usize = 0x08;
const CONTROL_AREA: usize = 0x40;
const REQUEST: usize = 0x40;
const STATUS: usize = 0x44;
const START: usize = 0x4c;
const COMMAND_BYTES: usize = 0x58;
const COMMAND_LOW: usize = 0x5c;
const COMMAND_HIGH: usize = 0x60;
const RESPONSE_BYTES: usize = 0x64;
const RESPONSE_LOW: usize = 0x68;
const RESPONSE_HIGH: usize = 0x6c;
/// In [`LOCALITY_STATE`]: what it says holds, and a locality is ours.
const STATE_IS_VALID: u32 = 1 << 7;
const IS_ASSIGNED: u32 = 1 << 1;
/// In [`LOCALITY_CONTROL`]: ask for it.
const ASK: u32 = 1;
/// In [`REQUEST`]: be ready for a command; be idle.
const BE_READY: u32 = 1;
const BE_IDLE: u32 = 2;
/// In [`STATUS`]: it cannot go on.
const HAS_FAILED: u32 = 1;
/// The longest time that a change of state, and a command that is used here, may take (section 6.5.1.4: `TIMEOUT_C`, and the duration of short and medium commands).
const CHANGE_NS: u64 = 200_000_000;
const COMMAND_NS: u64 = 2_000_000_000;
/// Buffers are not longer than this here.
const MOST_BUFFER_BYTES: usize = 4096;

/// Why a command was not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TpmError {
    /// The device does not do what it has to in time.
    Silent,
    /// It says that it cannot go on.
    Failed,
    /// The command does not fit, or the answer is none.
    BadLength,
}

impl fmt::Display for TpmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "it does not answer",
            Self::Failed => "it has failed",
            Self::BadLength => "its answer has a length that cannot be",
        })
    }
}

/// Memory of the device's.
struct Buffer {
    memory: Mmio,
    start: usize,
    len: usize,
}

impl Buffer {
    /// The one that the device says; none if it cannot be.
    fn at(address: u64, len: u32, registers: (PhysAddr, Mmio)) -> Option<Self> {
        let len = (len as usize).min(MOST_BUFFER_BYTES);
        let (base, own) = registers;
        // Mostly it is behind the registers.
        let start = address.checked_sub(base.as_u64()).and_then(|start| usize::try_from(start).ok());
        if let Some(start) =
            start.filter(|start| start.checked_add(len).is_some_and(|end| end <= REGISTERS_BYTES))
        {
            return Some(Self { memory: own, start, len });
        }
        let memory = registers::map(PhysAddr::try_new(address).ok()?, len)?;
        Some(Self { memory, start: 0, len })
    }

    fn read(&self, at: usize) -> u8 {
        self.memory.read(self.start + at)
    }
}

/// A TPM.
pub(crate) struct Tpm {
    registers: Mmio,
    command: Buffer,
    response: Buffer,
}

impl Tpm {
    /// The one that the firmware's tables list, if its registers are of this kind.
    pub(crate) fn find() -> Option<Self> {
        let area = acpi::machine().tpm_control_area?;
        let base = PhysAddr::try_new(area.as_u64().checked_sub(CONTROL_AREA as u64)?).ok()?;
        if !base.is_aligned(REGISTERS_BYTES as u64) {
            log::warn!("TPM: its registers are at {area:?}, where nobody expects them; not used");
            return None;
        }
        let registers = registers::map(base, REGISTERS_BYTES)?;
        let word = |low: usize| u64::from(registers.read::<u32>(low));
        let command_address = word(COMMAND_LOW) | word(COMMAND_HIGH) << 32;
        let response_address = word(RESPONSE_LOW) | word(RESPONSE_HIGH) << 32;
        let command = Buffer::at(command_address, registers.read(COMMAND_BYTES), (base, registers));
        let response = Buffer::at(response_address, registers.read(RESPONSE_BYTES), (base, registers));
        let (Some(command), Some(response)) = (command, response) else {
            log::warn!("TPM: its buffers are where there is memory of the machine's; not used");
            return None;
        };
        let tpm = Self { registers, command, response };
        tpm.registers.write(LOCALITY_CONTROL, ASK);
        let is_ours = |state: u32| state & (STATE_IS_VALID | IS_ASSIGNED) == STATE_IS_VALID | IS_ASSIGNED;
        if tpm.wait(LOCALITY_STATE, CHANGE_NS, is_ours).is_err() {
            log::warn!("TPM: it gives nobody its registers; not used");
            return None;
        }
        Some(tpm)
    }

    /// Waits until a register says so.
    fn wait(&self, register: usize, most_ns: u64, is_over: impl Fn(u32) -> bool) -> Result<(), TpmError> {
        let deadline_ns = time::now_ns().saturating_add(most_ns);
        while !is_over(self.registers.read(register)) {
            if time::now_ns() > deadline_ns {
                return Err(TpmError::Silent);
            }
            hint::spin_loop();
            scheduler::breathe();
        }
        Ok(())
    }

    /// Sends a command, and waits for the answer, which is in `into` then; answers how long it is.
    pub(crate) fn send(&mut self, command: &[u8], into: &mut [u8; MOST_BYTES]) -> Result<usize, TpmError> {
        // A command that was given up may still be under way, and its buffer the device's.
        if self.registers.read::<u32>(START) != 0 {
            return Err(TpmError::Silent);
        }
        let outcome = self.exchange(command, into);
        self.registers.write(REQUEST, BE_IDLE);
        self.wait(REQUEST, CHANGE_NS, |request| request & BE_IDLE == 0)?;
        outcome
    }

    fn exchange(&self, command: &[u8], into: &mut [u8; MOST_BYTES]) -> Result<usize, TpmError> {
        if command.len() > self.command.len {
            return Err(TpmError::BadLength);
        }
        self.registers.write(REQUEST, BE_READY);
        self.wait(REQUEST, CHANGE_NS, |request| request & BE_READY == 0)?;
        for (at, byte) in command.iter().enumerate() {
            self.command.memory.write(self.command.start + at, *byte);
        }
        self.registers.write(START, 1_u32);
        self.wait(START, COMMAND_NS, |start| start == 0)?;
        if self.registers.read::<u32>(STATUS) & HAS_FAILED != 0 {
            return Err(TpmError::Failed);
        }
        if self.response.len < HEAD_BYTES {
            return Err(TpmError::BadLength);
        }
        let head: [u8; HEAD_BYTES] = core::array::from_fn(|at| self.response.read(at));
        let len = response::len(&head).filter(|len| *len <= self.response.len).ok_or(TpmError::BadLength)?;
        for (at, byte) in into[..len].iter_mut().enumerate() {
            *byte = self.response.read(at);
        }
        // The length that was checked is the one that is used, whatever the device has written meanwhile.
        into[..HEAD_BYTES].copy_from_slice(&head);
        Ok(len)
    }
}
