//! Random numbers good enough for keys: ChaCha20 with fast key erasure. Each batch of output begins
//! with the next key, and what was handed out is wiped, so that whoever reads the kernel's memory
//! later learns nothing about earlier output.
//!
//! Entropy comes from RDSEED and RDRAND, virtio-rng, and the jitter of the time-stamp counter at
//! boot; more is mixed in every minute. Sources are only ever added: a bad or hostile one cannot
//! take away what the others gave.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use spin::Once;

use super::io::IoPort;
use super::{generation, time};
use crate::sync::SpinLock;

const KEY_BYTES: usize = 32;
/// What the generator makes in one go (four blocks).
const BATCH_BYTES: usize = 256;
/// How old the last fresh entropy may be.
const RESEED_NS: u64 = 60 * time::NS_PER_SECOND;
/// Reading it takes a hypervisor a different time each time (Intel 8 series PCH datasheet, section 13.7: NMI status).
const SYSTEM_CONTROL_PORT: u16 = 0x61;
/// Readings of the counter that are mixed in at boot.
const JITTER_READINGS: usize = 64;

struct Pool {
    key: [u8; KEY_BYTES],
    batch: [u8; BATCH_BYTES],
    /// First byte of `batch` that was not handed out.
    next: usize,
    reseed_at_ns: u64,
    has_strong_source: bool,
}

static POOL: SpinLock<Pool> = SpinLock::new(Pool {
    key: [0; KEY_BYTES],
    batch: [0; BATCH_BYTES],
    next: BATCH_BYTES,
    reseed_at_ns: 0,
    has_strong_source: false,
});

static DEVICE_SOURCE: Once<fn(&mut [u8]) -> usize> = Once::new();

/// Gathers the first entropy. Call after the clocks were started.
pub fn init() {
    let mut pool = POOL.lock();
    let mut readings = [0; JITTER_READINGS];
    for reading in &mut readings {
        // The low bytes are what differs from boot to boot; a port access in between takes a
        // different time each time.
        *reading = time::tsc() as u16;
        super::console::has_input();
    }
    for chunk in readings.chunks(KEY_BYTES / 2) {
        let mut bytes = [0; KEY_BYTES];
        for (pair, reading) in bytes.chunks_exact_mut(2).zip(chunk) {
            pair.copy_from_slice(&reading.to_le_bytes());
        }
        pool.absorb(&bytes);
    }
    pool.absorb(&(time::tsc() ^ time::wall_ns().rotate_left(32)).to_le_bytes());
    pool.reseed();
}

/// Sets who is asked for more entropy with every reseeding: a function that copies what its device
/// has ready and answers how many bytes.
pub fn set_device_source(source: fn(&mut [u8]) -> usize) {
    DEVICE_SOURCE.call_once(|| source);
}

/// Mixes in what a device says is random.
pub fn add_device_entropy(bytes: &[u8]) {
    let mut pool = POOL.lock();
    pool.absorb(bytes);
    pool.has_strong_source |= bytes.len() >= KEY_BYTES;
}

/// Mixes in what tells this machine from another one that goes on from the same saved state, and fresh entropy.
pub(super) fn add_after_restart(identifier: &[u8]) {
    let mut pool = POOL.lock();
    pool.absorb(identifier);
    pool.reseed();
}

/// True if a source that was made for it has given entropy: the processor or virtio-rng.
pub fn has_strong_source() -> bool {
    POOL.lock().has_strong_source
}

/// Fills `out`.
pub fn fill(out: &mut [u8]) {
    if let Some(identifier) = generation::take_change() {
        add_after_restart(&identifier);
    }
    let mut pool = POOL.lock();
    if time::now_ns() >= pool.reseed_at_ns {
        pool.reseed();
    }
    if out.len() <= BATCH_BYTES - KEY_BYTES {
        pool.take(out);
    } else {
        let mut key = [0; KEY_BYTES];
        pool.take(&mut key);
        ChaCha20Rng::from_seed(key).fill_bytes(out);
    }
}

/// A random number.
pub fn next_u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

impl Pool {
    /// Replaces the key by a function of itself and `bytes` that cannot be inverted.
    fn absorb(&mut self, bytes: &[u8]) {
        mix(&mut self.key, bytes);
        // Output that was made from the old key is not used any more.
        self.batch.fill(0);
        self.next = BATCH_BYTES;
    }

    fn reseed(&mut self) {
        let mut seed = [0; KEY_BYTES];
        let is_strong = fill_from_processor(&mut seed);
        self.has_strong_source |= is_strong;
        self.absorb(&seed);
        self.absorb(&time::tsc().to_le_bytes());
        if let Some(source) = DEVICE_SOURCE.get() {
            let mut bytes = [0; 2 * KEY_BYTES];
            let len = source(&mut bytes);
            self.absorb(&bytes[..len]);
        }
        self.reseed_at_ns = time::now_ns() + RESEED_NS;
    }

    /// Hands out bytes of the batch and wipes them there.
    fn take(&mut self, out: &mut [u8]) {
        if BATCH_BYTES - self.next < out.len() {
            self.refill();
        }
        let source = &mut self.batch[self.next..self.next + out.len()];
        out.copy_from_slice(source);
        source.fill(0);
        self.next += out.len();
    }

    fn refill(&mut self) {
        ChaCha20Rng::from_seed(self.key).fill_bytes(&mut self.batch);
        self.key.copy_from_slice(&self.batch[..KEY_BYTES]);
        self.batch[..KEY_BYTES].fill(0);
        self.next = KEY_BYTES;
    }
}

fn mix(key: &mut [u8; KEY_BYTES], bytes: &[u8]) {
    for chunk in bytes.chunks(KEY_BYTES) {
        for (key, byte) in key.iter_mut().zip(chunk) {
            *key ^= byte;
        }
        ChaCha20Rng::from_seed(*key).fill_bytes(key);
    }
}

/// A random number for what is decided before anything else of the kernel works: from the processor, and without its
/// help from the counter's jitter and what the loader told. What is made of them later ([`init`]) has nothing to do with it.
pub fn before_all(told: &[u8]) -> u64 {
    let mut key = [0; KEY_BYTES];
    let is_strong = fill_from_processor(&mut key);
    mix(&mut key, &time::tsc().to_le_bytes());
    if !is_strong {
        mix(&mut key, told);
        // SAFETY: the port tells of the interval timer and the speaker, and reading it changes nothing.
        let port = unsafe { IoPort::<u8>::new(SYSTEM_CONTROL_PORT) };
        for _ in 0..JITTER_READINGS {
            mix(&mut key, &[port.read()]);
            mix(&mut key, &time::tsc().to_le_bytes());
        }
    }
    let (words, _) = key.as_chunks();
    u64::from_le_bytes(words[0])
}

/// Fills `seed` from RDSEED or RDRAND; false if the processor has neither or they fail.
fn fill_from_processor(seed: &mut [u8; KEY_BYTES]) -> bool {
    let cpuid = raw_cpuid::CpuId::new();
    let has_rdseed = cpuid.get_extended_feature_info().is_some_and(|features| features.has_rdseed());
    let has_rdrand = cpuid.get_feature_info().is_some_and(|features| features.has_rdrand());
    seed.chunks_exact_mut(8).all(|word| {
        // SAFETY: the processor has the instruction.
        let seeded = || has_rdseed.then(|| unsafe { rdseed() }).flatten();
        // SAFETY: the processor has the instruction.
        let random = || has_rdrand.then(|| unsafe { rdrand() }).flatten();
        let value = seeded().or_else(random);
        value.map(|value| word.copy_from_slice(&value.to_le_bytes())).is_some()
    })
}

/// The instructions may find their source empty; Intel advises ten tries.
const TRIES: usize = 10;

/// # Safety
///
/// The processor must have RDSEED.
#[target_feature(enable = "rdseed")]
unsafe fn rdseed() -> Option<u64> {
    let mut value = 0;
    (0..TRIES).any(|_| core::arch::x86_64::_rdseed64_step(&mut value) == 1).then_some(value)
}

/// # Safety
///
/// The processor must have RDRAND.
#[target_feature(enable = "rdrand")]
unsafe fn rdrand() -> Option<u64> {
    let mut value = 0;
    (0..TRIES).any(|_| core::arch::x86_64::_rdrand64_step(&mut value) == 1).then_some(value)
}
