//! Readers that watch what goes through them: digests, and no more bytes than somebody asked for.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use anyhow::{Result, bail};
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z'];
const BZIP2: &[u8] = b"BZh";

/// What compressed bytes may become: this much, and so many times more for each. Files compress to a tenth; what goes far beyond is
/// made to fill a memory.
const FREE_BYTES: u64 = 64 << 20;
const MOST_RATIO: u64 = 200;

/// Computes the digest of what is read.
pub(super) struct Hashed<R> {
    inner: R,
    state: Rc<Cell<Sha256>>,
}

/// The digest of what has been read by then.
pub(super) struct Digested(Rc<Cell<Sha256>>);

impl<R: Read> Hashed<R> {
    pub(super) fn new(inner: R) -> (Self, Digested) {
        let state = Rc::new(Cell::new(Sha256::new()));
        (Self { inner, state: Rc::clone(&state) }, Digested(state))
    }
}

impl Digested {
    /// As descriptors write it.
    pub(super) fn text(&self) -> String {
        digest_text(self.0.take())
    }
}

/// The digest of some bytes, as descriptors write it.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    digest_text(Sha256::new().chain_update(bytes))
}

fn digest_text(state: Sha256) -> String {
    let hex: String = state.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        let mut state = self.state.take();
        state.update(&bytes[..count]);
        self.state.set(state);
        Ok(count)
    }
}

/// Reads no further than it may; beyond is an error.
pub(super) struct Metered<R> {
    inner: R,
    left: Rc<Cell<u64>>,
    what: &'static str,
}

impl<R> Metered<R> {
    /// With how many bytes may be read, which can be set anew.
    pub(super) fn new(inner: R, most: u64, what: &'static str) -> (Self, Rc<Cell<u64>>) {
        let left = Rc::new(Cell::new(most));
        (Self { inner, left: Rc::clone(&left), what }, left)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        // One more than there may be tells whether there is more.
        let wanted = bytes.len().min(usize::try_from(left.saturating_add(1)).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut bytes[..wanted])?;
        match left.checked_sub(count as u64) {
            Some(left) => self.left.set(left),
            None => return Err(io::Error::other(self.what)),
        }
        Ok(count)
    }
}

/// An archive whose end some tools forget (umoci does): zeros to the end of the block, and two blocks of them.
pub(super) struct Padded<R> {
    inner: R,
    bytes: u64,
    /// True once there were no more bytes.
    has_ended: Rc<Cell<bool>>,
    padding: io::Take<io::Repeat>,
}

impl<R> Padded<R> {
    /// With what tells whether zeros that nobody wrote were read.
    pub(super) fn new(inner: R) -> (Self, Rc<Cell<bool>>) {
        let has_ended = Rc::new(Cell::new(false));
        (
            Self { inner, bytes: 0, has_ended: Rc::clone(&has_ended), padding: io::repeat(0).take(0) },
            has_ended,
        )
    }
}

impl<R: Read> Read for Padded<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        const BLOCK_BYTES: u64 = 512;
        if !self.has_ended.get() {
            let count = self.inner.read(bytes)?;
            self.bytes += count as u64;
            if count != 0 || bytes.is_empty() {
                return Ok(count);
            }
            self.has_ended.set(true);
            self.padding.set_limit(self.bytes.next_multiple_of(BLOCK_BYTES) - self.bytes + 2 * BLOCK_BYTES);
        }
        self.padding.read(bytes)
    }
}

impl<R: io::Seek> io::Seek for Metered<R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// True for what [`decompressed`] changes, or refuses.
pub(super) fn is_compressed(start: &[u8]) -> bool {
    [GZIP, ZSTD, XZ, BZIP2].iter().any(|magic| start.starts_with(magic))
}

/// What `bytes` bytes hold, decompressed if they are compressed.
pub(super) fn decompressed<'a>(inner: impl Read + 'a, bytes: u64) -> Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(64 << 10, inner);
    let start = reader.fill_buf()?;
    let plain: Box<dyn Read + 'a> = if start.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(reader))
    } else if start.starts_with(ZSTD) {
        Box::new(zstd::stream::read::Decoder::with_buffer(reader)?)
    } else if start.starts_with(XZ) || start.starts_with(BZIP2) {
        bail!("it is compressed with xz or bzip2: decompress it first");
    } else {
        return Ok(Box::new(reader));
    };
    let most = FREE_BYTES.saturating_add(bytes.saturating_mul(MOST_RATIO));
    let told = "it decompresses to far more than files do (a bomb?)";
    Ok(Box::new(Metered::new(plain, most, told).0))
}
