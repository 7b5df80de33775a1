//! A disk or partition whose blocks are checked when they are read, against a tree of hashes whose root the command line names (`verity=`;
//! `unikernel_verity`, in the format of Linux's dm-verity).
//!
//! A [`Verity`] stands behind a [`Volume`]: all that filesystems and the page cache read of it comes through [`Verity::read`], and is in their hands
//! only once it was found good. What is checked, and kept of the hashes, is a copy that the device was never given: one that writes into its
//! buffer after it has answered changes nothing. Nothing is written.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use unikernel_cmdline::OnCorruption;
use unikernel_machine::disk::{Claims, Limits};
use unikernel_verity::{
    Cache, CheckError, Digest, FormatError, Hashes, ReadError, SUPERBLOCK_BYTES, Superblock, Tree,
};

use super::device::DiskError;
use super::volume::Volume;
use crate::kmem::room;
use crate::platform::power;
use crate::sync::SpinLock;
use crate::task::scheduler;

/// What blocks of hashes that were checked may take.
const MOST_CACHED_BYTES: usize = 1 << 20;
/// What is read of the disk at once.
const BYTES_AT_ONCE: usize = 128 << 10;
/// A block takes some 15 microseconds; then others may run.
const BLOCKS_WITHOUT_BREATH: u64 = 8;
/// No block: nothing has been complained about.
const NONE: u64 = u64::MAX;

/// Why blocks cannot be checked, for people.
pub(crate) enum VerityError {
    /// The hash area cannot be read.
    Unreadable,
    /// It cannot be used.
    Format(FormatError),
}

impl fmt::Display for VerityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("its hash area cannot be read"),
            Self::Format(error) => write!(f, "{error}"),
        }
    }
}

/// A disk whose blocks are checked.
pub(crate) struct Verity {
    /// For messages.
    name: String,
    data: Volume,
    hashes: Volume,
    tree: Tree,
    cache: SpinLock<Cache>,
    /// What filesystems may ask for: any sectors, for reading.
    limits: Limits,
    on_corruption: OnCorruption,
    /// The block that the log has had a line of last: who asks again and again shall not fill it.
    last_complaint: AtomicU64,
}

impl Verity {
    /// Takes the hash area that begins at `hash_offset` of `hashes`, for the blocks of `data`. It stays for ever, as disks do.
    pub(crate) fn open(
        name: &str,
        data: &Volume,
        (hashes, hash_offset): (&Volume, u64),
        root: &[u8],
        on_corruption: OnCorruption,
    ) -> Result<&'static Self, VerityError> {
        let mut superblock = Box::new([0; SUPERBLOCK_BYTES]);
        let is_within =
            hash_offset.checked_add(SUPERBLOCK_BYTES as u64).is_some_and(|end| end <= hashes.size_bytes());
        if !is_within {
            return Err(VerityError::Format(FormatError::NoSuperblock));
        }
        read_copy(hashes, hash_offset, &mut superblock[..]).map_err(|_| VerityError::Unreadable)?;
        let superblock = Superblock::parse(&superblock).map_err(VerityError::Format)?;
        let tree = Tree::new(superblock, root, hash_offset, hashes.size_bytes(), data.size_bytes());
        let tree = tree.map_err(VerityError::Format)?;
        let most_blocks = MOST_CACHED_BYTES / tree.superblock().hash_block_bytes as usize;
        let limits = Limits::new(Claims::default(), 1).map_err(|_| VerityError::Unreadable)?;
        log::info!(
            "{name}: {} blocks of {} bytes are checked by {} against {}",
            tree.superblock().data_blocks,
            tree.superblock().data_block_bytes,
            tree.superblock().algorithm.name(),
            tree.root(),
        );
        Ok(Box::leak(Box::new(Self {
            name: name.into(),
            data: data.clone(),
            hashes: hashes.clone(),
            tree,
            cache: SpinLock::new(Cache::new(most_blocks)),
            limits,
            on_corruption,
            last_complaint: AtomicU64::new(NONE),
        })))
    }

    /// What filesystems may ask for.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes for which there are hashes.
    pub(super) fn size_bytes(&self) -> u64 {
        self.tree.data_bytes()
    }

    /// Fills `into` with what lies at `offset`, of any alignment. If a block is not what it was, nothing of it is left there.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let outcome = self.read_parts(offset, into);
        if outcome.is_err() {
            into.fill(0);
        }
        outcome
    }

    fn read_parts(&self, mut offset: u64, mut into: &mut [u8]) -> Result<(), DiskError> {
        let block_bytes = self.tree.superblock().data_block_bytes as usize;
        let mut given = buffer(into.len(), block_bytes)?;
        while !into.is_empty() {
            let (block, within) = (offset / block_bytes as u64, (offset % block_bytes as u64) as usize);
            let count = if within == 0 && into.len() >= block_bytes {
                let count = into.len().min(given.len()) / block_bytes * block_bytes;
                self.read_blocks(block, &mut given, &mut into[..count])?;
                count
            } else {
                let count = into.len().min(block_bytes - within);
                let mut copy = room::filled(0, block_bytes).map_err(|_| DiskError)?;
                self.read_blocks(block, &mut given, &mut copy)?;
                into[..count].copy_from_slice(&copy[within..within + count]);
                count
            };
            offset = offset.checked_add(count as u64).ok_or(DiskError)?;
            into = &mut into[count..];
        }
        Ok(())
    }

    /// Reads whole blocks by the buffer that the device is given, and checks the copy of each.
    fn read_blocks(&self, first: u64, given: &mut [u8], into: &mut [u8]) -> Result<(), DiskError> {
        let block_bytes = self.tree.superblock().data_block_bytes as usize;
        let offset = first.checked_mul(block_bytes as u64).ok_or(DiskError)?;
        let given = &mut given[..into.len()];
        self.data.read(offset, given)?;
        into.copy_from_slice(given);
        for (number, block) in (first..).zip(into.chunks(block_bytes)) {
            self.tree.check(self, number, block).map_err(|error| self.complain(number, error))?;
            if number % BLOCKS_WITHOUT_BREATH == BLOCKS_WITHOUT_BREATH - 1 {
                scheduler::breathe();
            }
        }
        Ok(())
    }

    /// Says which block cannot be used, and does what was asked for in that case.
    fn complain(&self, block: u64, error: CheckError) -> DiskError {
        let (name, complaint) = (&self.name, Complaint { block, error });
        if self.last_complaint.swap(block, Ordering::Relaxed) != block {
            log::error!("{name}: {complaint}");
        }
        match self.on_corruption {
            _ if !matches!(error, CheckError::Data | CheckError::Hash(_)) => {}
            OnCorruption::Error => {}
            OnCorruption::Restart => power::reboot(),
            OnCorruption::Panic => panic!("{name}: {complaint}"),
        }
        DiskError
    }
}

/// What is wrong with a block, for people. It is written where it goes: there may be no memory for a text of it.
struct Complaint {
    block: u64,
    error: CheckError,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let block = self.block;
        match self.error {
            CheckError::Data => {
                write!(f, "verity: block {block} is not what it was when the hashes were made")
            }
            CheckError::Hash(place) => {
                write!(
                    f,
                    "verity: block {block} cannot be checked: block {place} of the hashes is not what it was"
                )
            }
            CheckError::Read(place) => {
                write!(
                    f,
                    "verity: block {block} cannot be checked: block {place} of the hashes cannot be read"
                )
            }
            CheckError::Beyond => write!(f, "verity: there is no block {block}"),
            CheckError::NoMemory => write!(f, "verity: no memory to check block {block}"),
        }
    }
}

/// A buffer of whole blocks for a device, for reading `len` bytes in one go or, if there is no memory for that, in several.
fn buffer(len: usize, block_bytes: usize) -> Result<Vec<u8>, DiskError> {
    let mut bytes = len.clamp(block_bytes, BYTES_AT_ONCE) / block_bytes * block_bytes;
    loop {
        match room::filled(0, bytes) {
            Ok(buffer) => return Ok(buffer),
            Err(_) if bytes > block_bytes => bytes = bytes / 2 / block_bytes * block_bytes,
            Err(_) => return Err(DiskError),
        }
    }
}

/// Fills `into`, which the device is not given.
fn read_copy(volume: &Volume, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
    let mut given = room::filled(0, into.len()).map_err(|_| DiskError)?;
    volume.read(offset, &mut given)?;
    into.copy_from_slice(&given);
    Ok(())
}

impl Hashes for Verity {
    fn read(&self, block: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let offset = block.checked_mul(into.len() as u64).ok_or(ReadError)?;
        read_copy(&self.hashes, offset, into).map_err(|DiskError| ReadError)
    }

    fn known(&self, block: u64, at: usize, len: usize) -> Option<Digest> {
        self.cache.lock().find(block, at, len)
    }

    fn remember(&self, block: u64, bytes: Vec<u8>) {
        self.cache.lock().insert(block, bytes);
    }
}
