//! Banks of registers: one for each hash algorithm that the TPM has in use.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use arrayvec::ArrayVec;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Banks at most: more algorithms than there are here.
pub const MOST_BANKS: usize = 8;
/// The longest digest.
const MOST_BYTES: usize = 64;

/// A hash algorithm (TPM 2.0 Library, part 2, section 6.3, `TPM_ALG_ID`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bank {
    /// SHA-1, which is not made here.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SM3, which is not made here.
    Sm3,
}

impl Bank {
    /// All that are known.
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512, Self::Sm3];

    /// The algorithm's number.
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
            Self::Sm3 => 0x0012,
        }
    }

    /// By its number.
    pub fn of(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.id() == id)
    }

    /// Bytes of a digest.
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sm3 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Its name, in paths.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Sm3 => "sm3-256",
        }
    }
}

/// The banks in use.
pub type Banks = ArrayVec<Bank, MOST_BANKS>;

/// The hashes of what is measured, for the banks in use.
pub type Digests = ArrayVec<Digest, MOST_BANKS>;

/// The hash of what is measured, for a bank.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest {
    /// Its bank.
    pub bank: Bank,
    bytes: [u8; MOST_BYTES],
}

impl Digest {
    /// For a bank whose algorithm is not made here: ones, so that the register does not stay as it is, and nobody can make it say something else
    /// afterwards.
    fn unknown(bank: Bank) -> Self {
        Self { bank, bytes: [0xff; MOST_BYTES] }
    }

    /// One of these bytes; of more than its bank has, the first.
    pub fn new(bank: Bank, from: &[u8]) -> Self {
        let mut bytes = [0; MOST_BYTES];
        let len = from.len().min(bank.digest_bytes());
        bytes[..len].copy_from_slice(&from[..len]);
        Self { bank, bytes }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.bank.digest_bytes()]
    }
}

/// Hashes what comes in parts, for all banks at once. It is on the heap: the states of five algorithms are too much for a kernel's stack.
#[derive(Clone)]
pub struct Hasher(Vec<State>);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
    /// Of a bank whose algorithm is not made here.
    Unknown(Bank),
}

impl Hasher {
    /// For these banks.
    ///
    /// # Errors
    ///
    /// If there is no memory.
    pub fn new(banks: &[Bank]) -> Result<Self, TryReserveError> {
        let state = |bank: &Bank| match bank {
            Bank::Sha256 => State::Sha256(Sha256::new()),
            Bank::Sha384 => State::Sha384(Sha384::new()),
            Bank::Sha512 => State::Sha512(Sha512::new()),
            Bank::Sha1 | Bank::Sm3 => State::Unknown(*bank),
        };
        let mut states = Vec::new();
        states.try_reserve_exact(banks.len())?;
        states.extend(banks.iter().map(state));
        Ok(Self(states))
    }

    /// Takes the next part.
    pub fn update(&mut self, bytes: &[u8]) {
        for state in &mut self.0 {
            match state {
                State::Sha256(hash) => hash.update(bytes),
                State::Sha384(hash) => hash.update(bytes),
                State::Sha512(hash) => hash.update(bytes),
                State::Unknown(_) => {}
            }
        }
    }

    /// The digests, in the banks' order.
    pub fn finish(self) -> Digests {
        let digest = |state| match state {
            State::Sha256(hash) => Digest::new(Bank::Sha256, &hash.finalize()),
            State::Sha384(hash) => Digest::new(Bank::Sha384, &hash.finalize()),
            State::Sha512(hash) => Digest::new(Bank::Sha512, &hash.finalize()),
            State::Unknown(bank) => Digest::unknown(bank),
        };
        self.0.into_iter().map(digest).collect()
    }
}

/// The digests of some bytes, in the banks' order.
///
/// # Errors
///
/// If there is no memory.
pub fn digests(banks: &[Bank], bytes: &[u8]) -> Result<Digests, TryReserveError> {
    let mut hasher = Hasher::new(banks)?;
    hasher.update(bytes);
    Ok(hasher.finish())
}
