//! A new log, as short as can be, while the old one goes on.
//!
//! It is written in small steps between the clients' requests: entries as they are now, in the order of
//! [`Keyspace::scan`], and between them every change that happens meanwhile. A change of a key that has not
//! been reached yet does no harm, for its whole entry follows; one of a key that has been, is needed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::database::log_set;
use crate::keyspace::Keyspace;

/// What one step writes, in bytes, about.
const STEP_BYTES: usize = 64 << 10;
/// Keys that are taken at a time.
const SCAN_COUNT: usize = 16;
/// Bytes after which the disk is made to follow: one sync at the end would hold up everybody.
const SYNC_BYTES: u64 = 4 << 20;

/// Whether there is more to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    More,
    Done,
}

/// A log in the making.
pub(super) struct Rewrite {
    file: File,
    buffer: Vec<u8>,
    written: u64,
    synced: u64,
    /// Of the scan; 0 only before it begins.
    cursor: u64,
}

impl Rewrite {
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(path)?;
        Ok(Self { file, buffer: Vec::new(), written: 0, synced: 0, cursor: 0 })
    }

    /// Takes changes that have just been made.
    pub(super) fn add(&mut self, changes: &[u8]) {
        self.buffer.extend_from_slice(changes);
    }

    /// Writes the next entries. All changes made so far have been [added](Self::add).
    pub(super) fn step(&mut self, keys: &Keyspace) -> io::Result<Progress> {
        let buffer = &mut self.buffer;
        let mut progress = Progress::More;
        while buffer.len() < STEP_BYTES && progress == Progress::More {
            self.cursor = keys.scan(self.cursor, SCAN_COUNT, |key, entry| {
                log_set(buffer, key, &entry.value, entry.expires_at);
            });
            if self.cursor == 0 {
                progress = Progress::Done;
            }
        }
        self.flush()?;
        if self.written - self.synced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.written;
        }
        Ok(progress)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * STEP_BYTES);
        Ok(())
    }

    /// The file and its length, all of it durable.
    pub(super) fn finish(self) -> io::Result<(File, u64)> {
        self.file.sync_all()?;
        Ok((self.file, self.written))
    }
}
