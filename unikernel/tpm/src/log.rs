//! The event log (PC Client Platform Firmware Profile, section 10): what was measured into which register, with the digests by which it was extended. The
//! first event is in the old form, and says which algorithms the others have (`TCG_EfiSpecIDEvent`).

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use crate::bank::{Bank, Digest};

/// What an event is (section 10.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventType {
    /// Nothing was extended.
    NoAction,
    /// What a loader has measured: its data says what.
    Ipl,
}

impl EventType {
    const fn number(self) -> u32 {
        match self {
            Self::NoAction => 3,
            Self::Ipl => 0xd,
        }
    }
}

/// Signature, platform class (client), specification 2.0 errata 0, numbers of 64 bits.
const SPEC_ID: &[u8] = b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02";
const SHA1_BYTES: usize = 20;

/// The log.
#[derive(Clone, Debug, Default)]
pub struct EventLog {
    bytes: Vec<u8>,
}

impl EventLog {
    /// A log of these banks, with the event that says so.
    ///
    /// # Errors
    ///
    /// If there is no memory.
    pub fn new(banks: &[Bank]) -> Result<Self, TryReserveError> {
        let mut event = Vec::new();
        event.try_reserve(SPEC_ID.len() + 5 + 4 * banks.len())?;
        event.extend_from_slice(SPEC_ID);
        event.extend_from_slice(&(banks.len() as u32).to_le_bytes());
        for bank in banks {
            event.extend_from_slice(&bank.id().to_le_bytes());
            event.extend_from_slice(&(bank.digest_bytes() as u16).to_le_bytes());
        }
        // No bytes of the vendor's.
        event.push(0);
        let mut log = Self::default();
        log.bytes.try_reserve(12 + SHA1_BYTES + event.len())?;
        log.put(0);
        log.put(EventType::NoAction.number());
        log.bytes.extend_from_slice(&[0; SHA1_BYTES]);
        log.put(event.len() as u32);
        log.bytes.extend_from_slice(&event);
        Ok(log)
    }

    fn put(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds an event, which says what was measured.
    ///
    /// # Errors
    ///
    /// If there is no memory: then the log is as it was.
    pub fn add(
        &mut self,
        register: u8,
        kind: EventType,
        digests: &[Digest],
        data: &[u8],
    ) -> Result<(), TryReserveError> {
        let len: usize = digests.iter().map(|digest| 2 + digest.bytes().len()).sum();
        self.bytes.try_reserve(16 + len + data.len())?;
        self.put(register.into());
        self.put(kind.number());
        self.put(digests.len() as u32);
        for digest in digests {
            self.bytes.extend_from_slice(&digest.bank.id().to_le_bytes());
            self.bytes.extend_from_slice(digest.bytes());
        }
        self.put(data.len() as u32);
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// All of it, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
